#include "base/rng.h"

#include <math.h>

Rng rng_at(uint64_t seed, unsigned use, uint32_t a, uint32_t b, uint32_t c)
{
    return (Rng){.key = seed, .place = {(uint32_t)use << 24 | (a & 0xFFFFFFu), b, c}, .used = 4};
}

uint32_t rng_u32(Rng *rng)
{
    if (rng->used == 4) {
        rng->current =
            philox4x32(rng->key, rng->block++, rng->place[0], rng->place[1], rng->place[2]);
        rng->used = 0;
    }
    return rng->current.word[rng->used++];
}

uint32_t rng_below(Rng *rng, uint32_t n)
{
    /* The high half of a 32 x 32-bit product is uniform once the few low products that one result
     * has too many of are drawn again (Lemire, "Fast random integer generation in an interval",
     * 2019). */
    uint32_t surplus = (0u - n) % n;
    for (;;) {
        uint64_t product = (uint64_t)rng_u32(rng) * n;
        if ((uint32_t)product >= surplus) {
            return (uint32_t)(product >> 32);
        }
    }
}

double rng_uniform(Rng *rng)
{
    uint64_t high = rng_u32(rng) >> 5;
    uint64_t low = rng_u32(rng) >> 6;
    return (double)(high << 26 | low) * 0x1p-53;
}

double rng_normal(Rng *rng)
{
    double radius = sqrt(-2.0 * log(1.0 - rng_uniform(rng)));
    return radius * cos(2.0 * M_PI * rng_uniform(rng));
}
