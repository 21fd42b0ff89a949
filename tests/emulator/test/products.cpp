/* Matrix products against plain loops in double precision, and what cuBLAS refuses. */
#include "tensor.h"

#include <cublas_v2.h>

static const cudaDataType runtime_types[] = {CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF};

static void check_gemm(Type type, Type type_c, bool transa, bool transb,
                       cublasComputeType_t compute)
{
    const int m = 5, n = 4, k = 7, lda = 9, ldb = 8, ldc = 6;
    const float alpha = 1.5f, beta = -0.5f;
    Tensor a(type, 9 * 7, 1), b(type, 8 * 7, 2), c(type_c, 6 * 4, 3);
    std::vector<double> expected = c.host;
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int l = 0; l < k; l++) {
                sum += a.host[(size_t)(transa ? l + i * lda : i + l * lda)] *
                       b.host[(size_t)(transb ? j + l * ldb : l + j * ldb)];
            }
            double &to = expected[(size_t)(i + j * ldc)];
            to = alpha * sum + beta * to;
        }
    }
    cublasHandle_t handle;
    CHECK(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    CHECK(cublasGemmEx(handle, transa ? CUBLAS_OP_T : CUBLAS_OP_N,
                       transb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &alpha, a.device,
                       runtime_types[type], lda, b.device, runtime_types[type], ldb, &beta,
                       c.device, runtime_types[type_c], ldc, compute,
                       CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
    c.compare(expected, 4, compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 0x1p-10 : 0);
    CHECK(cublasDestroy(handle) == CUBLAS_STATUS_SUCCESS);
}

static void gemms()
{
    for (int form = 0; form < 4; form++) {
        bool transa = (form & 1) != 0, transb = (form & 2) != 0;
        check_gemm(F32, F32, transa, transb, CUBLAS_COMPUTE_32F);
        check_gemm(F32, F32, transa, transb, CUBLAS_COMPUTE_32F_PEDANTIC);
        check_gemm(F32, F32, transa, transb, CUBLAS_COMPUTE_32F_FAST_TF32);
        for (Type type : {F16, BF16}) {
            check_gemm(type, type, transa, transb, CUBLAS_COMPUTE_32F);
            check_gemm(type, F32, transa, transb, CUBLAS_COMPUTE_32F);
        }
    }
}

static void tf32_needs_to_be_seen()
{
    check_gemm(F32, F32, false, false, CUBLAS_COMPUTE_32F_FAST_TF32);
    const float one = 1, zero = 0;
    Tensor a(F32, 1, 5), b(F32, 1, 6), c(F32, 1, 7);
    cublasHandle_t handle;
    CHECK(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    CHECK(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.device, CUDA_R_32F, 1,
                       b.device, CUDA_R_32F, 1, &zero, c.device, CUDA_R_32F, 1,
                       CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
    OK(cudaDeviceSynchronize());
    CHECK(c.at(0) != (double)(float)(a.host[0] * b.host[0]));
    CHECK(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.device, CUDA_R_32F, 1,
                       b.device, CUDA_R_16F, 1, &zero, c.device, CUDA_R_32F, 1, CUBLAS_COMPUTE_32F,
                       CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_NOT_SUPPORTED);
    CHECK(cublasDestroy(handle) == CUBLAS_STATUS_SUCCESS);
}

void test_products()
{
    must_succeed(gemms);
    must_succeed(tf32_needs_to_be_seen);
}
