/* Convolutions and linear layers on a backend against the reference. Weights are scaled so that
 * results are of the size of 1, whatever the number of terms. */
#include "base/mem.h"
#include "kernels/ref/ref.h"
#include "tests/backend_ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double largest = 4; /* of sums whose terms are scaled by 1/sqrt of their number */

/* Adds what an accumulating operator found in its output. */
static void add_initial(const DeviceTensor *t, bool accumulate, double *expected)
{
    for (int64_t i = 0; accumulate && i < t->count; i++) {
        expected[i] += t->values[i];
    }
}

/* An output of gradients: to be overwritten, or to be added to. */
static DeviceTensor gradient_output(Backend *be, int64_t count, bool accumulate, Rng *rng)
{
    return accumulate ? device_tensor_random(be, ELEMENT_F32, count, rng, 1, 0)
                      : device_tensor_poison(be, ELEMENT_F32, count, 0);
}

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

/* ---- convolution ----------------------------------------------------------------------------- */

typedef struct {
    Backend *be;
    ConvShape s;
    bool accumulate;
    DeviceTensor x, w, bias, dy, y, dx, dw, dbias;
    int channels; /* of x in memory */
    int64_t inputs, outputs, weights;
    char text[128];
} Conv;

/* x as the reference has it: without the zeros that pad pictures. */
static double *cut_channels(const Conv *c, const double *from)
{
    double *values = doubles(c->inputs * c->s.C);
    for (int64_t i = 0; i < c->inputs; i++) {
        memcpy(values + i * c->s.C, from + i * c->channels, (size_t)c->s.C * sizeof(double));
    }
    return values;
}

/* Pictures of an odd number of pixels lie a pixel behind an aligned address, as the second half of
 * a step's pictures may. */
static DeviceTensor conv_input(const Conv *c, Rng *rng)
{
    bool shifted = c->s.C == 3 && c->s.H * c->s.W % 2 != 0;
    double *values = mem_zeroed((size_t)(c->inputs * c->channels), sizeof(double));
    for (int64_t i = 0; i < c->inputs; i++) {
        for (int k = 0; k < c->s.C; k++) {
            values[i * c->channels + k] = device_rounded(c->be, 2 * rng_uniform(rng) - 1);
        }
    }
    DeviceTensor x = device_tensor_of(c->be, ELEMENT_ACT, c->inputs * c->channels, values,
                                      shifted ? c->channels : 0);
    free(values);
    return x;
}

static Conv conv_make(Backend *be, const ConvShape *s, bool accumulate, bool bias, Rng *rng)
{
    Conv c = {.be = be, .s = *s, .accumulate = accumulate};
    int64_t P = conv_out(s->H, s->R, s->stride, s->pad);
    int64_t Q = conv_out(s->W, s->R, s->stride, s->pad);
    c.channels = s->C == 3 ? device_picture_channels(be) : s->C;
    c.inputs = (int64_t)s->N * s->H * s->W;
    c.outputs = s->N * P * Q;
    c.weights = (int64_t)s->K * s->R * s->R * s->C;
    snprintf(c.text, sizeof(c.text), "N %d, H %d, W %d, C %d, K %d, R %d, stride %d, pad %d%s%s",
             s->N, s->H, s->W, s->C, s->K, s->R, s->stride, s->pad, accumulate ? ", adding" : "",
             bias ? ", bias" : "");
    double terms = (double)s->R * s->R * s->C;
    c.x = conv_input(&c, rng);
    c.w = device_tensor_random(be, ELEMENT_ACT, c.weights, rng, 1 / sqrt(terms), 0);
    c.dy = device_tensor_random(be, ELEMENT_ACT, c.outputs * s->K, rng, 1 / sqrt((double)c.outputs),
                                0);
    c.y = device_tensor_poison(be, ELEMENT_ACT, c.outputs * s->K, 0);
    c.dx = device_tensor_poison(be, ELEMENT_ACT, c.inputs * c.channels, 0);
    c.dw = gradient_output(be, c.weights, accumulate, rng);
    if (bias) {
        c.bias = device_tensor_random(be, ELEMENT_F32, s->K, rng, 1, 0);
        c.dbias = gradient_output(be, s->K, accumulate, rng);
    }
    return c;
}

static void conv_free(Conv *c)
{
    DeviceTensor *const all[] = {&c->x, &c->w, &c->bias, &c->dy, &c->y, &c->dx, &c->dw, &c->dbias};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

static void call_conv_fprop(const void *context)
{
    const Conv *c = context;
    op_conv_fprop(c->be, &c->s, c->x.device, c->w.device, c->bias.device, c->y.device);
}

static void call_conv_dgrad(const void *context)
{
    const Conv *c = context;
    op_conv_dgrad(c->be, &c->s, c->dy.device, c->w.device, c->dx.device);
}

static void call_conv_wgrad(const void *context)
{
    const Conv *c = context;
    op_conv_wgrad(c->be, &c->s, c->x.device, c->dy.device, c->accumulate, c->dw.device,
                  c->dbias.device);
}

static void check_conv_fprop(Conv *c)
{
    double *x = cut_channels(c, c->x.values);
    double *expected = doubles(c->y.count);
    ref_conv_fprop(&c->s, x, c->w.values, c->bias.values, expected);
    device_call_twice(call_conv_fprop, c, (const DeviceTensor *const[]){&c->y}, 1, c->text);
    int64_t terms = (int64_t)c->s.R * c->s.R * c->s.C;
    device_tensor_expect(&c->y, expected, device_tolerance(c->be, ELEMENT_ACT, terms, largest, 1),
                         c->text);
    free(x);
    free(expected);
}

/* The gradient of the channels that pad a picture is nobody's business. */
static void check_conv_dgrad(Conv *c)
{
    int64_t count = c->inputs * c->s.C;
    double *expected = doubles(count);
    ref_conv_dgrad(&c->s, c->dy.values, c->w.values, expected);
    device_call_twice(call_conv_dgrad, c, (const DeviceTensor *const[]){&c->dx}, 1, c->text);
    double *found = device_tensor_read(&c->dx, c->text);
    double *cut = cut_channels(c, found);
    int64_t terms = (int64_t)c->s.R * c->s.R * c->s.K;
    Tolerance tolerance = device_tolerance(c->be, ELEMENT_ACT, terms, largest, 0);
    for (int64_t i = 0; i < count; i++) {
        double allowed = tolerance.absolute + tolerance.relative * fabs(expected[i]);
        if (!(fabs(cut[i] - expected[i]) <= allowed)) {
            fail_msg("dgrad %s: element %lld is %.9g, expected %.9g within %.3g", c->text,
                     (long long)i, cut[i], expected[i], allowed);
        }
    }
    free(cut);
    free(found);
    free(expected);
}

static void check_conv_wgrad(Conv *c)
{
    double *x = cut_channels(c, c->x.values);
    double *dw = doubles(c->weights);
    double *dbias = doubles(c->s.K);
    ref_conv_wgrad(&c->s, x, c->dy.values, dw, dbias);
    add_initial(&c->dw, c->accumulate, dw);
    device_call_twice(call_conv_wgrad, c, (const DeviceTensor *const[]){&c->dw, &c->dbias},
                      c->dbias.device != NULL ? 2 : 1, c->text);
    Tolerance tolerance = device_tolerance(c->be, ELEMENT_F32, c->outputs, largest, 1);
    device_tensor_expect(&c->dw, dw, tolerance, c->text);
    if (c->dbias.device != NULL) {
        add_initial(&c->dbias, c->accumulate, dbias);
        device_tensor_expect(&c->dbias, dbias,
                             device_tolerance(c->be, ELEMENT_F32, c->outputs, largest, 0), c->text);
    }
    free(x);
    free(dw);
    free(dbias);
}

void check_backend_conv(Backend *be, const ConvShape *s, bool accumulate, bool bias, Rng *rng)
{
    Conv c = conv_make(be, s, accumulate, bias, rng);
    check_conv_fprop(&c);
    check_conv_dgrad(&c);
    check_conv_wgrad(&c);
    conv_free(&c);
}

static ConvShape random_conv(Rng *rng)
{
    static const int kernels[] = {1, 3, 3, 7};
    ConvShape s = {.R = kernels[draw(rng, 0, 3)], .stride = draw(rng, 1, 2)};
    s.pad = draw(rng, 0, s.R / 2);
    s.N = draw(rng, 1, 4);
    s.H = draw(rng, s.R, s.R + 9);
    s.W = draw(rng, s.R, s.R + 9);
    s.C = draw(rng, 0, 3) == 0 ? 3 : draw(rng, 1, 24);
    s.stride = s.C == 3 ? 2 : s.stride; /* pictures */
    s.K = draw(rng, 1, 24);
    return s;
}

void test_backend_conv(void **state)
{
    static const ConvShape shapes[] = {
        {1, 1, 1, 1, 1, 1, 1, 0},    {2, 15, 13, 3, 16, 7, 2, 3}, {1, 7, 7, 3, 1, 7, 2, 0},
        {2, 9, 7, 16, 16, 3, 1, 1},  {3, 8, 5, 8, 24, 3, 2, 1},   {2, 7, 7, 16, 10, 1, 1, 0},
        {2, 5, 9, 17, 5, 1, 2, 0},   {5, 1, 3, 33, 7, 3, 1, 1},   {1, 30, 31, 4, 8, 3, 1, 1},
        {3, 40, 70, 3, 64, 7, 2, 3}, {1, 4, 6, 3, 64, 7, 2, 3},
    };
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 1);
    int fixed = sizeof(shapes) / sizeof(shapes[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        ConvShape s = i < fixed ? shapes[i] : random_conv(&rng);
        check_backend_conv(t->be, &s, i % 2 == 1, i % 3 != 0, &rng);
    }
}

/* ---- linear ---------------------------------------------------------------------------------- */

typedef struct {
    Backend *be;
    LinearShape s;
    bool accumulate;
    DeviceTensor x, w, bias, dy, y, dx, dw, dbias;
    char text[96];
} Linear;

static Linear linear_make(Backend *be, const LinearShape *s, bool accumulate, bool bias, Rng *rng)
{
    Linear l = {.be = be, .s = *s, .accumulate = accumulate};
    Element result = s->float_output ? ELEMENT_F32 : ELEMENT_ACT;
    snprintf(l.text, sizeof(l.text), "N %d, C %d, K %d%s%s%s", s->N, s->C, s->K,
             s->float_output ? ", float output" : "", accumulate ? ", adding" : "",
             bias ? ", bias" : "");
    int64_t N = s->N;
    l.x = device_tensor_random(be, ELEMENT_ACT, N * s->C, rng, 1, 0);
    l.w = device_tensor_random(be, ELEMENT_ACT, (int64_t)s->K * s->C, rng, 1 / sqrt(s->C), 0);
    l.dy = device_tensor_random(be, result, N * s->K, rng, 1 / sqrt(s->N), 0);
    l.y = device_tensor_poison(be, result, N * s->K, 0);
    l.dx = device_tensor_poison(be, ELEMENT_ACT, N * s->C, 0);
    l.dw = gradient_output(be, (int64_t)s->K * s->C, accumulate, rng);
    if (bias) {
        l.bias = device_tensor_random(be, ELEMENT_F32, s->K, rng, 1, 0);
        l.dbias = gradient_output(be, s->K, accumulate, rng);
    }
    return l;
}

static void linear_free(Linear *l)
{
    DeviceTensor *const all[] = {&l->x, &l->w, &l->bias, &l->dy, &l->y, &l->dx, &l->dw, &l->dbias};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

static void call_linear_fprop(const void *context)
{
    const Linear *l = context;
    op_linear_fprop(l->be, &l->s, l->x.device, l->w.device, l->bias.device, l->y.device);
}

static void call_linear_dgrad(const void *context)
{
    const Linear *l = context;
    op_linear_dgrad(l->be, &l->s, l->dy.device, l->w.device, l->dx.device);
}

static void call_linear_wgrad(const void *context)
{
    const Linear *l = context;
    op_linear_wgrad(l->be, &l->s, l->x.device, l->dy.device, l->accumulate, l->dw.device,
                    l->dbias.device);
}

static void check_linear_fprop(Linear *l)
{
    Element result = l->s.float_output ? ELEMENT_F32 : ELEMENT_ACT;
    double *y = doubles(l->y.count);
    ref_linear_fprop(&l->s, l->x.values, l->w.values, l->bias.values, y);
    device_call_twice(call_linear_fprop, l, (const DeviceTensor *const[]){&l->y}, 1, l->text);
    /* Where the result is float32, nothing in between is stored in less. */
    int roundings = l->s.float_output ? 0 : 1;
    device_tensor_expect(&l->y, y, device_tolerance(l->be, result, l->s.C, largest, roundings),
                         l->text);
    free(y);
}

static void check_linear_gradients(Linear *l)
{
    double *dx = doubles(l->dx.count);
    double *dw = doubles(l->dw.count);
    double *dbias = doubles(l->s.K);
    ref_linear_dgrad(&l->s, l->dy.values, l->w.values, dx);
    ref_linear_wgrad(&l->s, l->x.values, l->dy.values, dw, dbias);
    add_initial(&l->dw, l->accumulate, dw);
    device_call_twice(call_linear_dgrad, l, (const DeviceTensor *const[]){&l->dx}, 1, l->text);
    device_call_twice(call_linear_wgrad, l, (const DeviceTensor *const[]){&l->dw, &l->dbias},
                      l->dbias.device != NULL ? 2 : 1, l->text);
    device_tensor_expect(&l->dx, dx, device_tolerance(l->be, ELEMENT_ACT, l->s.K, largest, 0),
                         l->text);
    Tolerance tolerance = device_tolerance(l->be, ELEMENT_F32, l->s.N, largest, 0);
    device_tensor_expect(&l->dw, dw, tolerance, l->text);
    if (l->dbias.device != NULL) {
        add_initial(&l->dbias, l->accumulate, dbias);
        device_tensor_expect(&l->dbias, dbias, tolerance, l->text);
    }
    free(dx);
    free(dw);
    free(dbias);
}

void test_backend_linear(void **state)
{
    static const LinearShape shapes[] = {
        {1, 1, 1, false},    {5, 7, 3, true},     {16, 64, 100, false}, {33, 40, 47, true},
        {65, 129, 8, false}, {300, 32, 16, true}, {1, 512, 51, true},   {17, 24, 1000, false},
    };
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 2);
    int fixed = sizeof(shapes) / sizeof(shapes[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        LinearShape s = {draw(&rng, 1, 70), draw(&rng, 1, 70), draw(&rng, 1, 70), i % 2 == 0};
        s = i < fixed ? shapes[i] : s;
        Linear l = linear_make(t->be, &s, i % 4 >= 2, i % 3 != 2, &rng);
        check_linear_fprop(&l);
        check_linear_gradients(&l);
        linear_free(&l);
    }
}
