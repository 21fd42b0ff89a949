/* The CUDA backend's own declarations: its state, error checks, and one function an operator. Only
 * kernels/cuda/ includes this.
 *
 * Convolutions are cuDNN's but for the first and those that own kernels are faster for
 * (own_conv.h); matrix products are cuBLAS's, everything else are kernels of our own. An operator
 * enqueues its work on the stream of the current lane and returns. Each lane has its own stream,
 * library handles, workspace and scratch memory, so two lanes never share anything that they write.
 * All sums run in an order that depends only on the shape and the GPU: no floating-point atomics.
 *
 * Files that only call libraries are C, files with kernels are .cu, C in style; templates serve
 * element types and vector lengths, nothing else. */
#ifndef RODEO_KERNELS_CUDA_H
#define RODEO_KERNELS_CUDA_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/backend.h"

#ifdef __cplusplus
}
#endif

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cudnn.h>

/* Element type of activations and their gradients. */
typedef enum { CUDA_F32, CUDA_F16, CUDA_BF16 } CudaType;

/* Channels that pictures are padded to: with four, a pixel is one aligned load in every type. */
#define CUDA_PICTURE_CHANNELS 4

typedef struct CudaBlock CudaBlock;         /* device memory that was outgrown: cuda/memory.c */
typedef struct CudaConvPlans CudaConvPlans; /* chosen engines by shape: cuda/conv_plans.h */

/* Device memory that grows to the largest need met so far. */
typedef struct {
    void *memory;
    size_t bytes;
} CudaGrowing;

typedef struct {
    cudaStream_t stream;
    cudaEvent_t reached; /* marks this lane's work at a fork or a join */
    cudnnHandle_t cudnn;
    cublasHandle_t cublas;
    void *cublas_workspace;
    CudaGrowing workspace; /* convolutions': cuda_workspace */
    CudaGrowing scratch;   /* the operators': cuda_scratch */
} CudaLane;

typedef struct {
    Backend base;
    CudaType type;
    bool tf32; /* float32 products may be rounded to TF32 */
    int device;
    int sm;              /* compute capability, 10 major + minor */
    int compiled_for;    /* the same of the kernels' code: no more than sm */
    int multiprocessors; /* that the GPU has */
    char description[192];
    CudaLane lanes[DEVICE_LANES];
    int lane;              /* the current one */
    size_t most_workspace; /* bytes that a convolution may use in a lane */
    CudaBlock *outgrown;
    bool capturing;
    bool has_recorded; /* some step, ever */
    CudaConvPlans *plans;
} CudaBackend;

static inline CudaBackend *cuda_backend(Backend *be)
{
    return (CudaBackend *)be;
}

static inline CudaLane *cuda_lane(CudaBackend *cuda)
{
    return &cuda->lanes[cuda->lane];
}

static inline cudaStream_t cuda_stream(Backend *be)
{
    return cuda_lane(cuda_backend(be))->stream;
}

#ifdef __cplusplus
extern "C" {
#endif

/* At least `bytes` of scratch memory of the current lane, aligned to 256 bytes, valid for what is
 * enqueued on this lane until the next call. */
void *cuda_scratch(CudaBackend *cuda, size_t bytes);

/* The same for what a convolution uses besides its operands, which may lie in scratch memory. */
void *cuda_workspace(CudaBackend *cuda, size_t bytes);

/* Frees what the lanes outgrew; the memory stays until then because a recorded step may use it. */
void cuda_free_outgrown(CudaBackend *cuda);

/* End the program where a call failed, naming the call, the error and the place. */
void cuda_fail(cudaError_t status, const char *call, const char *file, int line);
void cudnn_fail(cudnnStatus_t status, const char *call, const char *file, int line);
void cublas_fail(cublasStatus_t status, const char *call, const char *file, int line);

#define CUDA_CHECK(call)                                                                           \
    do {                                                                                           \
        cudaError_t status_ = (call);                                                              \
        if (status_ != cudaSuccess) {                                                              \
            cuda_fail(status_, #call, __FILE__, __LINE__);                                         \
        }                                                                                          \
    } while (0)

#define CUDNN_CHECK(call)                                                                          \
    do {                                                                                           \
        cudnnStatus_t status_ = (call);                                                            \
        if (status_ != CUDNN_STATUS_SUCCESS) {                                                     \
            cudnn_fail(status_, #call, __FILE__, __LINE__);                                        \
        }                                                                                          \
    } while (0)

#define CUBLAS_CHECK(call)                                                                         \
    do {                                                                                           \
        cublasStatus_t status_ = (call);                                                           \
        if (status_ != CUBLAS_STATUS_SUCCESS) {                                                    \
            cublas_fail(status_, #call, __FILE__, __LINE__);                                       \
        }                                                                                          \
    } while (0)

/* ---- helpers that operators share (cuda/rows.cu) ----------------------------------------------
 */

/* y[r, k] += bias[k] over y [rows, K] of the compute type, or of float32. */
void cuda_add_bias(CudaBackend *cuda, int64_t rows, int K, const float *bias, bool float_output,
                   void *y);

/* dbias[k] = or += the sum over the rows of dy [rows, K]; uses scratch memory. */
void cuda_sum_rows(CudaBackend *cuda, int64_t rows, int K, const void *dy, bool float_output,
                   bool accumulate, float *dbias);

/* dw [count] = or += x in the compute type. */
void cuda_widen(CudaBackend *cuda, int64_t count, const void *x, bool accumulate, float *dw);

/* y [count] in the compute type = x. */
void cuda_narrow(CudaBackend *cuda, int64_t count, const float *x, void *y);

/* padded [positions, CUDA_PICTURE_CHANNELS] = weights of pictures [positions, 3], the channels
 * beyond the third zero; and back: dw = or += their gradients, in float32. */
void cuda_pad_filter(CudaBackend *cuda, int64_t positions, const void *w, void *padded);
void cuda_cut_filter(CudaBackend *cuda, int64_t positions, const void *padded, bool accumulate,
                     float *dw);

/* ---- operators ---------------------------------------------------------------------------------
 */

__typeof__(op_conv_fprop) cuda_conv_fprop;
__typeof__(op_conv_dgrad) cuda_conv_dgrad;
__typeof__(op_conv_wgrad) cuda_conv_wgrad;
__typeof__(op_linear_fprop) cuda_linear_fprop;
__typeof__(op_linear_dgrad) cuda_linear_dgrad;
__typeof__(op_linear_wgrad) cuda_linear_wgrad;
__typeof__(op_batchnorm_train) cuda_batchnorm_train;
__typeof__(op_batchnorm_eval) cuda_batchnorm_eval;
__typeof__(op_batchnorm_bprop) cuda_batchnorm_bprop;
__typeof__(op_conv_statistics) cuda_conv_statistics;
__typeof__(op_stem_train) cuda_stem_train;
__typeof__(op_stem_eval) cuda_stem_eval;
__typeof__(op_stem_bprop) cuda_stem_bprop;
__typeof__(op_avgpool_fprop) cuda_avgpool_fprop;
__typeof__(op_avgpool_bprop) cuda_avgpool_bprop;
__typeof__(op_concat) cuda_concat;
__typeof__(op_split) cuda_split;
__typeof__(op_dropout) cuda_dropout;
__typeof__(op_cross_entropy) cuda_cross_entropy;
__typeof__(op_entropy) cuda_entropy;
__typeof__(op_argmax) cuda_argmax;
__typeof__(op_augment) cuda_augment;
__typeof__(op_sgd) cuda_sgd;
__typeof__(op_cast) cuda_cast;

#ifdef __cplusplus
}
#endif

#endif
