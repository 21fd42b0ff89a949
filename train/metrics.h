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
    /* From here on NAN in files of older versions. */
    double skipped_steps; /* whose numbers overflowed half precision; the means leave them out */
    double feature_std;   /* unbiased, of the source logits of the last training batch */
    double last_loss_rec, last_loss_rot_source, last_loss_rot_target; /* of that batch */
    double time; /* when the epoch ended, seconds since 1970 */
} EpochMetrics;

/* What a run has recorded: its epochs in order, from 1. */
typedef struct {
    EpochMetrics *epoch; /* [count] */
    int count;
} MetricsHistory;

/* Appends one epoch. */
void metrics_add(MetricsHistory *history, const EpochMetrics *metrics);
void metrics_free(MetricsHistory *history);

/* The history as the text of a file; a new string. */
char *metrics_to_text(const MetricsHistory *history);

/* Reads such a text, all whole lines of it: a last one without its end is left out. name stands for
 * the file in messages. On an error the history is empty. */
int metrics_parse(const char *text, const char *name, MetricsHistory *history, Err *err);

/* Replaces a file by this history, durably. */
int metrics_write(const char *path, const MetricsHistory *history, Err *err);

/* Reads a file; one that is not there is an error. */
int metrics_read(const char *path, MetricsHistory *history, Err *err);

#endif
