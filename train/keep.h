/* --keep: the weights of single epochs in files of their own, RUN/weights-epoch-0012.safetensors.
 * They are checkpoints without momentum: build/evaluate and PyTorch read them. */
#ifndef RODEO_TRAIN_KEEP_H
#define RODEO_TRAIN_KEEP_H

#include "train/checkpoint.h"

typedef struct {
    const char *folder; /* of the run */
    int count;          /* of the last epochs that stay, >= 1 */
    int64_t best;       /* this epoch stays too; 0: none */
} KeepSettings;

/* Writes the epoch's file and removes those that need not stay. */
int keep_epoch(const KeepSettings *settings, const WeightList *weights,
               const CheckpointState *state, const char *yaml, const char *metrics, Err *err);

/* The epoch with the highest accuracy on the source's test set; of equals that with the lowest
 * loss, then the first. 0 without an epoch. */
int64_t keep_best_epoch(const MetricsHistory *history);

#endif
