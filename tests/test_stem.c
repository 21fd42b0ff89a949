/* The stem against the reference loops and PyTorch, and the loops against finite differences. */
#include "base/mem.h"
#include "base/rng.h"
#include "golden.h"
#include "kernels/ref/ref_norm.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD_BYTES = 64, GUARD = 0x5A };

static int64_t inputs_of(const StemShape *s)
{
    return (int64_t)s->groups * s->N * s->H * s->W * s->C;
}

static int64_t outputs_of(const StemShape *s)
{
    return (int64_t)s->groups * s->N * conv_out(s->H, 3, 2, 1) * conv_out(s->W, 3, 2, 1) * s->C;
}

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

/* ---- argmax: bytes with a guard behind them -------------------------------------------------- */

static uint8_t *bytes_make(Backend *be, int64_t count, const uint8_t *values)
{
    size_t bytes = (size_t)count;
    uint8_t *host = mem_alloc(bytes + GUARD_BYTES);
    memset(host, GUARD, bytes + GUARD_BYTES);
    if (values != NULL) {
        memcpy(host, values, bytes);
    }
    uint8_t *device = device_alloc(be, bytes + GUARD_BYTES);
    device_copy_in(be, device, host, bytes + GUARD_BYTES);
    device_synchronize(be);
    free(host);
    return device;
}

static void bytes_expect(Backend *be, const uint8_t *device, int64_t count, const uint8_t *expected,
                         const char *what)
{
    size_t bytes = (size_t)count;
    uint8_t *host = mem_alloc(bytes + GUARD_BYTES);
    device_copy_out(be, host, device, bytes + GUARD_BYTES);
    for (size_t i = 0; i < bytes + GUARD_BYTES; i++) {
        int wanted = i < bytes ? expected[i] : GUARD;
        if (host[i] != wanted) {
            fail_msg("%s: argmax %zu of %zu is %d, expected %d", what, i, bytes, host[i], wanted);
        }
    }
    free(host);
}

/* ---- one shape ------------------------------------------------------------------------------- */

static const char *describe(char text[static 128], const StemShape *s, bool dy_add, bool accumulate)
{
    snprintf(text, 128, "groups %d, N %d, %dx%d, C %d, dy_add %d, accumulate %d", s->groups, s->N,
             s->H, s->W, s->C, dy_add, accumulate);
    return text;
}

/* Multiples of 1/4: equal values are frequent, so the order in which a window is searched shows,
 * and unequal ones are far enough apart for float32 to tell. */
static Tensor coarse_tensor(Backend *be, int64_t count, uint64_t seed)
{
    Tensor random = tensor_random(be, count, seed);
    float *values = mem_alloc((size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) {
        values[i] = (float)(round(random.values[i] * 8) / 4);
    }
    Tensor coarse = tensor_of(be, count, values);
    free(values);
    tensor_free(&random);
    return coarse;
}

static void check_forward(Backend *be, const StemShape *s, const char *text)
{
    int64_t own = (int64_t)s->groups * s->C;
    Tensor x = coarse_tensor(be, inputs_of(s), 1);
    Tensor gamma = tensor_random(be, s->C, 2);
    Tensor beta = tensor_random(be, s->C, 3);
    Tensor mean = tensor_random(be, own, 4);
    Tensor invstd = tensor_random(be, own, 5);
    Tensor y = tensor_nan(be, outputs_of(s));
    uint8_t *argmax = bytes_make(be, outputs_of(s), NULL);
    double *expected_y = doubles(outputs_of(s));
    uint8_t *expected_argmax = mem_alloc((size_t)outputs_of(s));
    ref_stem_train(s, x.values, gamma.values, beta.values, mean.values, invstd.values, expected_y,
                   expected_argmax);
    op_stem_train(be, s, x.device, gamma.device, beta.device, mean.device, invstd.device, y.device,
                  argmax);
    tensor_expect(&y, expected_y, 2e-6, text);
    bytes_expect(be, argmax, outputs_of(s), expected_argmax, text);

    float *ones = mem_alloc((size_t)s->C * sizeof(float));
    for (int c = 0; c < s->C; c++) {
        ones[c] = 1;
    }
    Tensor variance = tensor_of(be, s->C, ones);
    ref_stem_eval(s, x.values, gamma.values, beta.values, beta.values, variance.values, expected_y);
    op_stem_eval(be, s, x.device, gamma.device, beta.device, beta.device, variance.device,
                 y.device);
    tensor_expect(&y, expected_y, 2e-6, text);

    free(ones);
    free(expected_y);
    free(expected_argmax);
    device_free(be, argmax);
    Tensor *all[] = {&x, &gamma, &beta, &mean, &invstd, &y, &variance};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        tensor_free(all[i]);
    }
}

/* A place in every window that lies in the picture, or none. */
static uint8_t *random_argmax(const StemShape *s, Rng *rng)
{
    int P = conv_out(s->H, 3, 2, 1);
    int Q = conv_out(s->W, 3, 2, 1);
    uint8_t *argmax = mem_alloc((size_t)outputs_of(s));
    for (int64_t i = 0; i < outputs_of(s); i++) {
        int q = (int)(i / s->C % Q);
        int p = (int)(i / s->C / Q % P);
        int k = (int)rng_below(rng, 10);
        int h = 2 * p - 1 + k / 3;
        int w = 2 * q - 1 + k % 3;
        bool inside = k < 9 && h >= 0 && h < s->H && w >= 0 && w < s->W;
        argmax[i] = (uint8_t)(inside ? k : STEM_NO_GRADIENT);
    }
    return argmax;
}

static void check_backward(Backend *be, const StemShape *s, bool dy_add, bool accumulate, Rng *rng,
                           const char *text)
{
    int64_t own = (int64_t)s->groups * s->C;
    Tensor x = tensor_random(be, inputs_of(s), 6);
    Tensor dy = tensor_random(be, outputs_of(s), 7);
    Tensor more = tensor_random(be, outputs_of(s), 8);
    Tensor gamma = tensor_random(be, s->C, 9);
    Tensor mean = tensor_random(be, own, 10);
    Tensor invstd = tensor_random(be, own, 11);
    Tensor dx = tensor_nan(be, inputs_of(s));
    Tensor dgamma = accumulate ? tensor_random(be, s->C, 12) : tensor_nan(be, s->C);
    Tensor dbeta = accumulate ? tensor_random(be, s->C, 13) : tensor_nan(be, s->C);
    uint8_t *places = random_argmax(s, rng);
    uint8_t *argmax = bytes_make(be, outputs_of(s), places);
    double *expected_dx = doubles(inputs_of(s));
    double *expected_dgamma = doubles(s->C);
    double *expected_dbeta = doubles(s->C);
    ref_stem_bprop(s, x.values, places, dy.values, dy_add ? more.values : NULL, gamma.values,
                   mean.values, invstd.values, expected_dx, expected_dgamma, expected_dbeta);
    for (int c = 0; c < s->C; c++) {
        expected_dgamma[c] += accumulate ? dgamma.values[c] : 0;
        expected_dbeta[c] += accumulate ? dbeta.values[c] : 0;
    }
    op_stem_bprop(be, s, x.device, argmax, dy.device, dy_add ? more.device : NULL, gamma.device,
                  mean.device, invstd.device, accumulate, dx.device, dgamma.device, dbeta.device);
    double tolerance = 4 * tensor_tolerance(outputs_of(s) / s->C);
    tensor_expect(&dx, expected_dx, 3e-6, text);
    tensor_expect(&dgamma, expected_dgamma, tolerance, text);
    tensor_expect(&dbeta, expected_dbeta, tolerance, text);

    free(places);
    free(expected_dx);
    free(expected_dgamma);
    free(expected_dbeta);
    device_free(be, argmax);
    Tensor *all[] = {&x, &dy, &more, &gamma, &mean, &invstd, &dx, &dgamma, &dbeta};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        tensor_free(all[i]);
    }
}

static void test_random_shapes(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Rng rng = rng_at(3, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < 30; i++) {
        StemShape s = {.groups = 1 + (int)rng_below(&rng, 4),
                       .N = 1 + (int)rng_below(&rng, 2),
                       .H = 2 + (int)rng_below(&rng, i % 5 == 0 ? 70 : 20),
                       .W = 1 + (int)rng_below(&rng, 20),
                       .C = 1 + (int)rng_below(&rng, 70),
                       .eps = 1e-5F};
        bool dy_add = rng_below(&rng, 2);
        bool accumulate = rng_below(&rng, 2);
        char text[128];
        describe(text, &s, dy_add, accumulate);
        check_forward(be, &s, text);
        check_backward(be, &s, dy_add, accumulate, &rng, text);
    }
    device_close(be);
}

/* ---- thread counts --------------------------------------------------------------------------- */

typedef struct {
    Backend *be;
    Tensor y, dx, dgamma, dbeta;
} Outcome;

static Outcome run_with(int threads, const StemShape *s)
{
    Err err;
    Backend *be = device_open("cpu", &(DeviceOptions){.threads = threads}, &err);
    assert_non_null(be);
    int64_t own = (int64_t)s->groups * s->C;
    Tensor x = tensor_random(be, inputs_of(s), 20);
    Tensor gamma = tensor_random(be, s->C, 21);
    Tensor dy = tensor_random(be, outputs_of(s), 22);
    Tensor mean = tensor_random(be, own, 23);
    Tensor invstd = tensor_random(be, own, 24);
    uint8_t *argmax = bytes_make(be, outputs_of(s), NULL);
    Outcome o = {be, tensor_nan(be, outputs_of(s)), tensor_nan(be, inputs_of(s)),
                 tensor_nan(be, s->C), tensor_nan(be, s->C)};
    op_stem_train(be, s, x.device, gamma.device, gamma.device, mean.device, invstd.device,
                  o.y.device, argmax);
    op_stem_bprop(be, s, x.device, argmax, dy.device, dy.device, gamma.device, mean.device,
                  invstd.device, false, o.dx.device, o.dgamma.device, o.dbeta.device);
    device_free(be, argmax);
    Tensor *all[] = {&x, &gamma, &dy, &mean, &invstd};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        tensor_free(all[i]);
    }
    return o;
}

static void test_threads_do_not_change_bits(void **state)
{
    (void)state;
    StemShape s = {2, 2, 37, 30, 64, 1e-5F};
    Outcome outcomes[3];
    for (int i = 0; i < 3; i++) {
        outcomes[i] = run_with(i + 1, &s);
    }
    for (int i = 0; i < 3; i++) {
        Outcome *a = &outcomes[0];
        Outcome *b = &outcomes[i];
        tensor_expect_same_bits(&a->y, &b->y, "y");
        tensor_expect_same_bits(&a->dx, &b->dx, "dx");
        tensor_expect_same_bits(&a->dgamma, &b->dgamma, "dgamma");
        tensor_expect_same_bits(&a->dbeta, &b->dbeta, "dbeta");
    }
    for (int i = 0; i < 3; i++) {
        Outcome *o = &outcomes[i];
        Tensor *all[] = {&o->y, &o->dx, &o->dgamma, &o->dbeta};
        for (size_t t = 0; t < sizeof(all) / sizeof(all[0]); t++) {
            tensor_free(all[t]);
        }
        device_close(o->be);
    }
}

/* ---- PyTorch --------------------------------------------------------------------------------- */

static Tensor golden_tensor(Backend *be, Golden *golden, const char *name, int64_t count)
{
    return tensor_of(be, count, golden_f32(golden, name, count));
}

static void test_golden(void **state)
{
    (void)state;
    StemShape s = {2, 2, 13, 12, 5, 1e-5F};
    BatchNormShape norm = {2, 2 * 13 * 12, 5, 1e-5F, 0.1F, true};
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_norm.safetensors");
    int64_t n = outputs_of(&s);
    static const float zeros[5] = {0, 0, 0, 0, 0};
    static const float ones[5] = {1, 1, 1, 1, 1};
    Tensor x = golden_tensor(be, golden, "stem.x", inputs_of(&s));
    Tensor gamma = golden_tensor(be, golden, "stem.gamma", s.C);
    Tensor beta = golden_tensor(be, golden, "stem.beta", s.C);
    Tensor dy = golden_tensor(be, golden, "stem.dy", n);
    Tensor running_mean = tensor_of(be, s.C, zeros);
    Tensor running_var = tensor_of(be, s.C, ones);
    Tensor mean = tensor_nan(be, 10);
    Tensor invstd = tensor_nan(be, 10);
    Tensor y = tensor_nan(be, n);
    Tensor dx = tensor_nan(be, inputs_of(&s));
    Tensor dgamma = tensor_nan(be, s.C);
    Tensor dbeta = tensor_nan(be, s.C);
    Tensor normalised = tensor_nan(be, inputs_of(&s));
    uint8_t *argmax = bytes_make(be, n, NULL);
    op_batchnorm_train(be, &norm, x.device, NULL, gamma.device, beta.device, running_mean.device,
                       running_var.device, mean.device, invstd.device, normalised.device, NULL);
    op_stem_train(be, &s, x.device, gamma.device, beta.device, mean.device, invstd.device, y.device,
                  argmax);
    op_stem_bprop(be, &s, x.device, argmax, dy.device, NULL, gamma.device, mean.device,
                  invstd.device, false, dx.device, dgamma.device, dbeta.device);
    tensor_expect_f32(&y, golden_f32(golden, "stem.y", n), 2e-6, "y");
    bytes_expect(be, argmax, n, golden_u8(golden, "stem.argmax", n), "PyTorch");
    tensor_expect_f32(&running_mean, golden_f32(golden, "stem.running_mean_after", s.C), 1e-6,
                      "running mean");
    tensor_expect_f32(&running_var, golden_f32(golden, "stem.running_var_after", s.C), 1e-6,
                      "running variance");
    tensor_expect_f32(&dx, golden_f32(golden, "stem.dx", inputs_of(&s)), 3e-6, "dx");
    tensor_expect_f32(&dgamma, golden_f32(golden, "stem.dgamma", s.C), 2e-5, "dgamma");
    tensor_expect_f32(&dbeta, golden_f32(golden, "stem.dbeta", s.C), 2e-5, "dbeta");
    op_stem_eval(be, &s, x.device, gamma.device, beta.device, running_mean.device,
                 running_var.device, y.device);
    tensor_expect_f32(&y, golden_f32(golden, "stem.y_eval", n), 3e-6, "y in evaluation");
    device_free(be, argmax);
    Tensor *all[] = {&x,      &gamma, &beta, &dy,     &running_mean, &running_var, &mean,
                     &invstd, &y,     &dx,   &dgamma, &dbeta,        &normalised};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        tensor_free(all[i]);
    }
    golden_close(golden);
    device_close(be);
}

/* ---- the reference against finite differences ------------------------------------------------ */

enum { FD_C = 2, FD_IN = 2 * 5 * 4 * FD_C, FD_OUT = 2 * 3 * 2 * FD_C };

static const StemShape fd_shape = {2, 1, 5, 4, FD_C, 1e-5F};
static const BatchNormShape fd_norm = {2, 5 * 4, FD_C, 1e-5F, 0.1F, true};

static double weighted_output(const double *x, const double *gamma, const double *beta,
                              const double *dy, double *mean, double *invstd, uint8_t *argmax)
{
    double running[2][FD_C] = {{0}};
    double y[FD_OUT];
    ref_batchnorm_statistics(&fd_norm, x, running[0], running[1], mean, invstd);
    ref_stem_train(&fd_shape, x, gamma, beta, mean, invstd, y, argmax);
    double sum = 0;
    for (int i = 0; i < FD_OUT; i++) {
        sum += dy[i] * y[i];
    }
    return sum;
}

static void check_differences(const double *x, const double *gamma, const double *beta,
                              const double *dy, double *values, const double *gradient, int count)
{
    const double step = 1e-6;
    double mean[2 * FD_C];
    double invstd[2 * FD_C];
    uint8_t argmax[FD_OUT];
    for (int i = 0; i < count; i++) {
        double value = values[i];
        values[i] = value + step;
        double above = weighted_output(x, gamma, beta, dy, mean, invstd, argmax);
        values[i] = value - step;
        double below = weighted_output(x, gamma, beta, dy, mean, invstd, argmax);
        values[i] = value;
        assert_true(fabs((above - below) / (2 * step) - gradient[i]) < 1e-6);
    }
}

/* x is a shuffle of evenly spaced numbers: no two of a window are closer than the step, and beta is
 * such that none is normalised to 0. */
static void test_reference_gradients(void **state)
{
    (void)state;
    double x[FD_IN];
    double dy[FD_OUT];
    Rng rng = rng_at(4, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < FD_IN; i++) {
        x[i] = i * 0.02;
        int j = (int)rng_below(&rng, (uint32_t)i + 1);
        double other = x[j];
        x[j] = x[i];
        x[i] = other;
    }
    for (int i = 0; i < FD_OUT; i++) {
        dy[i] = rng_uniform(&rng) - 0.5;
    }
    double gamma[FD_C] = {1.1, -0.7};
    double beta[FD_C] = {-0.9, 0.013};
    double mean[2 * FD_C];
    double invstd[2 * FD_C];
    uint8_t argmax[FD_OUT];
    weighted_output(x, gamma, beta, dy, mean, invstd, argmax);
    double dx[FD_IN];
    double dgamma[FD_C];
    double dbeta[FD_C];
    ref_stem_bprop(&fd_shape, x, argmax, dy, NULL, gamma, mean, invstd, dx, dgamma, dbeta);
    check_differences(x, gamma, beta, dy, x, dx, FD_IN);
    check_differences(x, gamma, beta, dy, gamma, dgamma, FD_C);
    check_differences(x, gamma, beta, dy, beta, dbeta, FD_C);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_threads_do_not_change_bits),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_reference_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
