/* From a loader's batch to what the trunks read. */
#ifndef RODEO_TRAIN_INPUT_H
#define RODEO_TRAIN_INPUT_H

#include "data/loader.h"
#include "kernels/ops.h"

typedef struct {
    Backend *be;
    AugmentShape shape;
    void *x[MODALITIES]; /* [samples, crop, crop, 3], device memory */
} Input;

void input_open(Input *input, Backend *be, int samples, int resize, int crop);
void input_close(Input *input);

/* Augments the batch's pictures into x. The batch has as many slots as the input has samples. */
void input_augment(Input *input, const Batch *batch);

#endif
