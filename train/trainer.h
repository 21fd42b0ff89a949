/* Everything that a run holds open, and how one epoch of it goes. Only train.c and its parts
 * include this. */
#ifndef RODEO_TRAIN_TRAINER_H
#define RODEO_TRAIN_TRAINER_H

#include "base/log.h"
#include "base/pool.h"
#include "train/checkpoint.h"
#include "train/corpus.h"
#include "train/run.h"
#include "train/step.h"

typedef struct {
    const Settings *settings;
    volatile const int *stop;
    Log *log;
    Pool *pool;
    Corpus corpus;
    Backend *be;
    Net *net;
    Input input;
    Step *step;
    Run run;
    CheckpointState state; /* of the last completed epoch */
} Trainer;

/* Gets a run ready: folder, data, device, network, and where it goes on (checkpoint, pretrained or
 * random weights). With --dump_plan the run's folder is read, if it is there, but not touched.
 * trainer_close is to be called in any case. */
int trainer_open(Trainer *trainer, const Settings *settings, volatile const int *stop, Log *log,
                 Err *err);
void trainer_close(Trainer *trainer);

/* The loader of an epoch's training steps, and how many there are. */
Loader *trainer_open_loader(const Trainer *trainer, int epoch, int64_t *steps, Err *err);

/* Trains and tests one epoch, prints the experiment's lines, and fills the record; trainer->state
 * is then that epoch's. Returns 1 when stopped early, -1 with err on an error. */
int trainer_epoch(Trainer *trainer, int epoch, EpochRecord *record, Err *err);

#endif
