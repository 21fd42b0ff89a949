/* Layers with parameters: the bits that trunks and heads are built of. Only model/ includes this.
 *
 * A layer knows where its parameters lie in the arenas; activations are passed in. "pass" is how
 * one forward or backward pass over a merged batch runs. */
#ifndef RODEO_MODEL_LAYERS_H
#define RODEO_MODEL_LAYERS_H

#include "kernels/ops.h"
#include "model/arena.h"
#include "model/params.h"

#define NORM_EPS      1e-5f
#define NORM_MOMENTUM 0.1f

/* A pass over `groups` groups of `batch` samples. In training batch norm uses and updates
 * statistics group by group, in evaluation it uses the running ones. A head that works group by
 * group is told which of its groups comes first. */
typedef struct {
    int groups, batch;
    int first; /* group of the head's whole step that this pass begins with */
    bool training;
    bool accumulate; /* backward: add to the gradients of the weights instead of setting them */
} Pass;

static inline int pass_samples(const Pass *pass)
{
    return pass->groups * pass->batch;
}

static inline int pass_first_sample(const Pass *pass)
{
    return pass->first * pass->batch;
}

typedef struct {
    ConvShape shape;      /* N is set at each call */
    int64_t weight, bias; /* offsets; bias -1: none */
} ConvLayer;

typedef struct {
    int C, K;
    bool float_output; /* as in LinearShape */
    int64_t weight, bias;
} LinearLayer;

typedef struct {
    int C;
    bool relu;
    int64_t gamma, beta;    /* offsets in the weights */
    int64_t mean, variance; /* offsets in the running statistics */
    float *batch_mean;      /* [groups, C], kept from forward to backward */
    float *batch_invstd;
    uint8_t *mask; /* of the output, where there are both a residual and a ReLU; else NULL */
} NormLayer;

/* Adding a layer registers its tensors as NAME.weight, NAME.bias and so on. */
ConvLayer conv_layer_add(Params *params, ParamGroup group, ParamInit init, bool bias,
                         const ConvShape *shape, const char *name);

/* rows > 1: the layer reads a flattened map [rows, rows, C/(rows rows)] whose channels come first
 * in the file. Weight and bias start near 0. */
LinearLayer linear_layer_add(Params *params, ParamGroup group, int C, int K, int rows,
                             const char *name);
NormLayer norm_layer_add(Params *params, ParamGroup group, ParamInit gamma, int C, bool relu,
                         const char *name);

/* Takes the memory for the statistics of up to max_groups groups. */
void norm_layer_plan(NormLayer *layer, int max_groups, Arena *arena);

/* Takes the memory for the mask of an output of up to max_rows rows (samples times positions). A
 * norm with a residual and a ReLU needs it. */
void norm_layer_plan_mask(NormLayer *layer, int64_t max_rows, Arena *arena);

void conv_layer_fprop(const ConvLayer *layer, Params *params, int N, const void *x, void *y);

/* A training pass of a convolution without bias, with the statistics that `norm` needs of y. */
void conv_layer_statistics(const ConvLayer *layer, const NormLayer *norm, Params *params,
                           const Pass *pass, const void *x, void *y);

/* Gradients of weight and bias; dx is the gradient of x, or NULL where nobody needs it. */
void conv_layer_bprop(const ConvLayer *layer, Params *params, const Pass *pass, const void *x,
                      const void *dy, void *dx);

void linear_layer_fprop(const LinearLayer *layer, Params *params, int N, const void *x, void *y);
void linear_layer_bprop(const LinearLayer *layer, Params *params, const Pass *pass, const void *x,
                        const void *dy, void *dx);

/* positions: H W of a map, 1 for vectors. residual may be NULL. */
void norm_layer_fprop(const NormLayer *layer, Params *params, const Pass *pass, int positions,
                      const void *x, const void *residual, void *y);

/* As op_batchnorm_bprop: a norm with a residual must be given dresidual. */
void norm_layer_bprop(const NormLayer *layer, Params *params, const Pass *pass, int positions,
                      const void *x, const void *dy, const void *dy_add, void *dx, void *dresidual);

#endif
