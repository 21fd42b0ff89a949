/* A convolution as a graph of cuDNN's, the engines that can run it, and running one of them.
 *
 * cuDNN's graph ("backend") API: NVIDIA, "cuDNN developer guide", chapter on the graph API. An
 * engine is one of cuDNN's implementations; its knobs choose between variants of it. Nothing here
 * times or chooses: conv_choice.h does.
 *
 * Functions return cuDNN's status and change nothing where it is not CUDNN_STATUS_SUCCESS. */
#ifndef RODEO_KERNELS_CUDA_CONV_GRAPH_H
#define RODEO_KERNELS_CUDA_CONV_GRAPH_H

#include "kernels/cuda/cuda.h"

typedef enum { CONV_FPROP, CONV_DGRAD, CONV_WGRAD } ConvPass;

/* x [N,H,W,C], w [K,R,R,C], y [N,P,Q,K] of one element type, products summed in float32. */
typedef struct {
    ConvPass pass;
    cudnnDataType_t type;
    ConvShape shape; /* C as in memory */
} ConvProblem;

/* Where plans are to run. Without a GPU at hand cuDNN tells what it would do on one that is
 * described by its properties: then handle is NULL, and plans can be prepared, but not run. */
typedef struct {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t properties;
} ConvTarget;

/* An engine with its knobs' values. */
#define CONV_KNOBS 24
typedef struct {
    int64_t index;
    int knobs;
    struct {
        int type;
        int64_t value;
    } knob[CONV_KNOBS];
} ConvEngine;

/* What cuDNN says about an engine: bit i is set where it bears note i of
 * cudnnBackendNumericalNote_t or cudnnBackendBehaviorNote_t. */
typedef struct {
    uint32_t numerical, behavior;
} ConvNotes;

typedef struct ConvGraph ConvGraph;

/* NULL in *graph unless it succeeds. */
cudnnStatus_t conv_graph_open(const ConvTarget *target, const ConvProblem *problem,
                              ConvGraph **graph);
void conv_graph_close(ConvGraph *graph); /* may be NULL */

/* Keeps the run-time compiler (NVRTC) loaded until it is released. Else cuDNN loads and unloads it
 * for every question about engines, some 10 ms each time, only to see that it is there. NULL: it is
 * not, and cuDNN does without as well. */
void *conv_hold_compiler(void);
void conv_release_compiler(void *held); /* may be NULL */

/* Up to `most` engines that cuDNN's heuristics suggest, the most promising first, with their notes;
 * *count tells how many. Those that cannot be described by index and knobs are left out. */
cudnnStatus_t conv_graph_suggest(const ConvGraph *graph, cudnnBackendHeurMode_t mode, int most,
                                 ConvEngine *engines, ConvNotes *notes, int *count);

/* An engine that is ready to run a graph. */
typedef struct ConvPlan ConvPlan;

/* The graph must outlive the plan. CUDNN_STATUS_NOT_SUPPORTED and its kin: this GPU or cuDNN
 * cannot.
 */
cudnnStatus_t conv_plan_open(const ConvGraph *graph, const ConvEngine *engine, ConvPlan **plan);
void conv_plan_close(ConvPlan *plan); /* may be NULL */

/* Bytes of device memory that a run uses besides its operands. */
size_t conv_plan_workspace(const ConvPlan *plan);

/* Device memory of a convolution, each aligned to CONV_ALIGNMENT bytes. The pass decides which one
 * is written: y, x, or w; fprop reads x and w, and so on. */
#define CONV_ALIGNMENT 16
typedef struct {
    const void *x, *w, *y;
} ConvOperands;

/* Enqueues the convolution on the handle's stream. */
cudnnStatus_t conv_plan_run(const ConvPlan *plan, cudnnHandle_t handle,
                            const ConvOperands *operands, void *workspace);

#endif
