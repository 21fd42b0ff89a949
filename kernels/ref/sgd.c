#include "kernels/ref/ref.h"

void ref_sgd(const SgdShape *s, const double *dw, double *v, double *w)
{
    for (int r = 0; r < s->ranges; r++) {
        const SgdRange *range = &s->range[r];
        for (int64_t i = range->offset; i < range->offset + range->count; i++) {
            double d = dw[i] + (double)s->weight_decay * w[i];
            v[i] = (double)s->momentum * v[i] + d;
            w[i] -= (double)range->lr * v[i];
        }
    }
}
