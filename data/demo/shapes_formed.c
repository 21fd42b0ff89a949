/* Things that are not upright solids of revolution: those that lie, and those with corners. */
#include "data/demo/noise.h"
#include "data/demo/shape.h"
#include "data/demo/solids.h"

#include <stdbool.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* Ball with three seams, grooves along great circles. size: radius, depth of the grooves. */
static void ball_build(Shape *shape, Rng *rng)
{
    float radius = shape_range(rng, .6F, 1);
    shape->size[0] = radius;
    shape->size[1] = radius * shape_range(rng, .01F, .035F);
    shape->low = vec(-radius, 0, -radius);
    shape->high = vec(radius, 2 * radius, radius);
}

static float ball_distance(const Shape *shape, Vec3 p, int *part)
{
    float radius = shape->size[0];
    Vec3 q = vec_sub(p, vec(0, radius, 0));
    float seam = minf(fabsf(q.x), minf(fabsf(q.y), fabsf(q.z))) / radius;
    float groove = 1 - smoothstepf(0, .06F, seam);
    *part = 0;
    return vec_length(q) - radius + shape->size[1] * groove;
}

/* Banana: a tapered, slightly five-edged tube along an arc, lying on its side. size: radius of the
 * arc, half its angle, radius of the tube, sine and cosine of the tilt of its plane. Parts: 0 peel,
 * 1 both ends. */
static void banana_build(Shape *shape, Rng *rng)
{
    float arc = shape_range(rng, .8F, 1.15F);
    float half = shape_range(rng, .78F, .98F) / arc;
    float tube = shape_range(rng, .17F, .21F);
    float tilt = shape_range(rng, .05F, .4F);
    shape->size[0] = arc;
    shape->size[1] = half;
    shape->size[2] = tube;
    shape->size[3] = sinf(tilt);
    shape->size[4] = cosf(tilt);
    float sag = arc * (1 - cosf(half)) + .25F;
    float reach = arc * sinf(half) + .3F;
    shape->low = vec(-reach, 0, -sag);
    shape->high = vec(reach, 2 * tube + sag * sinf(tilt), 1.1F * tube);
}

static float banana_distance(const Shape *shape, Vec3 p, int *part)
{
    float arc = shape->size[0];
    float half = shape->size[1];
    float tube = shape->size[2];
    float y = p.y - tube;
    /* u and v in the plane of the arc, w across; the arc's centre lies at v = -arc. */
    float v = shape->size[4] * p.z - shape->size[3] * y;
    float w = shape->size[3] * p.z + shape->size[4] * y;
    float angle = atan2f(p.x, v + arc);
    float on_arc = clampf(angle, -half, half);
    float s = sinf(on_arc);
    float c = cosf(on_arc);
    float along = (p.x - arc * s) * c - (v + arc - arc * c) * s;
    float across = (p.x - arc * s) * s + (v + arc - arc * c) * c;
    float t = on_arc / half;
    float edges = 1 - .07F * (1 + cosf(5 * atan2f(w, across)));
    float radius = tube * (1 - .62F * t * t * t * t) * edges;
    float body = sqrtf(along * along + across * across + w * w) - radius;
    Vec3 local = vec(along, across, w);
    float stem = t > 0 ? solid_capsule(local, vec(0, 0, 0), vec(.17F, .01F, 0), .05F) : 1e9F;
    *part = fabsf(t) > .96F ? 1 : 0;
    return .85F * solid_blend(body, stem, .06F);
}

/* Cap with a peak at +x, standing on its rim. size: radius, height, length and half width of the
 * peak, its curvature. Parts: 0 crown, 1 peak, 2 button. */
static void cap_build(Shape *shape, Rng *rng)
{
    shape->size[0] = shape_range(rng, .72F, .82F);
    shape->size[1] = shape_range(rng, .6F, .8F);
    shape->size[2] = shape_range(rng, .6F, .75F);
    shape->size[3] = shape_range(rng, .58F, .68F);
    shape->size[4] = shape_range(rng, .12F, .3F);
    float side = maxf(shape->size[0], shape->size[3]) + .03F;
    shape->low = vec(-1.08F * shape->size[0] - .02F, 0, -side);
    shape->high = vec(shape->size[0] + shape->size[2], shape->size[1] + .06F, side);
}

static float cap_distance(const Shape *shape, Vec3 p, int *part)
{
    float radius = shape->size[0];
    float crown = solid_ellipsoid(p, vec(1.08F * radius, shape->size[1], radius));
    crown = maxf(crown, .005F - p.y);
    float bend = .05F + shape->size[4] * (shape->size[3] * shape->size[3] - p.z * p.z);
    float plan = solid_ellipsoid(vec(p.x - .5F * radius, 0, p.z),
                                 vec(shape->size[2] + .45F * radius, 1, shape->size[3]));
    float sheet = fabsf(p.y - bend) - .025F;
    float peak = .8F * maxf(maxf(plan, sheet), .3F * radius - p.x);
    float button = solid_ellipsoid(vec_sub(p, vec(0, shape->size[1], 0)), vec(.07F, .045F, .07F));
    *part = 0;
    float d = solid_nearer(crown, peak, 1, part);
    return solid_nearer(d, button, 2, part);
}

/* Cereal box. size: half width, half height, half thickness. */
static void box_build(Shape *shape, Rng *rng)
{
    Vec3 half =
        vec(shape_range(rng, .6F, .85F), shape_range(rng, .95F, 1.25F), shape_range(rng, .2F, .3F));
    shape->size[0] = half.x;
    shape->size[1] = half.y;
    shape->size[2] = half.z;
    shape->low = vec(-half.x, 0, -half.z);
    shape->high = vec(half.x, 2 * half.y, half.z);
}

static float box_distance(const Shape *shape, Vec3 p, int *part)
{
    Vec3 half = vec(shape->size[0], shape->size[1], shape->size[2]);
    *part = 0;
    return solid_box(vec_sub(p, vec(0, half.y, 0)), half, .015F);
}

/* Sponge with a scouring pad on top. size: half length, half height, half width, height of the
 * pad's lower face. Parts: 0 sponge, 1 pad. */
static void sponge_build(Shape *shape, Rng *rng)
{
    Vec3 half = vec(shape_range(rng, .5F, .65F), shape_range(rng, .14F, .22F),
                    shape_range(rng, .32F, .42F));
    shape->size[0] = half.x;
    shape->size[1] = half.y;
    shape->size[2] = half.z;
    shape->size[3] = 2 * half.y - shape_range(rng, .07F, .1F);
    shape->low = vec(-half.x, 0, -half.z);
    shape->high = vec(half.x, 2 * half.y, half.z);
}

static float sponge_distance(const Shape *shape, Vec3 p, int *part)
{
    Vec3 half = vec(shape->size[0], shape->size[1], shape->size[2]);
    bool pad = p.y > shape->size[3];
    /* The sponge is a little narrower than its pad, and full of pores. */
    float inset = pad ? 0 : .025F * smoothstepf(0, .05F, shape->size[3] - p.y);
    float d = solid_box(vec_sub(p, vec(0, half.y, 0)), half, .06F) + inset;
    if (d < .05F && !pad) {
        d += .06F * smoothstepf(.62F, .85F, noise_value(vec_scale(p, 14), 7));
    }
    *part = pad ? 1 : 0;
    return .8F * d;
}

/* Toothbrush, bristles up. size: half length, half width of the grip, rise of the neck. Parts:
 * 0 handle, 1 bristles, 2 grip. */
static void brush_build(Shape *shape, Rng *rng)
{
    float half = shape_range(rng, .85F, 1);
    shape->size[0] = half;
    shape->size[1] = shape_range(rng, .075F, .1F);
    shape->size[2] = shape_range(rng, .02F, .08F);
    shape->low = vec(-half - .02F, 0, -.12F);
    shape->high = vec(half + .02F, .36F, .12F);
}

static float brush_distance(const Shape *shape, Vec3 p, int *part)
{
    float half = shape->size[0];
    float t = p.x / half;
    /* Grip, a narrow neck, and a head that is wider again. */
    float neck = smoothstepf(.0F, .3F, t) * (1 - smoothstepf(.5F, .66F, t));
    float width = mixf(t < .3F ? shape->size[1] : .085F, .04F, neck);
    float rise = .055F + shape->size[2] * sinf(3.1416F * clampf(.5F * (t + 1), 0, 1));
    Vec3 q = vec(p.x, p.y - rise, p.z);
    float handle = .75F * solid_box(q, vec(half, .05F, width), .04F);
    *part = t < -.05F && fabsf(p.z) < .6F * width ? 2 : 0;
    float middle = .8F * half;
    Vec3 b = vec_sub(p, vec(middle, rise + .14F, 0));
    float rows = .012F * (1 + cosf(b.x * 70)) + .006F * (1 + cosf(b.z * 110));
    float bristles = .6F * (solid_box(b, vec(.15F * half, .13F, .078F), .012F) + rows);
    return solid_nearer(handle, bristles, 1, part);
}

/* Turned things that lie along x. size: height of the axis over the table at x = 0, sine and cosine
 * of its slope, shift along it. */
static Vec3 to_lathe(const Shape *shape, Vec3 p)
{
    float y = p.y - shape->size[0];
    float along = shape->size[2] * p.x + shape->size[1] * y;
    return vec(shape->size[2] * y - shape->size[1] * p.x, along + shape->size[3], p.z);
}

/* Lays the turned solid down so that it rests on two rings: radius r0 at y0, r1 at y1 > y0. */
static void lay_down(Shape *shape, float y0, float r0, float y1, float r1)
{
    float slope = asinf((r1 - r0) / (y1 - y0));
    float middle = .5F * (lathe_low(shape->lathe) + lathe_high(shape->lathe));
    float half = .5F * (lathe_high(shape->lathe) - lathe_low(shape->lathe));
    float radius = lathe_radius(shape->lathe);
    shape->size[1] = sinf(slope);
    shape->size[2] = cosf(slope);
    shape->size[3] = middle;
    shape->size[0] = r0 * cosf(slope) + (middle - y0) * sinf(slope);
    shape->low = vec(-half, 0, -radius);
    shape->high = vec(half + .1F, 2 * radius + .06F, radius);
    shape->low.x -= .1F;
}

/* Light bulb. Parts: 0 glass, 1 screw base. size[4]: height of the base. */
static void bulb_build(Shape *shape, Rng *rng)
{
    float width = shape_range(rng, .95F, 1.12F);
    float height = shape_range(rng, .92F, 1.1F);
    static const ProfilePoint outline[] = {
        {0, 0},       {.1F, 0},      {.14F, .04F},  {.19F, .07F},  {.175F, .1F},
        {.2F, .13F},  {.175F, .16F}, {.2F, .19F},   {.175F, .22F}, {.2F, .25F},
        {.18F, .29F}, {.185F, .33F}, {.21F, .43F},  {.29F, .57F},  {.38F, .72F},
        {.42F, .88F}, {.39F, 1.05F}, {.27F, 1.19F}, {.12F, 1.26F}, {0, 1.275F}};
    shape->lathe = lathe_build(&(Profile){.points = outline,
                                          .count = COUNT(outline),
                                          .width = width,
                                          .height = height,
                                          .subdivide = 4});
    shape->size[4] = .3F * height;
    lay_down(shape, .07F * height, .19F * width, .88F * height, .42F * width);
}

static float bulb_distance(const Shape *shape, Vec3 p, int *part)
{
    Vec3 q = to_lathe(shape, p);
    *part = q.y < shape->size[4] ? 1 : 0;
    return lathe_distance(shape->lathe, q);
}

/* Flashlight. Parts: 0 body, 1 lens, 2 switch, 3 grip. size[4]: length, size[5]: radius of the
 * body. */
static void flashlight_build(Shape *shape, Rng *rng)
{
    float head = shape_range(rng, .28F, .36F);
    float body = shape_range(rng, .15F, .19F);
    float length = shape_range(rng, 1.5F, 1.9F);
    const ProfilePoint outline[] = {{0, 0},
                                    {.9F * body, 0},
                                    {1.08F * body, .02F},
                                    {1.08F * body, .09F},
                                    {body, .1F},
                                    {body, .2F},
                                    {.9F * body, .21F},
                                    {body, .25F},
                                    {.9F * body, .29F},
                                    {body, .33F},
                                    {.9F * body, .37F},
                                    {body, .41F},
                                    {.9F * body, .45F},
                                    {body, .49F},
                                    {body, .64F},
                                    {1.15F * body, .68F},
                                    {.9F * head, .82F},
                                    {head, .84F},
                                    {head, .98F},
                                    {.92F * head, 1},
                                    {.84F * head, 1},
                                    {.8F * head, .97F},
                                    {0, .96F}};
    shape->lathe = lathe_build(&(Profile){.points = outline,
                                          .count = COUNT(outline),
                                          .width = 1,
                                          .height = length,
                                          .rounding = .006F,
                                          .subdivide = 1});
    shape->size[4] = length;
    shape->size[5] = body;
    lay_down(shape, .02F * length, 1.08F * body, .98F * length, head);
}

static float flashlight_distance(const Shape *shape, Vec3 p, int *part)
{
    float length = shape->size[4];
    float body = shape->size[5];
    Vec3 q = to_lathe(shape, p);
    float d = lathe_distance(shape->lathe, q);
    float r = sqrtf(q.x * q.x + q.z * q.z);
    bool lens = q.y > .955F * length && r < .81F * lathe_radius(shape->lathe);
    bool grip = q.y > .2F * length && q.y < .5F * length;
    *part = lens ? 1 : grip ? 3 : 0;
    Vec3 s = vec_sub(q, vec(body, .57F * length, 0));
    float button = solid_ellipsoid(s, vec(.05F, .1F, .06F));
    return solid_nearer(d, button, 2, part);
}

const ShapeForm shape_ball = {ball_build, ball_distance};
const ShapeForm shape_banana = {banana_build, banana_distance};
const ShapeForm shape_cap = {cap_build, cap_distance};
const ShapeForm shape_cereal_box = {box_build, box_distance};
const ShapeForm shape_sponge = {sponge_build, sponge_distance};
const ShapeForm shape_toothbrush = {brush_build, brush_distance};
const ShapeForm shape_lightbulb = {bulb_build, bulb_distance};
const ShapeForm shape_flashlight = {flashlight_build, flashlight_distance};
