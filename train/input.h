/* From a loader's batch to what the trunks read. */
#ifndef RODEO_TRAIN_INPUT_H
#define RODEO_TRAIN_INPUT_H

#include "data/loader.h"
#include "kernels/ops.h"

typedef struct {
    Backend *be;
    AugmentShape shape;
    void *x[MODALITIES]; /* [samples, crop, crop, picture channels], device memory */
} Input;

void input_open(Input *input, Backend *be, int samples, int resize, int crop);
void input_close(Input *input);

/* Augments the pictures of a batch, which has as many slots as the input has samples, into x.
 * pixels and items as in Batch. */
void input_augment(Input *input, const uint8_t *pixels, const AugmentItem *const *items);

#endif
