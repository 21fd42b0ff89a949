#include "train/run.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void run_locate(Run *run, const Settings *settings, const char *name)
{
    *run = (Run){.folder = path_join(settings->logdir, name)};
    run->metrics_path = path_join(run->folder, "metrics.jsonl");
}

int run_open(Run *run, const Settings *settings, const char *name, Log *log, Err *err)
{
    run_locate(run, settings, name);
    if (path_make_folders(run->folder, err) != 0) {
        return err_context(err, "--logdir");
    }
    if (access(run->folder, W_OK) != 0) {
        return err_set(err,
                       "--logdir: %s: cannot write to this folder: %s; choose another --logdir",
                       run->folder, strerror(errno));
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
           strcmp(name, "metrics.jsonl") == 0 || strcmp(name, "config.yaml") == 0;
}

static int move_records(const char *folder, const char *aside, Err *err)
{
    DIR *entries = opendir(folder);
    if (!entries) {
        return err_set(err, "%s: cannot list: %s", folder, strerror(errno));
    }
    int rc = 0;
    const struct dirent *entry;
    while (rc == 0 && (entry = readdir(entries))) {
        if (!is_record(entry->d_name)) {
            continue;
        }
        char *from = path_join(folder, entry->d_name);
        char *to = path_join(aside, entry->d_name);
        if (rename(from, to) != 0) {
            rc = err_set(err, "%s: cannot move to %s: %s", from, aside, strerror(errno));
        }
        free(from);
        free(to);
    }
    closedir(entries);
    return rc;
}

int run_set_aside(const Run *run, Log *log, Err *err)
{
    char stamp[32];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(stamp, sizeof stamp, "until-%Y%m%d-%H%M%S", &local);
    char *aside = path_join(run->folder, stamp);
    int rc = path_make_folders(aside, err);
    if (rc == 0) {
        rc = move_records(run->folder, aside, err);
    }
    if (rc == 0) {
        log_warning(
            log,
            "%s holds an earlier run and --resume was not given: starting over; the earlier "
            "run's files are now in %s",
            run->folder, aside);
    }
    free(aside);
    return rc;
}

int run_begin(Run *run, const Settings *settings, int last_epoch, Err *err)
{
    char *path = path_join(run->folder, "config.yaml");
    char *yaml = settings_to_yaml(settings);
    int rc = atomic_file_replace(path, yaml, strlen(yaml), err);
    free(yaml);
    free(path);
    if (rc != 0 || metrics_truncate(run->metrics_path, last_epoch, err) != 0) {
        return -1;
    }
    /* Also in a fresh run: an earlier one may have ended between its events and its checkpoint. */
    run->events = events_open(run->folder, last_epoch + 1, err);
    return run->events ? 0 : -1;
}

typedef struct {
    const char *tag;
    double value;
    bool rotation;
} Scalar;

int run_record(Run *run, const EpochRecord *record, Err *err)
{
    const EpochMetrics *m = &record->metrics;
    const Scalar scalars[] = {
        {"Train/feature_std", record->feature_std, false},
        {"Loss/train_cls", record->last_cls, false},
        {"Loss/val_cls", m->source_loss, false},
        {"Accuracy/train_cls", m->train_accuracy, false},
        {"Accuracy/val_cls", m->source_accuracy, false},
        {"Loss/rot_train_source", record->last_rot_source, true},
        {"Loss/rot_train_target", record->last_rot_target, true},
        {"Loss/rot_val_source", m->source_rotation_loss, true},
        {"Accuracy/rot_val_source", m->source_rotation_accuracy, true},
        {"Loss/rot_val_target", m->target_rotation_loss, true},
        {"Accuracy/rot_val_target", m->target_rotation_accuracy, true},
        {"Loss/eval_target", m->target_loss, false},
        {"Accuracy/eval_target", m->target_accuracy, false},
        {"Epoch_mean/loss_cls", m->loss_rec, false},
        {"Epoch_mean/loss_rot", m->loss_rot, true},
    };
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        const Scalar *s = &scalars[i];
        if ((!s->rotation || record->rotations) &&
            events_scalar(run->events, s->tag, s->value, m->epoch, err) != 0) {
            return -1;
        }
    }
    if (events_flush(run->events, err) != 0) {
        return -1;
    }
    return metrics_append(run->metrics_path, m, err);
}

void run_close(Run *run)
{
    events_close(run->events);
    free(run->metrics_path);
    free(run->folder);
    *run = (Run){0};
}
