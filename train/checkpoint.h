/* Checkpoints: everything a run needs to go on, in one safetensors file.
 *
 * RUN/checkpoint.safetensors is the newest, RUN/checkpoint.safetensors.old the one before it. A new
 * one is written aside, made durable, and only then takes the name of the newest, so at every
 * instant one of the two is whole. */
#ifndef RODEO_TRAIN_CHECKPOINT_H
#define RODEO_TRAIN_CHECKPOINT_H

#include "base/log.h"
#include "model/net.h"
#include "model/safetensors.h"
#include "train/settings.h"

typedef struct {
    int epoch;     /* last completed one */
    int64_t steps; /* of the run so far */
    double saved;  /* seconds since 1970 */
    int classes;
} CheckpointState;

/* Writes RUN/checkpoint.safetensors; state->saved is set to now. */
int checkpoint_save(const char *folder, const Net *net, const Settings *settings,
                    CheckpointState *state, Err *err);

/* Whether the folder holds a checkpoint, newest or old. */
bool checkpoint_exists(const char *folder);

/* Opens the newest checkpoint of a run folder that is whole: falls back to the old one, with a
 * warning, if the newest is missing or damaged. NULL and err if neither can be used. */
SafeFile *checkpoint_open(const char *folder, Log *log, Err *err);

/* Reads what a checkpoint says about itself. saved_settings (may be NULL) gets the run's settings,
 * to be freed. */
int checkpoint_describe(const SafeFile *file, CheckpointState *state, Settings *saved_settings,
                        Err *err);

#endif
