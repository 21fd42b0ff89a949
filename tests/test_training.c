/* Whole training steps on a device: merged against one pass a group, recorded against operator by
 * operator, the device against the CPU, and a training that is saved and gone on with against one
 * that is not. RODEO_TEST_DEVICE and RODEO_TEST_PRECISION choose the device, RODEO_TEST_PART
 * "numbers" (what is computed) or "mechanics" (recording, saving, choosing). */
#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "model/weights.h"
#include "tests/training_fixture.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static TrainingKind kind_here(void)
{
    return (TrainingKind){.device = test_device(),
                          .precision = test_precision(),
                          .passes = NET_MERGED,
                          .dropout_p = 0.5,
                          .lr = 0.01};
}

/* What a training in another compute type, or with sums in another order, may differ by. */
typedef struct {
    double loss;     /* of the first step */
    double gradient; /* relative, of the whole arena, first step */
    double later;    /* losses of the steps behind it */
} Bounds;

/* Multiples of the type's unit roundoff u. Batch norm over groups of four pictures amplifies what
 * differs: sound runs in fp32, tf32 and fp16 have gradients 100 to 610 u apart. One factor for all
 * types makes a mistake in one show; bf16 only tells what leaves nothing in common. */
static Bounds bounds_of(const char *precision)
{
    double u = strcmp(precision, "fp32") == 0   ? 0x1p-24
               : strcmp(precision, "bf16") == 0 ? 0x1p-8
                                                : 0x1p-11;
    return (Bounds){
        .loss = 60 * u, .gradient = fmin(1000 * u, 0.9), .later = fmin(0.02 + 1000 * u, 0.5)};
}

/* The initial scale overflows in the first steps and is halved: no step is to be skipped here. */
static const LossScale moderate_scale = {.scale = 1024.0F};

static void expect_same_bits(const float *a, const float *b, int64_t count, const char *what)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits[2];
        memcpy(&bits[0], &a[i], sizeof bits[0]);
        memcpy(&bits[1], &b[i], sizeof bits[1]);
        if (bits[0] != bits[1]) {
            fail_msg("%s: element %lld is %.9g and %.9g", what, (long long)i, (double)a[i],
                     (double)b[i]);
        }
    }
}

static void expect_same_state(const Training *a, const Training *b)
{
    int64_t weights = a->net->params.weights.elements;
    float *(*const copies[])(const Training *) = {training_weights, training_momentum,
                                                  training_running};
    static const char *const names[] = {"weights", "momentum", "running statistics"};
    for (int i = 0; i < 3; i++) {
        float *x = copies[i](a);
        float *y = copies[i](b);
        expect_same_bits(x, y, i < 2 ? weights : a->net->params.running.elements, names[i]);
        free(x);
        free(y);
    }
}

static void expect_near(double a, double b, double tolerance, const char *what, int step)
{
    if (!(fabs(a - b) <= tolerance * (1.0 + fabs(b)))) {
        fail_msg("%s of step %d: %.9g against %.9g, more than %g apart", what, step, a, b,
                 tolerance);
    }
}

/* Training amplifies differences: four runs in fp32 were up to 0.003 apart in the first eight
 * steps, 0.04 in eleven, 0.12 in fifty. Behind the eighth only what goes astray is told. */
static void expect_near_losses(const StepResult *a, const StepResult *b, Bounds bounds, int step)
{
    double tolerance = step == 0 ? bounds.loss : step < 8 ? bounds.later : 0.5;
    expect_near(a->cls, b->cls, tolerance, "classification loss", step);
    expect_near(a->ent, b->ent, tolerance, "entropy loss", step);
    expect_near(a->rot_source, b->rot_source, tolerance, "source rotation loss", step);
    expect_near(a->rot_target, b->rot_target, tolerance, "target rotation loss", step);
}

/* How far the gradients of the last step are apart, relative to their size. */
static double gradient_difference(const Training *a, const Training *b)
{
    float *x = training_gradients(a);
    float *y = training_gradients(b);
    double difference = relative_difference(x, y, a->net->params.weights.elements);
    free(x);
    free(y);
    return difference;
}

/* Whether gradients of a step are as near as rounding alone leaves them. Rounding may also have put
 * a value on the other side of a ReLU or a maximum, which moves them further: in a third of 180
 * sets of pictures, by 0.022 at most in fp32. What is much further apart, or NaN, is an error. */
static bool are_near(double difference, double tolerance, int step)
{
    if (difference <= tolerance) {
        return true;
    }
    if (!(difference <= fmax(0.1, 2 * tolerance))) {
        fail_msg("gradients of step %d are %g apart, too far for a flipped ReLU", step, difference);
    }
    print_message("gradients of step %d are %g apart: a flipped ReLU?\n", step, difference);
    return false;
}

enum { OTHER_SETS = 8, NEAR_ENOUGH = 2 };

/* In how many sets of pictures, those of steps 1 to OTHER_SETS, trainings of two kinds have near
 * gradients at the initial weights. Stops at NEAR_ENOUGH. */
static int near_sets(const TrainingKind *kind_a, const TrainingKind *kind_b, double tolerance)
{
    TrainingKind kind[] = {*kind_a, *kind_b};
    Training t[2];
    for (int i = 0; i < 2; i++) {
        kind[i].lr = 0;
        training_open(&t[i], &kind[i]);
        step_restore_loss_scale(t[i].step, &moderate_scale);
    }
    int near = 0;
    for (int step = 1; step <= OTHER_SETS && near < NEAR_ENOUGH; step++) {
        training_step(&t[0], step);
        training_step(&t[1], step);
        near += are_near(gradient_difference(&t[0], &t[1]), tolerance, step);
    }
    training_close(&t[0]);
    training_close(&t[1]);
    return near;
}

/* The gradients of step 0, which a and b have just run, must be near, or else those of other steps
 * of their kinds: a flip concerns single sets, a mistake all. */
static void expect_near_gradients(const Training *a, const TrainingKind *kind_a, const Training *b,
                                  const TrainingKind *kind_b, double tolerance)
{
    if (are_near(gradient_difference(a, b), tolerance, 0)) {
        return;
    }
    int near = near_sets(kind_a, kind_b, tolerance);
    if (near < NEAR_ENOUGH) {
        fail_msg("gradients are near with %d of %d other sets of pictures", near, OTHER_SETS);
    }
}

/* Trainings of this kind run with the same engines from now on: a device that chooses them by
 * timing chooses now, and keeps its choices in the folder, whose name is made up. */
static void fix_choices(TrainingKind *kind, char *folder)
{
    Training training;
    assert_non_null(mkdtemp(folder));
    kind->cache_dir = folder;
    training_open(&training, kind);
    training_step(&training, 0);
    training_close(&training);
}

static void remove_folder(const char *folder)
{
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        char *path = path_join(folder, entry->d_name);
        unlink(path);
        free(path);
    }
    closedir(entries);
    assert_int_equal(rmdir(folder), 0);
}

/* ---- tests -------------------------------------------------------------------------------------
 */

static void separate_passes_mean_the_same(void **state)
{
    (void)state;
    TrainingKind kind = kind_here();
    kind.lr = 0.001; /* at 0.01 rounding alone may double the third loss */
    Training merged;
    training_open(&merged, &kind);
    TrainingKind separate_kind = kind;
    separate_kind.passes = NET_SEPARATE;
    Training separate;
    training_open(&separate, &separate_kind);
    assert_int_equal(net_passes(merged.net), 1);
    assert_int_equal(net_passes(separate.net), TRAINING_GROUPS);
    assert_true(net_bytes(separate.net) < net_bytes(merged.net));
    Bounds bounds = bounds_of(device_precision(merged.be));
    step_restore_loss_scale(merged.step, &moderate_scale);
    step_restore_loss_scale(separate.step, &moderate_scale);
    for (int step = 0; step < 3; step++) {
        StepResult a = training_step(&merged, step);
        StepResult b = training_step(&separate, step);
        expect_near_losses(&b, &a, bounds, step);
        if (step == 0) {
            expect_near_gradients(&separate, &separate_kind, &merged, &kind, bounds.gradient);
            float *x = training_running(&separate);
            float *y = training_running(&merged);
            assert_true(relative_difference(x, y, merged.net->params.running.elements) <
                        bounds.gradient);
            free(x);
            free(y);
        }
    }
    for (int i = 0; i < merged.net->params.norms; i++) {
        assert_int_equal(merged.net->params.norm[i].batches, separate.net->params.norm[i].batches);
    }
    training_close(&merged);
    training_close(&separate);
}

static void recorded_steps_are_the_eager_ones(void **state)
{
    (void)state;
    static const int passes[] = {NET_MERGED, NET_SEPARATE};
    if (strcmp(test_device(), "cpu") == 0) {
        skip(); /* the CPU records nothing */
    }
    for (int i = 0; i < 2; i++) {
        char folder[] = "/tmp/rodeo-test-XXXXXX";
        TrainingKind kind = kind_here();
        kind.passes = passes[i];
        fix_choices(&kind, folder);
        Training recorded;
        training_open(&recorded, &kind);
        kind.eager = true;
        Training eager;
        training_open(&eager, &kind);
        for (int step = 0; step < 5; step++) {
            StepResult a = training_step(&recorded, step);
            StepResult b = training_step(&eager, step);
            assert_memory_equal(&a.cls, &b.cls, sizeof a.cls);
            assert_memory_equal(&a.rot_target, &b.rot_target, sizeof a.rot_target);
        }
        expect_same_state(&recorded, &eager);
        training_close(&recorded);
        training_close(&eager);
        remove_folder(folder);
    }
}

/* An operator that needs more memory of the backend's own than anything before. */
static void run_large_operator(Backend *be)
{
    const ConvShape s = {.N = 1, .H = 1, .W = 1, .C = 2100, .K = 4096, .R = 1, .stride = 1};
    size_t weights = (size_t)s.C * (size_t)s.K * sizeof(float);
    void *x = device_alloc(be, 4096 * sizeof(float));
    float *dw = device_alloc(be, weights);
    device_zero(be, x, 4096 * sizeof(float));
    device_zero(be, dw, weights);
    op_conv_wgrad(be, &s, x, x, true, dw, NULL);
    device_synchronize(be);
    device_free(be, x);
    device_free(be, dw);
}

/* Evaluation between epochs has larger batches than the step. */
static void recorded_steps_keep_their_memory(void **state)
{
    (void)state;
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    TrainingKind kind = kind_here();
    fix_choices(&kind, folder);
    Training a;
    Training b;
    training_open(&a, &kind);
    training_open(&b, &kind);
    for (int step = 0; step < 6; step++) {
        training_step(&a, step);
        training_step(&b, step);
        if (step == 3) {
            run_large_operator(a.be);
        }
    }
    expect_same_state(&a, &b);
    training_close(&a);
    training_close(&b);
    remove_folder(folder);
}

static int steps_against_the_cpu(void)
{
    const char *text = getenv("RODEO_TEST_STEPS");
    return text ? (int)strtol(text, NULL, 10) : 6;
}

/* Without dropout's chance the losses of a device follow the CPU's. */
static void losses_follow_the_cpu(void **state)
{
    (void)state;
    TrainingKind kind = kind_here();
    if (strcmp(kind.device, "cpu") == 0) {
        skip(); /* it would be held against itself */
    }
    kind.lr = 0.0001;
    Training here;
    training_open(&here, &kind);
    TrainingKind cpu_kind = kind;
    cpu_kind.device = "cpu";
    cpu_kind.precision = "fp32";
    Training cpu;
    training_open(&cpu, &cpu_kind);
    Bounds bounds = bounds_of(device_precision(here.be));
    step_restore_loss_scale(here.step, &moderate_scale);
    for (int step = 0; step < steps_against_the_cpu(); step++) {
        StepResult a = training_step(&here, step);
        StepResult b = training_step(&cpu, step);
        expect_near_losses(&a, &b, bounds, step);
        assert_int_equal(a.skipped, 0);
        if (step == 0) {
            expect_near_gradients(&here, &kind, &cpu, &cpu_kind, bounds.gradient);
        }
    }
    training_close(&here);
    training_close(&cpu);
}

/* Saves a training through a weight file and goes on in a new one. */
static void a_saved_training_goes_on_with_the_same_bits(void **state)
{
    (void)state;
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    TrainingKind kind = kind_here();
    fix_choices(&kind, folder);
    char *path = mem_format("%s/state.safetensors", folder);
    Training whole;
    Training first;
    Training second;
    Err err;
    training_open(&whole, &kind);
    training_open(&first, &kind);
    training_open(&second, &kind);
    for (int step = 0; step < 6; step++) {
        training_step(&whole, step);
        if (step < 3) {
            training_step(&first, step);
        }
    }
    WeightList weights = weights_collect(first.net);
    assert_int_equal(safetensors_write(path, NULL, weights.tensor, weights.count, NULL, 0, &err),
                     0);
    weights_free(&weights);
    SafeFile *file = safetensors_open(path, &err);
    assert_non_null(file);
    assert_int_equal(weights_restore(second.net, file, true, &err), 0);
    safetensors_close(file);
    LossScale scale = step_loss_scale(first.step);
    step_restore_loss_scale(second.step, &scale);
    for (int step = 3; step < 6; step++) {
        training_step(&second, step);
    }
    expect_same_state(&whole, &second);
    training_close(&whole);
    training_close(&first);
    training_close(&second);
    remove_folder(folder);
    free(path);
}

/* A loss scale that overflows fp16 costs the step and halves the scale, nothing else. */
static void an_overflow_leaves_the_weights_alone(void **state)
{
    (void)state;
    TrainingKind kind = kind_here();
    Training t;
    training_open(&t, &kind);
    if (!device_needs_loss_scale(t.be)) {
        training_close(&t);
        skip();
    }
    int64_t count = t.net->params.weights.elements;
    training_step(&t, 0);
    float *before = training_weights(&t);
    step_restore_loss_scale(t.step, &(LossScale){.scale = 0x1p40F, .good_steps = 5, .skipped = 2});
    StepResult result = training_step(&t, 1);
    assert_int_equal(result.skipped, 1);
    assert_int_equal(step_loss_scale(t.step).skipped, 3);
    assert_true(result.loss_scale == 0x1p39);
    assert_int_equal(step_loss_scale(t.step).good_steps, 0);
    float *after = training_weights(&t);
    expect_same_bits(after, before, count, "weights");
    step_restore_loss_scale(t.step, &(LossScale){.scale = 1024.0F});
    result = training_step(&t, 1);
    assert_int_equal(result.skipped, 0);
    assert_int_equal(step_loss_scale(t.step).good_steps, 1);
    free(before);
    free(after);
    training_close(&t);
}

/* The one file of the folder, as a text; *path is its name. Both are to be freed. */
static char *only_file(const char *folder, char **path)
{
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    *path = NULL;
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        if (entry->d_name[0] != '.') {
            assert_null(*path);
            *path = path_join(folder, entry->d_name);
        }
    }
    closedir(entries);
    char *text = *path ? path_read(*path, NULL, NULL) : NULL;
    if (!text) {
        fail_msg("no file in %s", folder);
        abort();
    }
    return text;
}

static int lines_of(const char *text)
{
    int count = 0;
    for (; *text != '\0'; text++) {
        count += *text == '\n';
    }
    return count;
}

/* The kept choices with engines that do not exist. */
static char *with_unknown_engines(const char *kept)
{
    static const char label[] = ": engine ";
    char *text = mem_string("");
    const char *from = kept;
    for (const char *at; (at = strstr(from, label)) != NULL;) {
        at += strlen(label);
        char *longer = mem_format("%s%.*s99999", text, (int)(at - from), from);
        free(text);
        text = longer;
        from = at + strcspn(at, " \n");
    }
    char *whole = mem_format("%s%s", text, from);
    free(text);
    return whole;
}

/* A training with the choices in the folder leaves these behind; the file's path goes with it. */
static char *choices_after_a_step(TrainingKind *kind, char *folder, char **path)
{
    Training training;
    kind->cache_dir = folder;
    training_open(&training, kind);
    training_step(&training, 0);
    training_close(&training);
    return only_file(folder, path);
}

/* Engines are measured once and kept; a damaged file, or engines that this cuDNN does not have, are
 * as good as none, and are replaced. */
static void choices_of_engines_are_kept(void **state)
{
    (void)state;
    if (strcmp(test_device(), "cpu") == 0) {
        skip(); /* it chooses nothing */
    }
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    TrainingKind kind = kind_here();
    kind.cache_dir = folder;
    Training first;
    training_open(&first, &kind);
    training_step(&first, 0);
    char *path;
    char *kept = only_file(folder, &path);
    assert_true(strlen(kept) > 1000);
    Training second;
    training_open(&second, &kind);
    training_step(&second, 0);
    expect_same_state(&first, &second);
    training_close(&second);
    char *path_again;
    char *again = only_file(folder, &path_again);
    assert_string_equal(kept, again);
    training_close(&first);
    char *damaged[] = {
        mem_string("fprop fp16 N=1 H=2\nfprop\n\ndgrad fp32 N=99999999999999999999 H=1\n"),
        with_unknown_engines(kept),
    };
    assert_non_null(strstr(damaged[1], "engine 99999"));
    for (int i = 0; i < 2; i++) {
        Err err;
        char *path_repaired;
        assert_int_equal(atomic_file_replace(path, damaged[i], strlen(damaged[i]), &err), 0);
        char *repaired = choices_after_a_step(&kind, folder, &path_repaired);
        assert_int_equal(lines_of(repaired), lines_of(kept));
        assert_null(strstr(repaired, "99999"));
        free(path_repaired);
        char *unchanged = choices_after_a_step(&kind, folder, &path_repaired);
        assert_string_equal(unchanged, repaired);
        free(path_repaired);
        free(unchanged);
        free(repaired);
        free(damaged[i]);
    }
    remove_folder(folder);
    free(kept);
    free(again);
    free(path);
    free(path_again);
}

static bool opens(const char *precision)
{
    DeviceOptions options = {.threads = 1, .precision = precision};
    Backend *be = device_open(test_device(), &options, &(Err){""});
    device_close(be);
    return be != NULL;
}

/* Whether the device is one that has no such precision, as GPUs before Ampere have no tf32 and no
 * bf16: then there is nothing to test. */
static bool is_lacking(const char *precision)
{
    bool may_lack = strcmp(precision, "tf32") == 0 || strcmp(precision, "bf16") == 0;
    return may_lack && !opens(precision) && opens("fp32");
}

static bool is_wanted(const char *part)
{
    const char *wanted = getenv("RODEO_TEST_PART");
    return wanted == NULL || strcmp(wanted, part) == 0;
}

int main(void)
{
    if (getenv("RODEO_TEST_SKIP") && !getenv("RODEO_REQUIRE_GPU") && !device_gpu_is_present()) {
        puts("no GPU here");
        return 77;
    }
    if (is_lacking(test_precision())) {
        printf("no %s on this device\n", test_precision());
        return 0;
    }
    const struct CMUnitTest numbers[] = {
        cmocka_unit_test(separate_passes_mean_the_same),
        cmocka_unit_test(losses_follow_the_cpu),
    };
    const struct CMUnitTest mechanics[] = {
        cmocka_unit_test(recorded_steps_are_the_eager_ones),
        cmocka_unit_test(recorded_steps_keep_their_memory),
        cmocka_unit_test(a_saved_training_goes_on_with_the_same_bits),
        cmocka_unit_test(choices_of_engines_are_kept),
        cmocka_unit_test(an_overflow_leaves_the_weights_alone),
    };
    bool has_numbers = is_wanted("numbers");
    bool has_mechanics = is_wanted("mechanics");
    int failed = has_numbers || has_mechanics ? 0 : 1; /* neither: a name that is not known */
    if (has_numbers) {
        failed += cmocka_run_group_tests(numbers, NULL, NULL);
    }
    if (has_mechanics) {
        failed += cmocka_run_group_tests(mechanics, NULL, NULL);
    }
    return failed;
}
