/* cuDNN's choice of algorithms: which there are, what workspace they need, and made-up times.
 *
 * The times differ from call to call, one algorithm is not deterministic and one fails, so that a
 * caller's choice between them is put to the test. */
#include "cudnn_internal.h"

#include <algorithm>

using namespace rodeo_emulator;

namespace rodeo_emulator
{

/* What is told about one algorithm, whatever its direction. */
struct Offer {
    int algo;
    cudnnStatus_t status;
    float time;
    size_t memory;
    cudnnDeterminism_t determinism;
    cudnnMathType_t math;
};

/* Which algorithms exist, in numbers of the direction's enum. */
struct Direction {
    int plain;            /* without workspace */
    int fast;             /* with one */
    int nondeterministic; /* -1: none */
    int greedy;           /* with a workspace larger than anybody should have */
    int failing;          /* not supported for any shape */
};

static const Direction forward = {
    CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, -1,
    CUDNN_CONVOLUTION_FWD_ALGO_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_DIRECT};
static const Direction backward_data = {
    CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
    CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT,
    CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING};
static const Direction backward_filter = {
    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING};

/* Workspace of an algorithm; not supported: an algorithm that does not exist for the shape. */
static cudnnStatus_t workspace_of(const ConvCall &call, const Direction &d, int algo, size_t *bytes)
{
    *bytes = 0;
    cudnnStatus_t status = check_conv(call);
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    if (algo == d.plain || algo == d.nondeterministic) {
        return CUDNN_STATUS_SUCCESS;
    }
    if (algo == d.fast) {
        *bytes = 1024 + bytes_of(*call.w) / 2;
        return CUDNN_STATUS_SUCCESS;
    }
    if (algo == d.greedy) {
        *bytes = ((size_t)1 << 32) + bytes_of(*call.x);
        return CUDNN_STATUS_SUCCESS;
    }
    return cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED, "algorithm %d is not supported", algo);
}

/* The offers, fastest first, the failing one last, as cuDNN returns them. limit: of the workspace.
 */
static std::vector<Offer> offers(const ConvCall &call, const Direction &d, size_t limit)
{
    bool fp32 = call.x->type == CUDNN_DATA_FLOAT;
    cudnnMathType_t math = call.conv->math;
    cudnnMathType_t fast_math = !fp32 ? CUDNN_TENSOR_OP_MATH : math;
    std::vector<Offer> list;
    for (int algo : {d.greedy, d.nondeterministic, d.fast, d.plain}) {
        size_t bytes = 0;
        if (algo < 0 || workspace_of(call, d, algo, &bytes) != CUDNN_STATUS_SUCCESS) {
            continue;
        }
        if (bytes > limit) {
            list.push_back({algo, CUDNN_STATUS_ALLOC_FAILED, -1, bytes, CUDNN_DETERMINISTIC, math});
            continue;
        }
        float time = 0.5f + (float)state().random.below(1000) / 1000.0f;
        if (algo == d.nondeterministic) {
            time *= 0.25f;
        }
        list.push_back({algo, CUDNN_STATUS_SUCCESS, time, bytes,
                        algo == d.nondeterministic ? CUDNN_NON_DETERMINISTIC : CUDNN_DETERMINISTIC,
                        algo == d.fast ? fast_math
                        : fp32         ? math
                                       : CUDNN_DEFAULT_MATH});
    }
    list.push_back({d.failing, CUDNN_STATUS_NOT_SUPPORTED, -1, 0, CUDNN_DETERMINISTIC, math});
    std::stable_sort(list.begin(), list.end(), [](const Offer &a, const Offer &b) {
        bool a_works = a.status == CUDNN_STATUS_SUCCESS, b_works = b.status == CUDNN_STATUS_SUCCESS;
        return a_works != b_works ? a_works : a_works && a.time < b.time;
    });
    return list;
}

template <typename Perf>
static cudnnStatus_t answer(const ConvCall &call, const Direction &d, size_t limit, int requested,
                            int *returned, Perf *results)
{
    cudnnStatus_t status = check_conv(call);
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    if (requested < 1 || returned == nullptr || results == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "no room for results");
    }
    std::vector<Offer> list = offers(call, d, limit);
    *returned = std::min(requested, (int)list.size());
    for (int i = 0; i < *returned; i++) {
        const Offer &o = list[(size_t)i];
        results[i] = {(decltype(results[i].algo))o.algo,
                      o.status,
                      o.time,
                      o.memory,
                      o.determinism,
                      o.math,
                      {0, 0, 0}};
    }
    return CUDNN_STATUS_SUCCESS;
}

/* What the Find functions do besides: they run the algorithms, so the output is overwritten, the
 * device is waited for, and capturing is forbidden. */
static cudnnStatus_t try_out(const ConvCall &call, const void *x, const void *w, const void *y,
                             void *workspace, size_t bytes, void *output, size_t output_bytes)
{
    cudnnStatus_t status = check_operands(call, x, w, y, bytes, workspace, bytes);
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    cudaError_t error = cudaMemsetAsync(output, 0xFF, output_bytes, call.handle->stream);
    if (error == cudaSuccess) {
        error = cudaStreamSynchronize(call.handle->stream);
    }
    return error == cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : cudnn_fault(CUDNN_STATUS_EXECUTION_FAILED, "%s", cudaGetErrorString(error));
}

} // namespace rodeo_emulator

cudnnStatus_t cudnnGetConvolutionForwardAlgorithmMaxCount(cudnnHandle_t, int *count)
{
    *count = CUDNN_CONVOLUTION_FWD_ALGO_COUNT;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(
    cudnnHandle_t handle, cudnnTensorDescriptor_t xDesc, cudnnFilterDescriptor_t wDesc,
    cudnnConvolutionDescriptor_t convDesc, cudnnTensorDescriptor_t yDesc, int requested,
    int *returned, cudnnConvolutionFwdAlgoPerf_t *results)
{
    Lock lock(state().mutex);
    return answer({handle, xDesc, wDesc, yDesc, convDesc}, forward, SIZE_MAX, requested, returned,
                  results);
}

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(
    cudnnHandle_t handle, cudnnTensorDescriptor_t xDesc, const void *x,
    cudnnFilterDescriptor_t wDesc, const void *w, cudnnConvolutionDescriptor_t convDesc,
    cudnnTensorDescriptor_t yDesc, void *y, int requested, int *returned,
    cudnnConvolutionFwdAlgoPerf_t *results, void *workSpace, size_t bytes)
{
    Lock lock(state().mutex);
    ConvCall call = {handle, xDesc, wDesc, yDesc, convDesc};
    cudnnStatus_t status = try_out(call, x, w, y, workSpace, bytes, y, bytes_of(*yDesc));
    return status != CUDNN_STATUS_SUCCESS
               ? status
               : answer(call, forward, bytes, requested, returned, results);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t handle,
                                                      cudnnTensorDescriptor_t xDesc,
                                                      cudnnFilterDescriptor_t wDesc,
                                                      cudnnConvolutionDescriptor_t convDesc,
                                                      cudnnTensorDescriptor_t yDesc,
                                                      cudnnConvolutionFwdAlgo_t algo, size_t *bytes)
{
    Lock lock(state().mutex);
    return workspace_of({handle, xDesc, wDesc, yDesc, convDesc}, forward, algo, bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithmMaxCount(cudnnHandle_t, int *count)
{
    *count = CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t handle, cudnnFilterDescriptor_t wDesc, cudnnTensorDescriptor_t dyDesc,
    cudnnConvolutionDescriptor_t convDesc, cudnnTensorDescriptor_t dxDesc, int requested,
    int *returned, cudnnConvolutionBwdDataAlgoPerf_t *results)
{
    Lock lock(state().mutex);
    return answer({handle, dxDesc, wDesc, dyDesc, convDesc}, backward_data, SIZE_MAX, requested,
                  returned, results);
}

cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
    cudnnHandle_t handle, cudnnFilterDescriptor_t wDesc, const void *w,
    cudnnTensorDescriptor_t dyDesc, const void *dy, cudnnConvolutionDescriptor_t convDesc,
    cudnnTensorDescriptor_t dxDesc, void *dx, int requested, int *returned,
    cudnnConvolutionBwdDataAlgoPerf_t *results, void *workSpace, size_t bytes)
{
    Lock lock(state().mutex);
    ConvCall call = {handle, dxDesc, wDesc, dyDesc, convDesc};
    cudnnStatus_t status = try_out(call, dx, w, dy, workSpace, bytes, dx, bytes_of(*dxDesc));
    return status != CUDNN_STATUS_SUCCESS
               ? status
               : answer(call, backward_data, bytes, requested, returned, results);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t handle, cudnnFilterDescriptor_t wDesc, cudnnTensorDescriptor_t dyDesc,
    cudnnConvolutionDescriptor_t convDesc, cudnnTensorDescriptor_t dxDesc,
    cudnnConvolutionBwdDataAlgo_t algo, size_t *bytes)
{
    Lock lock(state().mutex);
    return workspace_of({handle, dxDesc, wDesc, dyDesc, convDesc}, backward_data, algo, bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithmMaxCount(cudnnHandle_t, int *count)
{
    *count = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t handle, cudnnTensorDescriptor_t xDesc, cudnnTensorDescriptor_t dyDesc,
    cudnnConvolutionDescriptor_t convDesc, cudnnFilterDescriptor_t dwDesc, int requested,
    int *returned, cudnnConvolutionBwdFilterAlgoPerf_t *results)
{
    Lock lock(state().mutex);
    return answer({handle, xDesc, dwDesc, dyDesc, convDesc}, backward_filter, SIZE_MAX, requested,
                  returned, results);
}

cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
    cudnnHandle_t handle, cudnnTensorDescriptor_t xDesc, const void *x,
    cudnnTensorDescriptor_t dyDesc, const void *dy, cudnnConvolutionDescriptor_t convDesc,
    cudnnFilterDescriptor_t dwDesc, void *dw, int requested, int *returned,
    cudnnConvolutionBwdFilterAlgoPerf_t *results, void *workSpace, size_t bytes)
{
    Lock lock(state().mutex);
    ConvCall call = {handle, xDesc, dwDesc, dyDesc, convDesc};
    cudnnStatus_t status = try_out(call, x, dw, dy, workSpace, bytes, dw, bytes_of(*dwDesc));
    return status != CUDNN_STATUS_SUCCESS
               ? status
               : answer(call, backward_filter, bytes, requested, returned, results);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t handle, cudnnTensorDescriptor_t xDesc, cudnnTensorDescriptor_t dyDesc,
    cudnnConvolutionDescriptor_t convDesc, cudnnFilterDescriptor_t dwDesc,
    cudnnConvolutionBwdFilterAlgo_t algo, size_t *bytes)
{
    Lock lock(state().mutex);
    return workspace_of({handle, xDesc, dwDesc, dyDesc, convDesc}, backward_filter, algo, bytes);
}
