/* Augmentation on a backend against the reference: the same 8-bit pixels, normalised. */
#include "base/mem.h"
#include "kernels/ref/ref_norm.h"
#include "tests/backend_ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    Backend *be;
    AugmentShape s;
    AugmentItem *items, *items_device;
    uint8_t *pixels, *pixels_device;
    int64_t bytes;
    DeviceTensor y;
} Batch;

/* Noise, and where extreme is set only black and white: the filter's sums reach their bounds. */
static void fill_pixels(Batch *b, bool extreme, Rng *rng)
{
    for (int i = 0; i < b->s.N; i++) {
        b->items[i].offset = b->bytes + draw(rng, 0, 3);
        b->bytes = b->items[i].offset + 3 * (int64_t)b->items[i].width * b->items[i].height;
    }
    b->pixels = mem_alloc((size_t)b->bytes);
    for (int64_t i = 0; i < b->bytes; i++) {
        uint32_t word = rng_u32(rng);
        b->pixels[i] = extreme ? (word & 1) * 255 : (uint8_t)word;
    }
}

/* Sizes up to `largest`, now and then the very size that is asked for, or a single pixel. */
static int picture_size(int resize, int largest, Rng *rng)
{
    switch (draw(rng, 0, 5)) {
    case 0:
        return resize;
    case 1:
        return draw(rng, 1, 3);
    default:
        return draw(rng, 1, largest);
    }
}

static Batch batch_make(Backend *be, const AugmentShape *s, int largest, Rng *rng)
{
    Batch b = {.be = be, .s = *s, .items = mem_zeroed((size_t)s->N, sizeof(AugmentItem))};
    for (int i = 0; i < s->N; i++) {
        b.items[i] = (AugmentItem){.width = picture_size(s->resize, largest, rng),
                                   .height = picture_size(s->resize, largest, rng),
                                   .top = draw(rng, 0, s->resize - s->crop),
                                   .left = draw(rng, 0, s->resize - s->crop),
                                   .flip = draw(rng, 0, 1),
                                   .quarter_turns = (i + draw(rng, 0, 1)) % 4};
    }
    fill_pixels(&b, draw(rng, 0, 3) == 0, rng);
    b.pixels_device = device_alloc(be, (size_t)b.bytes);
    b.items_device = device_alloc(be, (size_t)s->N * sizeof(AugmentItem));
    device_copy_in(be, b.pixels_device, b.pixels, (size_t)b.bytes);
    device_copy_in(be, b.items_device, b.items, (size_t)s->N * sizeof(AugmentItem));
    device_synchronize(be);
    b.y = device_tensor_poison(be, ELEMENT_ACT,
                               (int64_t)s->N * s->crop * s->crop * device_picture_channels(be), 0);
    return b;
}

static void batch_free(Batch *b)
{
    device_free(b->be, b->pixels_device);
    device_free(b->be, b->items_device);
    free(b->items);
    free(b->pixels);
    device_tensor_free(&b->y);
}

static void call_augment(const void *context)
{
    const Batch *b = context;
    op_augment(b->be, &b->s, b->pixels_device, b->items_device, b->y.device);
}

static void check_augment(Backend *be, const AugmentShape *s, int largest, Rng *rng)
{
    Batch b = batch_make(be, s, largest, rng);
    char text[256];
    snprintf(text, sizeof(text),
             "N %d, resize %d, crop %d; the first is %dx%d at %d, %d, flip %d, "
             "turns %d",
             s->N, s->resize, s->crop, b.items[0].width, b.items[0].height, b.items[0].left,
             b.items[0].top, b.items[0].flip, b.items[0].quarter_turns);
    int channels = device_picture_channels(be);
    int64_t positions = (int64_t)s->N * s->crop * s->crop;
    double *narrow = mem_alloc((size_t)positions * 3 * sizeof(double));
    double *expected = mem_zeroed((size_t)(positions * channels), sizeof(double));
    ref_augment(s, b.pixels, b.items, narrow);
    for (int64_t i = 0; i < positions; i++) {
        memcpy(expected + i * channels, narrow + i * 3, 3 * sizeof(double));
    }
    device_call_twice(call_augment, &b, (const DeviceTensor *const[]){&b.y}, 1, text);
    /* Three float32 operations on numbers below 3; one step of 8 bits would be 0.017. */
    device_tensor_expect(&b.y, expected, device_tolerance(be, ELEMENT_ACT, 3, 3, 0), text);
    free(narrow);
    free(expected);
    batch_free(&b);
}

void test_backend_augment(void **state)
{
    static const struct {
        AugmentShape s;
        int largest;
    } shapes[] = {
        {{1, 1, 1}, 5},     {{8, 32, 32}, 40}, {{8, 40, 33}, 90}, {{8, 70, 65}, 70},
        {{4, 24, 20}, 600}, {{6, 9, 9}, 300},  {{3, 96, 80}, 1},
    };
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 13);
    int fixed = sizeof(shapes) / sizeof(shapes[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        AugmentShape s = {.N = draw(&rng, 1, 6), .resize = draw(&rng, 1, 80)};
        s.crop = draw(&rng, 1, s.resize);
        if (i < fixed) {
            check_augment(t->be, &shapes[i].s, shapes[i].largest, &rng);
        } else {
            check_augment(t->be, &s, draw(&rng, 1, 250), &rng);
        }
    }
}
