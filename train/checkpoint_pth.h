/* Going on with a run that the PyTorch program began: RUN/checkpoint.pth. */
#ifndef RODEO_TRAIN_CHECKPOINT_PTH_H
#define RODEO_TRAIN_CHECKPOINT_PTH_H

#include "base/log.h"
#include "model/net.h"
#include "train/checkpoint.h"
#include "train/settings.h"

/* Whether the folder holds such a checkpoint, or the one that the program had set aside
 * (checkpoint.pth.old) when it was interrupted in writing the next. */
bool checkpoint_pth_exists(const char *folder);

/* Sets the network from it: weights, running statistics, counters, momentum. Fills state; `steps`
 * follows from steps_per_epoch. err: the file is not sound or does not fit the network, or its
 * optimizers' learning rates, momentum or weight decay are not those of the settings; the network
 * is then unchanged. */
int checkpoint_pth_restore(const char *folder, Net *net, const Settings *settings,
                           int64_t steps_per_epoch, CheckpointState *state, Log *log, Err *err);

#endif
