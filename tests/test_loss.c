/* Losses against the reference loops and PyTorch, and the loops against finite differences. */
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

enum { GUARD = 0x6B6B6B6B };

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

/* int32 device memory with one guard word behind it. */
static int32_t *words_make(Backend *be, int count, const int32_t *values)
{
    size_t bytes = ((size_t)count + 1) * sizeof(int32_t);
    int32_t *host = mem_alloc(bytes);
    for (int i = 0; i <= count; i++) {
        host[i] = values != NULL && i < count ? values[i] : GUARD;
    }
    int32_t *device = device_alloc(be, bytes);
    device_copy_in(be, device, host, bytes);
    device_synchronize(be);
    free(host);
    return device;
}

static void words_expect(Backend *be, int32_t *device, int count, const int32_t *expected)
{
    size_t bytes = ((size_t)count + 1) * sizeof(int32_t);
    int32_t *host = mem_alloc(bytes);
    device_copy_out(be, host, device, bytes);
    for (int i = 0; i < count; i++) {
        assert_int_equal(host[i], expected[i]);
    }
    assert_int_equal(host[count], GUARD);
    free(host);
    device_free(be, device);
}

/* Logits on a coarse grid, so that maxima come twice; scaled up to where most p are masked out. */
static Tensor make_logits(Backend *be, const LossShape *s, uint64_t seed, double scale)
{
    Tensor random = tensor_random(be, (int64_t)s->N * s->C, seed);
    float *values = mem_alloc((size_t)random.count * sizeof(float));
    for (int64_t i = 0; i < random.count; i++) {
        values[i] = (float)(round(random.values[i] * 8) / 8 * scale);
    }
    Tensor logits = tensor_of(be, random.count, values);
    free(values);
    tensor_free(&random);
    return logits;
}

static void check_cross_entropy(Backend *be, const LossShape *s, const Tensor *logits,
                                const int32_t *labels, const char *text)
{
    double loss;
    int32_t correct;
    double *gradient = doubles(logits->count);
    ref_cross_entropy(s, logits->values, labels, 0.7F, &loss, &correct, gradient);
    int32_t *labels_device = words_make(be, s->N, labels);
    Tensor loss_found = tensor_nan(be, 1);
    Tensor dlogits = tensor_nan(be, logits->count);
    int32_t *hits = words_make(be, 1, NULL);
    op_cross_entropy(be, s, logits->device, labels_device, 0.7F, NULL, loss_found.device, hits,
                     dlogits.device);
    double tolerance = 1e-7 * (1 + fabs(loss));
    tensor_expect(&loss_found, &loss, tolerance, text);
    tensor_expect(&dlogits, gradient, 1e-7, text);
    words_expect(be, hits, 1, &correct);

    Tensor in_place = tensor_nan(be, logits->count);
    float *values = mem_alloc((size_t)logits->count * sizeof(float));
    device_copy_out(be, values, logits->device, (size_t)logits->count * sizeof(float));
    device_copy_in(be, in_place.device, values, (size_t)logits->count * sizeof(float));
    hits = words_make(be, 1, NULL);
    op_cross_entropy(be, s, in_place.device, labels_device, 0.7F, NULL, loss_found.device, hits,
                     in_place.device);
    tensor_expect_same_bits(&in_place, &dlogits, text);
    words_expect(be, hits, 1, &correct);

    hits = words_make(be, 1, NULL);
    op_cross_entropy(be, s, logits->device, labels_device, 0.7F, NULL, loss_found.device, hits,
                     NULL);
    tensor_expect(&loss_found, &loss, tolerance, text);
    words_expect(be, hits, 1, &correct);
    free(values);
    free(gradient);
    device_free(be, labels_device);
    tensor_free(&in_place);
    tensor_free(&loss_found);
    tensor_free(&dlogits);
}

static void check_entropy(Backend *be, const LossShape *s, Tensor *logits, const char *text)
{
    double loss;
    double *gradient = doubles(logits->count);
    ref_entropy(s, logits->values, 0.1F, &loss, gradient);
    Tensor loss_found = tensor_nan(be, 1);
    Tensor dlogits = tensor_nan(be, logits->count);
    op_entropy(be, s, logits->device, 0.1F, NULL, loss_found.device, dlogits.device);
    tensor_expect(&loss_found, &loss, 1e-6, text);
    tensor_expect(&dlogits, gradient, 1e-7, text);
    op_entropy(be, s, logits->device, 0.1F, NULL, loss_found.device, logits->device);
    tensor_expect_same_bits(logits, &dlogits, text);
    free(gradient);
    tensor_free(&loss_found);
    tensor_free(&dlogits);
}

static void check_argmax(Backend *be, const LossShape *s, const Tensor *logits)
{
    int32_t *expected = mem_alloc((size_t)s->N * sizeof(int32_t));
    ref_argmax(s, logits->values, expected);
    int32_t *found = words_make(be, s->N, NULL);
    op_argmax(be, s, logits->device, found);
    words_expect(be, found, s->N, expected);
    free(expected);
}

static void test_random_shapes(void **state)
{
    (void)state;
    static const double scales[] = {0.5, 4, 16, 300};
    Backend *be = tensors_open_backend();
    Rng rng = rng_at(5, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < 40; i++) {
        LossShape s = {1 + (int)rng_below(&rng, 70), i % 3 ? 1 + (int)rng_below(&rng, 60) : 51};
        char text[80];
        snprintf(text, sizeof(text), "N %d, C %d, scale %g", s.N, s.C, scales[i % 4]);
        int32_t *labels = mem_alloc((size_t)s.N * sizeof(int32_t));
        for (int n = 0; n < s.N; n++) {
            labels[n] = (int32_t)rng_below(&rng, (uint32_t)s.C);
        }
        Tensor logits = make_logits(be, &s, (uint64_t)i, scales[i % 4]);
        check_cross_entropy(be, &s, &logits, labels, text);
        check_argmax(be, &s, &logits);
        check_entropy(be, &s, &logits, text);
        free(labels);
        tensor_free(&logits);
    }
    device_close(be);
}

static void test_golden(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_loss.safetensors");
    LossShape s = {24, 51};
    Tensor logits = tensor_of(be, 24 * 51, golden_f32(golden, "cross_entropy.logits", 24 * 51));
    Tensor loss = tensor_nan(be, 1);
    int32_t *labels = words_make(be, 24, golden_i32(golden, "cross_entropy.labels", 24));
    int32_t *hits = words_make(be, 1, NULL);
    op_cross_entropy(be, &s, logits.device, labels, 0.7F, NULL, loss.device, hits, logits.device);
    tensor_expect_f32(&loss, golden_f32(golden, "cross_entropy.loss", 1), 1e-6, "loss");
    tensor_expect_f32(&logits, golden_f32(golden, "cross_entropy.dlogits", 24 * 51), 1e-8,
                      "dlogits");
    words_expect(be, hits, 1, golden_i32(golden, "cross_entropy.correct", 1));
    device_free(be, labels);
    tensor_free(&logits);

    LossShape wide = {10, 47};
    logits = tensor_of(be, 470, golden_f32(golden, "entropy.logits", 470));
    op_entropy(be, &wide, logits.device, 0.1F, NULL, loss.device, logits.device);
    tensor_expect_f32(&loss, golden_f32(golden, "entropy.loss", 1), 1e-6, "entropy");
    tensor_expect_f32(&logits, golden_f32(golden, "entropy.dlogits", 470), 1e-8,
                      "dlogits of the entropy");
    tensor_free(&logits);
    tensor_free(&loss);
    golden_close(golden);
    device_close(be);
}

/* A NaN among the logits must show in both losses. */
static void test_nan_shows(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    static const float values[4] = {1, NAN, 0.5F, 2};
    static const int32_t label[1] = {0};
    LossShape s = {1, 4};
    Tensor logits = tensor_of(be, 4, values);
    Tensor dlogits = tensor_random(be, 4, 1);
    Tensor loss = tensor_random(be, 1, 1);
    int32_t *labels = words_make(be, 1, label);
    int32_t *hits = words_make(be, 1, NULL);
    float found;
    op_cross_entropy(be, &s, logits.device, labels, 1, NULL, loss.device, hits, dlogits.device);
    device_copy_out(be, &found, loss.device, sizeof(found));
    assert_true(isnan(found));
    op_entropy(be, &s, logits.device, 1, NULL, loss.device, dlogits.device);
    device_copy_out(be, &found, loss.device, sizeof(found));
    assert_true(isnan(found));
    device_free(be, labels);
    device_free(be, hits);
    tensor_free(&logits);
    tensor_free(&dlogits);
    tensor_free(&loss);
    device_close(be);
}

/* ---- the reference against finite differences ------------------------------------------------ */

typedef enum { CROSS_ENTROPY, ENTROPY } Loss;

static double loss_of(Loss which, const LossShape *s, const double *logits, const int32_t *labels,
                      double *dlogits)
{
    double loss;
    int32_t correct;
    if (which == CROSS_ENTROPY) {
        ref_cross_entropy(s, logits, labels, 1, &loss, &correct, dlogits);
    } else {
        ref_entropy(s, logits, 1, &loss, dlogits);
    }
    return loss;
}

static void test_reference_gradients(void **state)
{
    (void)state;
    enum { N = 4, C = 6 };
    LossShape s = {N, C};
    double logits[N * C];
    double gradient[N * C];
    double unused[N * C];
    static const int32_t labels[N] = {0, 5, 2, 2};
    Rng rng = rng_at(6, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < N * C; i++) {
        logits[i] = 3 * rng_normal(&rng);
    }
    logits[7] = 40; /* one row with all other classes masked out */
    for (int which = CROSS_ENTROPY; which <= ENTROPY; which++) {
        loss_of((Loss)which, &s, logits, labels, gradient);
        for (int i = 0; i < N * C; i++) {
            double value = logits[i];
            logits[i] = value + 1e-5;
            double above = loss_of((Loss)which, &s, logits, labels, unused);
            logits[i] = value - 1e-5;
            double below = loss_of((Loss)which, &s, logits, labels, unused);
            logits[i] = value;
            assert_true(fabs((above - below) / 2e-5 - gradient[i]) < 1e-8);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_nan_shows),
        cmocka_unit_test(test_reference_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
