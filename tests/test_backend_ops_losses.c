/* Losses, predictions and the optimizer on a backend against the reference. */
#include "base/mem.h"
#include "kernels/ref/ref.h"
#include "kernels/ref/ref_norm.h"
#include "tests/backend_ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

static LossScale *scale_make(Backend *be, LossScale value)
{
    LossScale *scale = device_alloc(be, sizeof(*scale));
    device_copy_in(be, scale, &value, sizeof(value));
    device_synchronize(be);
    return scale;
}

/* ---- losses ---------------------------------------------------------------------------------- */

enum { TO_DLOGITS, TO_LOGITS, TO_NOTHING };

typedef struct {
    Backend *be;
    LossShape s;
    int to; /* where the gradient goes */
    float weight;
    LossScale *scale;
    DeviceTensor logits, labels, loss, correct, dlogits;
    char text[96];
} Loss;

/* What the gradient is written to, or NULL. */
static const DeviceTensor *gradient_of(const Loss *l)
{
    return l->to == TO_DLOGITS ? &l->dlogits : l->to == TO_LOGITS ? &l->logits : NULL;
}

static float *gradient_memory(const Loss *l)
{
    return l->to == TO_NOTHING ? NULL : gradient_of(l)->device;
}

/* p = 1e-6 is where the entropy jumps: what comes too near is moved below. */
static void avoid_the_jump(int C, double *row)
{
    double sum = 0;
    for (int c = 0; c < C; c++) {
        sum += exp(row[c]);
    }
    for (int c = 0; c < C; c++) {
        if (fabs(exp(row[c]) / sum / 1e-6 - 1) < 1e-3) {
            row[c] = (double)(float)(row[c] - 0.01);
        }
    }
}

/* Rows of several kinds: ordinary ones, ones whose maxima are equal, very sure and very wide ones.
 */
static DeviceTensor make_logits(Backend *be, const LossShape *s, Rng *rng)
{
    double *values = doubles((int64_t)s->N * s->C);
    for (int i = 0; i < s->N; i++) {
        double *row = values + (int64_t)i * s->C;
        for (int c = 0; c < s->C; c++) {
            row[c] = (double)(float)(4 * (2 * rng_uniform(rng) - 1));
            row[c] = i % 4 == 1 ? round(row[c]) : row[c];
            row[c] *= i % 8 == 6 ? 64 : 1;
        }
        row[draw(rng, 0, s->C - 1)] += i % 4 == 3 ? 30 : 0;
        avoid_the_jump(s->C, row);
    }
    DeviceTensor t = device_tensor_of(be, ELEMENT_F32, (int64_t)s->N * s->C, values, 0);
    free(values);
    return t;
}

static Loss loss_make(Backend *be, const LossShape *s, int to, Rng *rng)
{
    Loss l = {.be = be, .s = *s, .to = to, .weight = (float)(0.1 + rng_uniform(rng))};
    l.logits = make_logits(be, s, rng);
    double *labels = doubles(s->N);
    for (int i = 0; i < s->N; i++) {
        labels[i] = draw(rng, 0, s->C - 1);
    }
    l.labels = device_tensor_of(be, ELEMENT_I32, s->N, labels, 0);
    free(labels);
    l.loss = device_tensor_poison(be, ELEMENT_F32, 1, 0);
    l.correct = device_tensor_poison(be, ELEMENT_I32, 1, 0);
    l.dlogits = device_tensor_poison(be, ELEMENT_F32, l.logits.count, 0);
    if (draw(rng, 0, 1)) {
        l.scale = scale_make(be, (LossScale){.scale = 1024});
    }
    snprintf(l.text, sizeof(l.text), "N %d, C %d%s%s", s->N, s->C,
             to == TO_DLOGITS  ? ""
             : to == TO_LOGITS ? ", in place"
                               : ", no gradient",
             l.scale != NULL ? ", scaled" : "");
    return l;
}

static void loss_free(Loss *l)
{
    device_free(l->be, l->scale);
    DeviceTensor *const all[] = {&l->logits, &l->labels, &l->loss, &l->correct, &l->dlogits};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

static void call_cross_entropy(const void *context)
{
    const Loss *l = context;
    op_cross_entropy(l->be, &l->s, l->logits.device, l->labels.device, l->weight, l->scale,
                     l->loss.device, l->correct.device, gradient_memory(l));
}

static void call_entropy(const void *context)
{
    const Loss *l = context;
    op_entropy(l->be, &l->s, l->logits.device, l->weight, l->scale, l->loss.device,
               gradient_memory(l));
}

/* A row's sums run over C terms; logits reach 256, and their differences are rounded. */
static Tolerance loss_tolerance(const Loss *l, double size)
{
    return device_tolerance(l->be, ELEMENT_F32, l->s.C + 16, size, 0);
}

static void compare_gradient(const Loss *l, double *expected)
{
    double factor = l->scale != NULL ? 1024 : 1;
    for (int64_t i = 0; i < l->logits.count; i++) {
        expected[i] *= factor;
    }
    Tolerance tolerance = loss_tolerance(l, factor * l->weight / l->s.N * 8);
    tolerance.absolute += 1e-30;
    device_tensor_expect(gradient_of(l), expected, tolerance, l->text);
}

static void check_cross_entropy(Backend *be, const LossShape *s, int to, Rng *rng)
{
    Loss l = loss_make(be, s, to, rng);
    const DeviceTensor *output = gradient_of(&l);
    int32_t *labels = mem_alloc((size_t)s->N * sizeof(int32_t));
    for (int i = 0; i < s->N; i++) {
        labels[i] = (int32_t)l.labels.values[i];
    }
    double *gradient = doubles(l.logits.count);
    double loss;
    int32_t correct;
    ref_cross_entropy(s, l.logits.values, labels, l.weight, &loss, &correct, gradient);
    device_call_twice(call_cross_entropy, &l,
                      (const DeviceTensor *const[]){&l.loss, &l.correct, output},
                      output != NULL ? 3 : 2, l.text);
    device_tensor_expect(&l.loss, &loss, loss_tolerance(&l, 64), l.text);
    device_tensor_expect(&l.correct, &(double){correct}, (Tolerance){0, 0}, l.text);
    if (output != NULL) {
        compare_gradient(&l, gradient);
    }
    free(labels);
    free(gradient);
    loss_free(&l);
}

static void check_entropy(Backend *be, const LossShape *s, int to, Rng *rng)
{
    Loss l = loss_make(be, s, to, rng);
    double *gradient = doubles(l.logits.count);
    double loss;
    ref_entropy(s, l.logits.values, l.weight, &loss, gradient);
    device_call_twice(call_entropy, &l, (const DeviceTensor *const[]){&l.loss, gradient_of(&l)}, 2,
                      l.text);
    device_tensor_expect(&l.loss, &loss, loss_tolerance(&l, 8), l.text);
    compare_gradient(&l, gradient);
    free(gradient);
    loss_free(&l);
}

/* A logit that is not a number must be seen in the loss. */
static void check_nan(Backend *be, const LossShape *s, int at, Rng *rng)
{
    Loss l = loss_make(be, s, TO_DLOGITS, rng);
    double *values = doubles(l.logits.count);
    memcpy(values, l.logits.values, (size_t)l.logits.count * sizeof(double));
    values[at] = (double)NAN;
    device_tensor_free(&l.logits);
    l.logits = device_tensor_of(be, ELEMENT_F32, (int64_t)s->N * s->C, values, 0);
    call_cross_entropy(&l);
    double *cross = device_tensor_read(&l.loss, "NaN");
    call_entropy(&l);
    double *entropy = device_tensor_read(&l.loss, "NaN");
    if (!isnan(*cross) || !isnan(*entropy)) {
        fail_msg("NaN in logit %d of %s: losses are %g and %g", at, l.text, *cross, *entropy);
    }
    free(cross);
    free(entropy);
    free(values);
    loss_free(&l);
}

static const LossShape loss_shapes[] = {{1, 1},  {5, 4},   {33, 51}, {64, 47},
                                        {7, 32}, {100, 2}, {2, 33},  {3, 1000}};
enum { LOSS_SHAPES = sizeof(loss_shapes) / sizeof(loss_shapes[0]) };

static LossShape loss_shape(int i, Rng *rng)
{
    LossShape random = {draw(rng, 1, 80), draw(rng, 1, 80)};
    return i < LOSS_SHAPES ? loss_shapes[i] : random;
}

void test_backend_cross_entropy(void **state)
{
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 9);
    for (int i = 0; i < LOSS_SHAPES + t->rounds; i++) {
        LossShape s = loss_shape(i, &rng);
        check_cross_entropy(t->be, &s, i % 3, &rng);
        check_cross_entropy(t->be, &s, (i + 1) % 3, &rng);
        check_nan(t->be, &s, draw(&rng, 0, s.N * s.C - 1), &rng);
    }
}

void test_backend_entropy(void **state)
{
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 10);
    for (int i = 0; i < LOSS_SHAPES + t->rounds; i++) {
        LossShape s = loss_shape(i, &rng);
        check_entropy(t->be, &s, TO_DLOGITS, &rng);
        check_entropy(t->be, &s, TO_LOGITS, &rng);
    }
}

static void call_argmax(const void *context)
{
    const Loss *l = context;
    op_argmax(l->be, &l->s, l->logits.device, l->labels.device);
}

void test_backend_argmax(void **state)
{
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 11);
    for (int i = 0; i < LOSS_SHAPES + t->rounds; i++) {
        LossShape s = loss_shape(i, &rng);
        Loss l = {.be = t->be, .s = s};
        l.logits = make_logits(t->be, &s, &rng);
        l.labels = device_tensor_poison(t->be, ELEMENT_I32, s.N, 0);
        int32_t *prediction = mem_alloc((size_t)s.N * sizeof(int32_t));
        double *expected = doubles(s.N);
        ref_argmax(&s, l.logits.values, prediction);
        for (int n = 0; n < s.N; n++) {
            expected[n] = prediction[n];
        }
        device_call_twice(call_argmax, &l, (const DeviceTensor *const[]){&l.labels}, 1, "argmax");
        device_tensor_expect(&l.labels, expected, (Tolerance){0, 0}, "argmax");
        free(prediction);
        free(expected);
        device_tensor_free(&l.logits);
        device_tensor_free(&l.labels);
    }
}
