#include "train/run.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int take_lock(Run *run, Err *err)
{
    char *path = path_join(run->folder, "run.lock");
    run->lock = lock_take(path, &LOCK_TIMES_USUAL, run->log, err);
    free(path);
    if (run->lock) {
        return 0;
    }
    return err_context(
        err,
        "%s: cannot be locked for this run (if another process trains in it, wait for "
        "it to end, or name another run with --suffix)",
        run->folder);
}

void run_locate(Run *run, const Settings *settings, const char *name, Log *log)
{
    *run = (Run){.folder = path_join(settings->logdir, name), .log = log};
    run->metrics_path = path_join(run->folder, "metrics.jsonl");
}

int run_open(Run *run, const Settings *settings, const char *name, Log *log, Err *err)
{
    run_locate(run, settings, name, log);
    if (path_make_folders(run->folder, err) != 0) {
        return err_context(err, "--logdir");
    }
    if (access(run->folder, W_OK) != 0) {
        return err_set(err,
                       "--logdir: %s: cannot write to this folder: %s; choose another --logdir",
                       run->folder, strerror(errno));
    }
    if (take_lock(run, err) != 0) {
        return -1;
    }
    char *path = path_join(run->folder, "log.txt");
    int rc = log_tee(log, path, err);
    free(path);
    return rc;
}

/* Whether a file in the run's folder belongs to a run's records. */
static bool is_record(const char *name)
{
    return strstr(name, "tfevents") || text_starts_with(name, "checkpoint.safetensors") ||
           text_starts_with(name, "weights-epoch-") || strcmp(name, "metrics.jsonl") == 0 ||
           strcmp(name, "config.yaml") == 0 || strcmp(name, "bad-step.txt") == 0;
}

static bool has_kept_weights(const char *folder)
{
    bool found = false;
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries && !found && (entry = readdir(entries))) {
        found = checkpoint_kept_epoch(entry->d_name) > 0;
    }
    if (entries) {
        closedir(entries);
    }
    return found;
}

bool run_is_there(const Run *run)
{
    struct stat metrics;
    bool epochs = stat(run->metrics_path, &metrics) == 0 && metrics.st_size > 0;
    return epochs || checkpoint_exists(run->folder) || has_kept_weights(run->folder);
}

static int move_record(const char *from, const char *aside, Err *err)
{
    char *to = path_join(aside, strrchr(from, '/') + 1);
    int rc = rename(from, to) == 0
                 ? 0
                 : err_set(err, "%s: cannot move to %s: %s", from, aside, strerror(errno));
    free(to);
    return rc;
}

/* All records but the checkpoints at the two paths of `last`. */
static int move_others(const char *folder, const char *aside, char *const last[2], Err *err)
{
    DIR *entries = opendir(folder);
    if (!entries) {
        return err_set(err, "%s: cannot list: %s", folder, strerror(errno));
    }
    int rc = 0;
    const struct dirent *entry;
    while (rc == 0 && (entry = readdir(entries))) {
        char *from = path_join(folder, entry->d_name);
        if (is_record(entry->d_name) && strcmp(from, last[0]) != 0 && strcmp(from, last[1]) != 0) {
            rc = move_record(from, aside, err);
        }
        free(from);
    }
    closedir(entries);
    return rc;
}

/* The newest checkpoint goes last: where this is interrupted, it tells the next start that there is
 * something to move. */
static int move_records(const char *folder, const char *aside, Err *err)
{
    char *last[2] = {checkpoint_old_path(folder), checkpoint_path(folder)};
    int rc = move_others(folder, aside, last, err);
    for (int i = 0; i < 2; i++) {
        if (rc == 0 && !path_is_free(last[i])) {
            rc = move_record(last[i], aside, err);
        }
        free(last[i]);
    }
    return rc;
}

/* Makes a folder that was not there before, named by the time: two starts within a second must not
 * share one. A new string; NULL and err. */
static char *make_folder_aside(const char *folder, Err *err)
{
    char stamp[32];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(stamp, sizeof stamp, "until-%Y%m%d-%H%M%S", &local);
    char *aside = path_join(folder, stamp);
    for (int n = 2; mkdir(aside, 0777) != 0; n++) {
        int error = errno;
        if (error != EEXIST) {
            err_set(err, "%s: cannot create this folder: %s", aside, strerror(error));
            free(aside);
            return NULL;
        }
        free(aside);
        aside = mem_format("%s/%s-%d", folder, stamp, n);
    }
    return aside;
}

int run_set_aside(const Run *run, Err *err)
{
    bool checkpoint = checkpoint_exists(run->folder);
    char *aside = make_folder_aside(run->folder, err);
    if (!aside) {
        return -1;
    }
    int rc = move_records(run->folder, aside, err);
    if (rc == 0) {
        log_warning(
            run->log,
            "%s holds an earlier run %s: starting over; the earlier run's files are now in %s",
            run->folder,
            checkpoint ? "and --resume was not given" : "without a checkpoint to go on from",
            aside);
    }
    free(aside);
    return rc;
}

typedef struct {
    const char *tag;
    double value;
    bool rotation;
} Scalar;

static void add_scalars(EventWriter *events, const EpochMetrics *m)
{
    const Scalar scalars[] = {
        {"Train/feature_std", m->feature_std, false},
        {"Loss/train_cls", m->last_loss_rec, false},
        {"Loss/val_cls", m->source_loss, false},
        {"Accuracy/train_cls", m->train_accuracy, false},
        {"Accuracy/val_cls", m->source_accuracy, false},
        {"Loss/rot_train_source", m->last_loss_rot_source, true},
        {"Loss/rot_train_target", m->last_loss_rot_target, true},
        {"Loss/rot_val_source", m->source_rotation_loss, true},
        {"Loss/rot_val_target", m->target_rotation_loss, true},
        {"Accuracy/rot_val_source", m->source_rotation_accuracy, true},
        {"Accuracy/rot_val_target", m->target_rotation_accuracy, true},
        {"Loss/eval_target", m->target_loss, false},
        {"Accuracy/eval_target", m->target_accuracy, false},
        {"Epoch_mean/loss_cls", m->loss_rec, false},
        {"Epoch_mean/loss_rot", m->loss_rot, true},
    };
    bool rotations = !isnan(m->target_rotation_accuracy);
    events_set_time(events, m->time);
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        const Scalar *s = &scalars[i];
        if (!s->rotation || rotations) {
            events_scalar(events, s->tag, s->value, m->epoch);
        }
    }
}

/* A new file with the whole history, which tells TensorBoard to forget the files before it: however
 * they ended, the curves are whole, and each epoch is in them once. Epochs before the history are
 * only in those files. */
static int start_events(Run *run, Err *err)
{
    int64_t first = run->before > 0 ? run->before + 1 : 0;
    events_close(run->events);
    run->events = events_open(run->folder, first, err);
    if (!run->events) {
        return -1;
    }
    for (int i = 0; i < run->history.count; i++) {
        add_scalars(run->events, &run->history.epoch[i]);
    }
    if (events_flush(run->events, err) != 0) {
        events_close(run->events);
        run->events = NULL;
        return -1;
    }
    return 0;
}

static int write_metrics(Run *run, Err *err)
{
    int rc = metrics_write(run->metrics_path, &run->history, err);
    run->metrics_behind = rc != 0;
    return rc;
}

int run_begin(Run *run, const Settings *settings, Err *err)
{
    char *path = path_join(run->folder, "config.yaml");
    char *yaml = settings_to_yaml(settings);
    int rc = atomic_file_replace(path, yaml, strlen(yaml), err);
    free(yaml);
    free(path);
    return rc == 0 && write_metrics(run, err) == 0 ? start_events(run, err) : -1;
}

void run_record(Run *run, const EpochMetrics *metrics)
{
    Err err;
    metrics_add(&run->history, metrics);
    if (write_metrics(run, &err) != 0) {
        log_warning(run->log, "%s. It is tried again after the next epoch.", err.text);
    }
    int rc;
    if (run->events) {
        add_scalars(run->events, metrics);
        rc = events_flush(run->events, &err);
    } else {
        rc = start_events(run, &err);
    }
    if (rc != 0) {
        log_warning(run->log, "%s. The events are written anew after the next epoch.", err.text);
        events_close(run->events);
        run->events = NULL;
    }
}

int run_finish(Run *run, Err *err)
{
    if (run->metrics_behind && write_metrics(run, err) != 0) {
        return -1;
    }
    return run->events ? 0 : start_events(run, err);
}

/* Whether a folder's name is `name` but for the digits behind `mark`. */
static bool differs_in_epochs(const char *folder, const char *name)
{
    static const char mark[] = "_epoches=";
    const char *at = strstr(name, mark);
    size_t front = at ? (size_t)(at - name) + strlen(mark) : 0;
    if (!at || strncmp(folder, name, front) != 0) {
        return false;
    }
    static const char digits[] = "0123456789";
    size_t theirs = strspn(folder + front, digits);
    size_t ours = strspn(name + front, digits);
    return theirs > 0 && strcmp(folder + front + theirs, name + front + ours) == 0 &&
           strcmp(folder, name) != 0;
}

char *run_find_other_length(const Settings *settings)
{
    char *name = settings_run_name(settings);
    char *found = NULL;
    DIR *entries = opendir(settings->logdir);
    const struct dirent *entry;
    while (entries && !found && (entry = readdir(entries))) {
        if (differs_in_epochs(entry->d_name, name)) {
            char *folder = path_join(settings->logdir, entry->d_name);
            if (checkpoint_exists(folder)) {
                found = mem_string(folder);
            }
            free(folder);
        }
    }
    if (entries) {
        closedir(entries);
    }
    free(name);
    return found;
}

void run_close(Run *run)
{
    events_close(run->events);
    lock_release(run->lock);
    metrics_free(&run->history);
    free(run->metrics_path);
    free(run->folder);
    *run = (Run){0};
}
