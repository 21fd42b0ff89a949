#include "train/trainer.h"

#include "base/clock.h"
#include "base/progress.h"
#include "base/text.h"
#include "train/evaluate.h"

#include <math.h>
#include <stdio.h>

static bool stopped(const Trainer *t)
{
    return *t->stop != 0;
}

static PlanSettings plan_settings(const Trainer *t, LoaderId loader, uint32_t epoch)
{
    static const struct {
        CorpusSet set;
        bool augment, rotate, drop_last;
    } kinds[] = {
        [LOADER_SOURCE] = {CORPUS_SOURCE_TRAIN, true, false, true},
        [LOADER_TARGET] = {CORPUS_TARGET, true, false, true},
        [LOADER_SOURCE_ROTATION] = {CORPUS_SOURCE_TRAIN, true, true, true},
        [LOADER_TARGET_ROTATION] = {CORPUS_TARGET, true, true, true},
        [LOADER_SOURCE_TEST] = {CORPUS_SOURCE_TEST, false, false, false},
        [LOADER_SOURCE_ROTATION_TEST] = {CORPUS_SOURCE_TEST, true, true, false},
        [LOADER_TARGET_ROTATION_TEST] = {CORPUS_TARGET, true, true, false},
        [LOADER_TARGET_TEST] = {CORPUS_TARGET, false, false, false},
    };
    return (PlanSettings){.pack = t->corpus.pack[kinds[loader].set],
                          .seed = t->settings->seed,
                          .epoch = epoch,
                          .loader = loader,
                          .batch = t->settings->batch_size,
                          .crop = t->settings->crop_size,
                          .augment = kinds[loader].augment,
                          .rotate = kinds[loader].rotate,
                          .drop_last = kinds[loader].drop_last};
}

static int workers(const Trainer *t)
{
    int cores = pool_cores();
    int wanted = t->settings->num_workers > 0 ? t->settings->num_workers : 1;
    return wanted < cores ? wanted : cores;
}

/* Opens the training loaders of an epoch: its steps are one pass over the source. */
static Loader *open_training(const Trainer *t, uint32_t epoch, int64_t *steps, Err *err)
{
    LoaderSettings s = {
        .be = t->be, .store = t->corpus.store, .consecutive = 1, .workers = workers(t)};
    s.source[s.sources++] = plan_settings(t, LOADER_SOURCE, epoch);
    if (t->net->step.main_groups == 2) {
        s.source[s.sources++] = plan_settings(t, LOADER_TARGET, epoch);
    }
    if (t->net->step.rotation_groups == 2) {
        s.source[s.sources++] = plan_settings(t, LOADER_SOURCE_ROTATION, epoch);
        s.source[s.sources++] = plan_settings(t, LOADER_TARGET_ROTATION, epoch);
    }
    Plan *source = plan_open(&s.source[0], err);
    if (!source) {
        return NULL;
    }
    *steps = plan_batches(source);
    plan_close(source);
    s.steps = *steps;
    return loader_open(&s, err);
}

/* Sums of an epoch's steps. */
typedef struct {
    StepResult last;
    double cls, ent, rot_source, rot_target;
    int64_t steps, correct;
} EpochSums;

static void sums_add(EpochSums *sums, const StepResult *result)
{
    sums->last = *result;
    sums->cls += result->cls;
    sums->ent += result->ent;
    sums->rot_source += result->rot_source;
    sums->rot_target += result->rot_target;
    sums->correct += result->correct;
    sums->steps++;
}

/* Reads the result of the oldest step under way and shows it. */
static void take_result(Trainer *t, EpochSums *sums, Progress *progress)
{
    StepResult result = step_result(t->step);
    sums_add(sums, &result);
    double mean = sums->cls / (double)sums->steps;
    char extra[64];
    snprintf(extra, sizeof extra, "loss %.4f", mean);
    progress_advance(progress, t->settings->batch_size, extra);
    if (t->settings->sanitycheck) {
        char text[TEXT_DOUBLE_SIZE];
        log_result(t->log, "%s", text_double(mean, text));
    }
}

/* The host runs a few steps ahead of the device. Returns 1 when stopped, -1 on an error. */
static int train_steps(Trainer *t, Loader *loader, int64_t steps, EpochSums *sums, Err *err)
{
    Progress *progress =
        progress_open(t->log, "Training: ", "pairs", steps * t->settings->batch_size);
    Batch batch;
    int64_t enqueued = 0;
    int rc;
    while ((rc = loader_next(loader, &batch, err)) == 1 && !stopped(t)) {
        step_run(t->step, &batch, (uint64_t)(t->state.steps + enqueued++));
        if (step_pending(t->step) > device_steps_ahead(t->be)) {
            take_result(t, sums, progress);
        }
    }
    while (step_pending(t->step) > 0) {
        take_result(t, sums, progress);
    }
    progress_close(progress);
    return rc < 0 ? -1 : stopped(t);
}

static void report(Trainer *t, int epoch, const char *what, double accuracy)
{
    char text[TEXT_DOUBLE_SIZE];
    log_result(t->log, "Epoch: %d - %s: %s", epoch, what, text_double(accuracy, text));
}

/* The tests after an epoch, in the experiment's order. */
typedef struct {
    LoaderId loader;
    const char *bar;         /* label of the progress bar */
    const char *line;        /* of the result line */
    bool capped;             /* stops behind test_batches batches */
    double *loss, *accuracy; /* where the results go */
} Test;

static bool is_rotation(LoaderId loader)
{
    return loader == LOADER_SOURCE_ROTATION_TEST || loader == LOADER_TARGET_ROTATION_TEST;
}

/* Returns 1 when stopped, -1 on an error. */
static int run_test(Trainer *t, const Test *test, int epoch, Err *err)
{
    EvaluateSettings settings = {.plan = plan_settings(t, test->loader, 0),
                                 .store = t->corpus.store,
                                 .task = is_rotation(test->loader) ? EVALUATE_ROTATIONS
                                                                   : EVALUATE_CLASSES,
                                 .max_batches = test->capped ? t->settings->test_batches : 0,
                                 .workers = workers(t),
                                 .label = test->bar,
                                 .stop = t->stop};
    EvaluateResult result;
    if (evaluate_run(t->net, &t->input, &settings, t->log, &result, err) != 0) {
        return -1;
    }
    if (result.stopped) {
        return 1;
    }
    *test->loss = result.loss;
    *test->accuracy = result.accuracy;
    report(t, epoch, test->line, result.accuracy);
    return 0;
}

/* Returns 1 when stopped, -1 on an error. */
static int run_tests(Trainer *t, EpochMetrics *m, Err *err)
{
    const Test tests[] = {
        {LOADER_SOURCE_TEST, "Validation Classification: ",
         "Validation source accuracy (Classification)", true, &m->source_loss, &m->source_accuracy},
        {LOADER_SOURCE_ROTATION_TEST,
         "Validation Source Rotaion: ", "Validation source rotation accuracy", true,
         &m->source_rotation_loss, &m->source_rotation_accuracy},
        {LOADER_TARGET_ROTATION_TEST,
         "Validation Target Rotation: ", "Validation target rotation accuracy", true,
         &m->target_rotation_loss, &m->target_rotation_accuracy},
        {LOADER_TARGET_TEST, "Evaluation: ", "Evaluation Target classification accuracy", false,
         &m->target_loss, &m->target_accuracy},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (is_rotation(tests[i].loader) && t->net->step.rotation_groups == 0) {
            *tests[i].loss = NAN;
            *tests[i].accuracy = NAN;
            continue;
        }
        int rc = run_test(t, &tests[i], m->epoch, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static EpochMetrics epoch_metrics(const Trainer *t, int epoch, const EpochSums *sums,
                                  double seconds)
{
    double steps = (double)sums->steps;
    double pairs = steps * t->settings->batch_size;
    bool entropy = t->net->step.main_groups == 2;
    bool rotations = t->net->step.rotation_groups == 2;
    return (EpochMetrics){.epoch = epoch,
                          .loss_rec = sums->cls / steps,
                          .loss_ent = entropy ? sums->ent / steps : NAN,
                          .loss_rot =
                              rotations ? (sums->rot_source + sums->rot_target) / steps : NAN,
                          .loss_rot_source = rotations ? sums->rot_source / steps : NAN,
                          .loss_rot_target = rotations ? sums->rot_target / steps : NAN,
                          .lr = t->settings->lr,
                          .train_accuracy = (double)sums->correct / pairs,
                          .seconds_train = seconds,
                          .pairs_per_second = pairs / seconds};
}

int trainer_epoch(Trainer *t, int epoch, EpochRecord *record, Err *err)
{
    int64_t steps;
    EpochSums sums = {0};
    double start = clock_seconds();
    log_result(t->log, "Epoch %d / %d", epoch, t->settings->epochs);
    Loader *loader = open_training(t, (uint32_t)epoch, &steps, err);
    if (!loader) {
        return -1;
    }
    int rc = train_steps(t, loader, steps, &sums, err);
    loader_close(loader);
    if (rc != 0) {
        return rc;
    }
    double trained = clock_seconds();
    *record = (EpochRecord){.metrics = epoch_metrics(t, epoch, &sums, trained - start),
                            .feature_std = step_logits_std(t->step),
                            .last_cls = sums.last.cls,
                            .last_rot_source = sums.last.rot_source,
                            .last_rot_target = sums.last.rot_target,
                            .rotations = t->net->step.rotation_groups == 2};
    report(t, epoch, "Training accuracy (Classification)", record->metrics.train_accuracy);
    rc = run_tests(t, &record->metrics, err);
    record->metrics.seconds_eval = clock_seconds() - trained;
    t->state.epoch = epoch;
    t->state.steps += sums.steps;
    return rc;
}

Loader *trainer_open_loader(const Trainer *t, int epoch, int64_t *steps, Err *err)
{
    return open_training(t, (uint32_t)epoch, steps, err);
}
