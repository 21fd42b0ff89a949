/* Convolutions and matrix products against plain loops in double precision, and what the libraries
 * refuse. */
#include "harness.h"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cudnn.h>

#include <random>

enum Type { F32, F16, BF16 };

static const cudaDataType runtime_types[] = {CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF};
static const cudnnDataType_t cudnn_types[] = {CUDNN_DATA_FLOAT, CUDNN_DATA_HALF,
                                              CUDNN_DATA_BFLOAT16};
static const double unit[] = {0x1p-24, 0x1p-11, 0x1p-8};

static float rounded(Type type, float x)
{
    return type == F16    ? __half2float(__float2half_rn(x))
           : type == BF16 ? __bfloat162float(__float2bfloat16_rn(x))
                          : x;
}

/* A tensor on the device and, as doubles, on the host. */
struct Tensor {
    Type type;
    std::vector<double> host;
    void *device = nullptr;
    Tensor(Type t, size_t count, unsigned seed) : type(t), host(count)
    {
        std::mt19937 random(seed);
        std::vector<char> raw(count * bytes());
        for (size_t i = 0; i < count; i++) {
            float x = rounded(t, (float)random() / 4294967296.0f - 0.5f);
            host[i] = x;
            if (t == F32) {
                std::memcpy(&raw[4 * i], &x, 4);
            } else {
                unsigned short bits = t == F16 ? __half_as_ushort(__float2half_rn(x))
                                               : __bfloat16_as_ushort(__float2bfloat16_rn(x));
                std::memcpy(&raw[2 * i], &bits, 2);
            }
        }
        OK(cudaMalloc(&device, raw.size()));
        OK(cudaMemcpy(device, raw.data(), raw.size(), cudaMemcpyHostToDevice));
    }
    ~Tensor()
    {
        OK(cudaFree(device));
    }
    Tensor(const Tensor &) = delete;
    Tensor &operator=(const Tensor &) = delete;
    size_t bytes() const
    {
        return type == F32 ? 4 : 2;
    }
    double at(size_t i) const
    {
        unsigned char raw[4];
        OK(cudaMemcpy(raw, (char *)device + i * bytes(), bytes(), cudaMemcpyDeviceToHost));
        float wide;
        unsigned short half;
        std::memcpy(&wide, raw, 4);
        std::memcpy(&half, raw, 2);
        return type == F32   ? wide
               : type == F16 ? __half2float(__ushort_as_half(half))
                             : __bfloat162float(__ushort_as_bfloat16(half));
    }
    /* The device has what the host expects. size: of the sums of absolute values. */
    void compare(const std::vector<double> &expected, double size, double factor_error) const
    {
        OK(cudaDeviceSynchronize());
        for (size_t i = 0; i < expected.size(); i++) {
            double tolerance =
                unit[type] * std::fabs(expected[i]) + size * (0x1p-20 + factor_error);
            if (!(std::fabs(at(i) - expected[i]) <= tolerance)) {
                std::fprintf(stderr, "[%zu] is %g, not %g\n", i, at(i), expected[i]);
                CHECK(false);
            }
        }
    }
};

/* ---- matrix products ----------------------------------------------------------------------------
 */

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

/* ---- convolutions
 * --------------------------------------------------------------------------------- */

struct Case {
    int N, H, W, C, K, R, S, pad, stride;
};

struct Conv {
    cudnnHandle_t handle;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    int P, Q;
    Conv(const Case &c, Type type, cudnnMathType_t math)
    {
        CHECK(!cudnnCreate(&handle) && !cudnnCreateTensorDescriptor(&x) &&
              !cudnnCreateTensorDescriptor(&y) && !cudnnCreateFilterDescriptor(&w) &&
              !cudnnCreateConvolutionDescriptor(&conv));
        P = (c.H + 2 * c.pad - c.R) / c.stride + 1;
        Q = (c.W + 2 * c.pad - c.S) / c.stride + 1;
        cudnnDataType_t t = cudnn_types[type];
        CHECK(!cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, t, c.N, c.C, c.H, c.W));
        CHECK(!cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, t, c.N, c.K, P, Q));
        CHECK(!cudnnSetFilter4dDescriptor(w, t, CUDNN_TENSOR_NHWC, c.K, c.C, c.R, c.S));
        CHECK(!cudnnSetConvolution2dDescriptor(conv, c.pad, c.pad, c.stride, c.stride, 1, 1,
                                               CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
        CHECK(!cudnnSetConvolutionMathType(conv, math));
    }
    ~Conv()
    {
        CHECK(!cudnnDestroyTensorDescriptor(x) && !cudnnDestroyTensorDescriptor(y) &&
              !cudnnDestroyFilterDescriptor(w) && !cudnnDestroyConvolutionDescriptor(conv) &&
              !cudnnDestroy(handle));
    }
    Conv(const Conv &) = delete;
    Conv &operator=(const Conv &) = delete;
};

/* Calls term(x, w, y) with the offsets of every product, straight from the definition. */
template <typename Term> static void products_of(const Case &c, int P, int Q, Term term)
{
    for (int n = 0; n < c.N; n++)
        for (int k = 0; k < c.K; k++)
            for (int p = 0; p < P; p++)
                for (int q = 0; q < Q; q++)
                    for (int r = 0; r < c.R; r++)
                        for (int s = 0; s < c.S; s++)
                            for (int ch = 0; ch < c.C; ch++) {
                                int h = p * c.stride + r - c.pad, w = q * c.stride + s - c.pad;
                                if (h < 0 || w < 0 || h >= c.H || w >= c.W) {
                                    continue;
                                }
                                term(((n * c.H + h) * c.W + w) * c.C + ch,
                                     ((k * c.R + r) * c.S + s) * c.C + ch,
                                     ((n * P + p) * Q + q) * c.K + k);
                            }
}

static void check_conv(const Case &c, Type type, cudnnMathType_t math, float alpha, float beta)
{
    Conv d(c, type, math);
    Tensor x(type, (size_t)(c.N * c.H * c.W * c.C), 1), w(type, (size_t)(c.K * c.R * c.S * c.C), 2),
        y(type, (size_t)(c.N * d.P * d.Q * c.K), 3), workspace(F32, 4096, 4);
    std::vector<double> ex(x.host.size()), ew(w.host.size()), ey(y.host.size());
    products_of(c, d.P, d.Q, [&](int i, int j, int l) { ey[l] += x.host[i] * w.host[j]; });
    products_of(c, d.P, d.Q, [&](int i, int j, int l) { ex[i] += y.host[l] * w.host[j]; });
    products_of(c, d.P, d.Q, [&](int i, int j, int l) { ew[j] += y.host[l] * x.host[i]; });
    auto blend = [&](std::vector<double> &sum, const Tensor &old) {
        for (size_t i = 0; i < sum.size(); i++) {
            sum[i] = alpha * sum[i] + beta * old.host[i];
        }
    };
    blend(ex, x);
    blend(ew, w);
    blend(ey, y);
    double factor_error = type == F32 && math != CUDNN_FMA_MATH ? 0x1p-10 : 0;
    Tensor x2(type, x.host.size(), 1), w2(type, w.host.size(), 2), y2(type, y.host.size(), 3);
    CHECK(!cudnnConvolutionForward(d.handle, &alpha, d.x, x.device, d.w, w.device, d.conv,
                                   CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                                   workspace.device, 16384, &beta, d.y, y2.device));
    CHECK(!cudnnConvolutionBackwardData(d.handle, &alpha, d.w, w.device, d.y, y.device, d.conv,
                                        CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, nullptr, 0, &beta, d.x,
                                        x2.device));
    CHECK(!cudnnConvolutionBackwardFilter(d.handle, &alpha, d.x, x.device, d.y, y.device, d.conv,
                                          CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, nullptr, 0, &beta,
                                          d.w, w2.device));
    y2.compare(ey, c.R * c.S * c.C / 4.0, factor_error);
    x2.compare(ex, c.R * c.S * c.K / 4.0, factor_error);
    w2.compare(ew, c.N * d.P * d.Q / 4.0, factor_error);
}

static void convolutions()
{
    const Case cases[] = {{2, 5, 4, 3, 4, 3, 3, 1, 1},
                          {1, 8, 7, 4, 2, 7, 7, 3, 2},
                          {3, 4, 4, 5, 6, 1, 1, 0, 2},
                          {1, 3, 9, 1, 1, 2, 3, 2, 3}};
    for (const Case &c : cases) {
        for (Type type : {F32, F16, BF16}) {
            check_conv(c, type, CUDNN_FMA_MATH, 1, 0);
            check_conv(c, type, CUDNN_DEFAULT_MATH, 0.75f, -2);
        }
    }
}

static void refusals()
{
    const float one = 1, zero = 0;
    const Case c = {1, 4, 4, 4, 4, 3, 3, 1, 1};
    Conv d(c, F32, CUDNN_FMA_MATH);
    Tensor x(F32, 64, 1), w(F32, 144, 2), y(F32, 80, 3), space(F32, 4096, 4);
    auto forward = [&](cudnnConvolutionFwdAlgo_t algo, size_t bytes, size_t shift) {
        return cudnnConvolutionForward(d.handle, &one, d.x, x.device, d.w, w.device, d.conv, algo,
                                       space.device, bytes, &zero, d.y, (char *)y.device + shift);
    };
    size_t needed = 0;
    CHECK(!cudnnGetConvolutionForwardWorkspaceSize(d.handle, d.x, d.w, d.conv, d.y,
                                                   CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                                                   &needed));
    CHECK(needed > 0);
    auto algo = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    CHECK(forward(algo, needed, 0) == CUDNN_STATUS_SUCCESS);
    CHECK(forward(algo, needed - 1, 0) == CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
    CHECK(forward(algo, needed, 4) == CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
    CHECK(forward(CUDNN_CONVOLUTION_FWD_ALGO_DIRECT, 16384, 0) == CUDNN_STATUS_NOT_SUPPORTED);
    CHECK(cudnnSetTensor4dDescriptor(d.y, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 1, 4, 4, 4) ==
          CUDNN_STATUS_BAD_PARAM);
    CHECK(!cudnnSetTensor4dDescriptor(d.y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 1, 4, 4, 5));
    CHECK(forward(algo, needed, 0) == CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
}

/* The search returns working algorithms, fastest first, one that fails, one that is not
 * deterministic. */
static void search()
{
    const Case c = {1, 4, 4, 4, 4, 3, 3, 1, 1};
    Conv d(c, F16, CUDNN_TENSOR_OP_MATH);
    Tensor x(F16, 64, 1), w(F16, 144, 2), y(F16, 64, 3), space(F32, 4096, 4);
    cudnnConvolutionBwdFilterAlgoPerf_t found[8];
    int count = 0;
    CHECK(!cudnnFindConvolutionBackwardFilterAlgorithmEx(d.handle, d.x, x.device, d.y, y.device,
                                                         d.conv, d.w, w.device, 8, &count, found,
                                                         space.device, 16384));
    int working = 0, failing = 0, random = 0;
    for (int i = 0; i < count; i++) {
        working += found[i].status == CUDNN_STATUS_SUCCESS;
        failing += found[i].status != CUDNN_STATUS_SUCCESS;
        random += found[i].determinism == CUDNN_NON_DETERMINISTIC;
        CHECK(i == 0 || found[i].status != CUDNN_STATUS_SUCCESS ||
              found[i].time >= found[i - 1].time);
    }
    CHECK(working == 3 && failing == 2 && random == 1);
    CHECK(std::isnan(w.at(0))); /* overwritten: nobody may rely on what it held */
}

static void needs_newer_gpu(Type type)
{
    const float one = 1, zero = 0;
    const Case c = {1, 4, 4, 4, 4, 3, 3, 1, 1};
    Conv d(c, type, CUDNN_TENSOR_OP_MATH);
    Tensor x(type, 64, 1), w(type, 144, 2), y(type, 64, 3);
    CHECK(cudnnConvolutionForward(d.handle, &one, d.x, x.device, d.w, w.device, d.conv,
                                  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, nullptr, 0, &zero, d.y,
                                  y.device) == CUDNN_STATUS_NOT_SUPPORTED);
}

void test_products()
{
    must_succeed(gemms);
    must_succeed(tf32_needs_to_be_seen);
    must_succeed(convolutions);
    must_succeed(convolutions, {{"SM", "9.0"}});
    must_succeed(refusals);
    must_succeed(search);
    must_succeed([] { needs_newer_gpu(BF16); }, {{"SM", "7.5"}});
    must_succeed([] { needs_newer_gpu(F16); }, {{"SM", "5.2"}});
}
