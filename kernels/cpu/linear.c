/* Fully connected layers: oneDNN's matrix product, row-major. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn_version.h"

void cpu_linear_fprop(Backend *be, const LinearShape *s, const void *x, const void *w,
                      const float *bias, void *y)
{
    (void)be;
    onednn_check(dnnl_sgemm('N', 'T', s->N, s->K, s->C, 1.0f, x, s->C, w, s->C, 0.0f, y, s->K),
                 "dnnl_sgemm");
    if (bias == NULL) {
        return;
    }
    float *out = y;
    for (int n = 0; n < s->N; n++) {
        for (int k = 0; k < s->K; k++) {
            out[(int64_t)n * s->K + k] += bias[k];
        }
    }
}

void cpu_linear_dgrad(Backend *be, const LinearShape *s, const void *dy, const void *w, void *dx)
{
    (void)be;
    onednn_check(dnnl_sgemm('N', 'N', s->N, s->C, s->K, 1.0f, dy, s->K, w, s->C, 0.0f, dx, s->C),
                 "dnnl_sgemm");
}

static void sum_rows(const LinearShape *s, const float *dy, bool accumulate, float *dbias)
{
    if (!accumulate) {
        for (int k = 0; k < s->K; k++) {
            dbias[k] = 0.0f;
        }
    }
    for (int n = 0; n < s->N; n++) {
        for (int k = 0; k < s->K; k++) {
            dbias[k] += dy[(int64_t)n * s->K + k];
        }
    }
}

void cpu_linear_wgrad(Backend *be, const LinearShape *s, const void *x, const void *dy,
                      bool accumulate, float *dw, float *dbias)
{
    (void)be;
    onednn_check(dnnl_sgemm('T', 'N', s->K, s->C, s->N, 1.0f, dy, s->K, x, s->C,
                            accumulate ? 1.0f : 0.0f, dw, s->C),
                 "dnnl_sgemm");
    if (dbias != NULL) {
        sum_rows(s, dy, accumulate, dbias);
    }
}
