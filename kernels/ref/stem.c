#include "base/mem.h"
#include "kernels/ref/ref_norm.h"

#include <stdlib.h>

/* The stem is batch norm + ReLU, then max pooling: each done on its own here. */
static BatchNormShape stem_batchnorm(const StemShape *s)
{
    return (BatchNormShape){s->groups, (int64_t)s->N * s->H * s->W, s->C, s->eps, 0, true};
}

static double *normalised_tensor(const StemShape *s)
{
    return mem_alloc((size_t)s->groups * s->N * s->H * s->W * s->C * sizeof(double));
}

/* Element of z [pictures,H,W,C] that position k of the window at (p, q) lies on; -1 in the padding.
 */
static int64_t window_element(const StemShape *s, int picture, int p, int q, int k, int c)
{
    int h = 2 * p - 1 + k / 3;
    int w = 2 * q - 1 + k % 3;
    if (h < 0 || h >= s->H || w < 0 || w >= s->W) {
        return -1;
    }
    return (((int64_t)picture * s->H + h) * s->W + w) * s->C + c;
}

/* y = max over the window of z >= 0; argmax (may be NULL) = its first place, or none where it is 0
 */
static void max_pool(const StemShape *s, const double *z, double *y, uint8_t *argmax)
{
    int P = conv_out(s->H, 3, 2, 1);
    int Q = conv_out(s->W, 3, 2, 1);
    int64_t outputs = (int64_t)s->groups * s->N * P * Q * s->C;
    for (int64_t i = 0; i < outputs; i++) {
        int c = (int)(i % s->C);
        int q = (int)(i / s->C % Q);
        int p = (int)(i / s->C / Q % P);
        int picture = (int)(i / s->C / Q / P);
        double best = 0;
        uint8_t at = STEM_NO_GRADIENT;
        for (int k = 0; k < 9; k++) {
            int64_t element = window_element(s, picture, p, q, k, c);
            if (element >= 0 && z[element] > best) {
                best = z[element];
                at = (uint8_t)k;
            }
        }
        y[i] = best;
        if (argmax != NULL) {
            argmax[i] = at;
        }
    }
}

void ref_stem_train(const StemShape *s, const double *x, const double *gamma, const double *beta,
                    const double *batch_mean, const double *batch_invstd, double *y,
                    uint8_t *argmax)
{
    BatchNormShape batchnorm = stem_batchnorm(s);
    double *z = normalised_tensor(s);
    for (int g = 0; g < s->groups; g++) {
        int64_t at = g * batchnorm.rows * s->C;
        for (int64_t i = 0; i < batchnorm.rows * s->C; i++) {
            int64_t c = i % s->C;
            int64_t own = g * s->C + c;
            double value = (x[at + i] - batch_mean[own]) * batch_invstd[own] * gamma[c] + beta[c];
            z[at + i] = value < 0 ? 0 : value;
        }
    }
    max_pool(s, z, y, argmax);
    free(z);
}

void ref_stem_eval(const StemShape *s, const double *x, const double *gamma, const double *beta,
                   const double *running_mean, const double *running_var, double *y)
{
    BatchNormShape batchnorm = stem_batchnorm(s);
    double *z = normalised_tensor(s);
    ref_batchnorm_eval(&batchnorm, x, NULL, gamma, beta, running_mean, running_var, z);
    max_pool(s, z, y, NULL);
    free(z);
}

/* dz = the sum of dy (+ dy_add) over the windows that took their maximum here. argmax names only
 * elements that passed the ReLU, so the batch norm behind it is one without ReLU. */
void ref_stem_bprop(const StemShape *s, const double *x, const uint8_t *argmax, const double *dy,
                    const double *dy_add, const double *gamma, const double *batch_mean,
                    const double *batch_invstd, double *dx, double *dgamma, double *dbeta)
{
    int P = conv_out(s->H, 3, 2, 1);
    int Q = conv_out(s->W, 3, 2, 1);
    BatchNormShape batchnorm = stem_batchnorm(s);
    batchnorm.relu = false;
    double *dz = normalised_tensor(s);
    for (int64_t i = 0; i < batchnorm.groups * batchnorm.rows * s->C; i++) {
        dz[i] = 0;
    }
    int64_t outputs = (int64_t)s->groups * s->N * P * Q * s->C;
    for (int64_t i = 0; i < outputs; i++) {
        if (argmax[i] != STEM_NO_GRADIENT) {
            int c = (int)(i % s->C);
            int q = (int)(i / s->C % Q);
            int p = (int)(i / s->C / Q % P);
            int picture = (int)(i / s->C / Q / P);
            dz[window_element(s, picture, p, q, argmax[i], c)] +=
                dy[i] + (dy_add != NULL ? dy_add[i] : 0);
        }
    }
    ref_batchnorm_bprop(&batchnorm, x, NULL, dz, NULL, gamma, batch_mean, batch_invstd, dx, NULL,
                        dgamma, dbeta);
    free(dz);
}
