#include "kernels/ref/ref_norm.h"

#include <math.h>

/* mean = 1/n sum x,   variance = 1/n sum (x - mean)^2 of channel c of a group x [rows,C] */
static void channel_statistics(const BatchNormShape *s, const double *x, int c, double *mean,
                               double *variance)
{
    *mean = 0;
    for (int64_t r = 0; r < s->rows; r++) {
        *mean += x[r * s->C + c] / (double)s->rows;
    }
    *variance = 0;
    for (int64_t r = 0; r < s->rows; r++) {
        double d = x[r * s->C + c] - *mean;
        *variance += d * d / (double)s->rows;
    }
}

/* y = act((x - mean) invstd gamma + beta + residual) for channel c of `rows` rows */
static void normalise_channel(const BatchNormShape *s, int64_t rows, int c, const double *x,
                              const double *residual, double mean, double invstd, double gamma,
                              double beta, double *y)
{
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = r * s->C + c;
        double value = (x[i] - mean) * invstd * gamma + beta;
        value += residual != NULL ? residual[i] : 0;
        y[i] = s->relu && value < 0 ? 0 : value;
    }
}

void ref_batchnorm_statistics(const BatchNormShape *s, const double *x, double *running_mean,
                              double *running_var, double *batch_mean, double *batch_invstd)
{
    double n = (double)s->rows;
    for (int g = 0; g < s->groups; g++) {
        for (int c = 0; c < s->C; c++) {
            double mean;
            double variance;
            channel_statistics(s, x + g * s->rows * s->C, c, &mean, &variance);
            batch_mean[g * s->C + c] = mean;
            batch_invstd[g * s->C + c] = 1 / sqrt(variance + s->eps);
            running_mean[c] += s->momentum * (mean - running_mean[c]);
            running_var[c] += s->momentum * (variance * n / (n - 1) - running_var[c]);
        }
    }
}

void ref_batchnorm_train(const BatchNormShape *s, const double *x, const double *residual,
                         const double *gamma, const double *beta, double *running_mean,
                         double *running_var, double *batch_mean, double *batch_invstd, double *y)
{
    ref_batchnorm_statistics(s, x, running_mean, running_var, batch_mean, batch_invstd);
    for (int g = 0; g < s->groups; g++) {
        int64_t at = g * s->rows * s->C;
        for (int c = 0; c < s->C; c++) {
            normalise_channel(s, s->rows, c, x + at, residual != NULL ? residual + at : NULL,
                              batch_mean[g * s->C + c], batch_invstd[g * s->C + c], gamma[c],
                              beta[c], y + at);
        }
    }
}

void ref_batchnorm_eval(const BatchNormShape *s, const double *x, const double *residual,
                        const double *gamma, const double *beta, const double *running_mean,
                        const double *running_var, double *y)
{
    for (int c = 0; c < s->C; c++) {
        double invstd = 1 / sqrt(running_var[c] + s->eps);
        normalise_channel(s, s->groups * s->rows, c, x, residual, running_mean[c], invstd, gamma[c],
                          beta[c], y);
    }
}

void ref_batchnorm_mask(const BatchNormShape *s, const double *y, uint8_t *mask)
{
    int channels = batchnorm_mask_channels(s->C);
    for (int64_t i = 0; i < s->groups * s->rows * s->C; i++) {
        int bit = (int)(i % channels);
        mask[i / channels] = (uint8_t)(bit == 0 ? 0 : mask[i / channels]);
        if (!(y[i] <= 0)) {
            mask[i / channels] = (uint8_t)(mask[i / channels] | 1 << bit);
        }
    }
}

/* The gradient of y behind the ReLU's mask: (dy + dy_add) [y > 0] */
static double masked_gradient(const BatchNormShape *s, int64_t i, const double *y, const double *dy,
                              const double *dy_add)
{
    double g = dy[i] + (dy_add != NULL ? dy_add[i] : 0);
    return s->relu && y[i] <= 0 ? 0 : g;
}

void ref_batchnorm_bprop(const BatchNormShape *s, const double *x, const double *y,
                         const double *dy, const double *dy_add, const double *gamma,
                         const double *batch_mean, const double *batch_invstd, double *dx,
                         double *dresidual, double *dgamma, double *dbeta)
{
    double n = (double)s->rows;
    for (int c = 0; c < s->C; c++) {
        dgamma[c] = 0;
        dbeta[c] = 0;
        for (int g = 0; g < s->groups; g++) {
            double mean = batch_mean[g * s->C + c];
            double invstd = batch_invstd[g * s->C + c];
            double sum = 0;       /* of the masked gradient */
            double projected = 0; /* of the masked gradient times xhat = (x - mean) invstd */
            for (int64_t r = g * s->rows; r < (g + 1) * s->rows; r++) {
                int64_t i = r * s->C + c;
                double gradient = masked_gradient(s, i, y, dy, dy_add);
                sum += gradient;
                projected += gradient * (x[i] - mean) * invstd;
            }
            dbeta[c] += sum;
            dgamma[c] += projected;
            for (int64_t r = g * s->rows; r < (g + 1) * s->rows; r++) {
                int64_t i = r * s->C + c;
                double gradient = masked_gradient(s, i, y, dy, dy_add);
                double xhat = (x[i] - mean) * invstd;
                dx[i] = gamma[c] * invstd * (gradient - sum / n - xhat * projected / n);
                if (dresidual != NULL) {
                    dresidual[i] = gradient;
                }
            }
        }
    }
}
