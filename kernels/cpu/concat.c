/* Joining and splitting along the channels. */
#include "kernels/cpu/cpu.h"

#include <string.h>

void cpu_concat(Backend *be, const ConcatShape *s, const void *a, const void *b, void *y)
{
    (void)be;
    const float *left = a;
    const float *right = b;
    float *out = y;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->rows; row++) {
        float *joined = out + row * (s->Ca + s->Cb);
        memcpy(joined, left + row * s->Ca, (size_t)s->Ca * sizeof(float));
        memcpy(joined + s->Ca, right + row * s->Cb, (size_t)s->Cb * sizeof(float));
    }
}

void cpu_split(Backend *be, const ConcatShape *s, const void *y, void *a, void *b)
{
    (void)be;
    const float *in = y;
    float *left = a;
    float *right = b;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->rows; row++) {
        const float *joined = in + row * (s->Ca + s->Cb);
        memcpy(left + row * s->Ca, joined, (size_t)s->Ca * sizeof(float));
        memcpy(right + row * s->Cb, joined + s->Ca, (size_t)s->Cb * sizeof(float));
    }
}
