/* cuBLAS: checks of a call, then a matrix product on the handle's stream. */
#include "emulator.h"

using namespace rodeo_emulator;

struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
};

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    Lock lock(state().mutex);
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *handle = new cublasContext;
    count_live("cuBLAS handles", 1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    Lock lock(state().mutex);
    if (handle == nullptr) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    delete handle;
    count_live("cuBLAS handles", -1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int *version)
{
    *version = CUBLAS_VERSION;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes)
{
    Lock lock(state().mutex);
    if (handle == nullptr) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    bool fits = bytes == 0 ||
                ((uintptr_t)workspace % 256 == 0 && place_of(workspace, bytes) == Place::device);
    return fits ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    Lock lock(state().mutex);
    if (handle == nullptr || find_stream(stream) == nullptr) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t *stream)
{
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t, cublasPointerMode_t mode)
{
    return mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t, cublasAtomicsMode_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode)
{
    *mode = handle->math;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusName(cublasStatus_t status)
{
#define NAME(value)                                                                                \
    case value:                                                                                    \
        return #value;
    switch (status) {
        NAME(CUBLAS_STATUS_SUCCESS)
        NAME(CUBLAS_STATUS_NOT_INITIALIZED)
        NAME(CUBLAS_STATUS_ALLOC_FAILED)
        NAME(CUBLAS_STATUS_INVALID_VALUE)
        NAME(CUBLAS_STATUS_ARCH_MISMATCH)
        NAME(CUBLAS_STATUS_MAPPING_ERROR)
        NAME(CUBLAS_STATUS_EXECUTION_FAILED)
        NAME(CUBLAS_STATUS_INTERNAL_ERROR)
        NAME(CUBLAS_STATUS_NOT_SUPPORTED)
        NAME(CUBLAS_STATUS_LICENSE_ERROR)
    }
    return "unknown cuBLAS status";
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    return cublasGetStatusName(status);
}

/* Bytes that a column-major matrix [rows, columns] spans; 0 where ld does not fit. */
static size_t span(int rows, int columns, int ld, cudaDataType type)
{
    size_t element = type == CUDA_R_32F ? 4 : 2;
    return ld < rows || rows < 1 || columns < 1
               ? 0
               : ((size_t)ld * (size_t)(columns - 1) + (size_t)rows) * element;
}

static bool is_supported(cudaDataType a, cudaDataType b, cudaDataType c,
                         cublasComputeType_t compute)
{
    bool types = a == b && (c == a || c == CUDA_R_32F) &&
                 (a == CUDA_R_32F || a == CUDA_R_16F || a == CUDA_R_16BF);
    int sm = state().major * 10 + state().minor;
    bool device = a == CUDA_R_32F || sm >= (a == CUDA_R_16F ? 53 : 80);
    return types && device &&
           (compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
            (compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a == CUDA_R_32F));
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const void *alpha,
                            const void *A, cudaDataType Atype, int lda, const void *B,
                            cudaDataType Btype, int ldb, const void *beta, void *C,
                            cudaDataType Ctype, int ldc, cublasComputeType_t computeType,
                            cublasGemmAlgo_t)
{
    Lock lock(state().mutex);
    if (handle == nullptr) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (!is_supported(Atype, Btype, Ctype, computeType)) {
        complain("cublasGemmEx: types %d, %d, %d with compute type %d are not supported", Atype,
                 Btype, Ctype, computeType);
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    GemmSizes s = {transa != CUBLAS_OP_N, transb != CUBLAS_OP_N, m, n, k, lda, ldb, ldc};
    size_t bytes_a = s.transa ? span(k, m, lda, Atype) : span(m, k, lda, Atype);
    size_t bytes_b = s.transb ? span(n, k, ldb, Btype) : span(k, n, ldb, Btype);
    size_t bytes_c = span(m, n, ldc, Ctype);
    if (alpha == nullptr || beta == nullptr || bytes_a == 0 || bytes_b == 0 || bytes_c == 0) {
        complain("cublasGemmEx: m %d n %d k %d lda %d ldb %d ldc %d do not fit together", m, n, k,
                 lda, ldb, ldc);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (place_of(A, bytes_a) != Place::device || place_of(B, bytes_b) != Place::device ||
        place_of(C, bytes_c) != Place::device) {
        die("cublasGemmEx: a matrix is not inside one allocation of device memory (m %d n %d k %d)",
            m, n, k);
    }
    float a = *(const float *)alpha;
    float b = *(const float *)beta;
    bool tf32 = state().major >= 8 && computeType != CUBLAS_COMPUTE_32F_PEDANTIC &&
                (computeType == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                 (handle->math & 15) == CUBLAS_TF32_TENSOR_OP_MATH);
    cudaError_t status = enqueue(handle->stream, {"cublasGemmEx", [=] {
                                                      touch(A, bytes_a, Touch::read);
                                                      touch(B, bytes_b, Touch::read);
                                                      touch(C, bytes_c, Touch::write);
                                                      gemm(s, Atype, Ctype, tf32, a, A, B, b, C);
                                                  }});
    return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t transa,
                              cublasOperation_t transb, int m, int n, int k, const float *alpha,
                              const float *A, int lda, const float *B, int ldb, const float *beta,
                              float *C, int ldc)
{
    return cublasGemmEx(handle, transa, transb, m, n, k, alpha, A, CUDA_R_32F, lda, B, CUDA_R_32F,
                        ldb, beta, C, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
