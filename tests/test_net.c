/* The whole network and three training steps against PyTorch in float64 (golden/make_net.py says
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

#define BATCH     4
#define CROP      136
#define CLASSES   5
#define STEPS     3
#define LOSSES    4
#define TOLERANCE 2e-4 /* float32 against float64 through 20 layers and three steps */

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
    if (spec->ndim == 1) {
        return 1.0 + 0.2 * r;
    }
    return r * sqrt(3.0 * spec->dim[0] / (double)spec->count);
}

static void set_parameters(Net *net)
{
    const ParamTable *table = &net->params.weights;
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
    device_copy_in(net->be, net->params.w, host, (size_t)table->elements * sizeof *host);
    free(host);
}

static void set_pictures(float *x, int64_t count, uint32_t modality, uint32_t step)
{
    for (int64_t i = 0; i < count; i++) {
        x[i] = (float)(4.0 * uniform(word_at(99, (uint64_t)i, modality, step)) - 2.0);
    }
}

/* ---- one case
 * ------------------------------------------------------------------------------------------ */

typedef struct {
    const char *file;
    double alpha, lambda;
    float dropout_p;
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

static void expect_close(double actual, double expected, double scale, const char *what, int index)
{
    if (!(fabs(actual - expected) <= TOLERANCE * scale)) {
        fail_msg("%s [%d] is %.9g, PyTorch has %.9g", what, index, actual, expected);
    }
}

static void fixture_open(Fixture *f, const Case *kind)
{
    *f = (Fixture){.kind = kind, .golden = golden_open(kind->file)};
    Err err;
    DeviceOptions options = {.threads = 2};
    NetConfig config = {.trunk = {.depth = 18, .width = 8, .crop = CROP},
                        .classes = CLASSES,
                        .dropout_p = kind->dropout_p,
                        .rotation_dropout_p = kind->dropout_p};
    NetStep groups = step_groups(BATCH, kind->alpha, kind->lambda);
    StepSettings settings = {.lr = 0.01,
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
        set_pictures(f->host, count, (uint32_t)m, (uint32_t)step);
        device_copy_in(f->be, f->x[m], f->host, (size_t)count * sizeof *f->host);
    }
    int32_t labels[4 * BATCH];
    for (int slot = 0; slot < f->samples; slot++) {
        uint32_t word = word_at(77, (uint64_t)slot, (uint32_t)step, 0);
        labels[slot] = (int32_t)(slot < 2 * BATCH ? word % CLASSES : word % ROTATION_CLASSES);
    }
    device_copy_in(f->be, f->labels, labels, (size_t)f->samples * sizeof *labels);
}

static void check_logits(Fixture *f, const float *logits, int rows, int columns, const char *name)
{
    int count = rows * columns;
    float *host = mem_alloc((size_t)count * sizeof *host);
    const double *expected = golden_f64(f->golden, name, count);
    device_copy_out(f->be, host, logits, (size_t)count * sizeof *host);
    for (int i = 0; i < count; i++) {
        expect_close((double)host[i], expected[i], 1.0 + fabs(expected[i]), name, i);
    }
    free(host);
}

static void check_losses(Fixture *f, int step)
{
    const double *losses = golden_f64(f->golden, "losses", (int64_t)STEPS * LOSSES);
    const int32_t *correct = golden_i32(f->golden, "correct", (int64_t)STEPS * LOSSES);
    StepResult result = step_result(f->step);
    const double actual[] = {result.cls, result.ent, result.rot_source, result.rot_target};
    const int hits[] = {result.correct, 0, result.correct_rot_source, result.correct_rot_target};
    for (int i = 0; i < LOSSES; i++) {
        expect_close(actual[i], losses[step * LOSSES + i], 1.0, "loss", step * LOSSES + i);
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

/* which: 0 the gradients, 2 the values. */
static void check_sketches(Fixture *f, const float *device_arena, int which)
{
    const ParamTable *table = &f->net->params.weights;
    size_t bytes = (size_t)table->elements * sizeof(float);
    float *arena = mem_alloc(bytes);
    device_copy_out(f->be, arena, device_arena, bytes);
    for (int t = 0; t < table->count; t++) {
        const ParamSpec *spec = &table->spec[t];
        if (which == 0 && spec->group == PARAM_ROTATION_HEAD && f->kind->lambda == 0) {
            continue;
        }
        char name[96];
        snprintf(name, sizeof name, "sketch.%s", spec->name);
        const double *expected = golden_f64(f->golden, name, 4) + which;
        double actual[2];
        sketch(spec, arena, actual);
        for (int i = 0; i < 2; i++) {
            expect_close(actual[i], expected[i], expected[0] + 0.01, name, which + i);
        }
    }
    free(arena);
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
        const double *expected = golden_f64(f->golden, name, spec->count);
        for (int64_t i = 0; i < spec->count; i++) {
            expect_close((double)arena[spec->offset + i], expected[i], 1.0 + fabs(expected[i]),
                         name, (int)i);
        }
    }
    free(arena);
}

static void check_evaluation(Fixture *f)
{
    load_batch(f, 0);
    check_logits(f, net_eval_main(f->net, f->x[RGB], f->x[DEPTH]), BATCH, CLASSES,
                 "eval_logits_main");
    if (f->kind->lambda > 0) {
        const float *logits = net_eval_rotation(f->net, f->x[RGB], f->x[DEPTH]);
        check_logits(f, logits + (ptrdiff_t)(2 * BATCH * ROTATION_CLASSES), BATCH, ROTATION_CLASSES,
                     "eval_logits_rotation");
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
        assert_int_equal(params->norm[i].batches, STEPS * groups);
    }
}

static void run_case(const Case *kind)
{
    Fixture f;
    fixture_open(&f, kind);
    for (int step = 0; step < STEPS; step++) {
        load_batch(&f, step);
        step_learn(f.step, f.x[RGB], f.x[DEPTH], f.labels, (uint64_t)step);
        check_losses(&f, step);
        if (step == 0) {
            check_logits(&f, net_main_logits(f.net, 0), BATCH * f.net->step.main_groups, CLASSES,
                         "logits_main");
            if (kind->lambda > 0) {
                check_logits(&f, net_rotation_logits(f.net, 0), 2 * BATCH, ROTATION_CLASSES,
                             "logits_rotation");
            }
            check_sketches(&f, f.net->params.dw, 0);
        }
    }
    check_sketches(&f, f.net->params.w, 2);
    check_buffers(&f);
    check_batch_counters(&f);
    check_evaluation(&f);
    fixture_close(&f);
}

static void relative_rotation_matches_pytorch(void **state)
{
    (void)state;
    run_case(&(Case){"net_plain.safetensors", 0.1, 1.0, 0.0f});
}

static void dropout_masks_match_pytorch(void **state)
{
    (void)state;
    run_case(&(Case){"net_dropout.safetensors", 0.1, 1.0, 0.5f});
}

static void source_only_matches_pytorch(void **state)
{
    (void)state;
    run_case(&(Case){"net_source_only.safetensors", 0.0, 0.0, 0.0f});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relative_rotation_matches_pytorch),
        cmocka_unit_test(dropout_masks_match_pytorch),
        cmocka_unit_test(source_only_matches_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
