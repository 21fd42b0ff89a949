#include "kernels/ref/ref.h"

void ref_concat(const ConcatShape *s, const double *a, const double *b, double *y)
{
    const int C = s->Ca + s->Cb;
    for (int64_t i = 0; i < s->rows * C; i++) {
        int64_t row = i / C;
        int64_t c = i % C;
        y[i] = c < s->Ca ? a[row * s->Ca + c] : b[row * s->Cb + c - s->Ca];
    }
}

void ref_split(const ConcatShape *s, const double *y, double *a, double *b)
{
    const int C = s->Ca + s->Cb;
    for (int64_t i = 0; i < s->rows * C; i++) {
        int64_t row = i / C;
        int64_t c = i % C;
        if (c < s->Ca) {
            a[row * s->Ca + c] = y[i];
        } else {
            b[row * s->Cb + c - s->Ca] = y[i];
        }
    }
}
