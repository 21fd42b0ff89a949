#include "data/demo/backdrop.h"

#include "data/demo/noise.h"

static void draw_synthetic(Backdrop *backdrop, float size, Rng *rng)
{
    backdrop->kind = (BackdropKind)(BACKDROP_CLOUDS + rng_below(rng, 4));
    float hue = shape_range(rng, 0, 1);
    float value = shape_range(rng, .7F, .97F);
    backdrop->colour[0] = paint_linear((Hsv){hue, shape_range(rng, .05F, .35F), value});
    backdrop->colour[1] =
        paint_linear((Hsv){hue + shape_range(rng, -.2F, .2F), shape_range(rng, .05F, .45F),
                           value - shape_range(rng, .02F, .2F)});
    backdrop->scale = size * shape_range(rng, .35F, .9F);
}

static void draw_real(Backdrop *backdrop, bool wall, float size, Rng *rng)
{
    static const Hsv table[] = {{.07F, .55F, .5F}, {.08F, .6F, .3F},  {.09F, .4F, .65F},
                                {.6F, .1F, .35F},  {0, .03F, .75F},   {.35F, .3F, .3F},
                                {.98F, .5F, .35F}, {.1F, .25F, .55F}, {.58F, .35F, .4F}};
    Hsv base = table[rng_below(rng, sizeof table / sizeof *table)];
    backdrop->kind = wall ? BACKDROP_PLASTER : (BackdropKind)(BACKDROP_WOOD + rng_below(rng, 5));
    if (backdrop->kind == BACKDROP_WOOD) {
        base = table[rng_below(rng, 3)];
    }
    if (wall) {
        base.s *= .5F;
        base.v = shape_range(rng, .22F, .75F);
    }
    backdrop->colour[0] = paint_linear(base);
    float contrast = shape_range(rng, .35F, .75F);
    backdrop->colour[1] =
        paint_linear((Hsv){base.h + .03F, minf(1, base.s * 1.2F), base.v * contrast});
    backdrop->scale =
        (backdrop->kind == BACKDROP_TILES ? .8F : .3F) * size * shape_range(rng, .6F, 1.4F);
}

Backdrop backdrop_draw(Domain domain, bool wall, float size, Rng *rng)
{
    Backdrop backdrop = {0};
    if (domain == DOMAIN_REAL) {
        draw_real(&backdrop, wall, size, rng);
    } else {
        draw_synthetic(&backdrop, size, rng);
    }
    float angle = shape_range(rng, 0, 6.2832F);
    backdrop.cosine = cosf(angle);
    backdrop.sine = sinf(angle);
    backdrop.seed = rng_u32(rng);
    return backdrop;
}

static float wood(float x, float y, uint32_t seed)
{
    /* Cut along the trunk: rings become long wavy stripes, with fine fibres over them. */
    float bend = noise_fractal(vec(x * .35F, y * .9F, 0), 2, seed);
    float ring = .5F + .5F * sinf(22 * bend + 5 * y);
    float fibre = noise_fractal(vec(x * 1.2F, y * 16, 1), 2, seed + 5);
    return .55F * ring + .45F * fibre;
}

static float tiles(float x, float y, uint32_t seed)
{
    float fx = x - floorf(x);
    float fy = y - floorf(y);
    float joint = minf(minf(fx, 1 - fx), minf(fy, 1 - fy));
    float tone = .35F * noise_value(vec(floorf(x) + .5F, floorf(y) + .5F, .5F), seed);
    return joint < .03F ? 1 : tone + .25F * noise_fractal(vec(x * 6, y * 6, 2), 3, seed + 3);
}

static float discs(float x, float y, uint32_t seed)
{
    float cx = floorf(x) + .5F;
    float cy = floorf(y) + .5F;
    float radius = .15F + .3F * noise_value(vec(cx, cy, .5F), seed);
    return 1 - smoothstepf(radius - .03F, radius + .03F, hypotf(x - cx, y - cy));
}

static float pattern_share(const Backdrop *backdrop, float x, float y)
{
    uint32_t seed = backdrop->seed;
    switch (backdrop->kind) {
    case BACKDROP_CLOUDS:
        return smoothstepf(.3F, .7F, noise_fractal(vec(x, y, 0), 2, seed));
    case BACKDROP_STRIPES:
        return smoothstepf(-.15F, .15F, sinf(3.1416F * x));
    case BACKDROP_DISCS:
        return discs(x, y, seed);
    case BACKDROP_FADE:
        return .5F + .5F * sinf(.5F * x + (float)(seed % 7));
    case BACKDROP_WOOD:
        return wood(x, y, seed);
    case BACKDROP_CLOTH:
        return .3F + .35F * sinf(x * 34) * sinf(y * 34) +
               .5F * noise_fractal(vec(x * 2, y * 2, 0), 3, seed);
    case BACKDROP_STONE:
        return smoothstepf(.3F, .75F, noise_fractal(vec(x * 5, y * 5, 0), 4, seed));
    case BACKDROP_TILES:
        return tiles(x, y, seed);
    case BACKDROP_PLASTER:
        break;
    }
    return noise_fractal(vec(x * 2, y * 2, 0), 4, seed);
}

Vec3 backdrop_colour(const Backdrop *backdrop, float x, float y)
{
    float u = (backdrop->cosine * x + backdrop->sine * y) / backdrop->scale;
    float v = (backdrop->cosine * y - backdrop->sine * x) / backdrop->scale;
    return vec_mix(backdrop->colour[0], backdrop->colour[1],
                   clampf(pattern_share(backdrop, u, v), 0, 1));
}
