/* Batch norm against the reference loops and PyTorch. */
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

enum { THREAD_COUNTS = 3 };

static int64_t count_of(const BatchNormShape *s)
{
    return s->groups * s->rows * s->C;
}

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

static double *copy_of(const double *values, int64_t count)
{
    return memcpy(doubles(count), values, (size_t)count * sizeof(double));
}

static Backend *open_threads(int threads)
{
    Err err;
    Backend *be = device_open("cpu", &(DeviceOptions){.threads = threads}, &err);
    if (be == NULL) {
        fail_msg("%s", err.text);
    }
    return be;
}

/* ---- one shape, with everything that an operator may be asked for ---------------------------- */

/* Where an output goes: memory of its own, or over one of the inputs. */
typedef enum { APART, OVER_FIRST, OVER_SECOND } Alias;

typedef struct {
    BatchNormShape s;
    bool residual, dy_add, accumulate;
    Alias y, dx; /* y over x or residual; dx over dy or dy_add (dresidual then over the other) */
} Case;

static const char *describe(char text[static 160], const Case *k)
{
    snprintf(text, 160,
             "groups %d, rows %lld, C %d, relu %d, residual %d, dy_add %d, "
             "accumulate %d, y alias %d, dx alias %d",
             k->s.groups, (long long)k->s.rows, k->s.C, k->s.relu, k->residual, k->dy_add,
             k->accumulate, (int)k->y, (int)k->dx);
    return text;
}

/* Everything that one case reads and writes. mask: bytes in device memory, with one more behind the
 * end that nobody may write. */
typedef struct {
    Tensor x, residual, gamma, beta, running_mean, running_var, mean, invstd, y;
    Tensor dy, dy_add, dx, dresidual, dgamma, dbeta;
    uint8_t *mask;
} Tensors;

enum { MASK_POISON = 0xEE };

static int64_t mask_bytes(const BatchNormShape *s)
{
    return batchnorm_mask_bytes(s->groups * s->rows, s->C);
}

static uint8_t *mask_make(Backend *be, const BatchNormShape *s, const uint8_t *bytes)
{
    size_t count = (size_t)mask_bytes(s);
    uint8_t *poison = mem_alloc(count + 1);
    memset(poison, MASK_POISON, count + 1);
    uint8_t *mask = device_alloc(be, count + 1);
    device_copy_in(be, mask, poison, count + 1);
    if (bytes != NULL) {
        device_copy_in(be, mask, bytes, count);
    }
    device_synchronize(be);
    free(poison);
    return mask;
}

/* Fails the test unless mask is y's. */
static void expect_mask_of(const BatchNormShape *s, const uint8_t *mask, const Tensor *y,
                           const char *text)
{
    size_t count = (size_t)mask_bytes(s);
    uint8_t *found = mem_alloc(count + 1);
    uint8_t *expected = mem_alloc(count + 1);
    float *values = mem_alloc((size_t)y->count * sizeof(float));
    double *wide = doubles(y->count);
    device_copy_out(y->be, found, mask, count + 1);
    device_copy_out(y->be, values, y->device, (size_t)y->count * sizeof(float));
    for (int64_t i = 0; i < y->count; i++) {
        wide[i] = values[i];
    }
    ref_batchnorm_mask(s, wide, expected);
    expected[count] = MASK_POISON;
    if (memcmp(found, expected, count + 1) != 0) {
        fail_msg("%s: the mask is not y's", text);
    }
    free(found);
    free(expected);
    free(values);
    free(wide);
}

static Tensors tensors_make(Backend *be, const Case *k)
{
    int64_t n = count_of(&k->s);
    int64_t C = k->s.C;
    int64_t own = k->s.groups * C;
    Tensors t = {
        .x = tensor_random(be, n, 1),
        .residual = tensor_random(be, n, 2),
        .gamma = tensor_random(be, C, 3),
        .beta = tensor_random(be, C, 4),
        .running_mean = tensor_random(be, C, 5),
        .running_var = tensor_random(be, C, 6),
        .mean = tensor_nan(be, own),
        .invstd = tensor_nan(be, own),
        .y = tensor_nan(be, n),
        .dy = tensor_random(be, n, 7),
        .dy_add = tensor_random(be, n, 8),
        .dx = tensor_nan(be, n),
        .dresidual = tensor_nan(be, n),
        .dgamma = k->accumulate ? tensor_random(be, C, 9) : tensor_nan(be, C),
        .dbeta = k->accumulate ? tensor_random(be, C, 10) : tensor_nan(be, C),
        .mask = mask_make(be, &k->s, NULL),
    };
    return t;
}

static void tensors_free(Tensors *t)
{
    device_free(t->x.be, t->mask);
    Tensor *all[] = {&t->x,           &t->residual, &t->gamma,     &t->beta,   &t->running_mean,
                     &t->running_var, &t->mean,     &t->invstd,    &t->y,      &t->dy,
                     &t->dy_add,      &t->dx,       &t->dresidual, &t->dgamma, &t->dbeta};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        tensor_free(all[i]);
    }
}

static const Tensor *y_of(const Case *k, const Tensors *t)
{
    return k->y == OVER_FIRST ? &t->x : k->y == OVER_SECOND ? &t->residual : &t->y;
}

static const Tensor *dx_of(const Case *k, const Tensors *t)
{
    return k->dx == OVER_FIRST ? &t->dy : k->dx == OVER_SECOND ? &t->dy_add : &t->dx;
}

/* Over the input that dx is not over, so that both may stand in place. */
static const Tensor *dresidual_of(const Case *k, const Tensors *t)
{
    if (k->dx == OVER_FIRST && k->dy_add) {
        return &t->dy_add;
    }
    return k->dx == OVER_SECOND ? &t->dy : &t->dresidual;
}

static bool has_mask(const Case *k)
{
    return k->s.relu && k->residual;
}

static void run_train(Backend *be, const Case *k, const Tensors *t)
{
    op_batchnorm_train(be, &k->s, t->x.device, k->residual ? t->residual.device : NULL,
                       t->gamma.device, t->beta.device, t->running_mean.device,
                       t->running_var.device, t->mean.device, t->invstd.device, y_of(k, t)->device,
                       has_mask(k) ? t->mask : NULL);
}

/* x, mask, mean and invstd are given, so that the backward pass is judged on its own. */
static void run_bprop(Backend *be, const Case *k, const Tensors *t, const uint8_t *mask,
                      const Tensor *mean, const Tensor *invstd)
{
    op_batchnorm_bprop(be, &k->s, t->x.device, has_mask(k) ? mask : NULL, t->dy.device,
                       k->dy_add ? t->dy_add.device : NULL, t->gamma.device, t->beta.device,
                       mean->device, invstd->device, k->accumulate, dx_of(k, t)->device,
                       k->residual ? dresidual_of(k, t)->device : NULL, t->dgamma.device,
                       t->dbeta.device);
}

static void check_train(Backend *be, const Case *k, const char *text)
{
    Tensors t = tensors_make(be, k);
    int64_t own = (int64_t)k->s.groups * k->s.C;
    double *y = doubles(count_of(&k->s));
    double *mean = doubles(own);
    double *invstd = doubles(own);
    double *running_mean = copy_of(t.running_mean.values, k->s.C);
    double *running_var = copy_of(t.running_var.values, k->s.C);
    ref_batchnorm_train(&k->s, t.x.values, k->residual ? t.residual.values : NULL, t.gamma.values,
                        t.beta.values, running_mean, running_var, mean, invstd, y);
    double largest = 1;
    for (int64_t i = 0; i < own; i++) {
        largest = fmax(largest, invstd[i]);
    }
    run_train(be, k, &t);
    tensor_expect(y_of(k, &t), y, 1e-6 * largest, text);
    if (has_mask(k)) {
        expect_mask_of(&k->s, t.mask, y_of(k, &t), text);
    }
    tensor_expect(&t.mean, mean, 1e-7, text);
    tensor_expect(&t.invstd, invstd, 2e-6 * largest, text);
    tensor_expect(&t.running_mean, running_mean, 2e-7, text);
    tensor_expect(&t.running_var, running_var, 3e-7, text);
    free(y);
    free(mean);
    free(invstd);
    free(running_mean);
    free(running_var);
    tensors_free(&t);
}

static void check_eval(Backend *be, const Case *k, const char *text)
{
    Tensors t = tensors_make(be, k);
    Tensor variance = tensor_random(be, k->s.C, 11);
    float *positive = mem_alloc((size_t)k->s.C * sizeof(float));
    for (int c = 0; c < k->s.C; c++) {
        positive[c] = (float)(variance.values[c] * variance.values[c] + 0.1);
    }
    tensor_free(&variance);
    variance = tensor_of(be, k->s.C, positive);
    free(positive);
    double *y = doubles(count_of(&k->s));
    ref_batchnorm_eval(&k->s, t.x.values, k->residual ? t.residual.values : NULL, t.gamma.values,
                       t.beta.values, t.running_mean.values, variance.values, y);
    op_batchnorm_eval(be, &k->s, t.x.device, k->residual ? t.residual.device : NULL, t.gamma.device,
                      t.beta.device, t.running_mean.device, variance.device, y_of(k, &t)->device);
    tensor_expect(y_of(k, &t), y, 2e-6, text);
    free(y);
    tensor_free(&variance);
    tensors_free(&t);
}

/* y in float32, as the forward pass computes it without residual. */
static void y_without_residual(const Case *k, const Tensors *t, const Tensor *mean,
                               const Tensor *invstd, double *y)
{
    for (int64_t i = 0; i < count_of(&k->s); i++) {
        int64_t c = i % k->s.C;
        int64_t own = i / (k->s.rows * k->s.C) * k->s.C + c;
        float scale = (float)t->gamma.values[c] * (float)invstd->values[own];
        float centred = (float)t->x.values[i] - (float)mean->values[own];
        float scaled = centred * scale;
        y[i] = scaled + (float)t->beta.values[c];
    }
}

/* What the backward pass reads of the forward one: random numbers serve as well. With a residual y
 * is random numbers, too, of which the mask alone tells. */
static void check_bprop(Backend *be, const Case *k, const char *text)
{
    Tensors t = tensors_make(be, k);
    int64_t own = (int64_t)k->s.groups * k->s.C;
    Tensor random = tensor_random(be, count_of(&k->s), 12);
    Tensor mean = tensor_random(be, own, 13);
    Tensor invstd = tensor_random(be, own, 14);
    double *y = copy_of(random.values, random.count);
    uint8_t *bytes = mem_alloc((size_t)mask_bytes(&k->s));
    ref_batchnorm_mask(&k->s, y, bytes);
    uint8_t *mask = mask_make(be, &k->s, bytes);
    if (!k->residual) {
        y_without_residual(k, &t, &mean, &invstd, y);
    }
    double *dx = doubles(count_of(&k->s));
    double *dresidual = doubles(count_of(&k->s));
    double *dgamma = doubles(k->s.C);
    double *dbeta = doubles(k->s.C);
    ref_batchnorm_bprop(&k->s, t.x.values, y, t.dy.values, k->dy_add ? t.dy_add.values : NULL,
                        t.gamma.values, mean.values, invstd.values, dx, dresidual, dgamma, dbeta);
    for (int c = 0; c < k->s.C; c++) {
        dgamma[c] += k->accumulate ? t.dgamma.values[c] : 0;
        dbeta[c] += k->accumulate ? t.dbeta.values[c] : 0;
    }
    run_bprop(be, k, &t, mask, &mean, &invstd);
    double tolerance = 4 * tensor_tolerance(k->s.groups * k->s.rows);
    tensor_expect(dx_of(k, &t), dx, 2e-6, text);
    if (k->residual) {
        tensor_expect(dresidual_of(k, &t), dresidual, 2e-7, text);
    }
    tensor_expect(&t.dgamma, dgamma, tolerance, text);
    tensor_expect(&t.dbeta, dbeta, tolerance, text);
    free(dx);
    free(dresidual);
    free(dgamma);
    free(dbeta);
    free(y);
    free(bytes);
    device_free(be, mask);
    tensor_free(&random);
    tensor_free(&mean);
    tensor_free(&invstd);
    tensors_free(&t);
}

static void check_case(Backend *be, const Case *k)
{
    char text[160];
    describe(text, k);
    check_train(be, k, text);
    check_eval(be, k, text);
    check_bprop(be, k, text);
}

static void test_random_cases(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Rng rng = rng_at(2, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < 60; i++) {
        Case k = {.s = {.groups = 1 + (int)rng_below(&rng, 4),
                        .rows = 2 + rng_below(&rng, i % 4 == 0 ? 300 : 12),
                        .C = 1 + (int)rng_below(&rng, 70),
                        .eps = 1e-5F,
                        .momentum = 0.1F,
                        .relu = rng_below(&rng, 2)},
                  .residual = rng_below(&rng, 2),
                  .dy_add = rng_below(&rng, 2),
                  .accumulate = rng_below(&rng, 2)};
        k.y = k.residual ? rng_below(&rng, 3) : rng_below(&rng, 2);
        k.dx = k.dy_add ? rng_below(&rng, 3) : rng_below(&rng, 2);
        check_case(be, &k);
    }
    device_close(be);
}

/* Several chunks a group, the last one short; few rows of many channels; 51 classes. */
static void test_sizes_of_the_networks(void **state)
{
    (void)state;
    static const BatchNormShape shapes[] = {
        {2, 3000, 64, 1e-5F, 0.1F, true}, {2, 4, 1000, 1e-5F, 0.1F, true},
        {4, 2, 51, 1e-5F, 0.1F, false},   {1, 98, 512, 1e-5F, 0.1F, true},
        {3, 9, 2048, 1e-5F, 0.1F, true},
    };
    Backend *be = tensors_open_backend();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        Case k = {.s = shapes[i], .residual = true, .dy_add = i % 2};
        check_case(be, &k);
    }
    device_close(be);
}

static void expect_same(const Tensors *a, const Tensors *b)
{
    tensor_expect_same_bits(&a->y, &b->y, "y");
    tensor_expect_same_bits(&a->mean, &b->mean, "mean");
    tensor_expect_same_bits(&a->invstd, &b->invstd, "invstd");
    tensor_expect_same_bits(&a->running_mean, &b->running_mean, "running mean");
    tensor_expect_same_bits(&a->running_var, &b->running_var, "running variance");
    tensor_expect_same_bits(&a->dx, &b->dx, "dx");
    tensor_expect_same_bits(&a->dgamma, &b->dgamma, "dgamma");
    tensor_expect_same_bits(&a->dbeta, &b->dbeta, "dbeta");
}

static void test_threads_do_not_change_bits(void **state)
{
    (void)state;
    static const int threads[THREAD_COUNTS] = {1, 2, 3};
    Case k = {.s = {2, 5000, 64, 1e-5F, 0.1F, true}};
    Backend *be[THREAD_COUNTS];
    Tensors t[THREAD_COUNTS];
    for (int i = 0; i < THREAD_COUNTS; i++) {
        be[i] = open_threads(threads[i]);
        t[i] = tensors_make(be[i], &k);
        run_train(be[i], &k, &t[i]);
        run_bprop(be[i], &k, &t[i], t[i].mask, &t[i].mean, &t[i].invstd);
    }
    for (int i = 0; i < THREAD_COUNTS; i++) {
        expect_same(&t[0], &t[i]);
    }
    for (int i = 0; i < THREAD_COUNTS; i++) {
        tensors_free(&t[i]);
        device_close(be[i]);
    }
}

/* The mean is a thousand standard deviations; in channel 1 the first rows are far from all others.
 */
static void test_large_mean(void **state)
{
    (void)state;
    enum { ROWS = 20000, C = 3 };
    BatchNormShape s = {1, ROWS, C, 1e-5F, 0.1F, false};
    Backend *be = tensors_open_backend();
    Tensor noise = tensor_random(be, (int64_t)ROWS * C, 20);
    float *values = mem_alloc((size_t)ROWS * C * sizeof(float));
    for (int64_t i = 0; i < (int64_t)ROWS * C; i++) {
        bool first = i % C == 1 && i / C < 4;
        values[i] = (float)((first ? 0 : 1000) + noise.values[i]);
    }
    Tensor x = tensor_of(be, (int64_t)ROWS * C, values);
    Case k = {.s = s};
    Tensors t = tensors_make(be, &k);
    double mean[C];
    double invstd[C];
    double running_mean[C] = {0};
    double running_var[C] = {0};
    double *y = doubles((int64_t)ROWS * C);
    ref_batchnorm_train(&s, x.values, NULL, t.gamma.values, t.beta.values, running_mean,
                        running_var, mean, invstd, y);
    op_batchnorm_train(be, &s, x.device, NULL, t.gamma.device, t.beta.device, t.running_mean.device,
                       t.running_var.device, t.mean.device, t.invstd.device, t.y.device, NULL);
    tensor_expect(&t.mean, mean, 3.1e-5, "mean near 1000: half an ulp");
    tensor_expect(&t.invstd, invstd, 1e-6, "1/std");
    tensor_expect(&t.y, y, 1e-4, "y, as exact as a float mean allows");
    free(values);
    free(y);
    tensor_free(&noise);
    tensor_free(&x);
    tensors_free(&t);
    device_close(be);
}

/* A NaN must reach the loss, and its gradient is not lost either. */
static void check_nan(Backend *be, bool residual)
{
    Case k = {.s = {1, 4, 20, 1e-5F, 0.1F, true}, .residual = residual};
    Tensors t = tensors_make(be, &k);
    float found[80];
    device_copy_out(be, found, t.x.device, sizeof(found));
    found[23] = NAN;
    device_copy_in(be, t.x.device, found, sizeof(found));
    run_train(be, &k, &t);
    device_copy_out(be, found, t.y.device, sizeof(found));
    for (int i = 0; i < 80; i++) {
        assert_int_equal(isnan(found[i]) != 0, i % 20 == 3);
    }
    if (residual) {
        expect_mask_of(&k.s, t.mask, &t.y, "NaN");
    }
    tensors_free(&t);
}

static void test_nan_passes_the_relu(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    check_nan(be, false);
    check_nan(be, true);
    device_close(be);
}

/* ---- PyTorch --------------------------------------------------------------------------------- */

static const float *golden_of(Golden *golden, const char *name, const char *what, int64_t count)
{
    char key[64];
    snprintf(key, sizeof(key), "%s.%s", name, what);
    return golden_f32(golden, key, count);
}

static void check_golden(Backend *be, Golden *golden, const char *name, const BatchNormShape *s,
                         bool residual)
{
    int64_t n = count_of(s);
    Case k = {.s = *s, .residual = residual};
    Tensors t = tensors_make(be, &k);
    struct {
        Tensor *tensor;
        const char *name;
    } inputs[] = {{&t.x, "x"},
                  {&t.residual, "residual"},
                  {&t.gamma, "gamma"},
                  {&t.beta, "beta"},
                  {&t.dy, "dy"},
                  {&t.running_mean, "running_mean"},
                  {&t.running_var, "running_var"}};
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        int64_t count = inputs[i].tensor->count;
        const float *values = golden_of(golden, name, inputs[i].name, count);
        tensor_free(inputs[i].tensor);
        *inputs[i].tensor = tensor_of(be, count, values);
    }
    run_train(be, &k, &t);
    run_bprop(be, &k, &t, t.mask, &t.mean, &t.invstd);
    tensor_expect_f32(&t.y, golden_of(golden, name, "y", n), 3e-6, name);
    tensor_expect_f32(&t.mean, golden_of(golden, name, "mean", t.mean.count), 1e-6, name);
    const float *var = golden_of(golden, name, "var", t.invstd.count);
    double *invstd = doubles(t.invstd.count);
    for (int64_t i = 0; i < t.invstd.count; i++) {
        invstd[i] = 1 / sqrt(var[i] + 1e-5);
    }
    tensor_expect(&t.invstd, invstd, 1e-6, name);
    tensor_expect_f32(&t.running_mean, golden_of(golden, name, "running_mean_after", s->C), 1e-6,
                      name);
    tensor_expect_f32(&t.running_var, golden_of(golden, name, "running_var_after", s->C), 1e-6,
                      name);
    tensor_expect_f32(&t.dx, golden_of(golden, name, "dx", n), 5e-6, name);
    if (residual) {
        tensor_expect_f32(&t.dresidual, golden_of(golden, name, "dresidual", n), 1e-6, name);
    }
    tensor_expect_f32(&t.dgamma, golden_of(golden, name, "dgamma", s->C), 2e-5, name);
    tensor_expect_f32(&t.dbeta, golden_of(golden, name, "dbeta", s->C), 2e-5, name);
    op_batchnorm_eval(be, s, t.x.device, residual ? t.residual.device : NULL, t.gamma.device,
                      t.beta.device, t.running_mean.device, t.running_var.device, t.y.device);
    tensor_expect_f32(&t.y, golden_of(golden, name, "y_eval", n), 5e-6, name);
    free(invstd);
    tensors_free(&t);
}

static void test_golden(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_norm.safetensors");
    check_golden(be, golden, "plain", &(BatchNormShape){2, 60, 7, 1e-5F, 0.1F, false}, false);
    check_golden(be, golden, "relu", &(BatchNormShape){4, 30, 17, 1e-5F, 0.1F, true}, false);
    check_golden(be, golden, "residual", &(BatchNormShape){4, 36, 16, 1e-5F, 0.1F, true}, true);
    check_golden(be, golden, "vector", &(BatchNormShape){2, 8, 100, 1e-5F, 0.1F, true}, false);
    golden_close(golden);
    device_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_cases),
        cmocka_unit_test(test_sizes_of_the_networks),
        cmocka_unit_test(test_threads_do_not_change_bits),
        cmocka_unit_test(test_large_mean),
        cmocka_unit_test(test_nan_passes_the_relu),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
