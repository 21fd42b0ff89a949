/* Own kernels for the first convolution of a ResNet, 7x7 with stride 2 on pictures: cuDNN has none
 * that is fast on so few channels in every version. */
#ifndef RODEO_KERNELS_CUDA_PICTURE_CONV_H
#define RODEO_KERNELS_CUDA_PICTURE_CONV_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether they can run it: 64 filters of 7x7, stride 2, padding 3, pictures with an even height and
 * width, a half type, and code for tensor cores with it (tensor_core.cuh). */
bool cuda_can_convolve_pictures(const CudaBackend *cuda, const ConvShape *s);

/* As op_conv_fprop and op_conv_wgrad without bias, for shapes that they can run. wgrad uses scratch
 * memory. (op_conv_statistics chooses by itself.) */
void cuda_picture_fprop(CudaBackend *cuda, const ConvShape *s, const void *x, const void *w,
                        void *y);
void cuda_picture_wgrad(CudaBackend *cuda, const ConvShape *s, const void *x, const void *dy,
                        bool accumulate, float *dw);

#ifdef __cplusplus
}
#endif

#endif
