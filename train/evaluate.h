/* Accuracy and loss of a network on a list of pairs. */
#ifndef RODEO_TRAIN_EVALUATE_H
#define RODEO_TRAIN_EVALUATE_H

#include "base/progress.h"
#include "model/net.h"
#include "train/input.h"

typedef enum { EVALUATE_CLASSES, EVALUATE_ROTATIONS } EvaluateTask;

typedef struct {
    PlanSettings plan; /* which pairs, and how they are drawn */
    Store *store;      /* where their pictures are; NULL: in their pack */
    EvaluateTask task;
    int64_t max_batches; /* stop behind this many batches; 0: all */
    int workers;
    const char *label; /* of the progress bar */
    /* Called for every pair in the plan's order, unless NULL. */
    void (*predicted)(void *context, const PairPlan *pair, int prediction);
    void *context;
    /* Asked before every batch, unless NULL: true ends the evaluation early. */
    bool (*stop)(void *stop_context);
    void *stop_context;
} EvaluateSettings;

typedef struct {
    int64_t pairs, correct;
    double accuracy; /* correct / pairs */
    double loss;     /* mean over the batches of their mean cross-entropies */
    bool stopped;    /* ended early: the numbers are not complete */
} EvaluateResult;

/* Runs the network in evaluation mode over the pairs, with the net's and the input's memory.
 * Several batches go through the network at once. log may be NULL. */
int evaluate_run(Net *net, Input *input, const EvaluateSettings *settings, Log *log,
                 EvaluateResult *result, Err *err);

#endif
