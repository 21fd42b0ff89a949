/* The stem's batch norm, ReLU and max pooling in one, on a backend against the reference. */
#include "base/mem.h"
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

static const double largest = 8; /* of normalised values and gradients, see stem_make */

/* Which of the tensors lies one element behind an aligned address. */
typedef enum {
    X_SHIFTED,
    GAMMA_SHIFTED,
    BETA_SHIFTED,
    RUNNING_MEAN_SHIFTED,
    RUNNING_VAR_SHIFTED,
    BATCH_MEAN_SHIFTED,
    BATCH_INVSTD_SHIFTED,
    Y_SHIFTED,
    ARGMAX_SHIFTED,
    DY_SHIFTED,
    DY_ADD_SHIFTED,
    DX_SHIFTED,
    NONE_SHIFTED,
} Shifted;

typedef struct {
    Backend *be;
    StemShape s;
    bool accumulate;
    DeviceTensor x, gamma, beta, running_mean, running_var, batch_mean, batch_invstd, y, argmax;
    DeviceTensor dy, dy_add, dx, dgamma, dbeta;
    char text[128];
} Stem;

static int64_t output_count(const StemShape *s)
{
    return (int64_t)s->groups * s->N * conv_out(s->H, 3, 2, 1) * conv_out(s->W, 3, 2, 1) * s->C;
}

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

/* Values from a few steps, so that windows have several equal maxima; signs alternate along the
 * positions, so that no channel has a small variance. */
static DeviceTensor stem_input(Backend *be, const StemShape *s, int shift, Rng *rng)
{
    int64_t count = (int64_t)s->groups * s->N * s->H * s->W * s->C;
    double *values = doubles(count);
    for (int64_t i = 0; i < count; i++) {
        double value = 0.5 + draw(rng, 0, 8) / 8.0;
        values[i] = i / s->C % 2 ? -value : value;
    }
    DeviceTensor x = device_tensor_of(be, ELEMENT_ACT, count, values, shift);
    free(values);
    return x;
}

static Stem stem_make(Backend *be, const StemShape *s, bool accumulate, bool add, Shifted shifted,
                      Rng *rng)
{
    Stem t = {.be = be, .s = *s, .accumulate = accumulate};
    snprintf(t.text, sizeof(t.text), "stem: groups %d, N %d, H %d, W %d, C %d%s%s, shifted %d",
             s->groups, s->N, s->H, s->W, s->C, accumulate ? ", adding" : "", add ? ", dy_add" : "",
             (int)shifted);
    int64_t stats = (int64_t)s->groups * s->C;
    int64_t outputs = output_count(s);
    double variance = 0.25 + rng_uniform(rng);
    double *var = doubles(s->C);
    double *invstd = doubles(stats);
    for (int c = 0; c < s->C; c++) {
        var[c] = variance + c % 3;
    }
    for (int64_t i = 0; i < stats; i++) {
        invstd[i] = 0.5 + 0.5 * rng_uniform(rng);
    }
    t.x = stem_input(be, s, shifted == X_SHIFTED, rng);
    t.gamma = device_tensor_random(be, ELEMENT_F32, s->C, rng, 1.5, shifted == GAMMA_SHIFTED);
    t.beta = device_tensor_random(be, ELEMENT_F32, s->C, rng, 1.5, shifted == BETA_SHIFTED);
    t.running_mean =
        device_tensor_random(be, ELEMENT_F32, s->C, rng, 1, shifted == RUNNING_MEAN_SHIFTED);
    t.running_var = device_tensor_of(be, ELEMENT_F32, s->C, var, shifted == RUNNING_VAR_SHIFTED);
    t.batch_mean =
        device_tensor_random(be, ELEMENT_F32, stats, rng, 0.5, shifted == BATCH_MEAN_SHIFTED);
    t.batch_invstd =
        device_tensor_of(be, ELEMENT_F32, stats, invstd, shifted == BATCH_INVSTD_SHIFTED);
    t.y = device_tensor_poison(be, ELEMENT_ACT, outputs, shifted == Y_SHIFTED);
    t.argmax = device_tensor_poison(be, ELEMENT_U8, outputs, shifted == ARGMAX_SHIFTED);
    t.dy = device_tensor_random(be, ELEMENT_ACT, outputs, rng, 0.5, shifted == DY_SHIFTED);
    if (add) {
        t.dy_add =
            device_tensor_random(be, ELEMENT_ACT, outputs, rng, 0.5, shifted == DY_ADD_SHIFTED);
    }
    t.dx = device_tensor_poison(be, ELEMENT_ACT, t.x.count, shifted == DX_SHIFTED);
    for (int i = 0; i < 2; i++) {
        *(i ? &t.dbeta : &t.dgamma) = accumulate
                                          ? device_tensor_random(be, ELEMENT_F32, s->C, rng, 1, 0)
                                          : device_tensor_poison(be, ELEMENT_F32, s->C, 0);
    }
    free(var);
    free(invstd);
    return t;
}

static void stem_free(Stem *t)
{
    DeviceTensor *const all[] = {&t->x,           &t->gamma,      &t->beta, &t->running_mean,
                                 &t->running_var, &t->batch_mean, &t->y,    &t->batch_invstd,
                                 &t->argmax,      &t->dy,         &t->dx,   &t->dy_add,
                                 &t->dgamma,      &t->dbeta};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

static void call_eval(const void *context)
{
    const Stem *t = context;
    op_stem_eval(t->be, &t->s, t->x.device, t->gamma.device, t->beta.device, t->running_mean.device,
                 t->running_var.device, t->y.device);
}

static void call_train(const void *context)
{
    const Stem *t = context;
    op_stem_train(t->be, &t->s, t->x.device, t->gamma.device, t->beta.device, t->batch_mean.device,
                  t->batch_invstd.device, t->y.device, t->argmax.device);
}

static void call_bprop(const void *context)
{
    const Stem *t = context;
    op_stem_bprop(t->be, &t->s, t->x.device, t->argmax.device, t->dy.device, t->dy_add.device,
                  t->gamma.device, t->batch_mean.device, t->batch_invstd.device, t->accumulate,
                  t->dx.device, t->dgamma.device, t->dbeta.device);
}

static void check_eval(Stem *t)
{
    double *y = doubles(t->y.count);
    ref_stem_eval(&t->s, t->x.values, t->gamma.values, t->beta.values, t->running_mean.values,
                  t->running_var.values, y);
    device_call_twice(call_eval, t, (const DeviceTensor *const[]){&t->y}, 1, t->text);
    device_tensor_expect(&t->y, y, device_tolerance(t->be, ELEMENT_ACT, 1, largest, 0), t->text);
    free(y);
}

/* Element of x that window position k of output i lies on; -1 in the padding. */
static int64_t element_of(const StemShape *s, int64_t i, int k)
{
    int P = conv_out(s->H, 3, 2, 1);
    int Q = conv_out(s->W, 3, 2, 1);
    int64_t c = i % s->C;
    int64_t w = 2 * (i / s->C % Q) - 1 + k % 3;
    int64_t h = 2 * (i / s->C / Q % P) - 1 + k / 3;
    int64_t picture = i / s->C / Q / P;
    bool inside = h >= 0 && h < s->H && w >= 0 && w < s->W;
    return inside ? ((picture * s->H + h) * s->W + w) * s->C + c : -1;
}

/* The place of each maximum must be the reference's, or one whose value is the same but for
 * rounding. Of equal inputs the first counts. */
static void compare_argmax(const Stem *t, const double *y, const uint8_t *expected)
{
    double *found = device_tensor_read(&t->argmax, t->text);
    for (int64_t i = 0; i < t->argmax.count; i++) {
        int at = (int)found[i];
        if (at == expected[i]) {
            continue;
        }
        bool in_window = at >= 0 && at < 9 && element_of(&t->s, i, at) >= 0;
        if (at == STEM_NO_GRADIENT || expected[i] == STEM_NO_GRADIENT) {
            assert_true(y[i] < 1e-5 && (in_window || at == STEM_NO_GRADIENT));
            continue;
        }
        if (!in_window) {
            fail_msg("%s: argmax %lld is %d, not a place in the window", t->text, (long long)i, at);
        }
        double a = t->x.values[element_of(&t->s, i, at)];
        double b = t->x.values[element_of(&t->s, i, expected[i])];
        fail_msg("%s: argmax %lld is %d (x %g), expected %d (x %g)", t->text, (long long)i, at, a,
                 expected[i], b);
    }
    free(found);
}

static void check_train(Stem *t)
{
    double *y = doubles(t->y.count);
    uint8_t *argmax = mem_alloc((size_t)t->y.count);
    ref_stem_train(&t->s, t->x.values, t->gamma.values, t->beta.values, t->batch_mean.values,
                   t->batch_invstd.values, y, argmax);
    device_call_twice(call_train, t, (const DeviceTensor *const[]){&t->y, &t->argmax}, 2, t->text);
    device_tensor_expect(&t->y, y, device_tolerance(t->be, ELEMENT_ACT, 1, largest, 0), t->text);
    compare_argmax(t, y, argmax);
    free(y);
    free(argmax);
}

static void check_bprop(Stem *t)
{
    double *places = device_tensor_read(&t->argmax, t->text);
    uint8_t *argmax = mem_alloc((size_t)t->argmax.count);
    for (int64_t i = 0; i < t->argmax.count; i++) {
        argmax[i] = (uint8_t)places[i];
    }
    double *dx = doubles(t->dx.count);
    double *dgamma = doubles(t->s.C);
    double *dbeta = doubles(t->s.C);
    ref_stem_bprop(&t->s, t->x.values, argmax, t->dy.values, t->dy_add.values, t->gamma.values,
                   t->batch_mean.values, t->batch_invstd.values, dx, dgamma, dbeta);
    for (int c = 0; t->accumulate && c < t->s.C; c++) {
        dgamma[c] += t->dgamma.values[c];
        dbeta[c] += t->dbeta.values[c];
    }
    device_call_twice(call_bprop, t, (const DeviceTensor *const[]){&t->dx, &t->dgamma, &t->dbeta},
                      3, t->text);
    int64_t outputs = t->y.count / t->s.C;
    device_tensor_expect(&t->dx, dx, device_tolerance(t->be, ELEMENT_ACT, outputs, largest, 0),
                         t->text);
    double sums = 2 + 4 * sqrt((double)outputs);
    Tolerance tolerance = device_tolerance(t->be, ELEMENT_F32, outputs, sums, 0);
    device_tensor_expect(&t->dgamma, dgamma, tolerance, t->text);
    device_tensor_expect(&t->dbeta, dbeta, tolerance, t->text);
    double *const all[] = {places, dx, dgamma, dbeta};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        free(all[i]);
    }
    free(argmax);
}

static void check_stem(Backend *be, const StemShape *s, bool accumulate, bool add, Shifted shifted,
                       Rng *rng)
{
    Stem stem = stem_make(be, s, accumulate, add, shifted, rng);
    check_eval(&stem);
    check_train(&stem);
    check_bprop(&stem);
    stem_free(&stem);
}

void test_backend_stem(void **state)
{
    static const StemShape shapes[] = {
        {1, 1, 1, 2, 1, 1e-5F},   {4, 2, 8, 8, 16, 1e-5F}, {2, 1, 7, 9, 8, 1e-5F},
        {1, 3, 5, 4, 17, 1e-3F},  {2, 2, 19, 3, 4, 1e-5F}, {1, 1, 40, 37, 8, 1e-5F},
        {3, 1, 2, 18, 72, 1e-5F},
    };
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 8);
    int fixed = sizeof(shapes) / sizeof(shapes[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        StemShape s = {draw(&rng, 1, 4),  draw(&rng, 1, 3),  draw(&rng, 2, 20),
                       draw(&rng, 1, 20), draw(&rng, 1, 40), 1e-5F};
        s = i < fixed ? shapes[i] : s;
        check_stem(t->be, &s, i % 2, i % 3 == 1, NONE_SHIFTED, &rng);
    }
    for (int shifted = 0; shifted < NONE_SHIFTED; shifted++) {
        check_stem(t->be, &shapes[1], false, true, (Shifted)shifted, &rng);
    }
}
