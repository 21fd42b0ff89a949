/* Convolutions against the reference loops, and the loops against finite differences. */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/ref/ref.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int64_t x_count(const ConvShape *s)
{
    return (int64_t)s->N * s->H * s->W * s->C;
}

static int64_t w_count(const ConvShape *s)
{
    return (int64_t)s->K * s->R * s->R * s->C;
}

static int64_t positions(const ConvShape *s)
{
    return (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
           conv_out(s->W, s->R, s->stride, s->pad);
}

static int64_t y_count(const ConvShape *s)
{
    return positions(s) * s->K;
}

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

static const char *describe(char text[static 128], const char *op, const ConvShape *s)
{
    snprintf(text, 128, "%s N %d, %dx%d, C %d, K %d, R %d, stride %d, pad %d", op, s->N, s->H, s->W,
             s->C, s->K, s->R, s->stride, s->pad);
    return text;
}

static void check_fprop(Backend *be, const ConvShape *s, bool with_bias)
{
    char text[128];
    describe(text, with_bias ? "fprop with bias" : "fprop", s);
    Tensor x = tensor_random(be, x_count(s), 1);
    Tensor w = tensor_random(be, w_count(s), 2);
    Tensor bias = tensor_random(be, s->K, 3);
    Tensor y = tensor_nan(be, y_count(s));
    Tensor again = tensor_nan(be, y_count(s));
    double *expected = doubles(y_count(s));
    ref_conv_fprop(s, x.values, w.values, with_bias ? bias.values : NULL, expected);

    op_conv_fprop(be, s, x.device, w.device, with_bias ? bias.device : NULL, y.device);
    op_conv_fprop(be, s, x.device, w.device, with_bias ? bias.device : NULL, again.device);
    tensor_expect(&y, expected, tensor_tolerance((int64_t)s->R * s->R * s->C), text);
    tensor_expect_same_bits(&y, &again, text);

    free(expected);
    tensor_free(&x);
    tensor_free(&w);
    tensor_free(&bias);
    tensor_free(&y);
    tensor_free(&again);
}

static void check_dgrad(Backend *be, const ConvShape *s)
{
    char text[128];
    describe(text, "dgrad", s);
    Tensor dy = tensor_random(be, y_count(s), 4);
    Tensor w = tensor_random(be, w_count(s), 5);
    Tensor dx = tensor_nan(be, x_count(s));
    Tensor again = tensor_nan(be, x_count(s));
    double *expected = doubles(x_count(s));
    ref_conv_dgrad(s, dy.values, w.values, expected);

    op_conv_dgrad(be, s, dy.device, w.device, dx.device);
    op_conv_dgrad(be, s, dy.device, w.device, again.device);
    tensor_expect(&dx, expected, tensor_tolerance((int64_t)s->R * s->R * s->K), text);
    tensor_expect_same_bits(&dx, &again, text);

    free(expected);
    tensor_free(&dy);
    tensor_free(&w);
    tensor_free(&dx);
    tensor_free(&again);
}

static void add(double *sum, const double *more, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        sum[i] += more[i];
    }
}

static void check_wgrad(Backend *be, const ConvShape *s, bool with_bias, bool accumulate)
{
    char text[128];
    describe(text, accumulate ? "wgrad +=" : "wgrad =", s);
    Tensor x = tensor_random(be, x_count(s), 6);
    Tensor dy = tensor_random(be, y_count(s), 7);
    Tensor dw[2];
    Tensor dbias[2];
    for (int i = 0; i < 2; i++) {
        dw[i] = accumulate ? tensor_random(be, w_count(s), 8) : tensor_nan(be, w_count(s));
        dbias[i] = accumulate ? tensor_random(be, s->K, 9) : tensor_nan(be, s->K);
        op_conv_wgrad(be, s, x.device, dy.device, accumulate, dw[i].device,
                      with_bias ? dbias[i].device : NULL);
    }
    double *expected_dw = doubles(w_count(s));
    double *expected_dbias = doubles(s->K);
    ref_conv_wgrad(s, x.values, dy.values, expected_dw, expected_dbias);
    if (accumulate) {
        add(expected_dw, dw[0].values, w_count(s));
        add(expected_dbias, dbias[0].values, s->K);
    }
    tensor_expect(&dw[0], expected_dw, tensor_tolerance(positions(s)), text);
    tensor_expect_same_bits(&dw[0], &dw[1], text);
    if (with_bias) {
        tensor_expect(&dbias[0], expected_dbias, tensor_tolerance(positions(s)), text);
        tensor_expect_same_bits(&dbias[0], &dbias[1], text);
    }

    free(expected_dw);
    free(expected_dbias);
    tensor_free(&x);
    tensor_free(&dy);
    for (int i = 0; i < 2; i++) {
        tensor_free(&dw[i]);
        tensor_free(&dbias[i]);
    }
}

static void check_all_passes(Backend *be, const ConvShape *s)
{
    check_fprop(be, s, false);
    check_fprop(be, s, true);
    check_dgrad(be, s);
    for (int mode = 0; mode < 4; mode++) {
        check_wgrad(be, s, (mode & 1) != 0, (mode & 2) != 0);
    }
}

/* The kinds of layer that the networks have, at sizes that the loops manage. */
static void test_layers_of_the_networks(void **state)
{
    (void)state;
    static const ConvShape shapes[] = {
        {1, 35, 31, 3, 64, 7, 2, 3},  {2, 9, 8, 64, 64, 3, 1, 1},  {2, 9, 9, 64, 128, 3, 2, 1},
        {2, 8, 8, 64, 128, 1, 2, 0},  {1, 5, 5, 256, 64, 3, 1, 1}, {1, 7, 7, 1024, 100, 1, 1, 0},
        {2, 7, 7, 100, 100, 3, 2, 0},
    };
    Backend *be = tensors_open_backend();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        check_all_passes(be, &shapes[i]);
    }
    device_close(be);
}

static ConvShape random_shape(Rng *rng)
{
    static const int kernels[] = {1, 3, 7};
    ConvShape s = {
        .N = 1 + (int)rng_below(rng, 3),
        .H = 1 + (int)rng_below(rng, 16),
        .W = 1 + (int)rng_below(rng, 16),
        .C = 1 + (int)rng_below(rng, 40),
        .K = 1 + (int)rng_below(rng, 40),
        .R = kernels[rng_below(rng, 3)],
        .stride = 1 + (int)rng_below(rng, 3),
    };
    s.stride = s.C == 3 ? 2 : s.stride; /* pictures */
    s.pad = (int)rng_below(rng, (uint32_t)s.R);
    while (s.H + 2 * s.pad < s.R) {
        s.H++;
    }
    while (s.W + 2 * s.pad < s.R) {
        s.W++;
    }
    return s;
}

static void test_random_shapes(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Rng rng = rng_at(1, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < 24; i++) {
        ConvShape shape = random_shape(&rng);
        check_all_passes(be, &shape);
    }
    device_close(be);
}

/* Fewer channels than a vector has, and pixels that a stride leaves out. */
static void test_few_channels_with_a_stride(void **state)
{
    (void)state;
    static const int filters[] = {4, 9, 19, 37};
    Backend *be = tensors_open_backend();
    for (int C = 1; C <= 8; C++) {
        for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
            ConvShape shape = {
                .N = 3, .H = 8, .W = 10, .C = C, .K = filters[i], .R = 1, .stride = 2};
            check_all_passes(be, &shape);
        }
    }
    device_close(be);
}

/* sum of dy y, whose gradients dgrad and wgrad are. */
static double weighted_output(const ConvShape *s, const double *x, const double *w,
                              const double *bias, const double *dy)
{
    double *y = doubles(y_count(s));
    ref_conv_fprop(s, x, w, bias, y);
    double sum = 0.0;
    for (int64_t i = 0; i < y_count(s); i++) {
        sum += dy[i] * y[i];
    }
    free(y);
    return sum;
}

/* Compares gradient [count] with central differences in values [count], one of the operands. */
static void check_differences(const ConvShape *s, const double *x, const double *w,
                              const double *bias, const double *dy, double *values,
                              const double *gradient, int64_t count)
{
    const double step = 1e-3; /* the sum is linear in each operand: only rounding errs */
    for (int64_t i = 0; i < count; i++) {
        double value = values[i];
        values[i] = value + step;
        double above = weighted_output(s, x, w, bias, dy);
        values[i] = value - step;
        double below = weighted_output(s, x, w, bias, dy);
        values[i] = value;
        assert_true(fabs((above - below) / (2.0 * step) - gradient[i]) < 1e-9);
    }
}

static void test_reference_gradients(void **state)
{
    (void)state;
    static const ConvShape shapes[] = {
        {2, 5, 4, 2, 3, 3, 1, 1},
        {1, 6, 7, 3, 2, 3, 2, 0},
        {1, 9, 8, 2, 2, 7, 2, 3},
        {2, 4, 3, 3, 2, 1, 2, 0},
    };
    Backend *be = tensors_open_backend();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const ConvShape *s = &shapes[i];
        Tensor x = tensor_random(be, x_count(s), 10);
        Tensor w = tensor_random(be, w_count(s), 11);
        Tensor bias = tensor_random(be, s->K, 12);
        Tensor dy = tensor_random(be, y_count(s), 13);
        double *dx = doubles(x_count(s));
        double *dw = doubles(w_count(s));
        double *dbias = doubles(s->K);
        ref_conv_dgrad(s, dy.values, w.values, dx);
        ref_conv_wgrad(s, x.values, dy.values, dw, dbias);
        const double *const in[] = {x.values, w.values, bias.values, dy.values};
        check_differences(s, in[0], in[1], in[2], in[3], x.values, dx, x_count(s));
        check_differences(s, in[0], in[1], in[2], in[3], w.values, dw, w_count(s));
        check_differences(s, in[0], in[1], in[2], in[3], bias.values, dbias, s->K);
        free(dx);
        free(dw);
        free(dbias);
        tensor_free(&x);
        tensor_free(&w);
        tensor_free(&bias);
        tensor_free(&dy);
    }
    device_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_of_the_networks),
        cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_few_channels_with_a_stride),
        cmocka_unit_test(test_reference_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
