#include "base/rng.h"
#include "kernels/ref/ref_norm.h"

#include <math.h>

/* y_i = x_i / (1 - p) where word i mod 4 of block i / 4 is at least p 2^32, else 0 */
void ref_dropout(const DropoutShape *s, const uint64_t *key, const double *x, double *y)
{
    for (int64_t j = 0; j < s->count; j++) {
        int64_t i = s->first + j;
        Philox draw = philox4x32(key[0], (uint32_t)(i / 4), (uint32_t)RNG_DROPOUT << 24 | s->layer,
                                 (uint32_t)key[1], (uint32_t)(key[1] >> 32));
        y[j] = draw.word[i % 4] >= round(s->p * 4294967296.0) ? x[j] / (1 - (double)s->p) : 0;
    }
}
