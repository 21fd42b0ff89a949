/* Fully connected layers: cuBLAS matrix products.
 *
 * cuBLAS reads matrices column by column, so a row-major [rows, columns] is its transpose there: y
 * [N,K] = x [N,C] w^T becomes y^T [K,N] = w x^T. Products accumulate in float32 whatever the
 * element type is. */
#include "kernels/cuda/cuda.h"

static cudaDataType_t element_type(const CudaBackend *cuda, bool float32)
{
    if (float32 || cuda->type == CUDA_F32) {
        return CUDA_R_32F;
    }
    return cuda->type == CUDA_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* One operand as cuBLAS sees it. */
typedef struct {
    const void *data;
    bool transposed;
    int stride; /* elements between columns */
} Matrix;

/* c [m,n] = a [m,k] b [k,n] + beta c, column by column */
static void multiply(CudaBackend *cuda, int m, int n, int k, Matrix a, Matrix b, float beta,
                     bool float_result, void *c, int stride_c)
{
    const float one = 1.0f;
    cudaDataType_t type = element_type(cuda, false);
    cublasComputeType_t compute =
        cuda->type == CUDA_F32 && cuda->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    CUBLAS_CHECK(cublasGemmEx(cuda_lane(cuda)->cublas, a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                              b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &one, a.data, type,
                              a.stride, b.data, type, b.stride, &beta, c,
                              element_type(cuda, float_result), stride_c, compute,
                              CUBLAS_GEMM_DEFAULT));
}

void cuda_linear_fprop(Backend *be, const LinearShape *s, const void *x, const void *w,
                       const float *bias, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    multiply(cuda, s->K, s->N, s->C, (Matrix){w, true, s->C}, (Matrix){x, false, s->C}, 0.0f,
             s->float_output, y, s->K);
    if (bias != NULL) {
        cuda_add_bias(cuda, s->N, s->K, bias, s->float_output, y);
    }
}

/* dy in the compute type: itself, or a narrowed copy in scratch memory. */
static const void *compute_gradient(CudaBackend *cuda, const LinearShape *s, const void *dy)
{
    if (!s->float_output || cuda->type == CUDA_F32) {
        return dy;
    }
    int64_t count = (int64_t)s->N * s->K;
    void *narrow = cuda_scratch(cuda, (size_t)count * cuda->base.activation_bytes);
    cuda_narrow(cuda, count, dy, narrow);
    return narrow;
}

void cuda_linear_dgrad(Backend *be, const LinearShape *s, const void *dy, const void *w, void *dx)
{
    CudaBackend *cuda = cuda_backend(be);
    const void *g = compute_gradient(cuda, s, dy);
    multiply(cuda, s->C, s->N, s->K, (Matrix){w, false, s->C}, (Matrix){g, false, s->K}, 0.0f,
             false, dx, s->C);
}

void cuda_linear_wgrad(Backend *be, const LinearShape *s, const void *x, const void *dy,
                       bool accumulate, float *dw, float *dbias)
{
    CudaBackend *cuda = cuda_backend(be);
    const void *g = compute_gradient(cuda, s, dy);
    multiply(cuda, s->C, s->K, s->N, (Matrix){x, false, s->C}, (Matrix){g, true, s->K},
             accumulate ? 1.0f : 0.0f, true, dw, s->C);
    if (dbias != NULL) {
        cuda_sum_rows(cuda, s->N, s->K, dy, s->float_output, accumulate, dbias);
    }
}
