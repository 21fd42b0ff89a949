/* metrics.jsonl: one JSON object a line, one line an epoch. */
#ifndef RODEO_TRAIN_METRICS_H
#define RODEO_TRAIN_METRICS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Losses are means over the epoch's training steps, accuracies are fractions. What a run does not
 * have (a rotation accuracy where weight_rot is 0) is NAN here and null in the file. */
typedef struct {
    int epoch; /* from 1 */
    double loss_rec, loss_ent;
    double loss_rot; /* loss_rot_source + loss_rot_target */
    double loss_rot_source, loss_rot_target;
    double lr;
    double train_accuracy;
    double source_loss, source_accuracy;
    double source_rotation_loss, source_rotation_accuracy;
    double target_rotation_loss, target_rotation_accuracy;
    double target_loss, target_accuracy;
    double seconds_train, seconds_eval;
    double pairs_per_second; /* source pairs trained on, over seconds_train */
} EpochMetrics;

/* Appends one line and makes it durable. */
int metrics_append(const char *path, const EpochMetrics *metrics, Err *err);

/* Reads a file into a new array (free it; NULL if it has no line). A file that is not there is an
 * error; a last line without its end (a crash while it was written) is left out. */
int metrics_read(const char *path, EpochMetrics **metrics, int *count, Err *err);

/* Drops all lines of epochs after last_epoch, atomically; a missing file is fine. For resuming. */
int metrics_truncate(const char *path, int last_epoch, Err *err);

#endif
