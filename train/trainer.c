#include "train/trainer.h"

#include "base/clock.h"
#include "base/text.h"
#include "model/weights.h"
#include "train/checkpoint.h"
#include "train/checkpoint_pth.h"
#include "train/fingerprint.h"
#include "train/first_weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static CorpusSettings corpus_settings(const Settings *s, volatile const int *stop)
{
    return (CorpusSettings){.data_root = s->data_root,
                            .source = s->source,
                            .target = s->target,
                            .cache_dir = s->cache_dir,
                            .smallset = s->smallset,
                            .resize = s->image_size,
                            .skip_bad = s->skip_bad,
                            .stop = stop};
}

/* A plan is written to be compared with PyTorch in float32. */
static const char *choose_precision(const Settings *s)
{
    return s->dump_plan && strcmp(s->precision, "auto") == 0 ? "fp32" : s->precision;
}

static int open_device(Trainer *t, Err *err)
{
    const Settings *s = t->settings;
    DeviceOptions options = {.threads = s->threads,
                             .gpu = s->gpu,
                             .precision = choose_precision(s),
                             .cache_dir = s->logdir,
                             .notice = log_note_text,
                             .notice_user = t->log};
    t->be = device_open(s->device, &options, err);
    if (!t->be) {
        return -1;
    }
    if (strcmp(device_kind(t->be), "cuda") == 0) {
        log_result(t->log, "Running on device %s", device_name(t->be));
        log_note(t->log, "Running on the GPU: %s.", device_description(t->be));
        return 0;
    }
    log_result(t->log, "WARNING! CUDA not available");
    log_note(t->log, "Running on the CPU: %s.", device_description(t->be));
    if (strcmp(s->device, "cpu") != 0) {
        log_note(t->log, "%s",
                 device_gpu_is_present()
                     ? "This machine has an NVIDIA GPU, but this build has no CUDA backend."
                     : "No NVIDIA GPU was found. In Colab: Runtime > Change runtime type > T4 GPU, "
                       "then run the cell again.");
    }
    return 0;
}

static int wanted_passes(const char *passes)
{
    return strcmp(passes, "auto") == 0     ? NET_AUTO
           : strcmp(passes, "merged") == 0 ? NET_MERGED
                                           : NET_SEPARATE;
}

static int open_net(Trainer *t, Err *err)
{
    const Settings *s = t->settings;
    NetConfig config = {
        .trunk = {.depth = settings_depth(s), .width = s->arch_width, .crop = s->crop_size},
        .classes = t->corpus.classes,
        .dropout_p = (float)s->dropout_p,
        .rotation_dropout_p = 0.5f};
    NetStep groups = step_groups(s->batch_size, s->weight_ent, s->weight_rot);
    groups.passes = wanted_passes(s->passes);
    t->net = net_open(t->be, &config, &groups, s->seed, err);
    if (!t->net) {
        return -1;
    }
    if (net_passes(t->net) > 1) {
        log_note(t->log, "A step's %d batches go through the network one after the other%s.",
                 net_passes(t->net),
                 strcmp(s->passes, "auto") == 0 ? ": memory does not suffice to merge them" : "");
    }
    input_open(&t->input, t->be, net_samples(t->net), s->image_size, s->crop_size);
    StepSettings step = {.lr = s->lr,
                         .lr_mult = s->lr_mult,
                         .momentum = s->momentum,
                         .weight_decay = settings_weight_decay(s),
                         .alpha = s->weight_ent,
                         .lambda = s->weight_rot,
                         .seed = s->seed};
    t->step = step_open(t->net, &step, &t->input);
    log_note(t->log, "Network: two %s trunks of width %d, %d classes, %lld parameters; %.0f MiB.",
             s->arch, s->arch_width, config.classes,
             (long long)(params_count(&t->net->params, PARAM_RGB_TRUNK) +
                         params_count(&t->net->params, PARAM_DEPTH_TRUNK) +
                         params_count(&t->net->params, PARAM_MAIN_HEAD) +
                         params_count(&t->net->params, PARAM_ROTATION_HEAD)),
             (double)net_bytes(t->net) / 1048576.0);
    return 0;
}

/* Whether the run that the checkpoint is of may go on with these settings and this data. */
static int check_same_run(const Trainer *t, const CheckpointState *state, const Settings *saved,
                          Err *err)
{
    if (settings_compatible(saved, t->settings, err) != 0) {
        return -1;
    }
    if (state->classes != t->corpus.classes) {
        return err_set(err,
                       "the checkpoint was trained on %d classes, the data has %d: the network's "
                       "last layer does not fit",
                       (int)state->classes, t->corpus.classes);
    }
    if (state->data != 0 && state->data != t->state.data) {
        return err_set(
            err, "the lists of pictures are not those that the run began with, so its place "
                 "in the epoch means other pictures: give it the same data, or name a new run "
                 "with --suffix");
    }
    return 0;
}

/* What a checkpoint calls the device, with all that its results are rounded by: precision, threads
 * of a CPU. ASCII, whatever the maker calls it. */
static void name_device(const Backend *be, CheckpointState *state)
{
    snprintf(state->device, sizeof state->device, "%s, %s", device_kind(be),
             device_description(be));
    for (char *c = state->device; *c; c++) {
        *c = *c >= 0x20 && *c < 0x7F ? *c : '?';
    }
}

/* Older checkpoints know the kind alone. */
static bool is_other_device(const char *before, const char *now)
{
    return strchr(before, ',') ? strcmp(before, now) != 0 : !text_starts_with(now, before);
}

static void tell_rounding(const Trainer *t, const CheckpointState *state)
{
    static const char from_here[] = "from here on results are rounded differently, so the run is "
                                    "as good as an undisturbed one, "
                                    "but not equal to it in every bit.";
    if (state->passes != 0 && state->passes != t->state.passes) {
        log_note(t->log, "The run goes on with %lld passes a step instead of %lld (--passes): %s",
                 (long long)t->state.passes, (long long)state->passes, from_here);
    }
    if (is_other_device(state->device, t->state.device)) {
        log_note(t->log, "The run goes on with the device \"%s\" instead of \"%s\": %s",
                 t->state.device, state->device, from_here);
    }
}

static int restore(Trainer *t, SafeFile *file, Err *err)
{
    Settings saved;
    CheckpointState state;
    if (checkpoint_describe(file, &state, &saved, err) != 0) {
        return -1;
    }
    int rc = check_same_run(t, &state, &saved, err);
    if (rc == 0) {
        rc = checkpoint_history(file, t->run.metrics_path, &t->run.history, err);
    }
    if (rc == 0) {
        rc = weights_restore(t->net, file, true, err);
    }
    if (rc == 0) {
        first_weights_keep(t->settings, &saved, t->log);
        tell_rounding(t, &state);
        state.data = t->state.data;
        memcpy(state.device, t->state.device, sizeof state.device);
        state.passes = t->state.passes;
        if (state.loss_scale > 0) {
            LossScale scale = {.scale = (float)state.loss_scale,
                               .good_steps = (int32_t)state.loss_scale_good_steps,
                               .skipped = (int32_t)state.loss_scale_skipped};
            step_restore_loss_scale(t->step, &scale);
        }
        t->state = state;
        t->requested = state.steps;
    }
    settings_free(&saved);
    return rc == 0 ? 0 : err_context(err, "cannot resume the run in %s", t->run.folder);
}

static void tell_resumed(const Trainer *t)
{
    char saved[32];
    char place[CHECKPOINT_PLACE_SIZE];
    time_t when = (time_t)t->state.saved;
    struct tm local;
    localtime_r(&when, &local);
    strftime(saved, sizeof saved, "%Y-%m-%d %H:%M:%S", &local);
    log_result(t->log, "Loaded checkpoint saved at %s. Resuming from epoch %d", saved,
               (int)t->state.epoch);
    if (t->state.step > 0) {
        log_note(t->log, "Going on behind %s.", checkpoint_place(&t->state, place));
    }
}

/* Without the folder's lock nothing in it may be renamed: another process may train there. */
static int resume_rodeo(Trainer *t, Err *err)
{
    SafeFile *file = t->run.lock ? checkpoint_open_to_resume(t->run.folder, t->log, err)
                                 : checkpoint_open(t->run.folder, t->log, err);
    if (!file) {
        return -1;
    }
    int rc = restore(t, file, err);
    safetensors_close(file);
    return rc;
}

static int resume_pytorch(Trainer *t, Err *err)
{
    int64_t pairs = t->corpus.list[CORPUS_SOURCE_TRAIN].count;
    int rc = checkpoint_pth_restore(t->run.folder, t->net, t->settings,
                                    pairs / t->settings->batch_size, &t->state, t->log, err);
    return rc == 0 ? 0 : err_context(err, "cannot resume the run in %s", t->run.folder);
}

static int resume(Trainer *t, Err *err)
{
    int rc = checkpoint_exists(t->run.folder) ? resume_rodeo(t, err) : resume_pytorch(t, err);
    if (rc == 0) {
        tell_resumed(t);
    }
    return rc;
}

static void tell_no_checkpoint(const Trainer *t)
{
    char *other = run_find_other_length(t->settings);
    log_note(t->log, "No checkpoint in %s yet: starting at epoch 1.", t->run.folder);
    if (other) {
        log_note(t->log,
                 "%s holds the same run for another number of epochs. To go on from it instead, "
                 "stop this one, and rename that folder to this one's name in place of this one.",
                 other);
    }
    free(other);
}

static bool is_resumed(const Trainer *t)
{
    return t->settings->resume &&
           (checkpoint_exists(t->run.folder) || checkpoint_pth_exists(t->run.folder));
}

/* Whether every loader has pairs for a batch. */
static int check_loaders(const Trainer *t, Err *err)
{
    LoaderId loaders[LOADER_MAX_GROUPS];
    int count = trainer_loaders(t, loaders);
    for (int i = 0; i < count; i++) {
        PlanSettings settings = trainer_plan(t, loaders[i], t->state.epoch + 1);
        Plan *plan = plan_open(&settings, err);
        if (!plan) {
            return -1;
        }
        plan_close(plan);
    }
    return 0;
}

static int start_fresh(Trainer *t, Err *err)
{
    if (t->settings->resume) {
        tell_no_checkpoint(t);
    }
    return first_weights_load(t->net, t->settings, t->weights, t->log, err);
}

static int begin(Trainer *t, Err *err)
{
    bool resumes = is_resumed(t);
    bool leaves_run = t->settings->dump_plan != NULL;
    t->state.classes = t->corpus.classes;
    t->state.data = corpus_fingerprint(&t->corpus);
    name_device(t->be, &t->state);
    t->state.passes = net_passes(t->net);
    if (!leaves_run && check_loaders(t, err) != 0) {
        return -1;
    }
    int rc = resumes ? resume(t, err) : start_fresh(t, err);
    if (rc != 0 || leaves_run) {
        return rc;
    }
    /* Only now: a start that fails leaves the earlier run where --resume finds it. */
    if (!resumes && run_is_there(&t->run) && run_set_aside(&t->run, err) != 0) {
        return -1;
    }
    t->run.before = t->state.epoch - t->run.history.count;
    if (run_begin(&t->run, t->settings, err) != 0) {
        return -1;
    }
    SaverSettings saver = {
        .folder = t->run.folder, .net = t->net, .settings = t->settings, .log = t->log};
    t->saver = saver_open(&saver, resumes ? &t->state : NULL);
    t->last_request = clock_seconds();
    return 0;
}

/* The data's lists come first, so that a wrong data root leaves no run folder behind; the pictures
 * come after the folder, so that nothing is packed for a run that cannot write its results. */
int trainer_open(Trainer *t, Settings *settings, volatile const int *stop, Log *log, Err *err)
{
    double limit = settings->max_hours > 0 ? settings->max_hours * 3600 : INFINITY;
    *t = (Trainer){
        .settings = settings, .stop = stop, .deadline = clock_seconds() + limit, .log = log};
    CorpusSettings corpus = corpus_settings(settings, stop);
    char *name = settings_run_name(settings);
    log_result(log, "Run: %s", name);
    int rc = corpus_read(&t->corpus, &corpus, err);
    if (rc == 0) {
        if (settings->dump_plan) {
            run_locate(&t->run, settings, name, log);
        } else {
            rc = run_open(&t->run, settings, name, log, err);
        }
    }
    free(name);
    /* Packing may take long, so a file that is not there is told before. */
    if (rc == 0 && !is_resumed(t)) {
        rc = first_weights_find(settings, &t->weights, err);
    }
    if (rc != 0) {
        return -1;
    }
    t->pool = pool_open(settings->threads);
    if (corpus_pack(&t->corpus, &corpus, CORPUS_SOURCE_TRAIN, t->pool, log, err) != 0 ||
        open_device(t, err) != 0 || open_net(t, err) != 0 ||
        corpus_place(&t->corpus, t->be, settings->tier, log, err) != 0) {
        return -1;
    }
    return begin(t, err);
}

void trainer_close(Trainer *t)
{
    saver_close(t->saver);
    step_close(t->step);
    input_close(&t->input);
    net_close(t->net);
    corpus_close(&t->corpus);
    device_close(t->be);
    pool_close(t->pool);
    run_close(&t->run);
    free(t->weights);
    *t = (Trainer){0};
}
