/* The CUDA backend's own declarations: its state, error checks, and one function an operator. Only
 * kernels/cuda/ includes this.
 *
 * Convolutions are cuDNN's, matrix products cuBLAS's, everything else are kernels of our own. An
 * operator enqueues its work on the stream of the current lane and returns. Each lane has its own
 * stream, library handles, workspace and scratch memory, so two lanes never share anything that
 * they write. All sums run in an order that depends only on the shape: no floating-point atomics.
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

/* Channels that pictures are padded to: with four, a pixel is one aligned load in every type.
 *
 * bf16 has no fast convolution of so few channels: there four pixels are a block of 16 channels,
 * and the first convolution has half the size and stride 1. On an H100 its fprop and wgrad take
 * 0.72 + 0.44 ms so, and 1.79 + 0.88 ms on pixels (256 pictures, cuDNN 9.19); in fp16 pixels are
 * faster, 0.40 + 0.39 ms, and blocks take 0.72 + 0.44 ms. Over blocks there are more zeros above
 * and to the left than on the other sides, for which cuDNN before 9.10 suggests no fast engine. */
#define CUDA_PICTURE_CHANNELS     4
#define CUDNN_WITH_PICTURE_BLOCKS 91000

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
    CudaGrowing workspace; /* cuDNN's: cuda_workspace */
    CudaGrowing scratch;   /* the operators': cuda_scratch */
} CudaLane;

typedef struct {
    Backend base;
    CudaType type;
    bool tf32; /* float32 products may be rounded to TF32 */
    int device;
    int sm; /* compute capability, 10 major + minor */
    char description[192];
    CudaLane lanes[DEVICE_LANES];
    int lane;              /* the current one */
    size_t most_workspace; /* bytes that cuDNN may use in a lane */
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

/* The same for what cuDNN uses besides its operands, which may lie in scratch memory. */
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

/* How the weights [K,R,R,3] of a convolution of pictures lie as cuDNN gets them: with the pictures'
 * channels, [K,R,R,CUDA_PICTURE_CHANNELS], or, for pictures in blocks of 2 x 2 pixels, as a filter
 * over blocks, [K,side,side,4 CUDA_PICTURE_CHANNELS], which begins `shift` pixels above and to the
 * left. What no weight fills is zero. */
typedef struct {
    int K, R;
    bool blocks;
    int side, shift;
} PictureFilter;

/* Elements of the weights as cuDNN gets them. */
static inline int64_t picture_filter_elements(const PictureFilter *f)
{
    int64_t pixels = f->blocks ? (int64_t)f->side * f->side * 4 : (int64_t)f->R * f->R;
    return f->K * pixels * CUDA_PICTURE_CHANNELS;
}

/* padded = the weights w [K,R,R,3]; and back: dw = or += their gradients, in float32. */
void cuda_pad_filter(CudaBackend *cuda, const PictureFilter *f, const void *w, void *padded);
void cuda_cut_filter(CudaBackend *cuda, const PictureFilter *f, const void *padded, bool accumulate,
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
