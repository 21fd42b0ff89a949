/* Global average pooling. */
#include "kernels/cpu/cpu.h"

void cpu_avgpool_fprop(Backend *be, const AvgPoolShape *s, const void *x, void *y)
{
    (void)be;
    const float *in = x;
    float *out = y;
#pragma omp parallel for schedule(static)
    for (int n = 0; n < s->N; n++) {
        const float *picture = in + (int64_t)n * s->HW * s->C;
        float *mean = out + (int64_t)n * s->C;
        for (int c = 0; c < s->C; c++) {
            mean[c] = 0.0f;
        }
        for (int i = 0; i < s->HW; i++) {
            for (int c = 0; c < s->C; c++) {
                mean[c] += picture[(int64_t)i * s->C + c];
            }
        }
        for (int c = 0; c < s->C; c++) {
            mean[c] /= (float)s->HW;
        }
    }
}

void cpu_avgpool_bprop(Backend *be, const AvgPoolShape *s, const void *dy, void *dx)
{
    (void)be;
    const float *in = dy;
    float *out = dx;
#pragma omp parallel for schedule(static)
    for (int n = 0; n < s->N; n++) {
        const float *gradient = in + (int64_t)n * s->C;
        float *picture = out + (int64_t)n * s->HW * s->C;
        for (int i = 0; i < s->HW; i++) {
            for (int c = 0; c < s->C; c++) {
                picture[(int64_t)i * s->C + c] = gradient[c] / (float)s->HW;
            }
        }
    }
}
