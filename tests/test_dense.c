/* Linear layers, average pooling, joining and SGD against the reference loops. */
#include "base/mem.h"
#include "kernels/ref/ref.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

/* Compares an output with what the reference gave, and releases both. */
static void finish(Tensor *found, double *expected, int64_t terms, const char *what)
{
    tensor_expect(found, expected, tensor_tolerance(terms), what);
    tensor_free(found);
    free(expected);
}

static void check_linear_data(Backend *be, const LinearShape *s, bool with_bias)
{
    Tensor x = tensor_random(be, (int64_t)s->N * s->C, 1);
    Tensor w = tensor_random(be, (int64_t)s->K * s->C, 2);
    Tensor bias = tensor_random(be, s->K, 3);
    Tensor dy = tensor_random(be, (int64_t)s->N * s->K, 4);
    Tensor y = tensor_nan(be, dy.count);
    Tensor again = tensor_nan(be, dy.count);
    Tensor dx = tensor_nan(be, x.count);
    const float *device_bias = with_bias ? bias.device : NULL;
    op_linear_fprop(be, s, x.device, w.device, device_bias, y.device);
    op_linear_fprop(be, s, x.device, w.device, device_bias, again.device);
    op_linear_dgrad(be, s, dy.device, w.device, dx.device);

    tensor_expect_same_bits(&y, &again, "linear fprop");
    double *expected_y = doubles(y.count);
    double *expected_dx = doubles(dx.count);
    ref_linear_fprop(s, x.values, w.values, with_bias ? bias.values : NULL, expected_y);
    ref_linear_dgrad(s, dy.values, w.values, expected_dx);
    finish(&y, expected_y, s->C, "linear fprop");
    finish(&dx, expected_dx, s->K, "linear dgrad");
    tensor_free(&again);
    tensor_free(&x);
    tensor_free(&w);
    tensor_free(&bias);
    tensor_free(&dy);
}

static void check_linear_wgrad(Backend *be, const LinearShape *s, bool accumulate)
{
    int64_t w_count = (int64_t)s->K * s->C;
    Tensor x = tensor_random(be, (int64_t)s->N * s->C, 5);
    Tensor dy = tensor_random(be, (int64_t)s->N * s->K, 6);
    Tensor dw = accumulate ? tensor_random(be, w_count, 7) : tensor_nan(be, w_count);
    Tensor dbias = accumulate ? tensor_random(be, s->K, 8) : tensor_nan(be, s->K);
    Tensor dw_alone = accumulate ? tensor_random(be, w_count, 7) : tensor_nan(be, w_count);
    op_linear_wgrad(be, s, x.device, dy.device, accumulate, dw.device, dbias.device);
    op_linear_wgrad(be, s, x.device, dy.device, accumulate, dw_alone.device, NULL);

    tensor_expect_same_bits(&dw, &dw_alone, "linear wgrad");
    double *expected_dw = doubles(w_count);
    double *expected_dbias = doubles(s->K);
    ref_linear_wgrad(s, x.values, dy.values, expected_dw, expected_dbias);
    for (int64_t i = 0; i < w_count && accumulate; i++) {
        expected_dw[i] += dw.values[i];
    }
    for (int64_t k = 0; k < s->K && accumulate; k++) {
        expected_dbias[k] += dbias.values[k];
    }
    finish(&dw, expected_dw, s->N, "linear wgrad");
    finish(&dbias, expected_dbias, s->N, "linear dbias");
    tensor_free(&dw_alone);
    tensor_free(&x);
    tensor_free(&dy);
}

static void test_linear(void **state)
{
    (void)state;
    static const LinearShape shapes[] = {
        {1, 1, 1, false},        {1, 900, 100, false}, {3, 100, 4, false},
        {32, 1024, 1000, false}, {7, 1000, 47, false}, {5, 17, 51, false},
    };
    Backend *be = tensors_open_backend();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        check_linear_data(be, &shapes[i], false);
        check_linear_data(be, &shapes[i], true);
        check_linear_wgrad(be, &shapes[i], false);
        check_linear_wgrad(be, &shapes[i], true);
    }
    device_close(be);
}

/* sum of dy y over a linear layer, whose gradients dgrad and wgrad are. */
static double weighted_output(const LinearShape *s, const Tensor *x, const Tensor *w,
                              const Tensor *bias, const Tensor *dy)
{
    double y[64];
    assert_true((size_t)s->N * (size_t)s->K <= sizeof(y) / sizeof(y[0]));
    ref_linear_fprop(s, x->values, w->values, bias->values, y);
    double sum = 0.0;
    for (int i = 0; i < s->N * s->K; i++) {
        sum += dy->values[i] * y[i];
    }
    return sum;
}

static void test_reference_gradients(void **state)
{
    (void)state;
    const LinearShape s = {3, 5, 4, false};
    Backend *be = tensors_open_backend();
    Tensor operands[] = {tensor_random(be, 15, 1), tensor_random(be, 20, 2),
                         tensor_random(be, 4, 3)};
    Tensor dy = tensor_random(be, 12, 4);
    double *gradients[] = {doubles(15), doubles(20), doubles(4)};
    ref_linear_dgrad(&s, dy.values, operands[1].values, gradients[0]);
    ref_linear_wgrad(&s, operands[0].values, dy.values, gradients[1], gradients[2]);
    for (int which = 0; which < 3; which++) {
        for (int64_t i = 0; i < operands[which].count; i++) {
            double *value = &operands[which].values[i];
            double kept = *value;
            *value = kept + 0.5;
            double above = weighted_output(&s, &operands[0], &operands[1], &operands[2], &dy);
            *value = kept - 0.5;
            double below = weighted_output(&s, &operands[0], &operands[1], &operands[2], &dy);
            *value = kept;
            assert_true(fabs(above - below - gradients[which][i]) < 1e-12);
        }
    }
    for (int which = 0; which < 3; which++) {
        tensor_free(&operands[which]);
        free(gradients[which]);
    }
    tensor_free(&dy);
    device_close(be);
}

static void test_avgpool(void **state)
{
    (void)state;
    static const AvgPoolShape shapes[] = {{1, 1, 1}, {3, 49, 512}, {2, 9, 37}, {5, 64, 3}};
    Backend *be = tensors_open_backend();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const AvgPoolShape *s = &shapes[i];
        Tensor x = tensor_random(be, (int64_t)s->N * s->HW * s->C, 1);
        Tensor dy = tensor_random(be, (int64_t)s->N * s->C, 2);
        Tensor y = tensor_nan(be, dy.count);
        Tensor dx = tensor_nan(be, x.count);
        op_avgpool_fprop(be, s, x.device, y.device);
        op_avgpool_bprop(be, s, dy.device, dx.device);
        double *expected_y = doubles(y.count);
        double *expected_dx = doubles(dx.count);
        ref_avgpool_fprop(s, x.values, expected_y);
        ref_avgpool_bprop(s, dy.values, expected_dx);
        finish(&y, expected_y, 1, "avgpool fprop");
        finish(&dx, expected_dx, 1, "avgpool bprop");
        tensor_free(&x);
        tensor_free(&dy);
    }
    device_close(be);
}

static void test_concat_and_split(void **state)
{
    (void)state;
    static const ConcatShape shapes[] = {{1, 1, 1}, {98, 512, 512}, {7, 3, 10}, {5, 16, 1}};
    Backend *be = tensors_open_backend();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const ConcatShape *s = &shapes[i];
        Tensor a = tensor_random(be, s->rows * s->Ca, 1);
        Tensor b = tensor_random(be, s->rows * s->Cb, 2);
        Tensor y = tensor_nan(be, a.count + b.count);
        op_concat(be, s, a.device, b.device, y.device);
        double *expected = doubles(y.count);
        ref_concat(s, a.values, b.values, expected);
        tensor_expect(&y, expected, 0.0, "concat");

        Tensor parts[] = {tensor_nan(be, a.count), tensor_nan(be, b.count)};
        op_split(be, s, y.device, parts[0].device, parts[1].device);
        tensor_expect_same_bits(&parts[0], &a, "split");
        tensor_expect_same_bits(&parts[1], &b, "split");
        double *first = doubles(a.count);
        double *second = doubles(b.count);
        ref_split(s, expected, first, second);
        finish(&parts[0], first, 0, "split");
        finish(&parts[1], second, 0, "split");
        free(expected);
        tensor_free(&a);
        tensor_free(&b);
        tensor_free(&y);
    }
    device_close(be);
}

/* The ranges leave a hole of 16 elements and a tail of 21, which must stay as they are. */
static void test_sgd_leaves_the_rest_alone(void **state)
{
    (void)state;
    const SgdShape s = {
        .momentum = 0.875f, /* exact in float32, as are the others: only arithmetic errs */
        .weight_decay = 0.0625f,
        .ranges = 3,
        .range = {{0, 48, 0.25f}, {64, 160, 0.03125f}, {224, 0, 1.0f}},
    };
    Backend *be = tensors_open_backend();
    Tensor dw = tensor_random(be, 245, 1);
    Tensor v = tensor_random(be, 245, 2);
    Tensor w = tensor_random(be, 245, 3);
    double *expected_v = doubles(v.count);
    double *expected_w = doubles(w.count);
    memcpy(expected_v, v.values, (size_t)v.count * sizeof(double));
    memcpy(expected_w, w.values, (size_t)w.count * sizeof(double));
    for (int step = 0; step < 3; step++) {
        op_sgd(be, &s, NULL, dw.device, v.device, w.device, NULL);
        ref_sgd(&s, dw.values, expected_v, expected_w);
    }
    for (int64_t i = 48; i < 64; i++) {
        assert_true(expected_w[i] == w.values[i]);
    }
    finish(&v, expected_v, 9, "sgd momentum");
    finish(&w, expected_w, 9, "sgd weights");
    tensor_free(&dw);
    device_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_reference_gradients),
        cmocka_unit_test(test_avgpool),
        cmocka_unit_test(test_concat_and_split),
        cmocka_unit_test(test_sgd_leaves_the_rest_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
