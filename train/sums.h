/* What a training epoch adds up, step by step. Part of a checkpoint, so that an epoch that was
 * interrupted ends with the same means. */
#ifndef RODEO_TRAIN_SUMS_H
#define RODEO_TRAIN_SUMS_H

#include "train/step.h"

typedef struct {
    int64_t learned, skipped; /* steps */
    int64_t skipped_in_a_row; /* up to the last step, also over epochs */
    int64_t correct;          /* source pictures whose class was found in the learned steps */
    double cls, ent, rot_source, rot_target;           /* sums over the learned steps */
    double last_cls, last_rot_source, last_rot_target; /* of the last learned step */
    double feature_std; /* of the source logits of the epoch's last step; 0 before it */
    double seconds;     /* spent on these steps */
} EpochSums;

/* Adds one step. The losses of a skipped one are not added: they may be no numbers. */
void sums_add(EpochSums *sums, const StepResult *result);

/* Begins the next epoch. What is counted in a row goes on. */
void sums_begin_epoch(EpochSums *sums);

#endif
