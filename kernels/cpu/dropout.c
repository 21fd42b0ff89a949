/* Dropout on the CPU. The mask comes from a counter, four elements a block, so that threads need to
 * agree on nothing. */
#include "base/rng.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

enum { TILE = 64 }; /* blocks whose random words are drawn in one vectorised loop */

typedef struct {
    uint64_t seed;
    uint32_t step_low, step_high, layer;
    uint32_t threshold; /* kept: word >= threshold */
    float scale;
} Dropout;

/* y from x for `count` <= 4 TILE elements; the first one is word 0 of block `block`. */
static void dropout_tile(const Dropout *d, uint32_t block, int64_t count, const float *x, float *y)
{
    uint32_t words[4][TILE];
#pragma omp simd
    for (int i = 0; i < TILE; i++) {
        Philox draw = philox4x32(d->seed, block + (uint32_t)i, d->layer, d->step_low, d->step_high);
        words[0][i] = draw.word[0];
        words[1][i] = draw.word[1];
        words[2][i] = draw.word[2];
        words[3][i] = draw.word[3];
    }
    for (int64_t i = 0; i < count; i++) {
        y[i] = words[i % 4][i / 4] >= d->threshold ? x[i] * d->scale : 0;
    }
}

void cpu_dropout(Backend *be, const DropoutShape *s, const uint64_t *key, const void *x, void *y)
{
    if (s->p == 0) {
        if (y != x) {
            memcpy(y, x, (size_t)s->count * sizeof(float));
        }
        return;
    }
    Dropout d = {.seed = key[0],
                 .step_low = (uint32_t)key[1],
                 .step_high = (uint32_t)(key[1] >> 32),
                 .layer = (uint32_t)RNG_DROPOUT << 24 | s->layer,
                 .threshold = (uint32_t)llrint((double)s->p * 0x1p32),
                 .scale = (float)(1 / (1 - (double)s->p))};
    int64_t tile = 4 * TILE;
#pragma omp parallel for num_threads(cpu_backend(be)->threads) schedule(static)
    for (int64_t at = 0; at < s->count; at += tile) {
        int64_t left = s->count - at;
        dropout_tile(&d, (uint32_t)((s->first + at) / 4), left < tile ? left : tile,
                     (const float *)x + at, (float *)y + at);
    }
}
