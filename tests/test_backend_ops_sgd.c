/* The optimizer and the dynamic loss scale on a backend against the reference. */
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

typedef struct {
    Backend *be;
    SgdShape s;
    LossScale *scale;
    LossScale scale_before;
    int64_t count; /* of the arena */
    DeviceTensor dw, v, w, w_act;
    char text[96];
} Sgd;

static double *copy_of(const DeviceTensor *t)
{
    double *values = mem_alloc((size_t)t->count * sizeof(double));
    memcpy(values, t->values, (size_t)t->count * sizeof(double));
    return values;
}

static void reset_scale(const Sgd *g)
{
    if (g->scale != NULL) {
        device_copy_in(g->be, g->scale, &g->scale_before, sizeof(LossScale));
        device_synchronize(g->be);
    }
}

static void call_sgd(const void *context)
{
    const Sgd *g = context;
    reset_scale(g);
    op_sgd(g->be, &g->s, g->scale, g->dw.device, g->v.device, g->w.device, g->w_act.device);
}

/* Gradients: not a number outside the ranges, where nobody may look; bad (unless it is finite) in
 * one place inside. */
static DeviceTensor make_gradients(const Sgd *g, double factor, double bad, int shift, Rng *rng)
{
    double *values = mem_alloc((size_t)g->count * sizeof(double));
    for (int64_t i = 0; i < g->count; i++) {
        values[i] = (double)NAN;
    }
    for (int r = 0; r < g->s.ranges; r++) {
        const SgdRange *range = &g->s.range[r];
        for (int64_t i = range->offset; i < range->offset + range->count; i++) {
            values[i] = (double)(float)(factor * (2 * rng_uniform(rng) - 1));
        }
    }
    if (!isfinite(bad)) {
        const SgdRange *range = &g->s.range[draw(rng, 0, g->s.ranges - 1)];
        values[range->offset + draw(rng, 0, (int)range->count - 1)] = bad;
    }
    DeviceTensor t = device_tensor_of(g->be, ELEMENT_F32, g->count, values, shift);
    free(values);
    return t;
}

static Sgd sgd_make(Backend *be, const LossScale *scale, double bad, bool copy, int shift, Rng *rng)
{
    Sgd g = {.be = be, .s = {.momentum = 0.9F, .weight_decay = 0.05F, .ranges = draw(rng, 1, 8)}};
    for (int r = 0; r < g.s.ranges; r++) {
        g.count += 16 * (int64_t)draw(rng, 0, 3);
        g.s.range[r] = (SgdRange){g.count, 16 * (int64_t)draw(rng, 1, r == 0 ? 300 : 9),
                                  0.1F * (float)(r + 1)};
        g.count += g.s.range[r].count;
    }
    g.count += 16;
    if (scale != NULL) {
        g.scale_before = *scale;
        g.scale = device_alloc(be, sizeof(LossScale));
        reset_scale(&g);
    }
    snprintf(g.text, sizeof(g.text), "SGD: %d ranges, %lld elements%s, scale %g, shift %d, bad %g",
             g.s.ranges, (long long)g.count, copy ? ", copy" : "",
             scale != NULL ? (double)scale->scale : 0, shift, bad);
    g.dw = make_gradients(&g, scale != NULL ? (double)scale->scale : 1, bad, shift, rng);
    g.v = device_tensor_random(be, ELEMENT_F32, g.count, rng, 1, shift);
    g.w = device_tensor_random(be, ELEMENT_F32, g.count, rng, 1, shift);
    if (copy) {
        g.w_act = device_tensor_poison(be, ELEMENT_ACT, g.count, shift);
    }
    return g;
}

static void sgd_free(Sgd *g)
{
    device_free(g->be, g->scale);
    DeviceTensor *const all[] = {&g->dw, &g->v, &g->w, &g->w_act};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

static bool is_inside(const SgdShape *s, int64_t i)
{
    for (int r = 0; r < s->ranges; r++) {
        if (i >= s->range[r].offset && i < s->range[r].offset + s->range[r].count) {
            return true;
        }
    }
    return false;
}

/* The copy is the nearest to the weight as it was stored; outside the ranges there is none. */
static void compare_copy(const Sgd *g)
{
    double *w = device_tensor_read(&g->w, g->text);
    double *copy = device_tensor_read(&g->w_act, g->text);
    bool half = device_activation_bytes(g->be) == 2;
    for (int64_t i = 0; i < g->count; i++) {
        double expected = half ? device_rounded(g->be, w[i]) : w[i];
        if (is_inside(&g->s, i) ? copy[i] != expected : !isnan(copy[i])) {
            fail_msg("%s: copy %lld is %.9g of %.9g", g->text, (long long)i, copy[i], w[i]);
        }
    }
    free(w);
    free(copy);
}

static void compare_arenas(const Sgd *g)
{
    double *dw = copy_of(&g->dw);
    double *v = copy_of(&g->v);
    double *w = copy_of(&g->w);
    for (int64_t i = 0; i < g->count; i++) {
        dw[i] /= g->scale != NULL ? (double)g->scale_before.scale : 1;
    }
    ref_sgd(&g->s, dw, v, w);
    Tolerance tolerance = device_tolerance(g->be, ELEMENT_F32, 1, 2, 0);
    device_tensor_expect(&g->v, v, tolerance, g->text);
    device_tensor_expect(&g->w, w, tolerance, g->text);
    int64_t at = 0;
    for (int r = 0; r <= g->s.ranges; r++) {
        int64_t end = r < g->s.ranges ? g->s.range[r].offset : g->count;
        device_tensor_expect_untouched(&g->v, at, end - at, g->text);
        device_tensor_expect_untouched(&g->w, at, end - at, g->text);
        at = r < g->s.ranges ? end + g->s.range[r].count : end;
    }
    free(dw);
    free(v);
    free(w);
}

static void compare_scale(const Sgd *g, LossScale expected)
{
    LossScale found;
    device_copy_out(g->be, &found, g->scale, sizeof(found));
    if (found.scale != expected.scale || found.good_steps != expected.good_steps ||
        found.skipped != expected.skipped || found.overflow != expected.overflow) {
        fail_msg("%s: scale %g, good %d, skipped %d, overflow %d; expected %g, %d, %d, %d", g->text,
                 (double)found.scale, found.good_steps, found.skipped, found.overflow,
                 (double)expected.scale, expected.good_steps, expected.skipped, expected.overflow);
    }
}

static void call_twice(Sgd *g)
{
    device_call_twice(call_sgd, g, (const DeviceTensor *const[]){&g->v, &g->w, &g->w_act},
                      g->w_act.device != NULL ? 3 : 2, g->text);
}

/* A step whose gradients are finite. expected: the scale behind it. */
static void check_good(Backend *be, const LossScale *scale, const LossScale *expected, bool copy,
                       int shift, Rng *rng)
{
    Sgd g = sgd_make(be, scale, 0, copy, shift, rng);
    call_twice(&g);
    compare_arenas(&g);
    if (copy) {
        compare_copy(&g);
    }
    if (scale != NULL) {
        compare_scale(&g, *expected);
    }
    sgd_free(&g);
}

/* A step with a gradient that is not finite. */
static void check_skipped(Backend *be, double bad, float before, float after, Rng *rng)
{
    const LossScale scale = {.scale = before, .good_steps = 7, .skipped = 3};
    Sgd g = sgd_make(be, &scale, bad, true, draw(rng, 0, 1), rng);
    call_twice(&g);
    device_tensor_expect_untouched(&g.v, 0, g.count, g.text);
    device_tensor_expect_untouched(&g.w, 0, g.count, g.text);
    device_tensor_expect_untouched(&g.w_act, 0, g.count, g.text);
    compare_scale(&g, (LossScale){.scale = after, .skipped = 4, .overflow = 1});
    sgd_free(&g);
}

void test_backend_sgd(void **state)
{
    static const LossScale before[] = {
        {65536, 5, 2, 1},
        {65536, LOSS_SCALE_INTERVAL - 1, 2, 0},
        {LOSS_SCALE_MAXIMUM, LOSS_SCALE_INTERVAL - 1, 0, 0},
    };
    static const LossScale after[] = {
        {65536, 6, 2, 0},
        {131072, 0, 2, 0},
        {LOSS_SCALE_MAXIMUM, 0, 0, 0},
    };
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 12);
    for (int i = 0; i < 2 + t->rounds; i++) {
        check_good(t->be, NULL, NULL, false, i % 2, &rng);
        check_good(t->be, NULL, NULL, true, i % 3 == 1, &rng);
        for (int k = 0; k < 3; k++) {
            check_good(t->be, &before[k], &after[k], k != 1, i % 3 == 2, &rng);
        }
        check_skipped(t->be, (double)INFINITY, 65536, 32768, &rng);
        check_skipped(t->be, (double)-INFINITY, 1, 1, &rng);
        check_skipped(t->be, (double)NAN, 1.5F, 1, &rng);
    }
}
