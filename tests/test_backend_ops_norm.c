/* Batch norm on a backend against the reference. */
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

/* Bounds of what is normalised below: |xhat| is at most some 3 and 1/std at most 2, because inputs
 * keep away from 0 and change sign; gamma, beta and the residual are below 1.5. */
static const double largest = 8;

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

static double *copy_of(const DeviceTensor *t)
{
    double *values = doubles(t->count);
    memcpy(values, t->values, (size_t)t->count * sizeof(double));
    return values;
}

/* Which of the tensors lies one element behind an aligned address. */
typedef enum {
    X_SHIFTED,
    RESIDUAL_SHIFTED,
    GAMMA_SHIFTED,
    BETA_SHIFTED,
    RUNNING_MEAN_SHIFTED,
    RUNNING_VAR_SHIFTED,
    BATCH_MEAN_SHIFTED,
    BATCH_INVSTD_SHIFTED,
    Y_SHIFTED,
    MASK_SHIFTED,
    DY_SHIFTED,
    DY_ADD_SHIFTED,
    DX_SHIFTED,
    DRESIDUAL_SHIFTED,
    NONE_SHIFTED,
} Shifted;

typedef struct {
    Backend *be;
    BatchNormShape s;
    Shifted shifted;
    DeviceTensor x, residual, gamma, beta, running_mean, running_var;
    DeviceTensor batch_mean, batch_invstd, y;
    DeviceTensor mask;     /* of y, where there are both a residual and a ReLU */
    DeviceTensor in_place; /* a copy of x, or of the residual */
    bool in_residual;
    char text[128];
} Norm;

/* ±(0.5 to 1.5), signs alternating down the rows, so that no channel has a small variance. */
static DeviceTensor norm_input(Backend *be, const BatchNormShape *s, int shift, Rng *rng)
{
    int64_t count = s->groups * s->rows * s->C;
    double *values = doubles(count);
    for (int64_t i = 0; i < count; i++) {
        double value = 0.5 + rng_uniform(rng);
        values[i] = device_rounded(be, i / s->C % 2 ? -value : value);
    }
    DeviceTensor x = device_tensor_of(be, ELEMENT_ACT, count, values, shift);
    free(values);
    return x;
}

/* Variances are not below 0.25. */
static DeviceTensor variances(Backend *be, int64_t count, int shift, Rng *rng)
{
    double *values = doubles(count);
    for (int64_t i = 0; i < count; i++) {
        values[i] = 0.25 + 2 * rng_uniform(rng);
    }
    DeviceTensor t = device_tensor_of(be, ELEMENT_F32, count, values, shift);
    free(values);
    return t;
}

static int64_t mask_bytes(const BatchNormShape *s)
{
    return batchnorm_mask_bytes(s->groups * s->rows, s->C);
}

/* Of the residual, or where there is none of x. */
static DeviceTensor copy_to_overwrite(const Norm *n)
{
    return device_tensor_of(n->be, ELEMENT_ACT, n->x.count,
                            n->in_residual ? n->residual.values : n->x.values, 0);
}

static Norm norm_make(Backend *be, const BatchNormShape *s, bool residual, Shifted shifted,
                      Rng *rng)
{
    Norm n = {.be = be, .s = *s, .shifted = shifted};
    int64_t stats = (int64_t)s->groups * s->C;
    snprintf(n.text, sizeof(n.text), "batch norm: groups %d, rows %lld, C %d%s%s, shifted %d",
             s->groups, (long long)s->rows, s->C, s->relu ? ", ReLU" : "",
             residual ? ", residual" : "", (int)shifted);
    n.x = norm_input(be, s, shifted == X_SHIFTED, rng);
    if (residual) {
        n.residual =
            device_tensor_random(be, ELEMENT_ACT, n.x.count, rng, 1, shifted == RESIDUAL_SHIFTED);
    }
    n.gamma = device_tensor_random(be, ELEMENT_F32, s->C, rng, 1.5, shifted == GAMMA_SHIFTED);
    n.beta = device_tensor_random(be, ELEMENT_F32, s->C, rng, 1.5, shifted == BETA_SHIFTED);
    n.running_mean =
        device_tensor_random(be, ELEMENT_F32, s->C, rng, 1, shifted == RUNNING_MEAN_SHIFTED);
    n.running_var = variances(be, s->C, shifted == RUNNING_VAR_SHIFTED, rng);
    n.batch_mean = device_tensor_poison(be, ELEMENT_F32, stats, shifted == BATCH_MEAN_SHIFTED);
    n.batch_invstd = device_tensor_poison(be, ELEMENT_F32, stats, shifted == BATCH_INVSTD_SHIFTED);
    n.y = device_tensor_poison(be, ELEMENT_ACT, n.x.count, shifted == Y_SHIFTED);
    if (residual && s->relu) {
        n.mask = device_tensor_poison(be, ELEMENT_U8, mask_bytes(s), shifted == MASK_SHIFTED);
    }
    n.in_residual = residual;
    n.in_place = copy_to_overwrite(&n);
    return n;
}

static void norm_free(Norm *n)
{
    DeviceTensor *const all[] = {
        &n->x,          &n->residual,     &n->gamma, &n->beta, &n->running_mean, &n->running_var,
        &n->batch_mean, &n->batch_invstd, &n->y,     &n->mask, &n->in_place};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

static void call_eval(const void *context)
{
    const Norm *n = context;
    op_batchnorm_eval(n->be, &n->s, n->x.device, n->residual.device, n->gamma.device,
                      n->beta.device, n->running_mean.device, n->running_var.device, n->y.device);
}

static void call_train(const void *context)
{
    const Norm *n = context;
    op_batchnorm_train(n->be, &n->s, n->x.device, n->residual.device, n->gamma.device,
                       n->beta.device, n->running_mean.device, n->running_var.device,
                       n->batch_mean.device, n->batch_invstd.device, n->y.device, n->mask.device);
}

/* y lies on x, or on the residual. */
static void call_train_in_place(const void *context)
{
    const Norm *n = context;
    const void *x = n->in_residual ? n->x.device : n->in_place.device;
    const void *residual = n->in_residual ? n->in_place.device : NULL;
    op_batchnorm_train(n->be, &n->s, x, residual, n->gamma.device, n->beta.device,
                       n->running_mean.device, n->running_var.device, n->batch_mean.device,
                       n->batch_invstd.device, n->in_place.device, n->mask.device);
}

static void call_eval_in_place(const void *context)
{
    const Norm *n = context;
    const void *x = n->in_residual ? n->x.device : n->in_place.device;
    const void *residual = n->in_residual ? n->in_place.device : NULL;
    op_batchnorm_eval(n->be, &n->s, x, residual, n->gamma.device, n->beta.device,
                      n->running_mean.device, n->running_var.device, n->in_place.device);
}

/* The bytes of the mask of y, as numbers. */
static double *expected_mask(const BatchNormShape *s, const double *y)
{
    uint8_t *mask = mem_alloc((size_t)mask_bytes(s));
    double *values = doubles(mask_bytes(s));
    ref_batchnorm_mask(s, y, mask);
    for (int64_t i = 0; i < mask_bytes(s); i++) {
        values[i] = mask[i];
    }
    free(mask);
    return values;
}

/* The mask must be, to the bit, that of y as it was stored. */
static void expect_mask_of(const Norm *n, const DeviceTensor *y)
{
    if (n->mask.device != NULL) {
        double *values = device_tensor_read(y, n->text);
        double *mask = expected_mask(&n->s, values);
        device_tensor_expect(&n->mask, mask, (Tolerance){0, 0}, n->text);
        free(values);
        free(mask);
    }
}

static void check_eval(Norm *n)
{
    double *y = doubles(n->y.count);
    ref_batchnorm_eval(&n->s, n->x.values, n->residual.values, n->gamma.values, n->beta.values,
                       n->running_mean.values, n->running_var.values, y);
    device_call_twice(call_eval, n, (const DeviceTensor *const[]){&n->y}, 1, n->text);
    Tolerance tolerance = device_tolerance(n->be, ELEMENT_ACT, 1, largest, 0);
    device_tensor_expect(&n->y, y, tolerance, n->text);
    Norm own = *n;
    own.in_place = copy_to_overwrite(n);
    device_call_twice(call_eval_in_place, &own, (const DeviceTensor *const[]){&own.in_place}, 1,
                      n->text);
    device_tensor_expect(&own.in_place, y, tolerance, n->text);
    device_tensor_free(&own.in_place);
    free(y);
}

static void check_train(Norm *n)
{
    double *y = doubles(n->y.count);
    double *running_mean = copy_of(&n->running_mean);
    double *running_var = copy_of(&n->running_var);
    double *mean = doubles(n->batch_mean.count);
    double *invstd = doubles(n->batch_mean.count);
    ref_batchnorm_train(&n->s, n->x.values, n->residual.values, n->gamma.values, n->beta.values,
                        running_mean, running_var, mean, invstd, y);
    Tolerance tolerance = device_tolerance(n->be, ELEMENT_F32, n->s.rows, largest, 0);
    device_call_twice(call_train_in_place, n,
                      (const DeviceTensor *const[]){&n->in_place, &n->batch_mean, &n->batch_invstd,
                                                    &n->running_mean, &n->running_var, &n->mask},
                      n->mask.device != NULL ? 6 : 5, n->text);
    expect_mask_of(n, &n->in_place);
    device_tensor_expect(&n->running_mean, running_mean, tolerance, n->text);
    device_tensor_expect(&n->running_var, running_var, tolerance, n->text);
    device_call_twice(
        call_train, n,
        (const DeviceTensor *const[]){&n->y, &n->batch_mean, &n->batch_invstd, &n->mask},
        n->mask.device != NULL ? 4 : 3, "with running statistics that move on");
    expect_mask_of(n, &n->y);
    device_tensor_expect(&n->batch_mean, mean, tolerance, n->text);
    device_tensor_expect(&n->batch_invstd, invstd, tolerance, n->text);
    tolerance = device_tolerance(n->be, ELEMENT_ACT, n->s.rows, largest, 0);
    device_tensor_expect(&n->y, y, tolerance, n->text);
    device_tensor_expect(&n->in_place, y, tolerance, n->text);
    free(y);
    free(running_mean);
    free(running_var);
    free(mean);
    free(invstd);
}

/* ---- backward -------------------------------------------------------------------------------- */

typedef struct {
    const Norm *n;
    bool accumulate;
    DeviceTensor mask; /* where there are both a residual and a ReLU */
    DeviceTensor dy, dy_add, dx, dresidual, dgamma, dbeta;
    DeviceTensor *to_x, *to_residual; /* dx and dresidual, or what they lie on */
} NormGradient;

static void call_bprop(const void *context)
{
    const NormGradient *g = context;
    const Norm *n = g->n;
    op_batchnorm_bprop(n->be, &n->s, n->x.device, g->mask.device, g->dy.device, g->dy_add.device,
                       n->gamma.device, n->beta.device, n->batch_mean.device,
                       n->batch_invstd.device, g->accumulate, g->to_x->device,
                       g->to_residual != NULL ? g->to_residual->device : NULL, g->dgamma.device,
                       g->dbeta.device);
}

static DeviceTensor gradient_output(Backend *be, int64_t count, bool accumulate, Rng *rng)
{
    return accumulate ? device_tensor_random(be, ELEMENT_F32, count, rng, 1, 0)
                      : device_tensor_poison(be, ELEMENT_F32, count, 0);
}

/* A y that x does not tell: its sign is drawn. */
static double *drawn_signs(int64_t count, Rng *rng)
{
    double *y = doubles(count);
    for (int64_t i = 0; i < count; i++) {
        y[i] = rng_below(rng, 2) ? 1 : -1;
    }
    return y;
}

/* y: what decides where the ReLU passed. */
static void compare_gradients(NormGradient *g, const double *y)
{
    const Norm *n = g->n;
    double *mean = device_tensor_read(&n->batch_mean, n->text);
    double *invstd = device_tensor_read(&n->batch_invstd, n->text);
    double *dx = doubles(n->x.count);
    double *dresidual = doubles(n->x.count);
    double *dgamma = doubles(n->s.C);
    double *dbeta = doubles(n->s.C);
    ref_batchnorm_bprop(&n->s, n->x.values, y, g->dy.values, g->dy_add.values, n->gamma.values,
                        mean, invstd, dx, dresidual, dgamma, dbeta);
    for (int c = 0; g->accumulate && c < n->s.C; c++) {
        dgamma[c] += g->dgamma.values[c];
        dbeta[c] += g->dbeta.values[c];
    }
    const DeviceTensor *outputs[4] = {&g->dgamma, &g->dbeta, g->to_x, g->to_residual};
    device_call_twice(call_bprop, g, outputs, g->to_residual != NULL ? 4 : 3, n->text);
    int64_t rows = n->s.groups * n->s.rows;
    /* The masked gradient may have been stored before it is used on. */
    device_tensor_expect(g->to_x, dx, device_tolerance(n->be, ELEMENT_ACT, rows, largest, 1),
                         n->text);
    if (g->to_residual != NULL) {
        device_tensor_expect(g->to_residual, dresidual,
                             device_tolerance(n->be, ELEMENT_ACT, 1, 2, 0), n->text);
    }
    double sums = 2 + 4 * sqrt((double)rows); /* of gradients of either sign, times xhat */
    /* Where the masked gradient is stored for the residual, the sums are over what was stored; each
     * term's rounding has its own sign. */
    int roundings = g->to_residual != NULL ? 1 : 0;
    Tolerance tolerance = device_tolerance(n->be, ELEMENT_F32, rows, sums, roundings);
    device_tensor_expect(&g->dgamma, dgamma, tolerance, n->text);
    device_tensor_expect(&g->dbeta, dbeta, tolerance, n->text);
    double *const all[] = {mean, invstd, dx, dresidual, dgamma, dbeta};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        free(all[i]);
    }
}

/* variant: which of the pointers that may be NULL is there, and what lies on what. */
static void check_bprop(const Norm *n, unsigned variant, Rng *rng)
{
    NormGradient g = {.n = n, .accumulate = variant & 1};
    g.dy = device_tensor_random(n->be, ELEMENT_ACT, n->x.count, rng, 1, n->shifted == DY_SHIFTED);
    if (variant & 2) {
        g.dy_add = device_tensor_random(n->be, ELEMENT_ACT, n->x.count, rng, 1,
                                        n->shifted == DY_ADD_SHIFTED);
    }
    g.dx = device_tensor_poison(n->be, ELEMENT_ACT, n->x.count, n->shifted == DX_SHIFTED);
    g.dresidual =
        device_tensor_poison(n->be, ELEMENT_ACT, n->x.count, n->shifted == DRESIDUAL_SHIFTED);
    g.dgamma = gradient_output(n->be, n->s.C, g.accumulate, rng);
    g.dbeta = gradient_output(n->be, n->s.C, g.accumulate, rng);
    g.to_x = &g.dx;
    if (n->residual.device != NULL) {
        g.to_residual = variant & 4 ? &g.dy : &g.dresidual;
    } else if (variant & 4) {
        g.to_x = &g.dy;
    }
    if (g.to_residual != NULL && variant & 8) {
        g.to_x = variant & 2 ? &g.dy_add : &g.dx;
    }
    double *y = device_tensor_read(&n->y, n->text);
    if (n->mask.device != NULL) {
        free(y);
        y = drawn_signs(n->x.count, rng);
        double *mask = expected_mask(&n->s, y);
        g.mask = device_tensor_of(n->be, ELEMENT_U8, n->mask.count, mask, n->mask.shift);
        free(mask);
    }
    compare_gradients(&g, y);
    free(y);
    DeviceTensor *const all[] = {&g.mask,      &g.dy,     &g.dy_add, &g.dx,
                                 &g.dresidual, &g.dgamma, &g.dbeta};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

static void check_norm(Backend *be, const BatchNormShape *s, bool residual, Shifted shifted,
                       unsigned variant, Rng *rng)
{
    Norm n = norm_make(be, s, residual, shifted, rng);
    check_eval(&n);
    check_train(&n);
    check_bprop(&n, variant, rng);
    norm_free(&n);
}

/* gamma is 0, so that y = beta + residual, which is not a number, either zero, infinite, or so
 * small that half precision rounds it to 0. */
static void check_mask_of_edges(Backend *be, int C, Rng *rng)
{
    static const double residuals[] = {(double)NAN,      0, -0.0, 1, -1, (double)INFINITY,
                                       -(double)INFINITY};
    static const double betas[] = {0, 1e-9, -1e-9, 0.5};
    BatchNormShape s = {1, 9, C, 1e-5F, 0.1F, true};
    Norm n = norm_make(be, &s, true, NONE_SHIFTED, rng);
    double *values = doubles(n.x.count);
    for (int64_t i = 0; i < n.x.count; i++) {
        values[i] = residuals[rng_below(rng, sizeof(residuals) / sizeof(residuals[0]))];
    }
    device_tensor_free(&n.residual);
    n.residual = device_tensor_of(be, ELEMENT_ACT, n.x.count, values, 0);
    for (int c = 0; c < C; c++) {
        values[c] = betas[rng_below(rng, sizeof(betas) / sizeof(betas[0]))];
    }
    device_tensor_free(&n.beta);
    n.beta = device_tensor_of(be, ELEMENT_F32, C, values, 0);
    device_tensor_free(&n.gamma);
    memset(values, 0, (size_t)C * sizeof(double));
    n.gamma = device_tensor_of(be, ELEMENT_F32, C, values, 0);
    call_train(&n);
    double *y = device_tensor_read(&n.y, n.text);
    for (int64_t i = 0; i < n.x.count; i++) {
        assert_int_equal(isnan(y[i]) != 0, isnan(n.residual.values[i]) != 0);
    }
    expect_mask_of(&n, &n.y);
    free(y);
    free(values);
    norm_free(&n);
}

/* Without residual the backward pass finds out from x where the ReLU passed. beta takes the first
 * row of a group to where the last bit decides it. */
static void check_kink(Backend *be, Rng *rng)
{
    BatchNormShape s = {2, 33, 24, 1e-5F, 0.1F, true};
    Rng again = *rng;
    Norm n = norm_make(be, &s, false, NONE_SHIFTED, rng);
    call_train(&n);
    double *mean = device_tensor_read(&n.batch_mean, n.text);
    double *invstd = device_tensor_read(&n.batch_invstd, n.text);
    double *beta = doubles(s.C);
    for (int c = 0; c < s.C; c++) {
        float scale = (float)n.gamma.values[c] * (float)invstd[c];
        beta[c] = -(((float)n.x.values[c] - (float)mean[c]) * scale);
    }
    norm_free(&n);
    n = norm_make(be, &s, false, NONE_SHIFTED, &again); /* with the running statistics of before */
    device_tensor_free(&n.beta);
    n.beta = device_tensor_of(be, ELEMENT_F32, s.C, beta, 0);
    free(mean);
    free(invstd);
    free(beta);
    check_train(&n);
    check_bprop(&n, 0, rng);
    norm_free(&n);
}

void test_backend_batchnorm(void **state)
{
    static const BatchNormShape shapes[] = {
        {1, 2, 1, 1e-5F, 0.1F, true},
        {4, 3, 7, 1e-5F, 0.1F, false},
        {4, 50, 64, 1e-5F, 0.1F, true},
        {2, 33, 24, 1e-3F, 0.3F, true},
        {1, 700, 8, 1e-5F, 1, true},
        {3, 5, 136, 1e-5F, 0, false},
        {2, 17, 33, 1e-5F, 0.1F, true},
        {1, 200, 3, 1e-5F, 0.1F, true},
        {9, 2, 5, 1e-5F, 0.1F, true},
        {1, 8300, 31, 1e-5F, 0.1F, true},
        /* groups in several chunks on a large GPU, the last one shorter */
        {4, 1100, 64, 1e-5F, 0.1F, true},
        {2, 1500, 33, 1e-5F, 0.1F, false},
        {3, 700, 136, 1e-5F, 0.1F, true},
    };
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 7);
    int fixed = sizeof(shapes) / sizeof(shapes[0]);
    for (int i = 0; i < 2 * (fixed + t->rounds); i++) {
        BatchNormShape s = {draw(&rng, 1, 6), draw(&rng, 2, 120), draw(&rng, 1, 72), 1e-5F, 0.1F,
                            draw(&rng, 0, 1)};
        s = i / 2 < fixed ? shapes[i / 2] : s;
        check_norm(t->be, &s, i % 2, NONE_SHIFTED, rng_below(&rng, 16), &rng);
    }
    for (int shifted = 0; shifted < NONE_SHIFTED; shifted++) {
        check_norm(t->be, &shapes[2], true, (Shifted)shifted, 2, &rng);
    }
    for (int C = 1; C <= 40; C++) {
        check_mask_of_edges(t->be, C, &rng);
    }
    for (int i = 0; i < 4; i++) {
        check_kink(t->be, &rng);
    }
}
