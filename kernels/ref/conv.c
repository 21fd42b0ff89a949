#include "kernels/ref/ref.h"

#include <string.h>

/* One product of the sum that a convolution is: the elements of x, w and y that it joins. */
typedef struct {
    int64_t x, w, y;
} Tap;

typedef void TapVisit(void *context, Tap tap);

/* Visits all channels of one output position and one kernel position, unless that one lies outside
 * the picture. out counts positions of the whole batch, at those of the kernel, row by row. */
static void visit_position(const ConvShape *s, int64_t out, int at, TapVisit *visit, void *context)
{
    const int P = conv_out(s->H, s->R, s->stride, s->pad);
    const int Q = conv_out(s->W, s->R, s->stride, s->pad);
    const int64_t n = out / Q / P;
    const int64_t row = out / Q % P * s->stride - s->pad + at / s->R;
    const int64_t column = out % Q * s->stride - s->pad + at % s->R;
    if (row < 0 || row >= s->H || column < 0 || column >= s->W) {
        return;
    }
    for (int64_t k = 0; k < s->K; k++) {
        for (int64_t c = 0; c < s->C; c++) {
            visit(context, (Tap){
                               .x = ((n * s->H + row) * s->W + column) * s->C + c,
                               .w = (k * s->R * s->R + at) * s->C + c,
                               .y = out * s->K + k,
                           });
        }
    }
}

static int64_t output_positions(const ConvShape *s)
{
    return (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
           conv_out(s->W, s->R, s->stride, s->pad);
}

static void visit_all(const ConvShape *s, TapVisit *visit, void *context)
{
    for (int64_t out = 0; out < output_positions(s); out++) {
        for (int at = 0; at < s->R * s->R; at++) {
            visit_position(s, out, at, visit, context);
        }
    }
}

typedef struct {
    const double *a, *b;
    double *sum;
} Products;

static void add_to_y(void *context, Tap tap)
{
    Products *products = context;
    products->sum[tap.y] += products->a[tap.x] * products->b[tap.w];
}

static void add_to_x(void *context, Tap tap)
{
    Products *products = context;
    products->sum[tap.x] += products->a[tap.y] * products->b[tap.w];
}

static void add_to_w(void *context, Tap tap)
{
    Products *products = context;
    products->sum[tap.w] += products->a[tap.x] * products->b[tap.y];
}

void ref_conv_fprop(const ConvShape *s, const double *x, const double *w, const double *bias,
                    double *y)
{
    for (int64_t i = 0; i < output_positions(s); i++) {
        for (int k = 0; k < s->K; k++) {
            y[i * s->K + k] = bias != NULL ? bias[k] : 0.0;
        }
    }
    visit_all(s, add_to_y, &(Products){x, w, y});
}

void ref_conv_dgrad(const ConvShape *s, const double *dy, const double *w, double *dx)
{
    memset(dx, 0, (size_t)s->N * s->H * s->W * s->C * sizeof(double));
    visit_all(s, add_to_x, &(Products){dy, w, dx});
}

void ref_conv_wgrad(const ConvShape *s, const double *x, const double *dy, double *dw,
                    double *dbias)
{
    memset(dw, 0, (size_t)s->K * s->R * s->R * s->C * sizeof(double));
    visit_all(s, add_to_w, &(Products){x, dy, dw});
    for (int k = 0; k < s->K && dbias != NULL; k++) {
        dbias[k] = 0.0;
        for (int64_t i = 0; i < output_positions(s); i++) {
            dbias[k] += dy[i * s->K + k];
        }
    }
}
