/* Losses on the CPU. A batch has some thousand logits: one thread in double is done in
 * microseconds, sooner than others would have woken up. */
#include "kernels/cpu/cpu.h"

#include <math.h>

static int first_maximum(const float *row, int C)
{
    int best = 0;
    for (int c = 1; c < C; c++) {
        if (row[c] > row[best]) {
            best = c;
        }
    }
    return best;
}

/* p_c = exp(row[c] - log_sum) */
static double log_sum_exp(const float *row, int C)
{
    double maximum = row[first_maximum(row, C)];
    double sum = 0;
    for (int c = 0; c < C; c++) {
        sum += exp(row[c] - maximum);
    }
    return maximum + log(sum);
}

static double scaled(float weight, const LossScale *scale)
{
    return (double)weight * (scale != NULL ? (double)scale->scale : 1.0);
}

void cpu_cross_entropy(Backend *be, const LossShape *s, const float *logits, const int32_t *labels,
                       float weight, const LossScale *scale, float *loss, int32_t *correct,
                       float *dlogits)
{
    (void)be;
    double sum = 0;
    int32_t hits = 0;
    double share = scaled(weight, scale) / s->N;
    for (int i = 0; i < s->N; i++) {
        const float *row = logits + (int64_t)i * s->C;
        double log_sum = log_sum_exp(row, s->C);
        sum += log_sum - row[labels[i]];
        hits += first_maximum(row, s->C) == labels[i];
        for (int c = 0; dlogits != NULL && c < s->C; c++) {
            double p = exp(row[c] - log_sum);
            dlogits[(int64_t)i * s->C + c] = (float)(share * (p - (c == labels[i])));
        }
    }
    *loss = (float)(sum / s->N);
    *correct = hits;
}

/* Below it ln p is steep and p tells nothing: such terms count neither in the loss nor in the
 * gradient. A NaN is not below it, so that it is seen in the loss. */
static const double masked_below = 1e-6;

/* sum_c m_c p_c ln p_c over a row; *mass = sum_c m_c p_c. */
static double masked_p_ln_p(const float *row, int C, double log_sum, double *mass)
{
    double sum = 0;
    *mass = 0;
    for (int c = 0; c < C; c++) {
        double ln_p = row[c] - log_sum;
        double p = exp(ln_p);
        if (!(p < masked_below)) {
            sum += p * ln_p;
            *mass += p;
        }
    }
    return sum;
}

void cpu_entropy(Backend *be, const LossShape *s, const float *logits, float weight,
                 const LossScale *scale, float *loss, float *dlogits)
{
    (void)be;
    double sum = 0;
    double share = scaled(weight, scale) / s->N;
    for (int i = 0; i < s->N; i++) {
        const float *row = logits + (int64_t)i * s->C;
        double log_sum = log_sum_exp(row, s->C);
        double mass;
        double p_ln_p = masked_p_ln_p(row, s->C, log_sum, &mass);
        sum -= p_ln_p;
        for (int c = 0; c < s->C; c++) {
            double ln_p = row[c] - log_sum;
            double p = exp(ln_p);
            double e = p < masked_below ? 0 : ln_p + 1;
            dlogits[(int64_t)i * s->C + c] = (float)(share * p * (p_ln_p + mass - e));
        }
    }
    *loss = (float)(sum / s->N);
}

void cpu_argmax(Backend *be, const LossShape *s, const float *logits, int32_t *prediction)
{
    (void)be;
    for (int i = 0; i < s->N; i++) {
        prediction[i] = first_maximum(logits + (int64_t)i * s->C, s->C);
    }
}
