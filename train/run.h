/* A run's folder LOGDIR/RUN and what a run leaves in it: config.yaml, metrics.jsonl, TensorBoard
 * events, log.txt; the checkpoint is checkpoint.h's. */
#ifndef RODEO_TRAIN_RUN_H
#define RODEO_TRAIN_RUN_H

#include "base/log.h"
#include "train/events.h"
#include "train/metrics.h"
#include "train/settings.h"

typedef struct {
    char *folder;
    char *metrics_path;
    EventWriter *events;
} Run;

/* Says where the run's files are; touches nothing. */
void run_locate(Run *run, const Settings *settings, const char *name);

/* Creates the folder and checks that it can be written to, and starts its log file. */
int run_open(Run *run, const Settings *settings, const char *name, Log *log, Err *err);

/* Moves what an earlier run left in the folder into a folder of its own inside it, so that starting
 * over loses nothing. */
int run_set_aside(const Run *run, Log *log, Err *err);

/* Gets the records ready for going on behind `last_epoch` (0: a fresh run): config.yaml is written,
 * metrics of later epochs are dropped, events of later epochs are purged. */
int run_begin(Run *run, const Settings *settings, int last_epoch, Err *err);

/* Records one epoch: a line in metrics.jsonl and the experiment's TensorBoard scalars. feature_std:
 * unbiased std of the source logits of the last training batch; last_*: losses of the last training
 * batch, as the reference logs them. */
typedef struct {
    EpochMetrics metrics;
    double feature_std;
    double last_cls, last_ent, last_rot_source, last_rot_target;
    bool rotations; /* the rotation scalars exist */
} EpochRecord;

int run_record(Run *run, const EpochRecord *record, Err *err);

void run_close(Run *run);

#endif
