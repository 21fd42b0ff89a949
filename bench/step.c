/* build/bench_step: how long one training step takes, and where the time goes.
 *
 * The step is the whole experiment's: four groups of B pairs through both trunks, both heads, all
 * losses, backward and SGD, on random pictures that are already in device memory.
 * bench/step_pytorch.py does the same work in PyTorch. */
#include "train/step.h"
#include "base/args.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const char *device;
    int batch, threads, steps, width, crop, depth;
} Options;

static int read_options(Options *o, int argc, char **argv, Err *err)
{
    const ArgOption list[] = {
        arg_int("batch", "B", &o->batch, 1, 65536,
                "Pairs a group; a step has four groups (default: 8)"),
        arg_int("threads", "N", &o->threads, 1, 1024, "CPU threads (default: 2)"),
        arg_int("steps", "N", &o->steps, 1, 1000000,
                "Steps timed, after two for warming up (default: 5)"),
        arg_int("depth", "18|50", &o->depth, 18, 50, "Depth of the ResNet trunks (default: 18)"),
        arg_int("width", "N", &o->width, 1, 1024, "Channels of their first stage (default: 64)"),
        arg_int("crop", "N", &o->crop, 65, 4096, "Side of the pictures (default: 224)"),
        arg_text("device", "NAME", &o->device, "auto, cuda or cpu (default: auto)"),
        {0},
    };
    const Args args = {
        .program = "bench_step",
        .summary = "Times one training step of the whole experiment on random pictures.",
        .options = list,
    };
    return args_parse(&args, argc, argv, err);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void *random_pictures(Backend *be, int samples, int crop, uint32_t modality)
{
    size_t count = (size_t)samples * (size_t)(crop * crop) * 3;
    float *host = mem_alloc(count * sizeof *host);
    Rng rng = rng_at(1, RNG_DEMO, modality, 0, 0);
    for (size_t i = 0; i < count; i++) {
        host[i] = (float)(4.0 * rng_uniform(&rng) - 2.0);
    }
    void *x = device_alloc(be, count * sizeof *host);
    device_copy_in(be, x, host, count * sizeof *host);
    device_synchronize(be);
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

static int run(const Options *o, Err *err)
{
    DeviceOptions device = {.threads = o->threads};
    Backend *be = device_open(o->device, &device, err);
    if (!be) {
        return -1;
    }
    NetConfig config = {.trunk = {.depth = o->depth, .width = o->width, .crop = o->crop},
                        .classes = 47,
                        .dropout_p = 0.5f,
                        .rotation_dropout_p = 0.5f};
    StepSettings settings = {.lr = 1e-4,
                             .lr_mult = 1.0,
                             .momentum = 0.9,
                             .weight_decay = 0.05,
                             .alpha = 0.1,
                             .lambda = 1.0};
    NetStep groups = step_groups(o->batch, settings.alpha, settings.lambda);
    Net *net = net_open(be, &config, &groups, 1, err);
    if (!net) {
        device_close(be);
        return -1;
    }
    int samples = net_samples(net);
    void *x[MODALITIES] = {random_pictures(be, samples, o->crop, RGB),
                           random_pictures(be, samples, o->crop, DEPTH)};
    int32_t *labels = some_labels(be, samples);
    Step *step = step_open(net, &settings, NULL);
    double *ms = mem_alloc((size_t)o->steps * sizeof *ms);
    const int warm_up = 2;
    for (int i = -warm_up; i < o->steps; i++) {
        double start = clock_seconds();
        step_learn(step, x[RGB], x[DEPTH], labels, (uint64_t)(i + warm_up));
        step_result(step);
        if (i >= 0) {
            ms[i] = 1e3 * (clock_seconds() - start);
        }
    }
    qsort(ms, (size_t)o->steps, sizeof *ms, compare);
    double median = ms[o->steps / 2];
    printf("rodeo, %s: ResNet-%d width %d at %d, batch %d: %.1f ms a step (median of %d), "
           "%.1f pictures/s, %.0f MiB\n",
           device_description(be), o->depth, o->width, o->crop, o->batch, median, o->steps,
           2e3 * samples / median, (double)net_bytes(net) / 1048576.0);
    free(ms);
    step_close(step);
    device_free(be, labels);
    device_free(be, x[RGB]);
    device_free(be, x[DEPTH]);
    net_close(net);
    device_close(be);
    return 0;
}

int main(int argc, char **argv)
{
    Options options = {.device = "auto",
                       .batch = 8,
                       .threads = 2,
                       .steps = 5,
                       .width = 64,
                       .crop = 224,
                       .depth = 18};
    Err err = {0};
    if (read_options(&options, argc, argv, &err) != 0 || run(&options, &err) != 0) {
        fprintf(stderr, "bench_step: %s\n", err.text);
        return 1;
    }
    return 0;
}
