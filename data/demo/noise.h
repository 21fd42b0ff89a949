/* Smooth pseudo-random functions of a point: the grain of wood, cloth, fruit and sensor holes. */
#ifndef RODEO_DATA_DEMO_NOISE_H
#define RODEO_DATA_DEMO_NOISE_H

#include "data/demo/vec.h"

#include <stdint.h>

/* Value noise on the integer lattice, in [0, 1], cell size 1. */
float noise_value(Vec3 p, uint32_t seed);

/* `octaves` of value noise, each of half the size and strength of the one before, in [0, 1]. */
float noise_fractal(Vec3 p, int octaves, uint32_t seed);

#endif
