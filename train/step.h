/* One training step of relative-rotation domain adaptation (Loghmani et al. 2020):
 *
 *     minimise  L_cls(source) + alpha L_ent(target) + lambda (L_rot(source rotated) + L_rot(target
 * rotated))
 *
 * by SGD with momentum on both trunks and both heads. */
#ifndef RODEO_TRAIN_STEP_H
#define RODEO_TRAIN_STEP_H

#include "model/net.h"
#include "train/input.h"

typedef struct {
    double lr, lr_mult; /* trunks learn at lr, heads at lr * lr_mult */
    double momentum, weight_decay;
    double alpha;  /* weight of the entropy term; 0: no target group */
    double lambda; /* weight of the rotation terms; 0: no rotated groups */
    uint64_t seed; /* of the dropout masks */
    bool eager;    /* enqueue every operator each time, instead of replaying a recorded step */
} StepSettings;

typedef struct {
    double cls, ent, rot_source,
        rot_target; /* losses without their weights; 0 where switched off */
    int correct;    /* source pictures whose class was found, of B */
    int correct_rot_source, correct_rot_target; /* pictures whose rotation was found, of B */
    int skipped;       /* 1: the gradients overflowed fp16, and the weights were left alone */
    double loss_scale; /* of the next step; 1 where there is none */
} StepResult;

typedef struct Step Step;

/* Groups that a step with these weights has, in the net's order. */
NetStep step_groups(int batch, double alpha, double lambda);

/* net was opened for step_groups() of the same settings; both are borrowed. */
Step *step_open(Net *net, const StepSettings *settings, Input *input);
void step_close(Step *step);

/* Enqueues one step on a batch: augments its pictures, then does as step_learn. At most
 * STEP_MAX_PENDING results may be unread before it. */
#define STEP_MAX_PENDING 4
void step_run(Step *step, const Batch *batch, uint64_t number);

/* Forward, losses, backward, SGD over network input x_rgb, x_depth [groups * B, crop, crop, picture
 * channels] with labels [groups * B]: classes in the source group, rotations in the rotated ones.
 * number counts the run's steps from 0 and selects the dropout masks. All in device memory. */
void step_learn(Step *step, const void *x_rgb, const void *x_depth, const int32_t *labels,
                uint64_t number);

/* Steps whose results have not been read. */
int step_pending(const Step *step);

/* The result of the oldest step that has not been read; waits for it. */
StepResult step_result(Step *step);

/* The loss scale's state, to be saved and restored with a run; all 0 where there is none. Only
 * between steps: restore with no result pending. */
LossScale step_loss_scale(const Step *step);
void step_restore_loss_scale(Step *step, const LossScale *scale);

/* Unbiased standard deviation of all source logits [B, C] of the last step. */
double step_logits_std(const Step *step);

#endif
