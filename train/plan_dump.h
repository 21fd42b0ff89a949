/* --dump_plan: some training steps written out, so that another program can repeat them.
 *
 * The folder gets
 *   plan.jsonl  one JSON object a line. The first one holds the settings; each further one a step:
 *               every group's pictures, labels, crops, flips and rotations, the key of the dropout
 *               masks, the losses, and the norm of every parameter's gradient.
 *   initial/    a checkpoint from before the first step
 *   final/      a checkpoint from after the last one
 * tests/reference/replay.py repeats the steps in PyTorch from these and the pictures alone. */
#ifndef RODEO_TRAIN_PLAN_DUMP_H
#define RODEO_TRAIN_PLAN_DUMP_H

#include "train/trainer.h"

/* Looks at the settings before anything is opened: a plan's steps name picture files, which a tar
 * file does not have. */
int plan_dump_check(const Settings *settings, Err *err);

/* Runs settings->steps steps from where the trainer stands and writes the folder
 * settings->dump_plan; plan.jsonl comes into being last. Returns 1 when stopped early, -1 and err
 * when something is wrong. */
int plan_dump(Trainer *trainer, Err *err);

#endif
