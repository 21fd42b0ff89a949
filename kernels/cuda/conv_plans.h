/* Which cuDNN algorithm a convolution runs with.
 *
 * The first time that a shape is met, cuDNN times its algorithms on the operands at hand, and the
 * fastest deterministic one that fits the workspace is taken. Choices are kept in a text file, one
 * for each GPU model and cuDNN version, so that the next launch need not measure and, because
 * different algorithms round differently, gives the same bits. */
#ifndef RODEO_KERNELS_CUDA_CONV_PLANS_H
#define RODEO_KERNELS_CUDA_CONV_PLANS_H

#include "kernels/cuda/cuda.h"

typedef enum { CONV_FPROP, CONV_DGRAD, CONV_WGRAD } ConvPass;

typedef struct {
    ConvPass pass;
    ConvShape shape; /* C as in memory */
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv; /* with the algorithm's math type */
    int algorithm;                     /* of the enum that belongs to the pass */
    cudnnMathType_t math;
    size_t workspace_bytes;
} ConvPlan;

/* Device memory of a convolution: what a pass reads, and what it writes. Timing overwrites `out`.
 */
typedef struct {
    const void *x, *w, *dy;
    void *out;
} ConvOperands;

/* Reads the choices of this GPU in cache_dir (NULL: keeps none). A file that is missing, or lines
 * that are not sound, are as good as none: then it is measured. */
CudaConvPlans *cuda_conv_plans_open(const char *cache_dir, const char *gpu);
void cuda_conv_plans_close(CudaConvPlans *plans);

/* Writes the choices, if there are new ones. A file that cannot be written is left alone: choices
 * are then measured at every launch. */
void cuda_conv_plans_save(CudaConvPlans *plans);

/* The plan of a convolution of the backend's element type; belongs to the plans. */
const ConvPlan *cuda_conv_plan(CudaBackend *cuda, ConvPass pass, const ConvShape *shape,
                               const ConvOperands *operands);

#endif
