/* The PyTorch program's checkpoint.pth: a whole run's state, as a list of tensors under this
 * program's names.
 *
 * The file is a dict with the keys
 *   epoch       the last completed epoch, a whole number
 *   time        when it was saved, seconds since 1970
 *   modules     a list of four state dicts: RGB trunk, depth trunk, main head, rotation head
 *   optimizers  a list of four states of torch.optim.SGD, in the same order: `state`, which maps a
 *               parameter's number to its momentum_buffer, and `param_groups`, with one group.
 * Further keys are ignored. A parameter's number is its place among the module's parameters, which
 * is the order of the state dict without its buffers. */
#ifndef RODEO_MODEL_PTH_CHECKPOINT_H
#define RODEO_MODEL_PTH_CHECKPOINT_H

#include "model/params.h"
#include "model/safetensors.h"

/* Settings of one optimizer; NAN where the file does not say. */
typedef struct {
    double lr, momentum, weight_decay;
} PthOptimizer;

typedef struct {
    int epoch;
    double saved;
    PthOptimizer optimizer[PARAM_GROUPS];
    /* What weights_restore_list takes: weights, running statistics, counters, momentum. A parameter
     * without a momentum buffer never had a gradient: its momentum is zeros. */
    TensorList list;
    struct PthCheckpointParts *parts; /* owns all that */
} PthCheckpoint;

/* Reads a file. err: not sound, or not such a checkpoint, and then what it lacks. */
int pth_checkpoint_open(PthCheckpoint *checkpoint, const char *path, Err *err);
void pth_checkpoint_close(PthCheckpoint *checkpoint);

#endif
