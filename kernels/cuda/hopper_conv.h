/* Own kernels for the 3x3 convolutions of a ResNet's first stage, 64 channels on 56 x 56 maps, in
 * half types, for GPUs of compute capability 9.0. conv_choice.h takes whichever is faster, these or
 * cuDNN's engines.
 *
 * They use instructions that no other GPU has and that ask for code of their own (sm_90a). A build
 * without it has hopper_absent.c in their place. */
#ifndef RODEO_KERNELS_CUDA_HOPPER_CONV_H
#define RODEO_KERNELS_CUDA_HOPPER_CONV_H

#include "kernels/cuda/conv_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HOPPER_CONV_TILE 256 /* positions of the result that a block computes at once */

/* Whether they can run it: fprop or dgrad, and all of the above. */
bool cuda_can_convolve_hopper(const CudaBackend *cuda, const ConvProblem *problem);

/* Enqueues it on the stream of the current lane. Needs no workspace. */
void cuda_hopper_conv(CudaBackend *cuda, const ConvProblem *problem, const ConvOperands *operands);

#ifdef __cplusplus
}
#endif

#endif
