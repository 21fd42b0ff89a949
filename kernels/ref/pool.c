#include "kernels/ref/ref.h"

void ref_avgpool_fprop(const AvgPoolShape *s, const double *x, double *y)
{
    for (int64_t n = 0; n < s->N; n++) {
        for (int64_t c = 0; c < s->C; c++) {
            double sum = 0.0;
            for (int64_t i = 0; i < s->HW; i++) {
                sum += x[(n * s->HW + i) * s->C + c];
            }
            y[n * s->C + c] = sum / s->HW;
        }
    }
}

void ref_avgpool_bprop(const AvgPoolShape *s, const double *dy, double *dx)
{
    for (int64_t n = 0; n < s->N; n++) {
        for (int64_t i = 0; i < s->HW; i++) {
            for (int64_t c = 0; c < s->C; c++) {
                dx[(n * s->HW + i) * s->C + c] = dy[n * s->C + c] / s->HW;
            }
        }
    }
}
