/* SGD with momentum over the parameter arena, in one pass. */
#include "kernels/cpu/cpu.h"

static void update_range(const SgdShape *s, const SgdRange *range, const float *restrict dw,
                         float *restrict v, float *restrict w)
{
    const float decay = s->weight_decay;
    const float momentum = s->momentum;
    const float lr = range->lr;
    const int64_t end = range->offset + range->count;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = range->offset; i < end; i++) {
        float d = dw[i] + decay * w[i];
        v[i] = momentum * v[i] + d;
        w[i] -= lr * v[i];
    }
}

void cpu_sgd(Backend *be, const SgdShape *s, const float *dw, float *v, float *w)
{
    (void)be;
    for (int i = 0; i < s->ranges; i++) {
        update_range(s, &s->range[i], dw, v, w);
    }
}
