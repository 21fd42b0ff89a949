/* A small training on made-up pictures, on any device and precision: for tests that hold whole
 * steps against each other. */
#ifndef RODEO_TESTS_TRAINING_FIXTURE_H
#define RODEO_TESTS_TRAINING_FIXTURE_H

#include "train/step.h"

#define TRAINING_BATCH   4
#define TRAINING_GROUPS  4
#define TRAINING_SLOTS   (TRAINING_BATCH * TRAINING_GROUPS)
#define TRAINING_CLASSES 5

typedef struct {
    const char *device, *precision;
    const char *cache_dir; /* of measured choices; NULL: none */
    int passes;            /* NET_MERGED or NET_SEPARATE */
    bool eager;
    double dropout_p;
    double lr;
} TrainingKind;

typedef struct {
    Backend *be;
    Net *net;
    Input input;
    Step *step;
    uint8_t *pixels;
    AugmentItem *items[MODALITIES];
    int32_t *labels;
    PairPlan plan[TRAINING_SLOTS];
    Batch batch;
    float scale; /* of the loss in the last step */
} Training;

/* Opens device, network (the same initial weights every time) and step. Fails the test if it
 * cannot.
 */
void training_open(Training *t, const TrainingKind *kind);
void training_close(Training *t);

/* Runs step `number`, whose pictures and labels follow from the number, and returns its result. */
StepResult training_step(Training *t, int number);

/* Copies of the arenas, as new host memory. Gradients are those of the last step, without its loss
 * scale. */
float *training_weights(const Training *t);
float *training_gradients(const Training *t);
float *training_momentum(const Training *t);
float *training_running(const Training *t);

/* ||a - b|| / ||b|| over count elements. */
double relative_difference(const float *a, const float *b, int64_t count);

/* The device that tests which run anywhere are to use, and its precision: RODEO_TEST_DEVICE (cpu)
 * and RODEO_TEST_PRECISION (auto). */
const char *test_device(void);
const char *test_precision(void);

#endif
