/* The whole network and its training steps against PyTorch in float64 (golden/make_net.py says
 * what the files hold and how both sides compute the parameters, pictures and labels). */
#include "base/mem.h"
#include "base/rng.h"
#include "golden.h"
#include "model/net.h"
#include "train/step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BATCH   8
#define CROP    136
#define SQUARES 4 /* of one colour each, along a side of a picture */
#define CLASSES 5
#define LOSSES  4

/* float32 against float64. PyTorch's own float32 deviates by up to 5e-6 (logits), 3e-5 (losses),
 * 1e-4 (gradients), 2e-2 (what three steps change: most of it the rounding of weights near 1) and
 * 1.3e-3 (logits after the steps); make_net.py --float32 prints these. One activation that rounding
 * moves across a ReLU's kink costs more than all other rounding, hence a loss's bound grows by the
 * step. */
#define LOGIT_TOLERANCE      1e-4
#define LOSS_TOLERANCE       1e-4 /* in the first step, tenfold in the second, ... */
#define GRADIENT_TOLERANCE   2e-3
#define CHANGE_TOLERANCE     1e-1
#define BUFFER_TOLERANCE     1e-4
#define EVALUATION_TOLERANCE 1e-2

static uint32_t fnv1a(const char *text)
{
    uint32_t hash = 2166136261u;
    for (; *text; text++) {
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    }
    return hash;
}

static uint32_t word_at(uint64_t key, uint64_t i, uint32_t c1, uint32_t c2)
{
    return philox4x32(key, (uint32_t)(i / 4), c1, c2, 0).word[i % 4];
}

static double uniform(uint32_t word)
{
    return (double)word * 0x1p-32;
}

/* ---- the parameters and data that both sides compute
 * ---------------------------------------------- */

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text);
    return length >= strlen(ending) && strcmp(text + length - strlen(ending), ending) == 0;
}

static double parameter(const ParamSpec *spec, uint64_t i)
{
    double r = 2.0 * uniform(word_at(1234, i, fnv1a(spec->name), 0)) - 1.0;
    if (ends_with(spec->name, ".bias")) {
        return 0.1 * r;
    }
    if (ends_with(spec->name, ".bn3.weight")) {
        return 0.25 * (1.0 + 0.2 * r);
    }
    if (spec->ndim == 1) {
        return 1.0 + 0.2 * r;
    }
    return r * sqrt(3.0 * spec->dim[0] / (double)spec->count);
}

/* The arena of initial parameters, in host memory (free it). */
static float *initial_parameters(const ParamTable *table)
{
    float *host = mem_zeroed((size_t)table->elements, sizeof *host);
    for (int t = 0; t < table->count; t++) {
        const ParamSpec *spec = &table->spec[t];
        float *file = mem_alloc((size_t)spec->count * sizeof *file);
        for (int64_t i = 0; i < spec->count; i++) {
            file[i] = (float)parameter(spec, (uint64_t)i);
        }
        param_from_file_order(spec, file, host + spec->offset);
        free(file);
    }
    return host;
}

static void set_parameters(Net *net)
{
    const ParamTable *table = &net->params.weights;
    float *host = initial_parameters(table);
    device_copy_in(net->be, net->params.w, host, (size_t)table->elements * sizeof *host);
    free(host);
}

/* One value of the pictures [samples, CROP, CROP, 3]. */
static float picture_value(int64_t i, uint32_t modality, uint32_t step)
{
    const int side = CROP / SQUARES;
    int64_t channel = i % 3;
    int64_t column = i / 3 % CROP / side;
    int64_t row = i / 3 / CROP % CROP / side;
    int64_t sample = i / 3 / CROP / CROP;
    int64_t square = (sample * SQUARES + row) * SQUARES + column;
    uint32_t word = word_at(99, (uint64_t)(square * 3 + channel), modality, step);
    return (float)(4.0 * uniform(word) - 2.0);
}

/* ---- one case
 * ------------------------------------------------------------------------------------------ */

typedef struct {
    const char *file;
    double alpha, lambda;
    float dropout_p;
    int depth, width;
    int steps;
} Case;

typedef struct {
    const Case *kind;
    Golden *golden;
    Backend *be;
    Net *net;
    Step *step;
    int samples;
    float *x[MODALITIES]; /* device */
    float *host;
    int32_t *labels; /* device */
} Fixture;

static void expect_close(double actual, double expected, double deviation, const char *what,
                         int index)
{
    if (!(fabs(actual - expected) <= deviation)) {
        fail_msg("%s [%d] is %.9g, PyTorch has %.9g", what, index, actual, expected);
    }
}

static void fixture_open(Fixture *f, const Case *kind)
{
    *f = (Fixture){.kind = kind, .golden = golden_open(kind->file)};
    Err err;
    DeviceOptions options = {.threads = 2};
    NetConfig config = {.trunk = {.depth = kind->depth, .width = kind->width, .crop = CROP},
                        .classes = CLASSES,
                        .dropout_p = kind->dropout_p,
                        .rotation_dropout_p = kind->dropout_p};
    NetStep groups = step_groups(BATCH, kind->alpha, kind->lambda);
    StepSettings settings = {.lr = 0.0001,
                             .lr_mult = 2.0,
                             .momentum = 0.9,
                             .weight_decay = 0.05,
                             .alpha = kind->alpha,
                             .lambda = kind->lambda,
                             .seed = 42};
    f->be = device_open("cpu", &options, &err);
    f->net = net_open(f->be, &config, &groups, 1, &err);
    assert_non_null(f->net);
    set_parameters(f->net);
    f->step = step_open(f->net, &settings, NULL);
    f->samples = net_samples(f->net);
    size_t bytes = (size_t)f->samples * CROP * CROP * 3 * sizeof(float);
    f->host = mem_alloc(bytes);
    for (int m = 0; m < MODALITIES; m++) {
        f->x[m] = device_alloc(f->be, bytes);
    }
    f->labels = device_alloc(f->be, (size_t)f->samples * sizeof *f->labels);
}

static void fixture_close(Fixture *f)
{
    for (int m = 0; m < MODALITIES; m++) {
        device_free(f->be, f->x[m]);
    }
    device_free(f->be, f->labels);
    free(f->host);
    step_close(f->step);
    net_close(f->net);
    device_close(f->be);
    golden_close(f->golden);
}

static void load_batch(Fixture *f, int step)
{
    int64_t count = (int64_t)f->samples * CROP * CROP * 3;
    for (int m = 0; m < MODALITIES; m++) {
        for (int64_t i = 0; i < count; i++) {
            f->host[i] = picture_value(i, (uint32_t)m, (uint32_t)step);
        }
        device_copy_in(f->be, f->x[m], f->host, (size_t)count * sizeof *f->host);
    }
    int32_t labels[4 * BATCH];
    for (int slot = 0; slot < f->samples; slot++) {
        uint32_t word = word_at(77, (uint64_t)slot, (uint32_t)step, 0);
        labels[slot] = (int32_t)(slot < 2 * BATCH ? word % CLASSES : word % ROTATION_CLASSES);
    }
    device_copy_in(f->be, f->labels, labels, (size_t)f->samples * sizeof *labels);
}

static void check_logits(Fixture *f, const float *logits, int rows, int columns, double tolerance,
                         const char *name)
{
    int count = rows * columns;
    float *host = mem_alloc((size_t)count * sizeof *host);
    const double *expected = golden_f64(f->golden, name, count);
    device_copy_out(f->be, host, logits, (size_t)count * sizeof *host);
    for (int i = 0; i < count; i++) {
        expect_close((double)host[i], expected[i], tolerance * (1.0 + fabs(expected[i])), name, i);
    }
    free(host);
}

static void check_losses(Fixture *f, int step)
{
    const double *losses = golden_f64(f->golden, "losses", (int64_t)f->kind->steps * LOSSES);
    const int32_t *correct = golden_i32(f->golden, "correct", (int64_t)f->kind->steps * LOSSES);
    StepResult result = step_result(f->step);
    const double actual[] = {result.cls, result.ent, result.rot_source, result.rot_target};
    const int hits[] = {result.correct, 0, result.correct_rot_source, result.correct_rot_target};
    for (int i = 0; i < LOSSES; i++) {
        expect_close(actual[i], losses[step * LOSSES + i], LOSS_TOLERANCE * pow(10, step), "loss",
                     step * LOSSES + i);
        assert_int_equal(hits[i], correct[step * LOSSES + i]);
    }
}

/* Norm and signed sum of one tensor in the file's order. */
static void sketch(const ParamSpec *spec, const float *arena, double result[2])
{
    float *file = mem_alloc((size_t)spec->count * sizeof *file);
    param_to_file_order(spec, arena + spec->offset, file);
    double squares = 0;
    result[1] = 0;
    for (int64_t i = 0; i < spec->count; i++) {
        double value = (double)file[i];
        squares += value * value;
        result[1] += word_at(5, (uint64_t)i, fnv1a(spec->name), 0) % 2 == 0 ? value : -value;
    }
    result[0] = sqrt(squares);
    free(file);
}

typedef enum { SKETCH_GRADIENT = 0, SKETCH_CHANGE = 2 } SketchPart; /* where in [4] */

static void check_sketches(const Fixture *f, const float *arena, SketchPart part)
{
    const ParamTable *table = &f->net->params.weights;
    /* Biases before a batch norm have no gradient but rounding. */
    const double tolerance = part == SKETCH_GRADIENT ? GRADIENT_TOLERANCE : CHANGE_TOLERANCE;
    const double floor = part == SKETCH_GRADIENT ? 1e-5 : 1e-8;
    for (int t = 0; t < table->count; t++) {
        const ParamSpec *spec = &table->spec[t];
        if (part == SKETCH_GRADIENT && spec->group == PARAM_ROTATION_HEAD && f->kind->lambda == 0) {
            continue;
        }
        char name[96];
        snprintf(name, sizeof name, "sketch.%s", spec->name);
        const double *expected = golden_f64(f->golden, name, 4) + part;
        double actual[2];
        sketch(spec, arena, actual);
        for (int i = 0; i < 2; i++) {
            expect_close(actual[i], expected[i], tolerance * expected[0] + floor, name,
                         (int)part + i);
        }
    }
}

static float *copied_out(const Fixture *f, const float *device_arena)
{
    size_t bytes = (size_t)f->net->params.weights.elements * sizeof(float);
    float *arena = mem_alloc(bytes);
    device_copy_out(f->be, arena, device_arena, bytes);
    return arena;
}

static void check_gradients(const Fixture *f)
{
    float *dw = copied_out(f, f->net->params.dw);
    check_sketches(f, dw, SKETCH_GRADIENT);
    free(dw);
}

static void check_changes(const Fixture *f)
{
    const ParamTable *table = &f->net->params.weights;
    float *w = copied_out(f, f->net->params.w);
    float *initial = initial_parameters(table);
    for (int64_t i = 0; i < table->elements; i++) {
        w[i] -= initial[i];
    }
    check_sketches(f, w, SKETCH_CHANGE);
    free(initial);
    free(w);
}

static void check_buffer_sketch(const Fixture *f, const ParamSpec *spec, const float *arena,
                                const char *name)
{
    const double *expected = golden_f64(f->golden, name, 2);
    double actual[2];
    sketch(spec, arena, actual);
    for (int i = 0; i < 2; i++) {
        expect_close(actual[i], expected[i], BUFFER_TOLERANCE * (1.0 + expected[0]), name, i);
    }
}

static void check_buffers(Fixture *f)
{
    const ParamTable *table = &f->net->params.running;
    size_t bytes = (size_t)table->elements * sizeof(float);
    float *arena = mem_alloc(bytes);
    device_copy_out(f->be, arena, f->net->params.running_stats, bytes);
    for (int t = 0; t < table->count; t++) {
        const ParamSpec *spec = &table->spec[t];
        char name[96];
        snprintf(name, sizeof name, "buffer.%s", spec->name);
        if (f->kind->depth == 50) {
            check_buffer_sketch(f, spec, arena, name);
            continue;
        }
        const double *expected = golden_f64(f->golden, name, spec->count);
        for (int64_t i = 0; i < spec->count; i++) {
            expect_close((double)arena[spec->offset + i], expected[i],
                         BUFFER_TOLERANCE * (1.0 + fabs(expected[i])), name, (int)i);
        }
    }
    free(arena);
}

static void check_evaluation(Fixture *f)
{
    load_batch(f, 0);
    check_logits(f, net_eval_main(f->net, f->x[RGB], f->x[DEPTH]), BATCH, CLASSES,
                 EVALUATION_TOLERANCE, "eval_logits_main");
    if (f->kind->lambda > 0) {
        const float *logits = net_eval_rotation(f->net, f->x[RGB], f->x[DEPTH]);
        check_logits(f, logits + (ptrdiff_t)(2 * BATCH * ROTATION_CLASSES), BATCH, ROTATION_CLASSES,
                     EVALUATION_TOLERANCE, "eval_logits_rotation");
    }
}

static void check_batch_counters(const Fixture *f)
{
    const Params *params = &f->net->params;
    for (int i = 0; i < params->norms; i++) {
        const char *name = params->norm[i].name;
        bool main_head = strncmp(name, "main.", 5) == 0;
        bool rotation_head = strncmp(name, "rotation.", 9) == 0;
        int groups = main_head       ? f->net->step.main_groups
                     : rotation_head ? f->net->step.rotation_groups
                                     : f->net->step.main_groups + f->net->step.rotation_groups;
        assert_int_equal(params->norm[i].batches, f->kind->steps * groups);
    }
}

static void run_case(const Case *kind)
{
    Fixture f;
    fixture_open(&f, kind);
    for (int step = 0; step < f.kind->steps; step++) {
        load_batch(&f, step);
        step_learn(f.step, f.x[RGB], f.x[DEPTH], f.labels, (uint64_t)step);
        check_losses(&f, step);
        if (step == 0) {
            check_logits(&f, net_main_logits(f.net, 0), BATCH * f.net->step.main_groups, CLASSES,
                         LOGIT_TOLERANCE, "logits_main");
            if (kind->lambda > 0) {
                check_logits(&f, net_rotation_logits(f.net, 0), 2 * BATCH, ROTATION_CLASSES,
                             LOGIT_TOLERANCE, "logits_rotation");
            }
            check_gradients(&f);
        }
    }
    check_changes(&f);
    check_buffers(&f);
    check_batch_counters(&f);
    check_evaluation(&f);
    fixture_close(&f);
}

static void relative_rotation_matches_pytorch(void **state)
{
    (void)state;
    run_case(&(Case){"net_plain.safetensors", 0.1, 1.0, 0.0f, 18, 8, 3});
}

static void dropout_masks_match_pytorch(void **state)
{
    (void)state;
    run_case(&(Case){"net_dropout.safetensors", 0.1, 1.0, 0.5f, 18, 8, 3});
}

static void source_only_matches_pytorch(void **state)
{
    (void)state;
    run_case(&(Case){"net_source_only.safetensors", 0.0, 0.0, 0.0f, 18, 8, 3});
}

static void resnet50_matches_pytorch(void **state)
{
    (void)state;
    run_case(&(Case){"net_resnet50.safetensors", 0.1, 1.0, 0.0f, 50, 4, 1});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relative_rotation_matches_pytorch),
        cmocka_unit_test(dropout_masks_match_pytorch),
        cmocka_unit_test(source_only_matches_pytorch),
        cmocka_unit_test(resnet50_matches_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
