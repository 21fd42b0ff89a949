/* Parameters: named tensors in contiguous arenas.
 *
 * One table describes every learned tensor: its name in a weight file (torchvision's and the
 * reference heads' names behind a stream's prefix: "rgb.layer1.0.conv1.weight"), its shape in
 * memory and in the file, its place in the arena and how it starts. Weights, gradients and momentum
 * are three arenas that share the table's offsets, so the optimizer is one pass and a checkpoint is
 * the table written out. Batch norm's running statistics have a table and an arena of their own:
 * saved, never given to the optimizer. */
#ifndef RODEO_MODEL_PARAMS_H
#define RODEO_MODEL_PARAMS_H

#include "kernels/device.h"

#include <stdint.h>

/* The four optimizers of the experiment. Tables are sorted by group. */
typedef enum {
    PARAM_RGB_TRUNK,
    PARAM_DEPTH_TRUNK,
    PARAM_MAIN_HEAD,
    PARAM_ROTATION_HEAD,
    PARAM_GROUPS,
} ParamGroup;

/* How a tensor starts. */
typedef enum {
    INIT_ZERO,
    INIT_ONE,
    INIT_KAIMING_FAN_OUT, /* N(0, 2/(K R S)): He et al. 2015, as torchvision's ResNet starts */
    INIT_XAVIER_UNIFORM,  /* U(-a, a), a = sqrt(6/(fan_in + fan_out)): Glorot and Bengio 2010 */
    INIT_NORMAL_NEAR_0,   /* N(0, 0.01^2) */
    INIT_NORMAL_NEAR_1,   /* N(1, 0.01^2) */
} ParamInit;

#define PARAM_MAX_DIMS 4
#define PARAM_ALIGN    64 /* elements: every tensor starts on a 256-byte boundary */

typedef struct {
    char name[64];
    /* In memory: [C], [K,C] or [K,R,S,C]. */
    int ndim, dim[PARAM_MAX_DIMS];
    /* In a file the same elements are [C], [K,C] or [K,C,R,S]; a linear layer that reads a
     * flattened map has four dimensions in memory and two in the file ([K, C*R*S]). */
    int file_ndim;
    int64_t offset; /* elements from the arena's start */
    int64_t count;  /* elements, padding not counted */
    ParamGroup group;
    ParamInit init;
} ParamSpec;

typedef struct {
    ParamSpec *spec;
    int count;
    int64_t elements; /* size of an arena for this table; padding between tensors is 0 */
} ParamTable;

/* Appends a tensor and returns its offset. dim in memory order; file_ndim is ndim, or 2 for a
 * flattened map. The name may be at most 63 characters long; groups must come in ascending order.
 */
int64_t param_table_add(ParamTable *table, ParamGroup group, ParamInit init, int file_ndim,
                        int ndim, const int *dim, const char *format, ...)
    __attribute__((format(printf, 7, 8)));

/* The file's shape of a tensor; returns file_ndim. */
int param_file_shape(const ParamSpec *spec, int64_t shape[static PARAM_MAX_DIMS]);

/* Copies one tensor's elements (host memory) between memory order and the file's order. */
void param_to_file_order(const ParamSpec *spec, const float *memory, float *file);
void param_from_file_order(const ParamSpec *spec, const float *file, float *memory);

/* The arena range that a group's tensors occupy, padding included. */
void param_group_range(const ParamTable *table, ParamGroup group, int64_t *offset, int64_t *count);

/* Batch norm layers count the batches they have seen (torch's num_batches_tracked). */
typedef struct {
    char name[64]; /* of the layer, without the ending ".num_batches_tracked" */
    ParamGroup group;
    int64_t batches;
} NormCounter;

typedef struct {
    Backend *be;
    ParamTable weights, running;
    NormCounter *norm;
    int norms;
    /* Device arenas, made by params_allocate: w, dw, v over `weights`, running_stats over
     * `running`. */
    float *w, *dw, *v, *running_stats;
    /* w in the backend's compute type, as convolutions and linear layers read it; w itself where
     * that is float32. The optimizer keeps it current. */
    void *w_act;
} Params;

/* Allocates the arenas when all tensors have been added: gradients and momentum 0, the rest not yet
 * set. */
void params_allocate(Params *params);

/* Brings w_act up to date: to be called whenever something but the optimizer has written w. */
void params_refresh(Params *params);

/* The weight at an offset, in the compute type. */
const void *params_weight(const Params *params, int64_t offset);

/* Sets weights to their initial values, drawn from the seed, running means to 0 and variances to 1,
 * momentum and counters to 0. */
void params_initialise(Params *params, uint64_t seed);

/* Parameters in use by one group (padding not counted). */
int64_t params_count(const Params *params, ParamGroup group);

void params_free(Params *params);

#endif
