#include "kernels/ref/ref_norm.h"

#include <math.h>

/* ln p_k = z_k - ln sum_c exp z_c, with the maximum taken out so that exp cannot overflow */
static double ln_softmax(const double *z, int C, int k)
{
    double maximum = z[0];
    for (int c = 1; c < C; c++) {
        maximum = fmax(maximum, z[c]);
    }
    double sum = 0;
    for (int c = 0; c < C; c++) {
        sum += exp(z[c] - maximum);
    }
    return z[k] - maximum - log(sum);
}

void ref_argmax(const LossShape *s, const double *logits, int32_t *prediction)
{
    for (int i = 0; i < s->N; i++) {
        const double *z = logits + (int64_t)i * s->C;
        prediction[i] = 0;
        for (int c = 1; c < s->C; c++) {
            prediction[i] = z[c] > z[prediction[i]] ? c : prediction[i];
        }
    }
}

/* loss = -(1/N) sum_i ln p_i,label(i),   dz = weight (p - onehot)/N */
void ref_cross_entropy(const LossShape *s, const double *logits, const int32_t *labels,
                       double weight, double *loss, int32_t *correct, double *dlogits)
{
    *loss = 0;
    *correct = 0;
    for (int i = 0; i < s->N; i++) {
        LossShape one = {1, s->C};
        const double *z = logits + (int64_t)i * s->C;
        int32_t prediction;
        ref_argmax(&one, z, &prediction);
        *correct += prediction == labels[i];
        *loss -= ln_softmax(z, s->C, labels[i]) / s->N;
        for (int c = 0; dlogits != NULL && c < s->C; c++) {
            double p = exp(ln_softmax(z, s->C, c));
            dlogits[(int64_t)i * s->C + c] = weight * (p - (c == labels[i])) / s->N;
        }
    }
}

/* loss = -(1/N) sum_i sum_c m_ic p_ic ln p_ic,   m_ic = [p_ic >= 1e-6] held constant,
 * e_ic = m_ic (ln p_ic + 1),   dz_ik = weight (p_ik/N) (sum_c p_ic e_ic - e_ik) */
void ref_entropy(const LossShape *s, const double *logits, double weight, double *loss,
                 double *dlogits)
{
    *loss = 0;
    for (int i = 0; i < s->N; i++) {
        const double *z = logits + (int64_t)i * s->C;
        double mean_e = 0;
        for (int c = 0; c < s->C; c++) {
            double ln_p = ln_softmax(z, s->C, c);
            double p = exp(ln_p);
            if (p >= 1e-6) {
                *loss -= p * ln_p / s->N;
                mean_e += p * (ln_p + 1);
            }
        }
        for (int k = 0; k < s->C; k++) {
            double ln_p = ln_softmax(z, s->C, k);
            double p = exp(ln_p);
            double e = p >= 1e-6 ? ln_p + 1 : 0;
            dlogits[(int64_t)i * s->C + k] = weight * p / s->N * (mean_e - e);
        }
    }
}
