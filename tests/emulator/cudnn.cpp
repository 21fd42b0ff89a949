/* cuDNN: handles and descriptors, checks of a call, convolutions on the handle's stream. */
#include "cudnn_internal.h"

#include <cstdarg>
#include <cstdio>

using namespace rodeo_emulator;

static char last_error[256];

cudnnStatus_t rodeo_emulator::cudnn_fault(cudnnStatus_t status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(last_error, sizeof(last_error), format, arguments);
    va_end(arguments);
    complain("cuDNN: %s", last_error);
    return status;
}

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

size_t cudnnGetCudartVersion(void)
{
    return CUDART_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
#define NAME(value)                                                                                \
    case value:                                                                                    \
        return #value;
    switch (status) {
        NAME(CUDNN_STATUS_SUCCESS)
        NAME(CUDNN_STATUS_NOT_INITIALIZED)
        NAME(CUDNN_STATUS_BAD_PARAM)
        NAME(CUDNN_STATUS_BAD_PARAM_NULL_POINTER)
        NAME(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER)
        NAME(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT)
        NAME(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH)
        NAME(CUDNN_STATUS_NOT_SUPPORTED)
        NAME(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH)
        NAME(CUDNN_STATUS_INTERNAL_ERROR)
        NAME(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED)
        NAME(CUDNN_STATUS_EXECUTION_FAILED)
    }
    return "CUDNN_UNKNOWN_STATUS";
}

void cudnnGetLastErrorString(char *message, size_t max_size)
{
    Lock lock(state().mutex);
    std::snprintf(message, max_size, "%s", last_error);
    last_error[0] = '\0';
}

/* ---- handles and descriptors --------------------------------------------------------------------
 */

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    Lock lock(state().mutex);
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        return CUDNN_STATUS_NOT_INITIALIZED;
    }
    *handle = new cudnnContext;
    count_live("cuDNN handles", 1);
    return CUDNN_STATUS_SUCCESS;
}

template <typename T> static cudnnStatus_t create(T **object, const char *kind)
{
    Lock lock(state().mutex);
    *object = new T;
    count_live(kind, 1);
    return CUDNN_STATUS_SUCCESS;
}

template <typename T> static cudnnStatus_t destroy(T *object, const char *kind)
{
    Lock lock(state().mutex);
    if (object == nullptr) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    delete object;
    count_live(kind, -1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    return destroy(handle, "cuDNN handles");
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    Lock lock(state().mutex);
    if (handle == nullptr || find_stream(stream) == nullptr) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream)
{
    *stream = handle->stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *descriptor)
{
    return create(descriptor, "cuDNN tensor descriptors");
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t descriptor)
{
    return destroy(descriptor, "cuDNN tensor descriptors");
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *descriptor)
{
    return create(descriptor, "cuDNN filter descriptors");
}

cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t descriptor)
{
    return destroy(descriptor, "cuDNN filter descriptors");
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *descriptor)
{
    return create(descriptor, "cuDNN convolution descriptors");
}

cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t descriptor)
{
    return destroy(descriptor, "cuDNN convolution descriptors");
}

static cudnnStatus_t describe(TensorShape *shape, cudnnTensorFormat_t format, cudnnDataType_t type,
                              int n, int c, int h, int w)
{
    if (shape == nullptr || n < 1 || c < 1 || h < 1 || w < 1) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "a tensor of %d x %d x %d x %d", n, c, h, w);
    }
    if (format != CUDNN_TENSOR_NHWC) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "only channels-last tensors are emulated");
    }
    *shape = {type, n, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t descriptor,
                                         cudnnTensorFormat_t format, cudnnDataType_t type, int n,
                                         int c, int h, int w)
{
    return describe(descriptor, format, type, n, c, h, w);
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t descriptor, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w)
{
    return describe(descriptor, format, type, k, c, h, w);
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t descriptor, int pad_h,
                                              int pad_w, int u, int v, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t computeType)
{
    if (pad_h < 0 || pad_w < 0 || u < 1 || v < 1) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM,
                           "a convolution with padding %d, %d, stride %d, %d", pad_h, pad_w, u, v);
    }
    if (dilation_h != 1 || dilation_w != 1 || mode != CUDNN_CROSS_CORRELATION ||
        computeType != CUDNN_DATA_FLOAT) {
        return cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED,
                           "dilation, flipped filters and sums other than float are not emulated");
    }
    descriptor->pad_h = pad_h;
    descriptor->pad_w = pad_w;
    descriptor->stride_h = u;
    descriptor->stride_w = v;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t descriptor,
                                          cudnnMathType_t mathType)
{
    descriptor->math = mathType;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t, int count)
{
    return count == 1 ? CUDNN_STATUS_SUCCESS
                      : cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED, "groups are not emulated");
}

cudnnStatus_t cudnnGetConvolution2dForwardOutputDim(cudnnConvolutionDescriptor_t conv,
                                                    cudnnTensorDescriptor_t x,
                                                    cudnnFilterDescriptor_t w, int *n, int *c,
                                                    int *h, int *width)
{
    *n = x->n;
    *c = w->n;
    *h = (x->h + 2 * conv->pad_h - w->h) / conv->stride_h + 1;
    *width = (x->w + 2 * conv->pad_w - w->w) / conv->stride_w + 1;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- checks
 * ---------------------------------------------------------------------------------------- */

size_t rodeo_emulator::bytes_of(const TensorShape &t)
{
    return (size_t)t.n * (size_t)t.c * (size_t)t.h * (size_t)t.w *
           (t.type == CUDNN_DATA_FLOAT ? 4 : 2);
}

cudnnStatus_t rodeo_emulator::check_conv(const ConvCall &call)
{
    if (call.handle == nullptr || call.x == nullptr || call.w == nullptr || call.y == nullptr ||
        call.conv == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a handle or descriptor is NULL");
    }
    cudnnDataType_t type = call.x->type;
    if (type != call.w->type || type != call.y->type) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "tensors of different types");
    }
    int sm = state().major * 10 + state().minor;
    int needed = type == CUDNN_DATA_BFLOAT16 ? 80 : type == CUDNN_DATA_HALF ? 53 : 0;
    if (type == CUDNN_DATA_DOUBLE || sm < needed) {
        return cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED, "data type %d on sm_%d", type, sm);
    }
    int n, c, h, w;
    cudnnGetConvolution2dForwardOutputDim(call.conv, call.x, call.w, &n, &c, &h, &w);
    if (call.x->c != call.w->c || n != call.y->n || c != call.y->c || h != call.y->h ||
        w != call.y->w) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
                           "the output should be %d x %d x %d x %d, C %d and %d", n, h, w, c,
                           call.x->c, call.w->c);
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_operand(const char *name, const void *p, size_t bytes)
{
    if (p == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s is NULL", name);
    }
    if ((uintptr_t)p % 16 != 0) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
                           "%s is not aligned to 16 bytes", name);
    }
    if (place_of(p, bytes) != Place::device) {
        die("cuDNN: %s, %zu bytes, is not inside one allocation of device memory", name, bytes);
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t rodeo_emulator::check_operands(const ConvCall &call, const void *x, const void *w,
                                             const void *y, size_t needed, const void *workspace,
                                             size_t bytes)
{
    cudnnStatus_t status = check_conv(call);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = check_operand("x or dx", x, bytes_of(*call.x));
    }
    if (status == CUDNN_STATUS_SUCCESS) {
        status = check_operand("w or dw", w, bytes_of(*call.w));
    }
    if (status == CUDNN_STATUS_SUCCESS) {
        status = check_operand("y or dy", y, bytes_of(*call.y));
    }
    if (status == CUDNN_STATUS_SUCCESS && bytes < needed) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT,
                           "a workspace of %zu bytes, the algorithm needs %zu", bytes, needed);
    }
    return status == CUDNN_STATUS_SUCCESS && needed > 0
               ? check_operand("the workspace", workspace, needed)
               : status;
}

/* ---- convolutions
 * ----------------------------------------------------------------------------------- */

static ConvSizes sizes_of(const ConvCall &call)
{
    const TensorShape &x = *call.x, &w = *call.w, &y = *call.y;
    return {x.n,
            x.h,
            x.w,
            x.c,
            w.n,
            w.h,
            w.w,
            y.h,
            y.w,
            call.conv->pad_h,
            call.conv->pad_w,
            call.conv->stride_h,
            call.conv->stride_w};
}

/* Enqueues a checked convolution. Algorithms use their workspace: it is overwritten before, so that
 * two streams that share one do harm. */
template <typename Compute>
static cudnnStatus_t convolve(const ConvCall &call, const char *name, void *workspace, size_t used,
                              Compute compute)
{
    ConvSizes sizes = sizes_of(call);
    cudnnDataType_t type = call.x->type;
    bool tf32 = state().major >= 8 && call.conv->math != CUDNN_FMA_MATH;
    cudaError_t status = enqueue(call.handle->stream, {name, [=] {
                                                           if (used > 0) {
                                                               std::memset(workspace, 0xFF, used);
                                                           }
                                                           compute(sizes, type, tf32);
                                                       }});
    return status == cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : cudnn_fault(CUDNN_STATUS_EXECUTION_FAILED, "%s", cudaGetErrorString(status));
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha,
                                      cudnnTensorDescriptor_t xDesc, const void *x,
                                      cudnnFilterDescriptor_t wDesc, const void *w,
                                      cudnnConvolutionDescriptor_t convDesc,
                                      cudnnConvolutionFwdAlgo_t algo, void *workSpace, size_t bytes,
                                      const void *beta, cudnnTensorDescriptor_t yDesc, void *y)
{
    Lock lock(state().mutex);
    ConvCall call = {handle, xDesc, wDesc, yDesc, convDesc};
    size_t needed = 0;
    cudnnStatus_t status = cudnnGetConvolutionForwardWorkspaceSize(handle, xDesc, wDesc, convDesc,
                                                                   yDesc, algo, &needed);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = check_operands(call, x, w, y, needed, workSpace, bytes);
    }
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    float a = *(const float *)alpha, b = *(const float *)beta;
    return convolve(call, "cudnnConvolutionForward", workSpace, needed,
                    [=](const ConvSizes &s, cudnnDataType_t type, bool tf32) {
                        conv_forward(s, type, tf32, a, x, w, b, y);
                    });
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha,
                                           cudnnFilterDescriptor_t wDesc, const void *w,
                                           cudnnTensorDescriptor_t dyDesc, const void *dy,
                                           cudnnConvolutionDescriptor_t convDesc,
                                           cudnnConvolutionBwdDataAlgo_t algo, void *workSpace,
                                           size_t bytes, const void *beta,
                                           cudnnTensorDescriptor_t dxDesc, void *dx)
{
    Lock lock(state().mutex);
    ConvCall call = {handle, dxDesc, wDesc, dyDesc, convDesc};
    size_t needed = 0;
    cudnnStatus_t status = cudnnGetConvolutionBackwardDataWorkspaceSize(
        handle, wDesc, dyDesc, convDesc, dxDesc, algo, &needed);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = check_operands(call, dx, w, dy, needed, workSpace, bytes);
    }
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    float a = *(const float *)alpha, b = *(const float *)beta;
    return convolve(call, "cudnnConvolutionBackwardData", workSpace, needed,
                    [=](const ConvSizes &s, cudnnDataType_t type, bool tf32) {
                        conv_backward_data(s, type, tf32, a, w, dy, b, dx);
                    });
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha,
                                             cudnnTensorDescriptor_t xDesc, const void *x,
                                             cudnnTensorDescriptor_t dyDesc, const void *dy,
                                             cudnnConvolutionDescriptor_t convDesc,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void *workSpace,
                                             size_t bytes, const void *beta,
                                             cudnnFilterDescriptor_t dwDesc, void *dw)
{
    Lock lock(state().mutex);
    ConvCall call = {handle, xDesc, dwDesc, dyDesc, convDesc};
    size_t needed = 0;
    cudnnStatus_t status = cudnnGetConvolutionBackwardFilterWorkspaceSize(
        handle, xDesc, dyDesc, convDesc, dwDesc, algo, &needed);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = check_operands(call, x, dw, dy, needed, workSpace, bytes);
    }
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    float a = *(const float *)alpha, b = *(const float *)beta;
    return convolve(call, "cudnnConvolutionBackwardFilter", workSpace, needed,
                    [=](const ConvSizes &s, cudnnDataType_t type, bool tf32) {
                        conv_backward_filter(s, type, tf32, a, x, dy, b, dw);
                    });
}
