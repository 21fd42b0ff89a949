/* A whole run: from settings to a trained network, epoch by epoch, with evaluation, records and
 * checkpoints. */
#ifndef RODEO_TRAIN_TRAIN_H
#define RODEO_TRAIN_TRAIN_H

#include "base/log.h"
#include "train/settings.h"

/* Trains as the settings say. *stop is polled between steps: when it becomes non-zero (a signal's
 * number), or when settings->max_hours are nearly over, the run writes a checkpoint and ends early.
 * Where a run goes on, settings->pretrained becomes what it began with. Returns 0 when all epochs
 * are done, 1 when stopped, -1 with err filled when something is wrong, which includes a last
 * checkpoint that cannot be written; the last good checkpoint is intact in every case. */
int train_run(Settings *settings, volatile const int *stop, Log *log, Err *err);

#endif
