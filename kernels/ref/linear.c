#include "kernels/ref/ref.h"

void ref_linear_fprop(const LinearShape *s, const double *x, const double *w, const double *bias,
                      double *y)
{
    for (int64_t n = 0; n < s->N; n++) {
        for (int64_t k = 0; k < s->K; k++) {
            double sum = bias != NULL ? bias[k] : 0.0;
            for (int64_t c = 0; c < s->C; c++) {
                sum += x[n * s->C + c] * w[k * s->C + c];
            }
            y[n * s->K + k] = sum;
        }
    }
}

void ref_linear_dgrad(const LinearShape *s, const double *dy, const double *w, double *dx)
{
    for (int64_t n = 0; n < s->N; n++) {
        for (int64_t c = 0; c < s->C; c++) {
            double sum = 0.0;
            for (int64_t k = 0; k < s->K; k++) {
                sum += dy[n * s->K + k] * w[k * s->C + c];
            }
            dx[n * s->C + c] = sum;
        }
    }
}

void ref_linear_wgrad(const LinearShape *s, const double *x, const double *dy, double *dw,
                      double *dbias)
{
    for (int64_t k = 0; k < s->K; k++) {
        for (int64_t c = 0; c < s->C; c++) {
            double sum = 0.0;
            for (int64_t n = 0; n < s->N; n++) {
                sum += dy[n * s->K + k] * x[n * s->C + c];
            }
            dw[k * s->C + c] = sum;
        }
    }
    for (int64_t k = 0; k < s->K && dbias != NULL; k++) {
        dbias[k] = 0.0;
        for (int64_t n = 0; n < s->N; n++) {
            dbias[k] += dy[n * s->K + k];
        }
    }
}
