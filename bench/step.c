/* build/bench_step: how long one training step takes, and where the time goes.
 *
 * The step is the whole experiment's: four groups of B pairs through both trunks, both heads, all
 * losses, backward and SGD, on random pictures that are already in device memory.
 * bench/step_pytorch.py does the same work in PyTorch; bench/compare holds the two side by side. */
#include "train/step.h"
#include "base/args.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/mark.h"
#include "bench/median.h"
#include "bench/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_CALLS                                                                                 \
    4096 /* of operators in a step; a ResNet-50 in four passes has less than 3000                  \
          */

typedef struct {
    const char *device, *precision, *passes, *cache_dir;
    int batch, threads, steps, width, crop, depth, gpu;
    bool eager, profile, profile_shapes;
} Options;

typedef struct {
    Backend *be;
    Net *net;
    Step *step;
    void *x[MODALITIES];
    int32_t *labels;
    StepSettings settings;
    uint64_t number;     /* of the next step */
    size_t free_at_open; /* device memory before anything was allocated */
} Bench;

static int read_options(Options *o, int argc, char **argv, Err *err)
{
    const ArgOption list[] = {
        arg_int("batch", "B", &o->batch, 2, 65536,
                "Pairs a group; a step has four groups (default: 8)"),
        arg_int("threads", "N", &o->threads, 1, 1024, "CPU threads (default: 2)"),
        arg_int("steps", "N", &o->steps, 1, 1000000,
                "Steps timed, after three for warming up (default: 5)"),
        arg_int("depth", "18|50", &o->depth, 18, 50, "Depth of the ResNet trunks (default: 18)"),
        arg_int("width", "N", &o->width, 1, 1024, "Channels of their first stage (default: 64)"),
        arg_int("crop", "N", &o->crop, 65, 4096, "Side of the pictures (default: 224)"),
        arg_text("device", "NAME", &o->device, "auto, cuda or cpu (default: auto)"),
        arg_int("gpu", "N", &o->gpu, 0, 1024, "Which GPU, counted from 0 (default: 0)"),
        arg_text("precision", "NAME", &o->precision,
                 "auto, fp32, tf32, fp16 or bf16 (default: auto)"),
        arg_text("passes", "HOW", &o->passes,
                 "auto; merged: the four groups as one batch; separate: one after the other "
                 "(default: auto)"),
        arg_flag("eager", &o->eager,
                 "Enqueue every operator in every step, instead of replaying a recorded step"),
        arg_text("cache_dir", "DIR", &o->cache_dir,
                 "Where the choices of measured engines are kept (default: nowhere)"),
        arg_flag("profile", &o->profile,
                 "Also print where the time of one step goes, by operator; they run one after the "
                 "other for it, so the sum can exceed the step's time"),
        arg_flag("profile_shapes", &o->profile_shapes, "The same by operator and shape"),
        {0},
    };
    const Args args = {
        .program = "bench_step",
        .summary = "Times one training step of the whole experiment on random pictures.",
        .options = list,
    };
    return args_parse(&args, argc, argv, err);
}

/* As op_augment writes them: in the compute type, channels beyond the third 0. */
static void *random_pictures(Backend *be, int samples, int crop, uint32_t modality)
{
    int channels = device_picture_channels(be);
    size_t count = (size_t)samples * (size_t)(crop * crop) * (size_t)channels;
    float *host = mem_alloc(count * sizeof *host);
    Rng rng = rng_at(1, RNG_DEMO, modality, 0, 0);
    for (size_t i = 0; i < count; i++) {
        host[i] = i % (size_t)channels < 3 ? (float)(4.0 * rng_uniform(&rng) - 2.0) : 0.0f;
    }
    float *wide = device_alloc(be, count * sizeof *host);
    device_copy_in(be, wide, host, count * sizeof *host);
    void *x = device_alloc(be, count * device_activation_bytes(be));
    op_cast(be, (int64_t)count, wide, x);
    device_synchronize(be);
    device_free(be, wide);
    free(host);
    return x;
}

static int32_t *some_labels(Backend *be, int samples)
{
    int32_t *host = mem_alloc((size_t)samples * sizeof *host);
    for (int i = 0; i < samples; i++) {
        host[i] = i % ROTATION_CLASSES;
    }
    int32_t *labels = device_alloc(be, (size_t)samples * sizeof *host);
    device_copy_in(be, labels, host, (size_t)samples * sizeof *host);
    device_synchronize(be);
    free(host);
    return labels;
}

static size_t free_memory(const Backend *be)
{
    size_t left;
    size_t total;
    device_memory(be, &left, &total);
    return left;
}

static int wanted_passes(const char *passes, NetStep *groups, Err *err)
{
    static const char *const names[] = {
        [NET_AUTO] = "auto", [NET_MERGED] = "merged", [NET_SEPARATE] = "separate"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(passes, names[i]) == 0) {
            groups->passes = i;
            return 0;
        }
    }
    return err_set(err, "--passes %s is not known; it takes auto, merged or separate", passes);
}

static void bench_close(Bench *b)
{
    step_close(b->step);
    for (int m = 0; m < MODALITIES; m++) {
        if (b->x[m]) {
            device_free(b->be, b->x[m]);
        }
    }
    if (b->labels) {
        device_free(b->be, b->labels);
    }
    net_close(b->net);
    device_close(b->be);
}

static int bench_open(Bench *b, const Options *o, Err *err)
{
    DeviceOptions device = {
        .threads = o->threads, .gpu = o->gpu, .precision = o->precision, .cache_dir = o->cache_dir};
    NetConfig config = {.trunk = {.depth = o->depth, .width = o->width, .crop = o->crop},
                        .classes = 47,
                        .dropout_p = 0.5f,
                        .rotation_dropout_p = 0.5f};
    b->settings = (StepSettings){.lr = 1e-4,
                                 .lr_mult = 1.0,
                                 .momentum = 0.9,
                                 .weight_decay = 0.05,
                                 .alpha = 0.1,
                                 .lambda = 1.0,
                                 .eager = o->eager};
    NetStep groups = step_groups(o->batch, b->settings.alpha, b->settings.lambda);
    if (wanted_passes(o->passes, &groups, err) != 0) {
        return -1;
    }
    b->be = device_open(o->device, &device, err);
    if (!b->be) {
        return -1;
    }
    b->free_at_open = free_memory(b->be);
    b->net = net_open(b->be, &config, &groups, 1, err);
    if (!b->net) {
        return -1;
    }
    for (int m = 0; m < MODALITIES; m++) {
        b->x[m] = random_pictures(b->be, net_samples(b->net), o->crop, (uint32_t)m);
    }
    b->labels = some_labels(b->be, net_samples(b->net));
    b->step = step_open(b->net, &b->settings, NULL);
    return 0;
}

static void learn(Bench *b, Step *step)
{
    step_learn(step, b->x[RGB], b->x[DEPTH], b->labels, b->number++);
}

static void drain(Step *step, int pending)
{
    while (step_pending(step) > pending) {
        step_result(step);
    }
}

/* Three steps: the first allocates and chooses engines and is counted, the second may record. */
static double warm_up(Bench *b, double *first_ready)
{
    Profile *count = profile_open(b->be, MOST_CALLS, false);
    learn(b, b->step);
    drain(b->step, 0);
    *first_ready = clock_seconds();
    double flops = profile_flops(count);
    profile_close(count);
    learn(b, b->step);
    learn(b, b->step);
    drain(b->step, 0);
    return flops;
}

/* The median of `steps` steps that follow each other as in training: the host runs ahead by as many
 * steps as it usefully may. */
static double median_step_ms(Bench *b, int steps)
{
    int ahead = device_steps_ahead(b->be);
    Mark *marks = marks_open(b->be, steps + 1);
    double *ms = mem_alloc((size_t)steps * sizeof *ms);
    mark_set(b->be, &marks[0]);
    for (int i = 0; i < steps; i++) {
        learn(b, b->step);
        mark_set(b->be, &marks[i + 1]);
        drain(b->step, ahead);
    }
    drain(b->step, 0);
    for (int i = 0; i < steps; i++) {
        ms[i] = mark_ms(b->be, &marks[i], &marks[i + 1]);
    }
    double middle = median(ms, steps);
    free(ms);
    marks_close(b->be, marks, steps + 1);
    return middle;
}

/* The profiled step is enqueued operator by operator behind others, so that the host is ahead of
 * the device and no operator's time holds the host's. So nothing may keep the host there: the marks
 * are made before, and the step runs once before, for what had its place on the other lane so far
 * gets its plans and its memory on this one. */
static void print_profile(Bench *b, bool by_shape)
{
    StepSettings settings = b->settings;
    settings.eager = true;
    Step *step = step_open(b->net, &settings, NULL);
    Profile *profile = profile_open(b->be, MOST_CALLS, true);
    learn(b, step);
    profile_stop(profile);
    drain(step, 0);
    for (int i = 0; i < device_steps_ahead(b->be); i++) {
        learn(b, b->step);
    }
    profile_restart(profile);
    learn(b, step);
    profile_stop(profile);
    drain(b->step, 0);
    drain(step, 0);
    profile_print(profile, by_shape, stdout);
    profile_close(profile);
    step_close(step);
}

static int run(const Options *o, double launched, Err *err)
{
    Bench b = {0};
    if (bench_open(&b, o, err) != 0) {
        bench_close(&b);
        return -1;
    }
    double first_ready;
    double flops = warm_up(&b, &first_ready);
    double step_ms = median_step_ms(&b, o->steps);
    size_t used = b.free_at_open - free_memory(b.be);
    printf("rodeo, %s, %s%s: ResNet-%d width %d at %d, batch %d: %.2f ms a step (median of "
           "%d), %.1f pictures/s, %.3f TFLOP/s (%.3f TFLOP a step)\n",
           device_description(b.be), net_passes(b.net) == 1 ? "merged" : "separate",
           o->eager ? ", eager" : "", o->depth, o->width, o->crop, o->batch, step_ms, o->steps,
           2e3 * net_samples(b.net) / step_ms, flops / 1e9 / step_ms, flops / 1e12);
    printf("first step done %.2f s after the launch; memory: the network %.0f MiB",
           first_ready - launched, (double)net_bytes(b.net) / 1048576.0);
    if (device_steps_ahead(b.be) > 0) {
        printf(", on the device in all %.0f MiB", (double)used / 1048576.0);
    }
    printf("\n");
    if (o->profile) {
        print_profile(&b, false);
    }
    if (o->profile_shapes) {
        print_profile(&b, true);
    }
    bench_close(&b);
    return 0;
}

int main(int argc, char **argv)
{
    double launched = clock_seconds();
    Options options = {.device = "auto",
                       .precision = "auto",
                       .passes = "auto",
                       .batch = 8,
                       .threads = 2,
                       .steps = 5,
                       .width = 64,
                       .crop = 224,
                       .depth = 18};
    Err err = {0};
    if (read_options(&options, argc, argv, &err) != 0 || run(&options, launched, &err) != 0) {
        fprintf(stderr, "bench_step: %s\n", err.text);
        return 1;
    }
    return 0;
}
