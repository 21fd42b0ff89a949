/* Everything that a run holds open, and how one epoch of it goes. Only train.c and its parts
 * include this. */
#ifndef RODEO_TRAIN_TRAINER_H
#define RODEO_TRAIN_TRAINER_H

#include "base/log.h"
#include "base/pool.h"
#include "train/checkpoint.h"
#include "train/corpus.h"
#include "train/run.h"
#include "train/saver.h"
#include "train/step.h"

typedef struct {
    Settings *settings;
    volatile const int *stop;
    double deadline; /* clock_seconds() by which the last checkpoint must be written; INFINITY */
    Log *log;
    Pool *pool;
    Corpus corpus;
    Backend *be;
    Net *net;
    Input input;
    Step *step;
    Run run;
    char *weights; /* the file that the trunks of a fresh run start from; NULL: random weights */
    Saver *saver;
    CheckpointState state; /* where the run is */
    int64_t requested;     /* state.steps of the last checkpoint asked for */
    double last_request;   /* clock_seconds() of it */
    double longest_step;   /* seconds; also of a batch of the tests */
    double last_poll;      /* clock_seconds() of the last look at the deadline */
} Trainer;

/* Gets a run ready: folder, data, device, network, and where it goes on (checkpoint, pretrained or
 * random weights). With --dump_plan the run's folder is read, if it is there, but not touched.
 * trainer_close is to be called in any case. */
int trainer_open(Trainer *trainer, Settings *settings, volatile const int *stop, Log *log,
                 Err *err);
void trainer_close(Trainer *trainer);

/* Opens the loaders of an epoch's training steps from first_step on. */
Loader *trainer_open_loader(const Trainer *trainer, int64_t epoch, int64_t first_step, Err *err);

/* Trains and tests what is left of the epoch behind trainer->state, prints the experiment's lines,
 * records it, and moves the state behind it, with checkpoints on the way. Returns 1 when stopped
 * early, -1 with err on an error. */
int trainer_epoch(Trainer *trainer, Err *err);

/* The tests after an epoch, in the experiment's order: fills the test members of the metrics.
 * Returns 1 when stopped early, -1 with err on an error. */
int trainer_test(Trainer *trainer, EpochMetrics *metrics, Err *err);

/* Whether the run is to stop: a signal, or the time limit is near. To be asked after every step and
 * after every batch of a test: the time between two questions is what the limit allows for. */
bool trainer_should_stop(Trainer *trainer);

/* The loaders of a training step, in the order of the net's groups; returns how many. */
int trainer_loaders(const Trainer *trainer, LoaderId loaders[static LOADER_MAX_GROUPS]);

/* How a loader draws its pictures in an epoch (0 for the tests). */
PlanSettings trainer_plan(const Trainer *trainer, LoaderId loader, int64_t epoch);

/* Threads that load pictures. */
int trainer_workers(const Trainer *trainer);

/* Looks at the losses of one step, number `step` (from 0) of the epoch behind trainer->state; they
 * may come some steps late. err: they are no finite numbers, or too many steps in a row were
 * skipped; which step, which losses, and what to go back to. The pictures of that step are then in
 * RUN/bad-step.txt. */
int trainer_check_step(Trainer *trainer, const StepResult *result, int64_t step, Err *err);

#endif
