/* Writes checkpoints in the background: a request copies the network's state to host memory and
 * returns; a thread of its own turns the copy into a file, makes it durable and tries again, ever
 * more rarely, where that fails. Training goes on meanwhile, and the last good checkpoint stays. */
#ifndef RODEO_TRAIN_SAVER_H
#define RODEO_TRAIN_SAVER_H

#include "train/checkpoint.h"

typedef struct {
    const char *folder; /* of the run */
    const Net *net;
    const Settings *settings; /* `keep` says how many epochs' weights are kept */
    Log *log;
} SaverSettings; /* all borrowed until saver_close */

typedef enum {
    SAVE_STEP,    /* within an epoch: left out while an earlier one is still being written */
    SAVE_TRAINED, /* an epoch is trained, its tests are to come */
    SAVE_EPOCH,   /* an epoch is complete: "Checkpoint saved" is printed, its weights may be kept */
} SaveKind;

typedef struct Saver Saver;

/* last: what the newest checkpoint on disk holds; NULL: there is none. */
Saver *saver_open(const SaverSettings *settings, const CheckpointState *last);

/* Takes a snapshot of the network and has it written with this state and history. One that still
 * waits to be written is superseded, but one that keeps an epoch's weights is waited for, unless
 * writing fails. Returns whether it will be written: SAVE_STEP is left out while another is under
 * way. */
bool saver_request(Saver *saver, SaveKind kind, const CheckpointState *state,
                   const MetricsHistory *history);

/* Waits until what was requested is on disk; a failing write is tried a few times more, at once.
 * err: it could not be written, and why; the last good checkpoint is intact. */
int saver_finish(Saver *saver, Err *err);

/* Seconds that the slowest write took; before the first, what one of this size takes on a slow
 * drive. */
double saver_write_seconds(Saver *saver);

/* What the newest checkpoint on disk holds: "epoch 3, step 20", or "" if there is none. */
void saver_last(Saver *saver, char text[static CHECKPOINT_PLACE_SIZE]);

/* Ends the thread. What has not been written by now is dropped; saver may be NULL. */
void saver_close(Saver *saver);

#endif
