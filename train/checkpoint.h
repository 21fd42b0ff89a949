/* Checkpoints: everything a run needs to go on, in one safetensors file.
 *
 * RUN/checkpoint.safetensors is the newest, RUN/checkpoint.safetensors.old the one before it. A new
 * one is written aside, made durable, and only then takes the name of the newest, so at every
 * instant one of the two is whole. */
#ifndef RODEO_TRAIN_CHECKPOINT_H
#define RODEO_TRAIN_CHECKPOINT_H

#include "base/log.h"
#include "model/weights.h"
#include "train/metrics.h"
#include "train/settings.h"
#include "train/sums.h"

/* Where a run is. A member that must survive gets a line in the table of checkpoint.c. */
typedef struct {
    int64_t epoch; /* last one that is trained, tested and recorded */
    int64_t step;  /* steps done of the epoch behind it; all of them: only its tests are missing */
    int64_t steps; /* of the run so far, those included */
    int64_t classes;   /* that the network tells apart */
    uint64_t data;     /* corpus_fingerprint; 0: not known */
    double saved;      /* seconds since 1970 */
    char device[200];  /* that computed it: kind and device_description; in older files the kind
                          alone, in the oldest "" */
    int64_t passes;    /* net_passes: its sums round differently; 0: not known */
    double loss_scale; /* LossScale's members; all 0: there is none */
    int64_t loss_scale_good_steps, loss_scale_skipped;
    EpochSums sums; /* over `step` steps */
} CheckpointState;

/* Writes a checkpoint; a file that stands at path becomes backup, or is lost if backup is NULL. The
 * tensors are a network's, settings and metrics texts as settings_to_yaml and metrics_to_text
 * give them. */
int checkpoint_write(const char *path, const char *backup, const WeightList *weights,
                     const CheckpointState *state, const char *settings, const char *metrics,
                     Err *err);

/* Paths in a run's folder, new strings: the newest checkpoint, the one before it, and the weights
 * that --keep keeps of an epoch. */
char *checkpoint_path(const char *folder);
char *checkpoint_old_path(const char *folder);
char *checkpoint_kept_path(const char *folder, int64_t epoch);

/* The epoch of a name that checkpoint_kept_path made, 0 for any other name. */
int64_t checkpoint_kept_epoch(const char *name);

/* Whether the folder holds a checkpoint, newest or old; also one that cannot be read. */
bool checkpoint_exists(const char *folder);

/* Opens the newest checkpoint of a run folder that is whole: falls back to the old one, with a
 * warning, if the newest is missing or damaged. NULL and err if neither can be used. */
SafeFile *checkpoint_open(const char *folder, Log *log, Err *err);

/* As checkpoint_open, for a run that goes on: a newest checkpoint that is damaged is renamed to
 * checkpoint.safetensors.damaged, so that the next one that is written does not push the whole one
 * out. */
SafeFile *checkpoint_open_to_resume(const char *folder, Log *log, Err *err);

/* Reads what a checkpoint says about itself. saved_settings (may be NULL) gets the run's settings,
 * to be freed. */
int checkpoint_describe(const SafeFile *file, CheckpointState *state, Settings *saved_settings,
                        Err *err);

/* The run's epochs up to the checkpoint. A checkpoint of the first format does not have them: they
 * are then those that the file at metrics_path has up to its epoch. */
int checkpoint_history(const SafeFile *file, const char *metrics_path, MetricsHistory *history,
                       Err *err);

/* "epoch 3" behind a whole epoch, "epoch 3, step 20" within one; writes into text and returns it.
 */
#define CHECKPOINT_PLACE_SIZE 64
char *checkpoint_place(const CheckpointState *state, char text[static CHECKPOINT_PLACE_SIZE]);

#endif
