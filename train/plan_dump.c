#include "train/plan_dump.h"

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/progress.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT    "rodeo-plan-1"
#define PLAN_FILE "plan.jsonl"

typedef struct {
    Trainer *trainer;
    AtomicFile file;
    float *gradients; /* host copy of the gradients' arena */
    int64_t steps;    /* done so far */
    Progress *progress;
} Dump;

/* ---- writing --------------------------------------------------------------------------------- */

static json_t *checked(json_t *value)
{
    if (!value) {
        fatal("out of memory: could not write a plan");
    }
    return value;
}

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, checked(json_string(text)));
}

static void set_integer(json_t *object, const char *key, int64_t value)
{
    json_object_set_new(object, key, checked(json_integer(value)));
}

/* Only finite numbers are asked for. */
static void set_real(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, checked(json_real(value)));
}

/* Writes an object as one line and releases it. */
static int write_line(Dump *d, json_t *object, Err *err)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!text) {
        fatal("out of memory: could not write a plan");
    }
    int rc = atomic_file_write(&d->file, text, strlen(text), err);
    free(text);
    return rc == 0 ? atomic_file_write(&d->file, "\n", 1, err) : -1;
}

/* ---- the first line -------------------------------------------------------------------------- */

static json_t *header(const Trainer *t)
{
    const Settings *s = t->settings;
    json_t *object = checked(json_object());
    set_text(object, "format", FORMAT);
    set_text(object, "arch", s->arch);
    set_integer(object, "arch_width", s->arch_width);
    set_integer(object, "classes", t->corpus.classes);
    set_integer(object, "image_size", s->image_size);
    set_integer(object, "crop_size", s->crop_size);
    set_integer(object, "batch_size", s->batch_size);
    set_real(object, "lr", s->lr);
    set_real(object, "lr_mult", s->lr_mult);
    set_real(object, "momentum", s->momentum);
    set_real(object, "weight_decay", settings_weight_decay(s));
    set_real(object, "dropout_p", s->dropout_p);
    set_real(object, "rotation_dropout_p", (double)t->net->config.rotation_dropout_p);
    set_real(object, "weight_rot", s->weight_rot);
    set_real(object, "weight_ent", s->weight_ent);
    /* As text: JSON readers take large numbers for doubles. */
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->seed);
    set_text(object, "seed", seed);
    set_integer(object, "epochs_before", t->state.epoch);
    set_integer(object, "steps_before", t->state.steps);
    return object;
}

/* ---- a step ---------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    CorpusSet set;
} Group;

/* The groups of a step in their order; returns how many. */
static int step_group_list(const NetStep *step, Group groups[static 4])
{
    int count = 0;
    groups[count++] = (Group){"source", CORPUS_SOURCE_TRAIN};
    if (step->main_groups == 2) {
        groups[count++] = (Group){"target", CORPUS_TARGET};
    }
    if (step->rotation_groups == 2) {
        groups[count++] = (Group){"source_rotation", CORPUS_SOURCE_TRAIN};
        groups[count++] = (Group){"target_rotation", CORPUS_TARGET};
    }
    return count;
}

/* A picture's path from the root of the file system. NULL and err if JSON cannot hold it. */
static json_t *picture_path(const PairList *list, const char *path, Err *err)
{
    char *joined = path_join(list->folder, path);
    char *whole = realpath(joined, NULL);
    json_t *text = json_string(whole ? whole : joined);
    if (!text) {
        err_set(err, "%s: a plan cannot name this picture: the path is not UTF-8",
                whole ? whole : joined);
    }
    free(whole);
    free(joined);
    return text;
}

/* NULL and err as picture_path. */
static json_t *pair_object(const PairList *list, const PairPlan *plan, Err *err)
{
    const Pair *pair = &list->pairs[plan->index];
    json_t *object = checked(json_object());
    if (json_object_set_new(object, "rgb", picture_path(list, pair->path[RGB], err)) != 0 ||
        json_object_set_new(object, "depth", picture_path(list, pair->path[DEPTH], err)) != 0) {
        json_decref(object);
        return NULL;
    }
    set_integer(object, "label", plan->label);
    set_integer(object, "top", plan->top);
    set_integer(object, "left", plan->left);
    set_integer(object, "flip", plan->flip);
    set_integer(object, "turns_rgb", plan->quarter_turns[RGB]);
    set_integer(object, "turns_depth", plan->quarter_turns[DEPTH]);
    return object;
}

/* NULL and err as picture_path. */
static json_t *group_objects(const Trainer *t, const Batch *batch, Err *err)
{
    Group groups[4];
    int count = step_group_list(&t->net->step, groups);
    json_t *array = checked(json_array());
    for (int g = 0; g < count; g++) {
        json_t *pairs = checked(json_array());
        for (int i = 0; i < batch->batch; i++) {
            const PairPlan *plan = &batch->plan[g * batch->batch + i];
            const PairList *list = &t->corpus.list[groups[g].set];
            if (json_array_append_new(pairs, pair_object(list, plan, err)) != 0) {
                json_decref(pairs);
                json_decref(array);
                return NULL;
            }
        }
        json_array_append_new(
            array, checked(json_pack("{s:s, s:o}", "loader", groups[g].name, "pairs", pairs)));
    }
    return array;
}

/* The gradients are still where the optimizer read them, with the factor loss_scale. NULL and err
 * if one is no number. */
static json_t *gradient_norms(Dump *d, double loss_scale, Err *err)
{
    const Params *params = &d->trainer->net->params;
    size_t bytes = (size_t)params->weights.elements * sizeof(float);
    device_copy_out(d->trainer->be, d->gradients, params->dw, bytes);
    json_t *object = checked(json_object());
    for (int i = 0; i < params->weights.count; i++) {
        const ParamSpec *spec = &params->weights.spec[i];
        double squares = 0;
        for (int64_t e = 0; e < spec->count; e++) {
            double g = (double)d->gradients[spec->offset + e];
            squares += g * g;
        }
        if (!isfinite(squares)) {
            err_set(err, "the gradient of %s is no number in step %lld: lower --lr", spec->name,
                    (long long)d->steps + 1);
            json_decref(object);
            return NULL;
        }
        set_real(object, spec->name, sqrt(squares) / loss_scale);
    }
    return object;
}

static int check_finite(const StepResult *result, int64_t step, Err *err)
{
    if (isfinite(result->cls) && isfinite(result->ent) && isfinite(result->rot_source) &&
        isfinite(result->rot_target)) {
        return 0;
    }
    return err_set(err, "the losses of step %lld are no numbers: lower --lr", (long long)step + 1);
}

static int dump_step(Dump *d, const Batch *batch, int64_t epoch, Err *err)
{
    Trainer *t = d->trainer;
    int64_t number = t->state.steps + d->steps;
    json_t *groups = group_objects(t, batch, err);
    if (!groups) {
        return -1;
    }
    double loss_scale = step_loss_scale(t->step).scale;
    step_run(t->step, batch, (uint64_t)number);
    StepResult result = step_result(t->step);
    if (result.skipped) {
        json_decref(groups);
        return err_set(err, "step %lld overflowed half precision: use --precision fp32 or bf16",
                       (long long)d->steps + 1);
    }
    json_t *norms = gradient_norms(d, loss_scale > 0 ? loss_scale : 1, err);
    if (!norms || check_finite(&result, d->steps, err) != 0) {
        json_decref(norms);
        json_decref(groups);
        return -1;
    }
    json_t *losses = checked(json_object());
    set_real(losses, "cls", result.cls);
    set_real(losses, "ent", result.ent);
    set_real(losses, "rot_source", result.rot_source);
    set_real(losses, "rot_target", result.rot_target);
    json_t *object = checked(json_object());
    set_integer(object, "step", ++d->steps);
    set_integer(object, "epoch", epoch);
    set_integer(object, "dropout_step", number);
    json_object_set_new(object, "groups", groups);
    json_object_set_new(object, "losses", losses);
    json_object_set_new(object, "gradient_norms", norms);
    progress_advance(d->progress, t->settings->batch_size, NULL);
    return write_line(d, object, err);
}

/* The steps of one epoch, as many as are wanted still. Returns 1 when stopped. */
static int dump_epoch(Dump *d, int64_t epoch, int64_t first_step, Err *err)
{
    Trainer *t = d->trainer;
    Loader *loader = trainer_open_loader(t, epoch, first_step, err);
    if (!loader) {
        return -1;
    }
    Batch batch;
    int rc = 0;
    while (rc == 0 && d->steps < t->settings->steps) {
        int got = loader_next(loader, &batch, err);
        if (got <= 0) {
            rc = got;
            break;
        }
        rc = *t->stop != 0 ? 1 : dump_step(d, &batch, epoch, err);
    }
    loader_close(loader);
    return rc;
}

/* ---- the folder ------------------------------------------------------------------------------ */

static int save_weights(Trainer *t, const char *name, Err *err)
{
    char *folder = path_join(t->settings->dump_plan, name);
    int rc = path_make_folders(folder, err);
    if (rc == 0) {
        char *path = checkpoint_path(folder);
        char *settings = settings_to_yaml(t->settings);
        char *metrics = metrics_to_text(&t->run.history);
        WeightList weights = weights_collect(t->net);
        t->state.saved = clock_unix();
        rc = checkpoint_write(path, NULL, &weights, &t->state, settings, metrics, err);
        weights_free(&weights);
        free(metrics);
        free(settings);
        free(path);
    }
    free(folder);
    return rc;
}

static int open_file(Dump *d, Err *err)
{
    const char *folder = d->trainer->settings->dump_plan;
    char *path = path_join(folder, PLAN_FILE);
    int rc = path_make_folders(folder, err);
    if (rc == 0 && path_is_file(path)) {
        rc = err_set(err, "%s is there already: name another folder", path);
    }
    if (rc == 0) {
        rc = atomic_file_open(&d->file, path, err);
    }
    free(path);
    return rc == 0 ? 0 : err_context(err, "--dump_plan");
}

static int dump_steps(Dump *d, Err *err)
{
    Trainer *t = d->trainer;
    int rc = write_line(d, header(t), err);
    int64_t first = t->state.epoch + 1;
    for (int64_t epoch = first; rc == 0 && d->steps < t->settings->steps; epoch++) {
        rc = dump_epoch(d, epoch, epoch == first ? t->state.step : 0, err);
    }
    t->state.steps += d->steps;
    return rc;
}

int plan_dump_check(const Settings *settings, Err *err)
{
    if (settings->dump_plan && settings->steps > 0 && path_is_file(settings->data_root)) {
        return err_set(err,
                       "--dump_plan: the pictures of a plan must be files, and %s is a tar file: "
                       "unpack it and name its folder with --data_root",
                       settings->data_root);
    }
    return 0;
}

int plan_dump(Trainer *t, Err *err)
{
    const Settings *s = t->settings;
    Dump d = {.trainer = t, .file = {.fd = -1}};
    if (open_file(&d, err) != 0) {
        return -1;
    }
    d.gradients = mem_alloc((size_t)t->net->params.weights.elements * sizeof(float));
    int64_t pairs = (int64_t)s->steps * s->batch_size;
    d.progress = progress_open(t->log, "Steps: ", "pairs", pairs > 0 ? pairs : 1);
    int rc = save_weights(t, "initial", err);
    if (rc == 0) {
        rc = dump_steps(&d, err);
    }
    progress_close(d.progress);
    if (rc == 0) {
        rc = save_weights(t, "final", err);
    }
    if (rc == 0) {
        rc = atomic_file_commit(&d.file, err);
    }
    atomic_file_abort(&d.file);
    free(d.gradients);
    if (rc == 0) {
        log_note(t->log, "%lld steps and the weights before and after them are in %s.",
                 (long long)d.steps, s->dump_plan);
    } else if (rc == 1) {
        log_note(t->log, "Stopped: no plan was written.");
    }
    return rc;
}
