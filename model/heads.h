/* The two heads on top of the trunks.
 *
 * Main head M: pooled features [f_rgb; f_depth] -> linear 1000 -> batch norm -> ReLU -> dropout ->
 * linear to the classes.
 * Relative-rotation head R: maps [F_rgb; F_depth] along the channels -> convolution 1x1 to 100 ->
 * batch norm -> ReLU -> convolution 3x3/2 without padding to 100 -> batch norm -> ReLU -> flatten
 * -> linear 100 -> batch norm -> ReLU -> dropout -> linear 4 (Loghmani et al. 2020, section III).
 */
#ifndef RODEO_MODEL_HEADS_H
#define RODEO_MODEL_HEADS_H

#include "model/layers.h"

#define MAIN_HIDDEN       1000
#define ROTATION_HIDDEN   100
#define ROTATION_CLASSES  4
#define ROTATION_MIN_SIDE 3 /* smallest map side that the 3x3 convolution fits on */

/* A hidden linear layer with batch norm, ReLU and dropout, and the linear layer to the logits: what
 * both heads end in. */
typedef struct {
    LinearLayer fc1;
    NormLayer norm;
    LinearLayer fc2;
    float dropout_p;
    uint32_t dropout_layer;  /* names its masks: DropoutShape.layer */
    const void *input;       /* borrowed from the last forward pass */
    void *z, *a, *dropped;   /* [N, hidden] */
    void *gradient;          /* [N, hidden] */
    float *logits, *dlogits; /* [samples of all groups, classes] */
} Classifier;

typedef struct {
    Params *params;
    int channels, positions;    /* of one trunk's map */
    void *pooled[2];            /* [N, channels] */
    void *features, *dfeatures; /* [N, 2 channels] */
    void *dpooled[2];
    Classifier classifier;
} MainHead;

typedef struct {
    Params *params;
    int channels, side; /* of one trunk's map */
    ConvLayer conv[2];
    NormLayer norm[2];
    void *maps; /* [N, side, side, 2 channels] */
    void *z[2], *a[2];
    void *dmaps, *dz[2];
    Classifier classifier;
} RotationHead;

void main_head_add(MainHead *head, Params *params, int channels, int side, int classes,
                   float dropout_p);

/* Takes the memory for passes of up to `pass_groups` groups of `batch` samples, and for the logits
 * of `groups` groups. */
void main_head_plan(MainHead *head, int groups, int pass_groups, int batch, Arena *arena);

/* Logits [N, classes] from the trunks' maps, N = groups * batch of the pass, behind those of the
 * groups before the pass. dropout_key as in op_dropout; used in training only. */
const float *main_head_fprop(MainHead *head, const Pass *pass, const uint64_t *dropout_key,
                             const void *map_rgb, const void *map_depth);

/* From the pass's part of classifier.dlogits to the gradients of the weights and of the maps
 * (overwritten). */
void main_head_bprop(MainHead *head, const Pass *pass, const uint64_t *dropout_key, void *dmap_rgb,
                     void *dmap_depth);

/* side must be at least ROTATION_MIN_SIDE. R's dropout is 0.5 in the experiment. */
void rotation_head_add(RotationHead *head, Params *params, int channels, int side, float dropout_p);
void rotation_head_plan(RotationHead *head, int groups, int pass_groups, int batch, Arena *arena);
const float *rotation_head_fprop(RotationHead *head, const Pass *pass, const uint64_t *dropout_key,
                                 const void *map_rgb, const void *map_depth);
void rotation_head_bprop(RotationHead *head, const Pass *pass, const uint64_t *dropout_key,
                         void *dmap_rgb, void *dmap_depth);

#endif
