/* SGD with momentum over the parameter arena, in one pass; the loss scale's bookkeeping. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

static void update_range(const SgdShape *s, const SgdRange *range, float unscale,
                         const float *restrict dw, float *restrict v, float *restrict w)
{
    const float decay = s->weight_decay;
    const float momentum = s->momentum;
    const float lr = range->lr;
    const int64_t end = range->offset + range->count;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = range->offset; i < end; i++) {
        float d = dw[i] * unscale + decay * w[i];
        v[i] = momentum * v[i] + d;
        w[i] -= lr * v[i];
    }
}

static bool all_finite(const SgdShape *s, const float *dw)
{
    int found = 0;
    for (int r = 0; r < s->ranges; r++) {
        const int64_t end = s->range[r].offset + s->range[r].count;
#pragma omp parallel for simd schedule(static) reduction(| : found)
        for (int64_t i = s->range[r].offset; i < end; i++) {
            found |= !(fabsf(dw[i]) <= 3.402823466e38f);
        }
    }
    return !found;
}

static void move_scale(LossScale *scale, bool good)
{
    scale->overflow = !good;
    if (!good) {
        scale->scale = fmaxf(scale->scale * 0.5f, 1.0f);
        scale->good_steps = 0;
        scale->skipped++;
    } else if (++scale->good_steps == LOSS_SCALE_INTERVAL) {
        scale->scale = fminf(scale->scale * 2.0f, LOSS_SCALE_MAXIMUM);
        scale->good_steps = 0;
    }
}

void cpu_sgd(Backend *be, const SgdShape *s, LossScale *scale, const float *dw, float *v, float *w,
             void *w_act)
{
    float unscale = scale != NULL ? 1.0f / scale->scale : 1.0f;
    bool good = scale == NULL || all_finite(s, dw);
    for (int i = 0; good && i < s->ranges; i++) {
        const SgdRange *range = &s->range[i];
        update_range(s, range, unscale, dw, v, w);
        if (w_act != NULL) {
            cpu_cast(be, range->count, w + range->offset, (float *)w_act + range->offset);
        }
    }
    if (scale != NULL) {
        move_scale(scale, good);
    }
}

void cpu_cast(Backend *be, int64_t count, const float *x, void *y)
{
    (void)be;
    memmove(y, x, (size_t)count * sizeof(float));
}
