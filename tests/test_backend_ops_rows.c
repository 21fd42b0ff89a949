/* Pooling, joining, splitting, dropout and casts on a backend against the reference. Tensors also
 * begin off the alignment that vectors need. */
#include "base/mem.h"
#include "kernels/ref/ref.h"
#include "kernels/ref/ref_norm.h"
#include "tests/backend_ops.h"

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

/* A copy is exact. */
static const Tolerance exact = {0, 0};

/* ---- average pooling ------------------------------------------------------------------------- */

typedef struct {
    Backend *be;
    AvgPoolShape s;
    DeviceTensor from, to;
} AvgPool;

static void call_avgpool_fprop(const void *context)
{
    const AvgPool *p = context;
    op_avgpool_fprop(p->be, &p->s, p->from.device, p->to.device);
}

static void call_avgpool_bprop(const void *context)
{
    const AvgPool *p = context;
    op_avgpool_bprop(p->be, &p->s, p->from.device, p->to.device);
}

static void check_avgpool(Backend *be, const AvgPoolShape *s, bool backward, int shift, Rng *rng)
{
    char text[96];
    snprintf(text, sizeof(text), "%s N %d, HW %d, C %d, shift %d", backward ? "bprop" : "fprop",
             s->N, s->HW, s->C, shift);
    int64_t pooled = (int64_t)s->N * s->C;
    int64_t pictures = pooled * s->HW;
    int64_t count = backward ? pictures : pooled;
    AvgPool p = {be, *s,
                 device_tensor_random(be, ELEMENT_ACT, backward ? pooled : pictures, rng, 1, shift),
                 device_tensor_poison(be, ELEMENT_ACT, count, shift)};
    double *expected = doubles(count);
    if (backward) {
        ref_avgpool_bprop(s, p.from.values, expected);
    } else {
        ref_avgpool_fprop(s, p.from.values, expected);
    }
    device_call_twice(backward ? call_avgpool_bprop : call_avgpool_fprop, &p,
                      (const DeviceTensor *const[]){&p.to}, 1, text);
    device_tensor_expect(&p.to, expected, device_tolerance(be, ELEMENT_ACT, s->HW, 1, 0), text);
    free(expected);
    device_tensor_free(&p.from);
    device_tensor_free(&p.to);
}

void test_backend_avgpool(void **state)
{
    static const AvgPoolShape shapes[] = {{1, 1, 1},   {2, 49, 64}, {3, 49, 17},
                                          {5, 9, 520}, {1, 130, 8}, {70, 4, 33}};
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 3);
    int fixed = sizeof(shapes) / sizeof(shapes[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        AvgPoolShape s = {draw(&rng, 1, 9), draw(&rng, 1, 60), draw(&rng, 1, 80)};
        s = i < fixed ? shapes[i] : s;
        check_avgpool(t->be, &s, false, i % 3 == 2, &rng);
        check_avgpool(t->be, &s, true, i % 3 == 1, &rng);
    }
}

/* ---- joining and splitting ------------------------------------------------------------------- */

typedef struct {
    Backend *be;
    ConcatShape s;
    DeviceTensor a, b, y;
} Concat;

static void call_concat(const void *context)
{
    const Concat *c = context;
    op_concat(c->be, &c->s, c->a.device, c->b.device, c->y.device);
}

static void call_split(const void *context)
{
    const Concat *c = context;
    op_split(c->be, &c->s, c->y.device, c->a.device, c->b.device);
}

static void check_concat(Backend *be, const ConcatShape *s, int shift, Rng *rng)
{
    char text[96];
    snprintf(text, sizeof(text), "rows %lld, Ca %d, Cb %d, shift %d", (long long)s->rows, s->Ca,
             s->Cb, shift);
    Concat joined = {be, *s, device_tensor_random(be, ELEMENT_ACT, s->rows * s->Ca, rng, 1, 0),
                     device_tensor_random(be, ELEMENT_ACT, s->rows * s->Cb, rng, 1, shift),
                     device_tensor_poison(be, ELEMENT_ACT, s->rows * (s->Ca + s->Cb), 0)};
    double *expected = doubles(joined.y.count);
    ref_concat(s, joined.a.values, joined.b.values, expected);
    device_call_twice(call_concat, &joined, (const DeviceTensor *const[]){&joined.y}, 1, text);
    device_tensor_expect(&joined.y, expected, exact, text);

    Concat parts = {be, *s, device_tensor_poison(be, ELEMENT_ACT, s->rows * s->Ca, shift),
                    device_tensor_poison(be, ELEMENT_ACT, s->rows * s->Cb, 0),
                    device_tensor_of(be, ELEMENT_ACT, joined.y.count, expected, 0)};
    device_call_twice(call_split, &parts, (const DeviceTensor *const[]){&parts.a, &parts.b}, 2,
                      text);
    device_tensor_expect(&parts.a, joined.a.values, exact, text);
    device_tensor_expect(&parts.b, joined.b.values, exact, text);
    free(expected);
    DeviceTensor *const all[] = {&joined.a, &joined.b, &joined.y, &parts.a, &parts.b, &parts.y};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

void test_backend_concat(void **state)
{
    static const ConcatShape shapes[] = {{1, 1, 1},   {98, 64, 64}, {5, 17, 8},  {7, 3, 4},
                                         {300, 2, 6}, {3, 512, 4},  {50, 12, 20}};
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 4);
    int fixed = sizeof(shapes) / sizeof(shapes[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        ConcatShape s = {draw(&rng, 1, 200), draw(&rng, 1, 70), draw(&rng, 1, 70)};
        s = i < fixed ? shapes[i] : s;
        check_concat(t->be, &s, 0, &rng);
        check_concat(t->be, &s, 1 + i % 4, &rng);
    }
}

/* ---- dropout --------------------------------------------------------------------------------- */

typedef struct {
    Backend *be;
    DropoutShape s;
    uint64_t *key;
    DeviceTensor x, y;
} Dropout;

static void call_dropout(const void *context)
{
    const Dropout *d = context;
    op_dropout(d->be, &d->s, d->key, d->x.device, d->y.device);
}

static void call_dropout_in_place(const void *context)
{
    const Dropout *d = context;
    op_dropout(d->be, &d->s, d->key, d->x.device, d->x.device);
}

static void check_dropout(Backend *be, const DropoutShape *s, int shift, Rng *rng)
{
    char text[96];
    snprintf(text, sizeof(text), "count %lld, first %lld, layer %u, p %g, shift %d",
             (long long)s->count, (long long)s->first, s->layer, (double)s->p, shift);
    uint64_t key[2];
    for (int i = 0; i < 2; i++) {
        key[i] = (uint64_t)rng_u32(rng) << 32;
        key[i] |= rng_u32(rng);
    }
    Dropout d = {be, *s, device_alloc(be, sizeof(key)),
                 device_tensor_random(be, ELEMENT_ACT, s->count, rng, 1, shift),
                 device_tensor_poison(be, ELEMENT_ACT, s->count, shift)};
    device_copy_in(be, d.key, key, sizeof(key));
    device_synchronize(be);
    double *expected = doubles(s->count);
    ref_dropout(s, key, d.x.values, expected);
    Tolerance tolerance = device_tolerance(be, ELEMENT_ACT, 1, 0, 0);
    tolerance.relative += 0x1p-22; /* of the factor 1/(1 - p) and the product */
    device_call_twice(call_dropout, &d, (const DeviceTensor *const[]){&d.y}, 1, text);
    device_tensor_expect(&d.y, expected, tolerance, text);
    device_call_twice(call_dropout_in_place, &d, (const DeviceTensor *const[]){&d.x}, 1, text);
    device_tensor_expect(&d.x, expected, tolerance, text);
    free(expected);
    device_free(be, d.key);
    device_tensor_free(&d.x);
    device_tensor_free(&d.y);
}

void test_backend_dropout(void **state)
{
    static const float rates[] = {0.5F, 0, 0.05F, 0.999F, 1e-3F};
    static const int64_t counts[] = {1, 3, 4, 5, 1023, 1024, 4099};
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 5);
    int fixed = sizeof(counts) / sizeof(counts[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        DropoutShape s = {.count = draw(&rng, 1, 3000),
                          .first = 4 * (int64_t)draw(&rng, 0, 100000),
                          .layer = (uint32_t)draw(&rng, 0, 5),
                          .p = rates[i % 5]};
        s.count = i < fixed ? counts[i] : s.count;
        check_dropout(t->be, &s, i % 3 == 1 ? 1 : 4 * (i % 3), &rng);
    }
}

/* ---- casts ----------------------------------------------------------------------------------- */

typedef struct {
    Backend *be;
    DeviceTensor x, y;
} Cast;

static void call_cast(const void *context)
{
    const Cast *c = context;
    op_cast(c->be, c->x.count, c->x.device, c->y.device);
}

/* Values of every size that float32 has, rounded as the format's nearest, ties to even. In tf32
 * nothing is rounded: that happens in products. */
static void check_cast(Backend *be, int64_t count, int shift, Rng *rng)
{
    static const double special[] = {0,           -0.0,        1,          65504,     65519.99,
                                     65520,       1e-7,        0x1p-25,    0x1.8p-24, -1e-40,
                                     1 + 0x1p-11, 1 + 0x3p-11, 1 + 0x1p-8, 1 + 0x3p-8};
    const int specials = sizeof(special) / sizeof(special[0]);
    bool half = device_activation_bytes(be) == 2;
    double *values = doubles(count);
    double *expected = doubles(count);
    for (int64_t i = 0; i < count; i++) {
        double random = (2 * rng_uniform(rng) - 1) * (1 << draw(rng, 0, 16));
        values[i] = (double)(float)(i < specials ? special[i] : random);
        expected[i] = half ? device_rounded(be, values[i]) : values[i];
    }
    char text[48];
    snprintf(text, sizeof(text), "cast of %lld, shift %d", (long long)count, shift);
    Cast c = {be, device_tensor_of(be, ELEMENT_F32, count, values, shift),
              device_tensor_poison(be, ELEMENT_ACT, count, shift)};
    device_call_twice(call_cast, &c, (const DeviceTensor *const[]){&c.y}, 1, text);
    double *found = device_tensor_read(&c.y, text);
    if (memcmp(found, expected, (size_t)count * sizeof(double)) != 0) {
        fail_msg("%s: an element is not the nearest one", text);
    }
    free(found);
    free(values);
    free(expected);
    device_tensor_free(&c.x);
    device_tensor_free(&c.y);
}

void test_backend_cast(void **state)
{
    static const int64_t counts[] = {1, 3, 4, 14, 1027, 4096};
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 6);
    int fixed = sizeof(counts) / sizeof(counts[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        check_cast(t->be, i < fixed ? counts[i] : draw(&rng, 1, 5000), i % 3 == 2, &rng);
    }
}
