/* What the things are made of: colours, patterns and gloss.
 *
 * Here lies half of the gap between the domains. A synthetic thing is of one clean colour, for
 * every other one the one that is its class's own, so colour tells much about the class. A real one
 * comes in any of several colours that its class has in the world, with grain, wear and prints. */
#ifndef RODEO_DATA_DEMO_PAINT_H
#define RODEO_DATA_DEMO_PAINT_H

#include "base/rng.h"
#include "data/demo/shape.h"

typedef enum { DOMAIN_SYNTHETIC = 0, DOMAIN_REAL = 1, DOMAINS = 2 } Domain;

/* How light meets one point of a surface. */
typedef struct {
    Vec3 albedo;    /* linear RGB */
    float specular; /* reflectance at normal incidence */
    float shine;    /* exponent of the highlight */
    float metal;    /* 1: reflections take the albedo, nothing is scattered */
} Surface;

typedef struct Paint Paint;

/* Colours the point p of the shape; part as its distance gave it. */
typedef void PaintPattern(const Paint *paint, const Shape *shape, Vec3 p, int part, Surface *out);

/* One thing's paint. */
struct Paint {
    PaintPattern *pattern;
    Vec3 colour[3]; /* body, second colour, accent */
    float grain;    /* strength of small irregularities, 0..1 */
    float gloss;    /* factor on the highlight */
    int variant;    /* of the pattern */
    uint32_t seed;
};

/* Hue 0..1, saturation, value. */
typedef struct {
    float h, s, v;
} Hsv;

#define PAINT_REAL_COLOURS 5

/* The paint of a class. */
typedef struct {
    PaintPattern *pattern;
    Hsv synthetic;
    Hsv real[PAINT_REAL_COLOURS];
    Hsv accent; /* of both domains: stems, bristles, caps, where the pattern has such parts */
} PaintRange;

PaintPattern paint_fruit, paint_banana, paint_ball, paint_crockery, paint_cap, paint_box, paint_can,
    paint_flashlight, paint_lightbulb, paint_sponge, paint_toothbrush, paint_bottle;

Paint paint_draw(const PaintRange *range, Domain domain, Rng *rng);

/* Linear RGB of a colour that is given as it looks on a screen. */
Vec3 paint_linear(Hsv colour);

#endif
