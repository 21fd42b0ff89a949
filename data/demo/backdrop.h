/* What the things stand on and in front of: plane patterns. */
#ifndef RODEO_DATA_DEMO_BACKDROP_H
#define RODEO_DATA_DEMO_BACKDROP_H

#include "base/rng.h"
#include "data/demo/paint.h"

#include <stdbool.h>

typedef enum {
    BACKDROP_CLOUDS, /* the first four: synthetic; soft and even */
    BACKDROP_STRIPES,
    BACKDROP_DISCS,
    BACKDROP_FADE,
    BACKDROP_WOOD, /* the rest: real */
    BACKDROP_CLOTH,
    BACKDROP_STONE,
    BACKDROP_TILES,
    BACKDROP_PLASTER,
} BackdropKind;

typedef struct {
    BackdropKind kind;
    Vec3 colour[2];
    float scale;        /* size of the pattern, in units of the scene */
    float cosine, sine; /* its direction */
    uint32_t seed;
} Backdrop;

/* A pattern for a table, or for a wall; size is that of the thing on show. */
Backdrop backdrop_draw(Domain domain, bool wall, float size, Rng *rng);

/* Its colour at (x, y) of the plane, linear RGB. */
Vec3 backdrop_colour(const Backdrop *backdrop, float x, float y);

#endif
