/* Convolution, linear, average pooling and SGD against PyTorch's values (golden/make_ops.py). */
#include "base/mem.h"
#include "golden.h"
#include "kernels/ops.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Operands are standard normal, so a sum's error may be a few times that of numbers below 1. */
static double tolerance(int64_t terms)
{
    return 8.0 * tensor_tolerance(terms);
}

static const float *named(Golden *golden, const char *layer, const char *tensor, int64_t count)
{
    char name[64];
    snprintf(name, sizeof(name), "%s.%s", layer, tensor);
    return golden_f32(golden, name, count);
}

static void expect(Tensor *found, Golden *golden, const char *layer, const char *tensor,
                   int64_t terms)
{
    char what[64];
    snprintf(what, sizeof(what), "%s.%s", layer, tensor);
    tensor_expect_f32(found, named(golden, layer, tensor, found->count), tolerance(terms), what);
    tensor_free(found);
}

static void check_conv(Backend *be, Golden *golden, const char *layer, const ConvShape *s,
                       bool has_bias)
{
    const int64_t positions = (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
                              conv_out(s->W, s->R, s->stride, s->pad);
    const int64_t x_count = (int64_t)s->N * s->H * s->W * s->C;
    const int64_t w_count = (int64_t)s->K * s->R * s->R * s->C;
    const int64_t y_count = positions * s->K;
    Tensor x = tensor_of(be, x_count, named(golden, layer, "x", x_count));
    Tensor w = tensor_of(be, w_count, named(golden, layer, "w", w_count));
    Tensor dy = tensor_of(be, y_count, named(golden, layer, "dy", y_count));
    Tensor y = tensor_nan(be, y_count);
    Tensor dx = tensor_nan(be, x_count);
    Tensor dw = tensor_nan(be, w_count);
    Tensor dbias = tensor_nan(be, s->K);
    Tensor bias =
        has_bias ? tensor_of(be, s->K, named(golden, layer, "bias", s->K)) : tensor_nan(be, s->K);
    op_conv_fprop(be, s, x.device, w.device, has_bias ? bias.device : NULL, y.device);
    op_conv_dgrad(be, s, dy.device, w.device, dx.device);
    op_conv_wgrad(be, s, x.device, dy.device, false, dw.device, has_bias ? dbias.device : NULL);
    expect(&y, golden, layer, "y", (int64_t)s->R * s->R * s->C);
    expect(&dx, golden, layer, "dx", (int64_t)s->R * s->R * s->K);
    expect(&dw, golden, layer, "dw", positions);
    if (has_bias) {
        expect(&dbias, golden, layer, "dbias", positions);
    } else {
        tensor_free(&dbias);
    }
    tensor_free(&bias);
    tensor_free(&x);
    tensor_free(&w);
    tensor_free(&dy);
}

static void test_conv(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_conv.safetensors");
    check_conv(be, golden, "stem", &(ConvShape){1, 19, 17, 3, 16, 7, 2, 3}, false);
    check_conv(be, golden, "block", &(ConvShape){2, 6, 5, 16, 16, 3, 1, 1}, false);
    check_conv(be, golden, "down", &(ConvShape){2, 7, 6, 8, 16, 3, 2, 1}, false);
    check_conv(be, golden, "shortcut", &(ConvShape){2, 7, 6, 16, 8, 1, 2, 0}, false);
    check_conv(be, golden, "head", &(ConvShape){2, 7, 7, 8, 10, 3, 2, 0}, true);
    golden_close(golden);
    device_close(be);
}

static void test_linear(void **state)
{
    (void)state;
    enum { N = 5, C = 37, K = 11 };
    const LinearShape s = {N, C, K, false};
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_dense.safetensors");
    Tensor x = tensor_of(be, N * C, golden_f32(golden, "linear.x", N * C));
    Tensor w = tensor_of(be, K * C, golden_f32(golden, "linear.w", K * C));
    Tensor bias = tensor_of(be, K, golden_f32(golden, "linear.bias", K));
    Tensor dy = tensor_of(be, N * K, golden_f32(golden, "linear.dy", N * K));
    Tensor y = tensor_nan(be, N * K);
    Tensor dx = tensor_nan(be, N * C);
    Tensor dw = tensor_nan(be, K * C);
    Tensor dbias = tensor_nan(be, K);
    op_linear_fprop(be, &s, x.device, w.device, bias.device, y.device);
    op_linear_dgrad(be, &s, dy.device, w.device, dx.device);
    op_linear_wgrad(be, &s, x.device, dy.device, false, dw.device, dbias.device);
    expect(&y, golden, "linear", "y", C);
    expect(&dx, golden, "linear", "dx", K);
    expect(&dw, golden, "linear", "dw", N);
    expect(&dbias, golden, "linear", "dbias", N);
    tensor_free(&x);
    tensor_free(&w);
    tensor_free(&bias);
    tensor_free(&dy);
    golden_close(golden);
    device_close(be);
}

static void test_avgpool(void **state)
{
    (void)state;
    enum { N = 3, HW = 49, C = 10 };
    const AvgPoolShape s = {N, HW, C};
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_dense.safetensors");
    Tensor x = tensor_of(be, N * HW * C, golden_f32(golden, "pool.x", N * HW * C));
    Tensor dy = tensor_of(be, N * C, golden_f32(golden, "pool.dy", N * C));
    Tensor y = tensor_nan(be, N * C);
    Tensor dx = tensor_nan(be, N * HW * C);
    op_avgpool_fprop(be, &s, x.device, y.device);
    op_avgpool_bprop(be, &s, dy.device, dx.device);
    expect(&y, golden, "pool", "y", 1);
    expect(&dx, golden, "pool", "dx", 1);
    tensor_free(&x);
    tensor_free(&dy);
    golden_close(golden);
    device_close(be);
}

static void test_sgd(void **state)
{
    (void)state;
    enum { COUNT = 96 };
    const SgdShape s = {.momentum = 0.9f,
                        .weight_decay = 0.05f,
                        .ranges = 2,
                        .range = {{0, 64, 0.1f}, {64, 32, 0.03f}}};
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_dense.safetensors");
    float zeros[COUNT] = {0};
    Tensor w = tensor_of(be, COUNT, golden_f32(golden, "sgd.w", COUNT));
    Tensor v = tensor_of(be, COUNT, zeros);
    for (int step = 0; step < 3; step++) {
        char name[16];
        snprintf(name, sizeof(name), "sgd.dw%d", step);
        Tensor dw = tensor_of(be, COUNT, golden_f32(golden, name, COUNT));
        op_sgd(be, &s, NULL, dw.device, v.device, w.device, NULL);
        snprintf(name, sizeof(name), "sgd.w%d", step);
        tensor_expect_f32(&w, golden_f32(golden, name, COUNT), tolerance(1), name);
        snprintf(name, sizeof(name), "sgd.v%d", step);
        tensor_expect_f32(&v, golden_f32(golden, name, COUNT), tolerance(1), name);
        tensor_free(&dw);
    }
    tensor_free(&w);
    tensor_free(&v);
    golden_close(golden);
    device_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_avgpool),
        cmocka_unit_test(test_sgd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
