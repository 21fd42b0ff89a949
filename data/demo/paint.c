#include "data/demo/paint.h"

#include "data/demo/noise.h"

#include <stdbool.h>

/* How many of the synthetic models have their class's own colour; the others have any. */
#define OWN_COLOUR_SHARE .5F

static float screen_channel(Hsv colour, float shift)
{
    float h = colour.h + shift;
    h = 6 * (h - floorf(h));
    float tone = clampf(fabsf(h - 3) - 1, 0, 1);
    return colour.v * mixf(1, tone, colour.s);
}

Vec3 paint_linear(Hsv colour)
{
    return vec(powf(screen_channel(colour, 0), 2.2F), powf(screen_channel(colour, 2.F / 3), 2.2F),
               powf(screen_channel(colour, 1.F / 3), 2.2F));
}

static Hsv jitter(Hsv colour, float amount, Rng *rng)
{
    colour.h += amount * shape_range(rng, -.035F, .035F);
    colour.s = clampf(colour.s + amount * shape_range(rng, -.12F, .12F), 0, 1);
    colour.v = clampf(colour.v + amount * shape_range(rng, -.12F, .12F), .03F, 1);
    return colour;
}

/* A colour that goes with a body of colour `body` as a print on it. */
static Hsv companion(Hsv body, Rng *rng)
{
    uint32_t kind = rng_below(rng, 4);
    if (kind == 0 && body.v * (1 - body.s) < .6F) {
        return (Hsv){0, .02F, .95F};
    }
    if (kind == 1 && body.v > .35F) {
        return (Hsv){body.h, .3F, .12F};
    }
    return (Hsv){body.h + shape_range(rng, .25F, .75F), shape_range(rng, .5F, .9F),
                 shape_range(rng, .5F, .95F)};
}

static Hsv real_colour(const PaintRange *range, Rng *rng)
{
    return jitter(range->real[rng_below(rng, PAINT_REAL_COLOURS)], 1, rng);
}

static Hsv synthetic_colour(const PaintRange *range, Rng *rng)
{
    if (shape_range(rng, 0, 1) < OWN_COLOUR_SHARE) {
        return jitter(range->synthetic, .45F, rng);
    }
    return (Hsv){shape_range(rng, 0, 1), shape_range(rng, .5F, .85F), shape_range(rng, .65F, .95F)};
}

Paint paint_draw(const PaintRange *range, Domain domain, Rng *rng)
{
    bool real = domain == DOMAIN_REAL;
    Hsv body = real ? real_colour(range, rng) : synthetic_colour(range, rng);
    Hsv second = real ? companion(body, rng) : (Hsv){body.h + .08F, .5F * body.s, 1};
    Paint paint = {.pattern = range->pattern};
    paint.colour[0] = paint_linear(body);
    paint.colour[1] = paint_linear(second);
    paint.colour[2] = paint_linear(jitter(range->accent, real ? 1.5F : .3F, rng));
    paint.grain = real ? shape_range(rng, .5F, 1) : .08F;
    paint.gloss = real ? shape_range(rng, .5F, 1.8F) : 1;
    paint.variant = real ? (int)rng_below(rng, 3) : 0;
    paint.seed = rng_u32(rng);
    return paint;
}

/* Darkens and lightens by up to half the grain, in patches of about `size`. */
static Vec3 grained(const Paint *paint, Vec3 colour, Vec3 p, float size)
{
    float n = noise_fractal(vec_scale(p, 1 / size), 3, paint->seed);
    return vec_scale(colour, 1 + paint->grain * 1.1F * (n - .5F));
}

static void finish(const Paint *paint, Surface *out, float specular, float shine)
{
    out->specular = specular * paint->gloss;
    out->shine = shine;
    out->metal = 0;
}

void paint_fruit(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    if (part == 1) {
        out->albedo = grained(paint, paint->colour[2], p, .05F);
        finish(paint, out, .02F, 10);
        return;
    }
    float up = p.y / shape->size[0];
    float around = noise_fractal(vec_scale(p, 1.6F), 2, paint->seed + 9);
    /* Ripening: one cheek and the hollow at the stem keep a paler colour. */
    float pale = smoothstepf(.45F, .75F, around) * paint->grain * .7F;
    Vec3 pale_colour = vec_mix(paint->colour[0], vec(.62F, .55F, .12F), .75F);
    Vec3 colour = vec_mix(paint->colour[0], pale_colour, pale);
    colour = vec_mix(colour, pale_colour, .4F * (1 - smoothstepf(0, .25F, up)));
    float streak = noise_value(vec(atan2f(p.z, p.x) * 9, p.y * 1.5F, 0), paint->seed + 3);
    colour = vec_scale(colour, 1 - .3F * paint->grain * streak);
    float speckle = smoothstepf(.80F, .88F, noise_value(vec_scale(p, 26), paint->seed + 5));
    out->albedo = vec_mix(colour, vec(.7F, .62F, .35F), .55F * speckle * paint->grain);
    finish(paint, out, .045F, 60);
}

void paint_banana(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    float t = fabsf(atan2f(p.x, p.z + shape->size[0])) / shape->size[1];
    Vec3 green = vec(.28F, .38F, .05F);
    Vec3 brown = vec(.055F, .03F, .012F);
    Vec3 colour = vec_mix(paint->colour[0], green, .35F * smoothstepf(.65F, 1, t));
    float patch = noise_fractal(vec_scale(p, 7), 3, paint->seed);
    float spots = smoothstepf(.58F, .68F, patch) * paint->grain;
    colour = vec_mix(colour, brown, clampf(.8F * spots, 0, 1));
    out->albedo = vec_mix(colour, brown, part == 1 ? .9F : smoothstepf(.9F, .98F, t));
    finish(paint, out, .035F, 25);
}

void paint_ball(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    (void)part;
    float radius = shape->size[0];
    Vec3 q = vec_scale(vec_sub(p, vec(0, radius, 0)), 1 / radius);
    float seam = minf(fabsf(q.x), minf(fabsf(q.y), fabsf(q.z)));
    Vec3 colour = paint->colour[0];
    bool odd = (q.x > 0) != ((q.y > 0) != (q.z > 0));
    if (paint->variant == 1 ? odd : paint->variant == 2 && fabsf(q.y) < .3F) {
        colour = paint->colour[1];
    }
    colour = vec_mix(vec_scale(colour, .25F), colour, smoothstepf(.015F, .04F, seam));
    float scuff = smoothstepf(.55F, .75F, noise_fractal(vec_scale(p, 3), 3, paint->seed));
    out->albedo =
        vec_mix(grained(paint, colour, p, .06F), vec(.3F, .27F, .24F), .4F * scuff * paint->grain);
    finish(paint, out, .05F, 40);
}

void paint_crockery(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    (void)part;
    float height = shape->high.y;
    float radius = lathe_radius(shape->lathe);
    float r = sqrtf(p.x * p.x + p.z * p.z) / radius;
    float up = p.y / height;
    bool rim = r > .9F && up > .84F && height < radius;
    bool band = up > .42F && up < .62F && height > .6F * radius;
    float angle = atan2f(p.z, p.x);
    float dots = cosf(angle * 9) * cosf(9 * up * height / radius);
    bool second = paint->variant == 1 ? rim || band : paint->variant == 2 ? dots > .72F : false;
    Vec3 colour = second ? paint->colour[1] : paint->colour[0];
    float wear = noise_fractal(vec_scale(p, 4), 3, paint->seed);
    out->albedo = vec_scale(colour, 1 + .5F * paint->grain * (wear - .5F));
    finish(paint, out, .06F, 130);
}

void paint_cap(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    float angle = atan2f(p.z, p.x);
    /* Six panels with seams between them; stitches run along the peak. */
    float seam = fabsf(sinf(3 * angle)) * sqrtf(p.x * p.x + p.z * p.z);
    Vec3 colour = paint->variant == 1 && part != 0 ? paint->colour[1] : paint->colour[0];
    float weave = .5F + .5F * sinf(p.x * 90) * sinf(p.z * 90 + p.y * 90);
    colour = vec_scale(grained(paint, colour, p, .1F), 1 - .25F * paint->grain * weave);
    float line = part == 0   ? smoothstepf(.012F, .035F, seam)
                 : part == 1 ? smoothstepf(-.95F, -.6F, sinf(70 * vec_length(vec(p.x, 0, p.z))))
                             : 1;
    bool badge = paint->variant == 2 && part == 0 && p.x > 0 && fabsf(p.z) < .2F &&
                 fabsf(p.y - .5F * shape->size[1]) < .13F;
    out->albedo = badge ? paint->colour[1] : vec_scale(colour, mixf(.55F, 1, line));
    finish(paint, out, .012F, 8);
}

/* A cereal box's front: a title, a big round picture and a band below. */
static Vec3 box_print(const Paint *paint, float x, float y)
{
    float disc = x * x + (y - .78F) * (y - .78F) * 1.3F;
    if (y > 1.45F && y < 1.78F && fabsf(x) < .82F) {
        float letters = sinf(x * 17) + .6F * sinf(x * 41 + 1);
        return letters > -.2F ? paint->colour[2] : paint->colour[0];
    }
    if (disc < .26F) {
        return disc < .16F ? paint->colour[1] : paint->colour[2];
    }
    return y < .22F ? paint->colour[1] : paint->colour[0];
}

void paint_box(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    (void)part;
    float x = p.x / shape->size[0];
    float y = p.y / shape->size[1];
    bool front = fabsf(p.z) > shape->size[2] - .02F;
    Vec3 colour = paint->colour[0];
    if (front) {
        colour = box_print(paint, x, y);
    } else if (fabsf(x) > .97F && y > .4F && y < 1.5F) {
        /* The table of ingredients on the narrow sides. */
        colour =
            sinf(y * 60) > .2F && fabsf(p.z) < .7F * shape->size[2] ? paint->colour[2] : colour;
    }
    out->albedo = grained(paint, colour, p, .3F);
    finish(paint, out, .03F, 25);
}

static void bare_metal(Surface *out)
{
    out->albedo = vec(.62F, .62F, .63F);
    out->specular = .6F;
    out->shine = 60;
    out->metal = 1;
}

void paint_can(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    if (part == 1) {
        bare_metal(out);
        return;
    }
    float angle = atan2f(p.z, p.x);
    float up = p.y / shape->size[0];
    float wave = up - .48F - .12F * sinf(2 * angle + (float)paint->variant);
    Vec3 colour = fabsf(wave) < .075F ? paint->colour[1] : paint->colour[0];
    if (fabsf(up - .7F) < .05F && cosf(2 * angle) > .2F) {
        colour = paint->colour[1];
    }
    out->albedo = grained(paint, colour, p, .2F);
    finish(paint, out, .12F, 70);
}

void paint_flashlight(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    (void)shape;
    Vec3 colour = paint->colour[0];
    finish(paint, out, .1F, 50);
    if (part == 1) {
        colour = vec(.92F, .9F, .78F);
        finish(paint, out, .3F, 200);
    } else if (part == 2) {
        colour = paint->colour[2];
    } else if (part == 3) {
        colour = vec_scale(colour, .45F);
        finish(paint, out, .03F, 12);
    }
    out->albedo = part == 1 ? colour : grained(paint, colour, p, .1F);
}

void paint_lightbulb(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    (void)shape;
    if (part == 1) {
        bare_metal(out);
        return;
    }
    float dust = noise_fractal(vec_scale(p, 3), 3, paint->seed);
    out->albedo = vec_scale(paint->colour[0], 1 - .3F * paint->grain * dust);
    finish(paint, out, .1F, 180);
}

void paint_sponge(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    (void)shape;
    if (part == 1) {
        float fibre = noise_fractal(vec(p.x * 30, p.y * 30, p.z * 12), 2, paint->seed);
        out->albedo = vec_scale(paint->colour[2], .5F + fibre);
        finish(paint, out, .01F, 6);
        return;
    }
    float pore = smoothstepf(.55F, .8F, noise_value(vec_scale(p, 14), 7));
    out->albedo = vec_scale(grained(paint, paint->colour[0], p, .15F), 1 - .6F * pore);
    finish(paint, out, .01F, 6);
}

void paint_toothbrush(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    if (part == 1) {
        bool middle = fabsf(p.x - .8F * shape->size[0]) < .06F * shape->size[0];
        out->albedo = middle ? paint->colour[0] : vec(.85F, .86F, .88F);
        finish(paint, out, .02F, 10);
        return;
    }
    Vec3 colour = part == 2 ? paint->colour[2] : paint->colour[0];
    bool stripes = paint->variant == 1 && part == 0 && sinf(p.x * 12) > .3F;
    out->albedo = grained(paint, stripes ? paint->colour[1] : colour, p, .2F);
    finish(paint, out, .06F, 80);
}

void paint_bottle(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out)
{
    float angle = atan2f(p.z, p.x);
    finish(paint, out, .12F, 150);
    if (part == 1) {
        out->albedo = vec_scale(paint->colour[2], .75F + .25F * cosf(40 * angle));
        return;
    }
    if (part == 2) {
        float up = (p.y - shape->size[2]) / (shape->size[3] - shape->size[2]);
        bool print = fabsf(up - .55F - .12F * sinf(3 * angle)) < .13F;
        out->albedo = grained(paint, print ? paint->colour[2] : paint->colour[1], p, .2F);
        finish(paint, out, .04F, 30);
        return;
    }
    /* Clear plastic: paler towards the water line, bright where light gathers. */
    float level = 1 - smoothstepf(.7F, .74F, p.y / shape->size[0]);
    out->albedo =
        vec_mix(vec_mix(paint->colour[0], vec(.8F, .85F, .88F), .5F), paint->colour[0], level);
}
