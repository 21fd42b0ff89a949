/* What the emulator's cuDNN sources share. */
#ifndef RODEO_EMULATOR_CUDNN_INTERNAL_H
#define RODEO_EMULATOR_CUDNN_INTERNAL_H

#include "emulator.h"

namespace rodeo_emulator
{

/* Packed channels-last; of a filter, n is K and h, w are R, S. */
struct TensorShape {
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int n = 0, c = 0, h = 0, w = 0;
};

/* The operands of any of the three convolutions; x, w, y may be gradients. */
struct ConvCall {
    cudnnHandle_t handle;
    cudnnTensorDescriptor_t x;
    cudnnFilterDescriptor_t w;
    cudnnTensorDescriptor_t y;
    cudnnConvolutionDescriptor_t conv;
};

/* Keeps a text for cudnnGetLastErrorString and returns status. */
cudnnStatus_t cudnn_fault(cudnnStatus_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

size_t bytes_of(const TensorShape &t);

/* Whether descriptors, types and device fit together. */
cudnnStatus_t check_conv(const ConvCall &call);

/* The same with the pointers and a workspace of which `needed` bytes are used. */
cudnnStatus_t check_operands(const ConvCall &call, const void *x, const void *w, const void *y,
                             size_t needed, const void *workspace, size_t bytes);

} // namespace rodeo_emulator

struct cudnnContext {
    cudaStream_t stream = nullptr;
};

struct cudnnTensorStruct : rodeo_emulator::TensorShape {
};

struct cudnnFilterStruct : rodeo_emulator::TensorShape {
};

struct cudnnConvolutionStruct {
    int pad_h = 0, pad_w = 0, stride_h = 1, stride_w = 1;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

#endif
