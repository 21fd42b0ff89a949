/* A run's folder LOGDIR/RUN and what a run leaves in it: config.yaml, metrics.jsonl, TensorBoard
 * events, log.txt; the checkpoint is checkpoint.h's. */
#ifndef RODEO_TRAIN_RUN_H
#define RODEO_TRAIN_RUN_H

#include "base/lock.h"
#include "base/log.h"
#include "train/events.h"
#include "train/metrics.h"
#include "train/settings.h"

typedef struct {
    char *folder;
    char *metrics_path;
    Lock *lock; /* of the folder, until run_close */
    Log *log;   /* borrowed */
    MetricsHistory history;
    int64_t before; /* epochs in front of the history, which another program has trained; run_locate
                       sets 0 */
    EventWriter *events; /* NULL while they cannot be written */
    bool metrics_behind; /* metrics.jsonl lacks something of the history */
} Run;

/* Says where the run's files are; touches nothing. */
void run_locate(Run *run, const Settings *settings, const char *name, Log *log);

/* Creates the folder, takes its lock and starts its log file. err: it cannot be written to, or
 * another process works in it. */
int run_open(Run *run, const Settings *settings, const char *name, Log *log, Err *err);

/* Whether the folder holds an earlier run: a checkpoint, or epochs in metrics.jsonl, or kept
 * weights, which may be all that somebody has left of it. */
bool run_is_there(const Run *run);

/* Moves what an earlier run left in the folder into a folder of its own inside it, so that starting
 * over loses nothing. */
int run_set_aside(const Run *run, Err *err);

/* Gets the records ready for going on behind run->history (empty: a fresh run): config.yaml,
 * metrics.jsonl and the events are written so that they hold exactly these epochs. The events go to
 * a new file, which tells TensorBoard to drop what earlier ones hold, but for the epochs before the
 * history. */
int run_begin(Run *run, const Settings *settings, Err *err);

/* Adds an epoch to the history and to metrics.jsonl and the events. What cannot be written is
 * warned of and made up for at the next epoch. */
void run_record(Run *run, const EpochMetrics *metrics);

/* At the run's end: makes up for what could not be written. err: it still cannot. */
int run_finish(Run *run, Err *err);

/* Another run's folder beside this one whose name differs only in the number of epochs and that
 * holds a checkpoint, as a new string; NULL if there is none. */
char *run_find_other_length(const Settings *settings);

/* Safe on a run that is {0}. */
void run_close(Run *run);

#endif
