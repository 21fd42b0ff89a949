/* A ResNet trunk without its classifier (He, Zhang, Ren, Sun, "Deep residual learning", 2015), as
 * torchvision builds resnet18 and resnet50: stem (7x7/2 convolution, batch norm, ReLU, 3x3/2 max
 * pooling), four stages of basic or bottleneck blocks; in a bottleneck the 3x3 convolution has the
 * stride. It maps pictures [N, crop, crop, 3] to a map [N, side, side, channels]. */
#ifndef RODEO_MODEL_TRUNK_H
#define RODEO_MODEL_TRUNK_H

#include "model/layers.h"

#define TRUNK_MAX_BLOCKS 16

typedef struct {
    int depth; /* 18 or 50 */
    int width; /* channels of the stem and of the first stage's 3x3 convolutions; 64 in torchvision
                */
    int crop;  /* side of the input pictures */
} TrunkConfig;

typedef struct {
    int convs; /* 2 (basic) or 3 (bottleneck) on the main path */
    ConvLayer conv[3];
    NormLayer norm[3];
    bool downsample; /* the shortcut has a 1x1 convolution and batch norm */
    ConvLayer down_conv;
    NormLayer down_norm;
    /* Kept from forward to backward. z[i] = conv i's output; a[i] = its norm's output, a[convs - 1]
     * is the block's output. down_z likewise; its norm's output lies where the block's will. */
    void *z[3], *a[3], *down_z;
} Block;

typedef struct {
    Params *params;
    int crop, stem_side; /* pictures in, stem convolution out */
    ConvLayer stem_conv;
    NormLayer stem_norm;
    Block block[TRUNK_MAX_BLOCKS];
    int blocks;
    int channels, side;    /* of the output map */
    void *stem_z, *stem_a; /* stem convolution's output; pooled */
    uint8_t *stem_argmax;
    /* Gradients: three buffers that take turns, as large as the largest map behind the stem, and
     * one for the stem convolution's output, in the memory of the blocks' maps. */
    void *gradient[3], *stem_gradient;
    const void *input; /* of the last forward pass, borrowed */
} Trunk;

/* Registers the trunk's tensors under PREFIX.conv1.weight and so on. */
void trunk_add(Trunk *trunk, Params *params, ParamGroup group, const TrunkConfig *config,
               const char *prefix);

/* Takes the memory for passes of up to max_groups groups and max_samples pictures in all. */
void trunk_plan(Trunk *trunk, int max_groups, int max_samples, Arena *arena);

/* The map of pictures x [N, crop, crop, 3], N = groups * batch of the pass; x must stay until the
 * backward pass has run. */
const void *trunk_fprop(Trunk *trunk, const Pass *pass, const void *x);

/* Where the gradient of the map goes before trunk_bprop. */
void *trunk_output_gradient(Trunk *trunk);

/* Gradients of all weights, from the gradient of the map. Overwrites that gradient. */
void trunk_bprop(Trunk *trunk, const Pass *pass);

#endif
