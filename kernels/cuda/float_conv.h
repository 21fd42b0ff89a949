/* Own float32 convolutions, on the units that every GPU has for float32: cuDNN's engines for these
 * copy channels-last tensors into another order and back. conv_choice.h takes whichever is faster.
 */
#ifndef RODEO_KERNELS_CUDA_FLOAT_CONV_H
#define RODEO_KERNELS_CUDA_FLOAT_CONV_H

#include "kernels/cuda/conv_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How many columns of sums a block has, of the two that there are: the wide tile reads less, the
 * narrow one leaves registers to spare. Which is faster depends on GPU and shape. */
#define FLOAT_CONV_NARROW 64
#define FLOAT_CONV_WIDE   128

/* Whether they can run it with such a tile: float32 without TF32, channels in fours (in eights
 * those that a dgrad sums over, which also wants a stride of 1 or 2), at least 32 of the result's
 * or, in a wgrad, of dy's, tiles not half empty, and tensors whose elements an int can count. */
bool cuda_can_convolve_floats(const CudaBackend *cuda, const ConvProblem *problem, int64_t tile);

/* Bytes of device memory that a run uses besides its operands. */
size_t cuda_float_conv_workspace(const CudaBackend *cuda, const ConvProblem *problem, int64_t tile);

/* Enqueues it on the stream of the current lane. */
void cuda_float_conv(CudaBackend *cuda, const ConvProblem *problem, int64_t tile,
                     const ConvOperands *operands, void *workspace);

/* In how many parts a wgrad's sums are formed, and one of the three passes: float_wgrad.cu. */
int cuda_float_wgrad_parts(const CudaBackend *cuda, const ConvShape *s, int64_t tile);
void cuda_float_wgrad(CudaBackend *cuda, const ConvShape *s, int64_t tile, const float *x,
                      const float *dy, float *dw, float *workspace);

#ifdef __cplusplus
}
#endif

#endif
