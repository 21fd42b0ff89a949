#include "base/clock.h"
#include "base/progress.h"
#include "base/text.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>

PlanSettings trainer_plan(const Trainer *t, LoaderId loader, int64_t epoch)
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
                          .epoch = (uint32_t)epoch,
                          .loader = loader,
                          .batch = t->settings->batch_size,
                          .crop = t->settings->crop_size,
                          .augment = kinds[loader].augment,
                          .rotate = kinds[loader].rotate,
                          .drop_last = kinds[loader].drop_last};
}

int trainer_workers(const Trainer *t)
{
    int cores = pool_cores();
    int wanted = t->settings->num_workers > 0 ? t->settings->num_workers : 1;
    return wanted < cores ? wanted : cores;
}

int trainer_loaders(const Trainer *t, LoaderId loaders[static LOADER_MAX_GROUPS])
{
    int count = 0;
    loaders[count++] = LOADER_SOURCE;
    if (t->net->step.main_groups == 2) {
        loaders[count++] = LOADER_TARGET;
    }
    if (t->net->step.rotation_groups == 2) {
        loaders[count++] = LOADER_SOURCE_ROTATION;
        loaders[count++] = LOADER_TARGET_ROTATION;
    }
    return count;
}

/* Steps of an epoch: one pass over the source. Returns -1 on an error. */
static int64_t count_steps(const Trainer *t, Err *err)
{
    PlanSettings source = trainer_plan(t, LOADER_SOURCE, t->state.epoch + 1);
    Plan *plan = plan_open(&source, err);
    if (!plan) {
        return -1;
    }
    int64_t steps = plan_batches(plan);
    plan_close(plan);
    return steps;
}

Loader *trainer_open_loader(const Trainer *t, int64_t epoch, int64_t first_step, Err *err)
{
    int64_t steps = count_steps(t, err);
    if (steps < 0) {
        return NULL;
    }
    LoaderSettings s = {.be = t->be,
                        .store = t->corpus.store,
                        .consecutive = 1,
                        .first_step = first_step,
                        .steps = steps,
                        .workers = trainer_workers(t)};
    LoaderId loaders[LOADER_MAX_GROUPS];
    s.sources = trainer_loaders(t, loaders);
    for (int i = 0; i < s.sources; i++) {
        s.source[i] = trainer_plan(t, loaders[i], epoch);
    }
    return loader_open(&s, err);
}

bool trainer_should_stop(Trainer *t)
{
    double now = clock_seconds();
    double step = t->last_poll > 0 ? now - t->last_poll : 0;
    t->longest_step = step > t->longest_step ? step : t->longest_step;
    t->last_poll = now;
    /* Three times what a write has taken at most: drives have moods. */
    return *t->stop != 0 ||
           (isfinite(t->deadline) &&
            now + t->longest_step + 3 * saver_write_seconds(t->saver) >= t->deadline);
}

/* Asks for a checkpoint of this moment, unless the last one was of it too. */
static void save(Trainer *t, SaveKind kind)
{
    LossScale scale = step_loss_scale(t->step);
    t->state.loss_scale = (double)scale.scale;
    t->state.loss_scale_good_steps = scale.good_steps;
    t->state.loss_scale_skipped = scale.skipped;
    bool fresh = kind == SAVE_EPOCH || t->state.steps != t->requested;
    if (fresh && saver_request(t->saver, kind, &t->state, &t->run.history)) {
        t->requested = t->state.steps;
    }
    t->last_request = clock_seconds();
}

static bool save_is_due(const Trainer *t)
{
    return clock_seconds() - t->last_request >= t->settings->checkpoint_minutes * 60;
}

/* Takes in the losses of step number `step` of the epoch. */
static int take_result(Trainer *t, const StepResult *result, int64_t step, Progress *progress,
                       Err *err)
{
    EpochSums *sums = &t->state.sums;
    sums_add(sums, result);
    if (trainer_check_step(t, result, step, err) != 0) {
        return -1;
    }
    double mean = sums->cls / (double)sums->learned;
    char extra[64];
    snprintf(extra, sizeof extra, "loss %.4f", mean);
    progress_advance(progress, t->settings->batch_size, extra);
    if (t->settings->sanitycheck) {
        char text[TEXT_DOUBLE_SIZE];
        log_result(t->log, "%s", text_double(mean, text));
    }
    return 0;
}

/* Takes in the results of all steps under way but the last `ahead`; behind the last of the epoch's
 * steps also what is left of it in device memory. */
static int take_results(Trainer *t, int ahead, int64_t steps, Progress *progress, Err *err)
{
    while (step_pending(t->step) > ahead) {
        StepResult result = step_result(t->step);
        t->state.step++;
        t->state.steps++;
        if (take_result(t, &result, t->state.step - 1, progress, err) != 0) {
            return -1;
        }
    }
    if (t->state.step == steps) {
        t->state.sums.feature_std = step_logits_std(t->step);
    }
    return 0;
}

/* Enqueues the loader's steps, some ahead of the device. Returns 1 when stopped, -1 on an error. A
 * checkpoint holds the sums of exactly the steps that its weights have seen, so for one the host
 * waits for all. */
static int run_steps(Trainer *t, Loader *loader, int64_t steps, Progress *progress, Err *err)
{
    CheckpointState *state = &t->state;
    double start = clock_seconds() - state->sums.seconds;
    Batch batch;
    int rc;
    while ((rc = loader_next(loader, &batch, err)) == 1) {
        step_run(t->step, &batch, (uint64_t)(state->steps + step_pending(t->step)));
        bool stops = trainer_should_stop(t);
        bool due = save_is_due(t);
        rc = take_results(t, stops || due ? 0 : device_steps_ahead(t->be), steps, progress, err);
        state->sums.seconds = clock_seconds() - start;
        if (rc != 0 || stops) {
            return rc != 0 ? rc : 1;
        }
        if (due) {
            save(t, SAVE_STEP);
        }
    }
    if (rc == 0) {
        rc = take_results(t, 0, steps, progress, err);
        state->sums.seconds = clock_seconds() - start;
    }
    return rc;
}

static int train_steps(Trainer *t, Loader *loader, int64_t steps, Err *err)
{
    Progress *progress = progress_open(t->log, "Training: ", "pairs",
                                       (steps - t->state.step) * t->settings->batch_size);
    int rc = run_steps(t, loader, steps, progress, err);
    progress_close(progress);
    return rc;
}

/* Trains what is left of the epoch. Returns 1 when stopped, -1 on an error. */
static int train_rest(Trainer *t, int64_t steps, Err *err)
{
    Loader *loader = trainer_open_loader(t, t->state.epoch + 1, t->state.step, err);
    if (!loader) {
        return -1;
    }
    int rc = train_steps(t, loader, steps, err);
    loader_close(loader);
    return rc;
}

static EpochMetrics epoch_metrics(const Trainer *t)
{
    const EpochSums *sums = &t->state.sums;
    double steps = (double)sums->learned;
    double pairs = steps * t->settings->batch_size;
    bool entropy = t->net->step.main_groups == 2;
    bool rotations = t->net->step.rotation_groups == 2;
    return (EpochMetrics){.epoch = (int)t->state.epoch + 1,
                          .loss_rec = sums->cls / steps,
                          .loss_ent = entropy ? sums->ent / steps : NAN,
                          .loss_rot =
                              rotations ? (sums->rot_source + sums->rot_target) / steps : NAN,
                          .loss_rot_source = rotations ? sums->rot_source / steps : NAN,
                          .loss_rot_target = rotations ? sums->rot_target / steps : NAN,
                          .lr = t->settings->lr,
                          .train_accuracy = (double)sums->correct / pairs,
                          .seconds_train = sums->seconds,
                          .pairs_per_second = (double)(sums->learned + sums->skipped) *
                                              t->settings->batch_size / sums->seconds,
                          .skipped_steps = (double)sums->skipped,
                          .feature_std = sums->feature_std,
                          .last_loss_rec = sums->last_cls,
                          .last_loss_rot_source = rotations ? sums->last_rot_source : NAN,
                          .last_loss_rot_target = rotations ? sums->last_rot_target : NAN};
}

/* Records the epoch and moves the state behind it. */
static void complete(Trainer *t, EpochMetrics *metrics)
{
    metrics->time = clock_unix();
    if (metrics->skipped_steps > 0) {
        log_note(t->log, "%.0f steps of epoch %d were skipped: half precision overflowed.",
                 metrics->skipped_steps, metrics->epoch);
    }
    run_record(&t->run, metrics);
    t->state.epoch++;
    t->state.step = 0;
    sums_begin_epoch(&t->state.sums);
    save(t, SAVE_EPOCH);
}

/* Returns 1 when stopped, -1 on an error. */
static int run_epoch(Trainer *t, Err *err)
{
    int64_t steps = count_steps(t, err);
    if (steps < 0) {
        return -1;
    }
    if (t->state.step > steps) {
        return err_set(err, "the checkpoint is at step %lld of an epoch that has %lld steps",
                       (long long)t->state.step, (long long)steps);
    }
    log_result(t->log, "Epoch %lld / %d", (long long)t->state.epoch + 1, t->settings->epochs);
    int rc = t->state.step < steps ? train_rest(t, steps, err) : 0;
    if (rc != 0) {
        return rc;
    }
    save(t, SAVE_TRAINED);
    double trained = clock_seconds();
    EpochMetrics metrics = epoch_metrics(t);
    char text[TEXT_DOUBLE_SIZE];
    log_result(t->log, "Epoch: %d - Training accuracy (Classification): %s", metrics.epoch,
               text_double(metrics.train_accuracy, text));
    rc = trainer_test(t, &metrics, err);
    if (rc != 0) {
        return rc;
    }
    metrics.seconds_eval = clock_seconds() - trained;
    complete(t, &metrics);
    return 0;
}

int trainer_epoch(Trainer *t, Err *err)
{
    t->last_poll = 0;
    if (trainer_should_stop(t)) {
        return 1;
    }
    int rc = run_epoch(t, err);
    if (rc == 1) {
        save(t, SAVE_TRAINED);
    }
    return rc;
}
