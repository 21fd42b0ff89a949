/* Things made on the lathe, all of which stand upright: fruit, crockery, cans and bottles. */
#include "data/demo/shape.h"
#include "data/demo/solids.h"

#include <stdbool.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* Turns the profile, and sets the box around it. */
static void turn(Shape *shape, const Profile *profile)
{
    shape->lathe = lathe_build(profile);
    float radius = lathe_radius(shape->lathe);
    shape->low = vec(-radius, lathe_low(shape->lathe), -radius);
    shape->high = vec(radius, lathe_high(shape->lathe), radius);
}

/* Apple. size: height, lean of the stem, strength of the five lobes. Parts: 0 fruit, 1 stem. */
static void apple_build(Shape *shape, Rng *rng)
{
    static const ProfilePoint outline[] = {{0, .12F},    {.16F, .05F}, {.40F, .0F},  {.70F, .10F},
                                           {.92F, .36F}, {1, .62F},    {.91F, .86F}, {.64F, 1},
                                           {.36F, .98F}, {.14F, .85F}, {0, .78F}};
    float height = shape_range(rng, .62F, .8F);
    shape->size[0] = height;
    shape->size[1] = shape_range(rng, -.12F, .12F);
    shape->size[2] = shape_range(rng, .0F, .05F);
    turn(shape, &(Profile){.points = outline,
                           .count = COUNT(outline),
                           .width = shape_range(rng, .38F, .44F),
                           .height = height,
                           .subdivide = 6});
    shape->low = vec_scale(shape->low, 1.06F);
    shape->high = vec(1.06F * shape->high.x, 1.24F * height, 1.06F * shape->high.z);
}

static float apple_distance(const Shape *shape, Vec3 p, int *part)
{
    float height = shape->size[0];
    float r2 = p.x * p.x + p.z * p.z;
    /* cos(4 theta) as a polynomial of the coordinates; lobes fade towards the top. */
    float fourfold = r2 > 1e-6F ? 1 - 8 * p.x * p.x * p.z * p.z / (r2 * r2) : 1;
    float lobes = 1 + shape->size[2] * fourfold * (1 - clampf(p.y / height, 0, 1));
    Vec3 q = vec(p.x * lobes, p.y, p.z * lobes);
    *part = 0;
    float d = 0.92F * lathe_distance(shape->lathe, q);
    float stem = solid_capsule(p, vec(0, .76F * height, 0),
                               vec(shape->size[1], 1.18F * height, .4F * shape->size[1]), .025F);
    return solid_nearer(d, stem, 1, part);
}

/* Pear. size: height, bend of the neck. Parts: 0 fruit, 1 stem. */
static void pear_build(Shape *shape, Rng *rng)
{
    static const ProfilePoint outline[] = {{0, .05F},    {.22F, 0},    {.6F, .03F},  {.9F, .17F},
                                           {1, .34F},    {.9F, .52F},  {.66F, .68F}, {.49F, .81F},
                                           {.40F, .91F}, {.22F, .98F}, {0, .99F}};
    float height = shape_range(rng, .95F, 1.15F);
    shape->size[0] = height;
    shape->size[1] = shape_range(rng, -.14F, .14F);
    turn(shape, &(Profile){.points = outline,
                           .count = COUNT(outline),
                           .width = shape_range(rng, .36F, .43F),
                           .height = height,
                           .subdivide = 6});
    shape->low = vec_add(shape->low, vec(-.04F, 0, 0));
    shape->high = vec(shape->high.x + .04F, 1.22F * height, shape->high.z);
}

static float pear_distance(const Shape *shape, Vec3 p, int *part)
{
    float height = shape->size[0];
    float up = maxf(p.y / height, 0);
    Vec3 q = vec(p.x - shape->size[1] * up * up, p.y, p.z);
    *part = 0;
    float d = 0.9F * lathe_distance(shape->lathe, q);
    float stem = solid_capsule(q, vec(0, .95F * height, 0), vec(0, 1.18F * height, .03F), .026F);
    return solid_nearer(d, 0.9F * stem, 1, part);
}

/* Bowl: a shell on a foot ring. size: radius of the foot. Parts: 0 all. */
static void bowl_build(Shape *shape, Rng *rng)
{
    static const ProfilePoint line[] = {{0, .16F},    {.28F, .16F}, {.55F, .26F},
                                        {.80F, .55F}, {.93F, .82F}, {1, 1}};
    float width = shape_range(rng, .7F, .85F);
    shape->size[0] = .36F * width;
    turn(shape, &(Profile){.points = line,
                           .count = COUNT(line),
                           .width = width,
                           .height = shape_range(rng, .48F, .7F),
                           .wall = .06F,
                           .subdivide = 6});
    shape->low.y = 0;
}

static float footed_distance(const Shape *shape, Vec3 p, int *part)
{
    *part = 0;
    float foot = solid_ring(vec_sub(p, vec(0, .05F, 0)), shape->size[0], .045F);
    return solid_blend(lathe_distance(shape->lathe, p), foot, .04F);
}

/* Plate: as the bowl, but shallow, with a broad rim. */
static void plate_build(Shape *shape, Rng *rng)
{
    static const ProfilePoint line[] = {{0, .08F},    {.52F, .08F}, {.62F, .1F}, {.71F, .17F},
                                        {.78F, .19F}, {.9F, .21F},  {1, .245F}};
    float width = shape_range(rng, 1, 1.3F);
    shape->size[0] = .5F * width;
    turn(shape, &(Profile){.points = line,
                           .count = COUNT(line),
                           .width = width,
                           .height = shape_range(rng, .8F, 1.2F),
                           .wall = .045F,
                           .subdivide = 6});
    shape->low.y = 0;
}

/* Coffee mug. size: height, radius, half width and half height of the handle. Parts: 0 all. */
static void mug_build(Shape *shape, Rng *rng)
{
    static const ProfilePoint line[] = {{0, .06F}, {.80F, .06F}, {.96F, .1F}, {1, .17F}, {1, 1}};
    float height = shape_range(rng, .85F, 1.1F);
    float radius = shape_range(rng, .36F, .44F);
    shape->size[0] = height;
    shape->size[1] = radius;
    shape->size[2] = shape_range(rng, .2F, .26F);
    shape->size[3] = shape_range(rng, .24F, .34F);
    turn(shape, &(Profile){.points = line,
                           .count = COUNT(line),
                           .width = radius,
                           .height = height,
                           .wall = .06F,
                           .subdivide = 1});
    shape->low.y = 0;
    shape->high.x = radius + shape->size[2] + .08F;
}

static float mug_distance(const Shape *shape, Vec3 p, int *part)
{
    float radius = shape->size[1];
    float cup = lathe_distance(shape->lathe, p);
    Vec3 q = vec_sub(p, vec(radius + .01F, .52F * shape->size[0], 0));
    float handle = solid_handle(q, shape->size[2], shape->size[3], .055F);
    /* What would stick into the cup is cut off at the wall. */
    handle = maxf(handle, radius - sqrtf(p.x * p.x + p.z * p.z));
    *part = 0;
    return solid_blend(cup, handle, .05F);
}

/* Pitcher: a jug with a waist, a spout at -x and a long handle at +x. size: height, radius, waist
 * radius, half width and half height of the handle. Parts: 0 all. */
static void pitcher_build(Shape *shape, Rng *rng)
{
    float waist = shape_range(rng, .62F, .76F);
    const ProfilePoint line[] = {{0, .03F},    {.7F, .03F},         {.9F, .08F},
                                 {1, .24F},    {.98F, .4F},         {.5F * (waist + .98F), .62F},
                                 {waist, .8F}, {waist + .02F, .9F}, {waist + .12F, 1}};
    float height = shape_range(rng, 1.6F, 2);
    float radius = shape_range(rng, .56F, .66F);
    shape->size[0] = height;
    shape->size[1] = radius;
    shape->size[2] = waist * radius;
    shape->size[3] = .3F;
    shape->size[4] = .27F * height;
    turn(shape, &(Profile){.points = line,
                           .count = COUNT(line),
                           .width = radius,
                           .height = height,
                           .wall = .065F,
                           .subdivide = 6});
    shape->low.y = 0;
    shape->low.x = -maxf(radius + .05F, 1.5F * (waist + .16F) * radius);
    shape->high.x = shape->size[2] + shape->size[3] + .2F;
}

static float pitcher_distance(const Shape *shape, Vec3 p, int *part)
{
    float height = shape->size[0];
    float r = sqrtf(p.x * p.x + p.z * p.z) + 1e-6F;
    float forward = maxf(-p.x / r, 0);
    float rise = smoothstepf(.72F * height, height, p.y);
    float spout = 1 + .45F * rise * forward * forward * forward * forward;
    float jug = .72F * lathe_distance(shape->lathe, vec(p.x / spout, p.y, p.z / spout));
    Vec3 q = vec_sub(p, vec(shape->size[2] + .08F, .6F * height, 0));
    float handle = solid_handle(q, shape->size[3], shape->size[4], .065F);
    handle = maxf(handle, shape->size[2] * .98F - r);
    *part = 0;
    return solid_blend(jug, handle, .07F);
}

/* Soda can. size: height. Parts: 0 printed wall, 1 bare metal. */
static void can_build(Shape *shape, Rng *rng)
{
    static const ProfilePoint outline[] = {
        {0, .06F},    {.62F, .06F}, {.74F, 0}, {.80F, .0F}, {1, .085F},   {1, .86F}, {.97F, .89F},
        {.82F, .97F}, {.85F, .99F}, {.83F, 1}, {.77F, 1},   {.74F, .95F}, {0, .95F}};
    float height = shape_range(rng, 1.05F, 1.35F);
    shape->size[0] = height;
    turn(shape, &(Profile){.points = outline,
                           .count = COUNT(outline),
                           .width = shape_range(rng, .3F, .35F),
                           .height = height,
                           .rounding = .008F,
                           .subdivide = 1});
}

static float can_distance(const Shape *shape, Vec3 p, int *part)
{
    float height = shape->size[0];
    float d = lathe_distance(shape->lathe, p);
    *part = p.y > .87F * height || p.y < .08F * height ? 1 : 0;
    Vec3 q = vec_sub(p, vec(.07F, .965F * height, 0));
    float tab = maxf(solid_ellipsoid(q, vec(.12F, .03F, .075F)),
                     .035F - sqrtf((q.x - .05F) * (q.x - .05F) + q.z * q.z));
    return solid_nearer(d, tab, 1, part);
}

/* Water bottle. size: height, lower edge of the cap, lower and upper edge of the label. Parts:
 * 0 bottle, 1 cap, 2 label. */
static void bottle_build(Shape *shape, Rng *rng)
{
    static const ProfilePoint outline[] = {
        {0, .03F},    {.7F, 0},    {.93F, .012F}, {1, .05F},    {1, .1F},     {.93F, .12F},
        {1, .14F},    {1, .2F},    {.93F, .22F},  {1, .24F},    {1, .3F},     {.97F, .32F},
        {.97F, .56F}, {1, .58F},   {1, .66F},     {.9F, .74F},  {.62F, .82F}, {.42F, .875F},
        {.4F, .89F},  {.4F, .91F}, {.47F, .915F}, {.47F, .99F}, {.43F, 1},    {0, 1}};
    float height = shape_range(rng, 1.8F, 2.3F);
    shape->size[0] = height;
    shape->size[1] = .912F * height;
    shape->size[2] = .325F * height;
    shape->size[3] = .555F * height;
    turn(shape, &(Profile){.points = outline,
                           .count = COUNT(outline),
                           .width = shape_range(rng, .3F, .38F),
                           .height = height,
                           .rounding = .012F,
                           .subdivide = 1});
}

static float bottle_distance(const Shape *shape, Vec3 p, int *part)
{
    bool label = p.y > shape->size[2] && p.y < shape->size[3];
    *part = p.y > shape->size[1] ? 1 : label ? 2 : 0;
    return lathe_distance(shape->lathe, p);
}

const ShapeForm shape_apple = {apple_build, apple_distance};
const ShapeForm shape_pear = {pear_build, pear_distance};
const ShapeForm shape_bowl = {bowl_build, footed_distance};
const ShapeForm shape_plate = {plate_build, footed_distance};
const ShapeForm shape_coffee_mug = {mug_build, mug_distance};
const ShapeForm shape_pitcher = {pitcher_build, pitcher_distance};
const ShapeForm shape_soda_can = {can_build, can_distance};
const ShapeForm shape_water_bottle = {bottle_build, bottle_distance};
