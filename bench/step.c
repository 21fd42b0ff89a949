/* build/bench_step: how long one training step takes, and where the time goes.
 *
 * The step is the whole experiment's: four groups of B pairs through both trunks, both heads, all
 * losses, backward and SGD, on random pictures that are already in device memory.
 * bench/step_pytorch.py does the same work in PyTorch. */
#include "train/step.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const char *device;
    int batch, threads, steps, width, crop, depth;
} Options;

static const struct argp_option option_list[] = {
    {"batch", 'b', "B", 0, "Pairs a group; a step has four groups (default: 8)", 0},
    {"threads", 't', "N", 0, "CPU threads (default: 2)", 0},
    {"steps", 's', "N", 0, "Steps timed, after two for warming up (default: 5)", 0},
    {"depth", 'd', "18|50", 0, "Depth of the ResNet trunks (default: 18)", 0},
    {"width", 'w', "N", 0, "Channels of their first stage (default: 64)", 0},
    {"crop", 'c', "N", 0, "Side of the pictures (default: 224)", 0},
    {"device", 'e', "NAME", 0, "auto, cuda or cpu (default: auto)", 0},
    {0},
};

static int positive(struct argp_state *state, const char *text)
{
    long value = strtol(text, NULL, 10);
    if (value < 1 || value > 100000) {
        argp_error(state, "'%s' is not a number from 1 to 100000", text);
    }
    return (int)value;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    Options *o = state->input;
    int *const numbers[] = {['b'] = &o->batch, ['t'] = &o->threads, ['s'] = &o->steps,
                            ['d'] = &o->depth, ['w'] = &o->width,   ['c'] = &o->crop};
    if (key == 'e') {
        o->device = text;
        return 0;
    }
    if (key <= 0 || (size_t)key >= sizeof numbers / sizeof *numbers || !numbers[key]) {
        return ARGP_ERR_UNKNOWN;
    }
    *numbers[key] = positive(state, text);
    return 0;
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
    const struct argp parser = {
        .options = option_list,
        .parser = parse_option,
        .doc = "Times one training step of the whole experiment on random pictures."};
    Err err;
    argp_parse(&parser, argc, argv, 0, NULL, &options);
    if (run(&options, &err) != 0) {
        fprintf(stderr, "bench_step: %s\n", err.text);
        return 1;
    }
    return 0;
}
