/* Dropout against the reference loop and against a mask that NumPy drew. */
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

static uint64_t *key_make(Backend *be, uint64_t seed, uint64_t step)
{
    const uint64_t key[2] = {seed, step};
    uint64_t *device = device_alloc(be, sizeof(key));
    device_copy_in(be, device, key, sizeof(key));
    device_synchronize(be);
    return device;
}

static void test_random_shapes(void **state)
{
    (void)state;
    static const float rates[] = {0.5F, 0, 0.05F, 0.999F, 1e-3F};
    Backend *be = tensors_open_backend();
    Rng rng = rng_at(7, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < 50; i++) {
        DropoutShape s = {.count = 1 + rng_below(&rng, i % 2 ? 3000 : 20),
                          .first = 4 * (int64_t)rng_below(&rng, 100000),
                          .layer = rng_below(&rng, 5),
                          .p = rates[i % 5]};
        uint64_t seed = (uint64_t)rng_u32(&rng) << 32 | rng_u32(&rng);
        uint64_t step = (uint64_t)rng_u32(&rng) << 32 | rng_u32(&rng);
        char text[96];
        snprintf(text, sizeof(text), "count %lld, first %lld, layer %u, p %g", (long long)s.count,
                 (long long)s.first, s.layer, (double)s.p);
        Tensor x = tensor_random(be, s.count, (uint64_t)i);
        Tensor y = tensor_nan(be, s.count);
        double *expected = mem_alloc((size_t)s.count * sizeof(double));
        const uint64_t key_host[2] = {seed, step};
        ref_dropout(&s, key_host, x.values, expected);
        uint64_t *key = key_make(be, seed, step);
        op_dropout(be, &s, key, x.device, y.device);
        tensor_expect(&y, expected, 2e-7 / (1 - s.p), text);
        op_dropout(be, &s, key, x.device, x.device);
        tensor_expect_same_bits(&x, &y, text);
        free(expected);
        device_free(be, key);
        tensor_free(&x);
        tensor_free(&y);
    }
    device_close(be);
}

/* A batch in one piece and group by group draws one mask. */
static void test_pieces_share_the_mask(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Tensor x = tensor_random(be, 2000, 1);
    Tensor whole = tensor_nan(be, 2000);
    Tensor pieces = tensor_nan(be, 2000);
    uint64_t *key = key_make(be, 9, 10);
    op_dropout(be, &(DropoutShape){2000, 0, 1, 0.5F}, key, x.device, whole.device);
    op_dropout(be, &(DropoutShape){1300, 0, 1, 0.5F}, key, x.device, pieces.device);
    op_dropout(be, &(DropoutShape){700, 1300, 1, 0.5F}, key, x.device + 1300, pieces.device + 1300);
    tensor_expect_same_bits(&whole, &pieces, "pieces");
    device_free(be, key);
    tensor_free(&x);
    tensor_free(&whole);
    tensor_free(&pieces);
    device_close(be);
}

static void check_mask(Backend *be, Golden *golden, float p, const char *name)
{
    enum { COUNT = 1503 };
    const uint8_t *kept = golden_u8(golden, name, COUNT);
    Tensor x = tensor_random(be, COUNT, 3);
    Tensor y = tensor_nan(be, COUNT);
    double expected[COUNT];
    for (int i = 0; i < COUNT; i++) {
        expected[i] = kept[i] ? x.values[i] / (1 - (double)p) : 0;
    }
    uint64_t *key = key_make(be, 0x123456789ABCDEF0, 5ULL << 32 | 77);
    op_dropout(be, &(DropoutShape){COUNT, 8, 3, p}, key, x.device, y.device);
    tensor_expect(&y, expected, 2e-6, name);
    device_free(be, key);
    tensor_free(&x);
    tensor_free(&y);
}

static void test_golden(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_loss.safetensors");
    check_mask(be, golden, 0.5F, "dropout.kept_0.50");
    check_mask(be, golden, 0.05F, "dropout.kept_0.05");
    check_mask(be, golden, 0.9F, "dropout.kept_0.90");
    golden_close(golden);
    device_close(be);
}

/* The answer that the generator's authors publish for key 0 and counter 0. */
static void test_known_answer(void **state)
{
    (void)state;
    Philox draw = philox4x32(0, 0, 0, 0, 0);
    assert_int_equal(draw.word[0], 0x6627e8d5);
    assert_int_equal(draw.word[1], 0xe169c58d);
    assert_int_equal(draw.word[2], 0xbc57ac4c);
    assert_int_equal(draw.word[3], 0x9b00dbd8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_pieces_share_the_mask),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_known_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
