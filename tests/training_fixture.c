#include "tests/training_fixture.h"

#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RESIZE = 72, CROP = 65, SIDE_MOST = 90, ROOM = (SIDE_MOST * SIDE_MOST * 3 + 63) / 64 * 64 };

const char *test_device(void)
{
    const char *name = getenv("RODEO_TEST_DEVICE");
    return name ? name : "cpu";
}

const char *test_precision(void)
{
    const char *name = getenv("RODEO_TEST_PRECISION");
    return name ? name : "auto";
}

static void open_step(Training *t, const TrainingKind *kind)
{
    NetConfig config = {.trunk = {.depth = 18, .width = 8, .crop = CROP},
                        .classes = TRAINING_CLASSES,
                        .dropout_p = (float)kind->dropout_p,
                        .rotation_dropout_p = (float)kind->dropout_p};
    StepSettings settings = {.lr = kind->lr,
                             .lr_mult = 2.0,
                             .momentum = 0.9,
                             .weight_decay = 0.05,
                             .alpha = 0.1,
                             .lambda = 1.0,
                             .seed = 42,
                             .eager = kind->eager};
    NetStep groups = step_groups(TRAINING_BATCH, settings.alpha, settings.lambda);
    groups.passes = kind->passes;
    Err err;
    t->net = net_open(t->be, &config, &groups, 7, &err);
    assert_non_null(t->net);
    input_open(&t->input, t->be, TRAINING_SLOTS, RESIZE, CROP);
    t->step = step_open(t->net, &settings, &t->input);
}

void training_open(Training *t, const TrainingKind *kind)
{
    *t = (Training){0};
    Err err = {""};
    DeviceOptions options = {
        .threads = 2, .precision = kind->precision, .cache_dir = kind->cache_dir};
    t->be = device_open(kind->device, &options, &err);
    if (!t->be) {
        fail_msg("%s", err.text);
    }
    open_step(t, kind);
    t->pixels = device_alloc(t->be, (size_t)TRAINING_SLOTS * MODALITIES * ROOM);
    t->labels = device_alloc(t->be, TRAINING_SLOTS * sizeof *t->labels);
    t->batch = (Batch){.groups = TRAINING_GROUPS,
                       .batch = TRAINING_BATCH,
                       .plan = t->plan,
                       .pixels = t->pixels,
                       .labels = t->labels};
    for (int m = 0; m < MODALITIES; m++) {
        t->items[m] = device_alloc(t->be, TRAINING_SLOTS * sizeof(AugmentItem));
        t->batch.items[m] = t->items[m];
    }
}

void training_close(Training *t)
{
    step_close(t->step);
    input_close(&t->input);
    net_close(t->net);
    for (int m = 0; m < MODALITIES; m++) {
        device_free(t->be, t->items[m]);
    }
    device_free(t->be, t->pixels);
    device_free(t->be, t->labels);
    device_close(t->be);
}

static AugmentItem some_item(Rng *rng, int64_t offset)
{
    return (AugmentItem){.offset = offset,
                         .width = (int32_t)(30 + rng_below(rng, SIDE_MOST - 29)),
                         .height = (int32_t)(30 + rng_below(rng, SIDE_MOST - 29)),
                         .top = (int32_t)rng_below(rng, RESIZE - CROP + 1),
                         .left = (int32_t)rng_below(rng, RESIZE - CROP + 1),
                         .flip = (int32_t)rng_below(rng, 2),
                         .quarter_turns = (int32_t)rng_below(rng, 4)};
}

/* Blobs of colour whose hue follows from the label, in noise. */
static void some_pixels(Rng *rng, int label, uint8_t *pixels)
{
    for (int i = 0; i < ROOM; i++) {
        int level = 40 * (label + i % 3) + (i / 300 % 2) * 30;
        pixels[i] = (uint8_t)((unsigned)level % 200 + rng_below(rng, 56));
    }
}

static void load_batch(Training *t, int number)
{
    uint8_t *pixels = mem_alloc((size_t)TRAINING_SLOTS * MODALITIES * ROOM);
    AugmentItem items[MODALITIES][TRAINING_SLOTS];
    int32_t labels[TRAINING_SLOTS];
    for (int slot = 0; slot < TRAINING_SLOTS; slot++) {
        Rng rng = rng_at(9, RNG_DEMO, (uint32_t)number, (uint32_t)slot, 0);
        int classes = slot < 2 * TRAINING_BATCH ? TRAINING_CLASSES : ROTATION_CLASSES;
        labels[slot] = (int32_t)rng_below(&rng, (uint32_t)classes);
        for (int m = 0; m < MODALITIES; m++) {
            int64_t offset = (int64_t)(slot * MODALITIES + m) * ROOM;
            items[m][slot] = some_item(&rng, offset);
            some_pixels(&rng, labels[slot], pixels + offset);
        }
    }
    device_copy_in(t->be, t->pixels, pixels, (size_t)TRAINING_SLOTS * MODALITIES * ROOM);
    device_copy_in(t->be, t->labels, labels, sizeof labels);
    for (int m = 0; m < MODALITIES; m++) {
        device_copy_in(t->be, t->items[m], items[m], sizeof items[m]);
    }
    device_synchronize(t->be);
    free(pixels);
}

StepResult training_step(Training *t, int number)
{
    load_batch(t, number);
    t->scale = device_needs_loss_scale(t->be) ? step_loss_scale(t->step).scale : 1;
    step_run(t->step, &t->batch, (uint64_t)number);
    return step_result(t->step);
}

static float *copy_of(const Training *t, const float *arena, int64_t elements)
{
    float *host = mem_alloc((size_t)elements * sizeof *host);
    device_copy_out(t->be, host, arena, (size_t)elements * sizeof *host);
    return host;
}

float *training_weights(const Training *t)
{
    return copy_of(t, t->net->params.w, t->net->params.weights.elements);
}

float *training_gradients(const Training *t)
{
    int64_t count = t->net->params.weights.elements;
    float *gradients = copy_of(t, t->net->params.dw, count);
    for (int64_t i = 0; i < count; i++) {
        gradients[i] /= t->scale;
    }
    return gradients;
}

float *training_momentum(const Training *t)
{
    return copy_of(t, t->net->params.v, t->net->params.weights.elements);
}

float *training_running(const Training *t)
{
    return copy_of(t, t->net->params.running_stats, t->net->params.running.elements);
}

double relative_difference(const float *a, const float *b, int64_t count)
{
    double difference = 0;
    double size = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / size);
}
