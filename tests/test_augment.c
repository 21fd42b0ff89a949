/* Augmentation against the reference loops and against Pillow. */
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

/* Pictures one after the other, on the host and on the device. */
typedef struct {
    int N;
    AugmentItem *items;
    uint8_t *pixels;
    int64_t bytes;
    AugmentItem *items_device;
    uint8_t *pixels_device;
} Batch;

/* Fills each picture with the bytes of the Philox sequence whose key is its number. */
static void batch_fill(Backend *be, Batch *b)
{
    b->bytes = 0;
    for (int i = 0; i < b->N; i++) {
        b->items[i].offset = b->bytes;
        b->bytes += 3 * (int64_t)b->items[i].width * b->items[i].height;
    }
    b->pixels = mem_alloc((size_t)b->bytes);
    for (int i = 0; i < b->N; i++) {
        uint8_t *picture = b->pixels + b->items[i].offset;
        int64_t bytes = 3 * (int64_t)b->items[i].width * b->items[i].height;
        for (int64_t k = 0; k < bytes; k++) {
            Philox draw = philox4x32((uint64_t)i, (uint32_t)(k / 16), 0, 0, 0);
            picture[k] = (uint8_t)(draw.word[k / 4 % 4] >> (k % 4 * 8));
        }
    }
    b->pixels_device = device_alloc(be, (size_t)b->bytes);
    b->items_device = device_alloc(be, (size_t)b->N * sizeof(AugmentItem));
    device_copy_in(be, b->pixels_device, b->pixels, (size_t)b->bytes);
    device_copy_in(be, b->items_device, b->items, (size_t)b->N * sizeof(AugmentItem));
    device_synchronize(be);
}

static void batch_free(Backend *be, Batch *b)
{
    device_free(be, b->items_device);
    device_free(be, b->pixels_device);
    free(b->pixels);
    free(b->items);
}

static int64_t outputs_of(const AugmentShape *s)
{
    return (int64_t)s->N * s->crop * s->crop * 3;
}

/* ---- reference ------------------------------------------------------------------------------- */

static Batch random_batch(Backend *be, const AugmentShape *s, Rng *rng, uint32_t largest)
{
    Batch b = {.N = s->N, .items = mem_zeroed((size_t)s->N, sizeof(AugmentItem))};
    for (int i = 0; i < s->N; i++) {
        uint32_t margin = (uint32_t)(s->resize - s->crop) + 1;
        b.items[i] = (AugmentItem){.width = 1 + (int)rng_below(rng, largest),
                                   .height = 1 + (int)rng_below(rng, largest),
                                   .top = (int)rng_below(rng, margin),
                                   .left = (int)rng_below(rng, margin),
                                   .flip = (int)rng_below(rng, 2),
                                   .quarter_turns = (int)rng_below(rng, 4)};
        b.items[i].width = i % 5 == 1 ? s->resize : b.items[i].width;
        b.items[i].height = i % 5 >= 3 ? s->resize : b.items[i].height;
    }
    batch_fill(be, &b);
    return b;
}

static void test_random_shapes(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Rng rng = rng_at(8, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < 30; i++) {
        AugmentShape s = {.N = 1 + (int)rng_below(&rng, 6), .resize = 1 + (int)rng_below(&rng, 40)};
        s.crop = 1 + (int)rng_below(&rng, (uint32_t)s.resize);
        char text[64];
        snprintf(text, sizeof(text), "N %d, resize %d, crop %d", s.N, s.resize, s.crop);
        Batch b = random_batch(be, &s, &rng, i % 6 == 0 ? 400 : 90);
        Tensor y = tensor_nan(be, outputs_of(&s));
        double *expected = mem_alloc((size_t)outputs_of(&s) * sizeof(double));
        ref_augment(&s, b.pixels, b.items, expected);
        op_augment(be, &s, b.pixels_device, b.items_device, y.device);
        tensor_expect(&y, expected, 1e-6, text);
        free(expected);
        tensor_free(&y);
        batch_free(be, &b);
    }
    device_close(be);
}

static void test_threads_do_not_change_bits(void **state)
{
    (void)state;
    AugmentShape s = {9, 40, 33};
    Backend *be[3];
    Tensor y[3];
    for (int i = 0; i < 3; i++) {
        Err err;
        Rng rng = rng_at(9, RNG_SHUFFLE, 0, 0, 0);
        be[i] = device_open("cpu", &(DeviceOptions){.threads = i + 1}, &err);
        assert_non_null(be[i]);
        Batch b = random_batch(be[i], &s, &rng, 90);
        y[i] = tensor_nan(be[i], outputs_of(&s));
        op_augment(be[i], &s, b.pixels_device, b.items_device, y[i].device);
        batch_free(be[i], &b);
    }
    for (int i = 0; i < 3; i++) {
        tensor_expect_same_bits(&y[0], &y[i], "threads");
    }
    for (int i = 0; i < 3; i++) {
        tensor_free(&y[i]);
        device_close(be[i]);
    }
}

/* ---- Pillow ---------------------------------------------------------------------------------- */

enum { PICTURES = 16, SAMPLE_STEP = 997 };

static Batch golden_batch(Backend *be, Golden *golden, const char *name)
{
    char key[32];
    snprintf(key, sizeof(key), "%s.items", name);
    const int32_t *values = golden_i32(golden, key, (int64_t)PICTURES * 6);
    Batch b = {.N = PICTURES, .items = mem_zeroed(PICTURES, sizeof(AugmentItem))};
    for (int i = 0; i < PICTURES; i++) {
        const int32_t *item = values + (int64_t)i * 6;
        b.items[i] = (AugmentItem){.width = item[0],
                                   .height = item[1],
                                   .top = item[2],
                                   .left = item[3],
                                   .flip = item[4],
                                   .quarter_turns = item[5]};
    }
    batch_fill(be, &b);
    return b;
}

/* The 8-bit value that element i of a picture was normalised from. */
static uint8_t denormalise(float y, int64_t i)
{
    static const double mean[3] = {0.485, 0.456, 0.406};
    static const double std[3] = {0.229, 0.224, 0.225};
    double value = (y * std[i % 3] + mean[i % 3]) * 255;
    assert_true(fabs(value - round(value)) < 1e-3);
    return (uint8_t)lround(value);
}

static void check_picture(const float *y, int64_t count, const uint8_t *samples, int32_t checksum,
                          int number)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        uint8_t value = denormalise(y[i], i);
        uint32_t weight = (uint32_t)(i + 1) * 2654435761U;
        sum += value * (uint64_t)weight;
        if (i % SAMPLE_STEP == 0 && value != samples[i / SAMPLE_STEP]) {
            fail_msg("picture %d: element %lld is %d, Pillow has %d", number, (long long)i, value,
                     samples[i / SAMPLE_STEP]);
        }
    }
    if ((int32_t)(sum & 0x7FFFFFFF) != checksum) {
        fail_msg("picture %d: some element differs from Pillow's", number);
    }
}

static void check_golden(Backend *be, Golden *golden, const char *name, const AugmentShape *s)
{
    char key[32];
    int64_t each = outputs_of(s) / PICTURES;
    int64_t samples_each = (each + SAMPLE_STEP - 1) / SAMPLE_STEP;
    snprintf(key, sizeof(key), "%s.samples", name);
    const uint8_t *samples = golden_u8(golden, key, PICTURES * samples_each);
    snprintf(key, sizeof(key), "%s.checksums", name);
    const int32_t *checksums = golden_i32(golden, key, PICTURES);
    Batch b = golden_batch(be, golden, name);
    float *y_device = device_alloc(be, (size_t)outputs_of(s) * sizeof(float));
    float *y = mem_alloc((size_t)outputs_of(s) * sizeof(float));
    op_augment(be, s, b.pixels_device, b.items_device, y_device);
    device_copy_out(be, y, y_device, (size_t)outputs_of(s) * sizeof(float));
    for (int i = 0; i < PICTURES; i++) {
        check_picture(y + i * each, each, samples + i * samples_each, checksums[i], i);
    }
    free(y);
    device_free(be, y_device);
    batch_free(be, &b);
}

static void test_golden(void **state)
{
    (void)state;
    Backend *be = tensors_open_backend();
    Golden *golden = golden_open("ops_augment.safetensors");
    check_golden(be, golden, "paper", &(AugmentShape){PICTURES, 256, 224});
    check_golden(be, golden, "small", &(AugmentShape){PICTURES, 96, 80});
    golden_close(golden);
    device_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_threads_do_not_change_bits),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
