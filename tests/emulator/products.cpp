/* Convolutions and matrix products in float, in an order that depends only on the shape and what
 * was asked for. Operands are widened to float first; the innermost loops run along memory. */
#include "emulator.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"

#include <cmath>

namespace rodeo_emulator
{

using Floats = std::vector<float>;

/* Rounded to the 10 bits of mantissa that tensor cores keep of a float, ties away from zero. */
static float to_tf32(float x)
{
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7f800000) == 0x7f800000) {
        return x;
    }
    return __uint_as_float((bits + 0x1000) & ~0x1fffu);
}

static float load(const void *p, cudaDataType type, size_t i)
{
    switch (type) {
    case CUDA_R_16F:
        return half_to_float(((const unsigned short *)p)[i]);
    case CUDA_R_16BF:
        return bf16_to_float(((const unsigned short *)p)[i]);
    default:
        return ((const float *)p)[i];
    }
}

static void store(void *p, cudaDataType type, size_t i, float value)
{
    switch (type) {
    case CUDA_R_16F:
        ((unsigned short *)p)[i] = half_from_float(value);
        break;
    case CUDA_R_16BF:
        ((unsigned short *)p)[i] = bf16_from_float(value);
        break;
    default:
        ((float *)p)[i] = value;
    }
}

static cudaDataType runtime_type(cudnnDataType_t type)
{
    return type == CUDNN_DATA_HALF       ? CUDA_R_16F
           : type == CUDNN_DATA_BFLOAT16 ? CUDA_R_16BF
                                         : CUDA_R_32F;
}

static float rounded(float value, Factors factors)
{
    return factors == Factors::tf32   ? to_tf32(value)
           : factors == Factors::half ? half_to_float(half_from_float(value))
                                      : value;
}

static Floats widen(const void *p, cudaDataType type, Factors factors, size_t count)
{
    Floats wide(count);
    for (size_t i = 0; i < count; i++) {
        float value = load(p, type, i);
        wide[i] = type == CUDA_R_32F ? rounded(value, factors) : value;
    }
    return wide;
}

/* With 3 bits of its mantissa left. */
static float coarsened(float x)
{
    uint32_t bits = __float_as_uint(x);
    return (bits & 0x7f800000) == 0x7f800000 ? x : __uint_as_float((bits + 0x80000) & ~0xfffffu);
}

/* Another last bit, at random, in finite values other than 0. */
static void perturb(void *y, cudaDataType type, size_t i)
{
    float value = load(y, type, i);
    if (value == 0 || !std::isfinite(value) || state().random.below(2) == 0) {
        return;
    }
    if (type == CUDA_R_32F) {
        ((uint32_t *)y)[i] ^= 1;
    } else {
        ((unsigned short *)y)[i] ^= 1;
    }
}

/* y = alpha sum + beta y; what y holds does not matter where beta is 0. */
static void blend(const Floats &sum, float alpha, float beta, const ConvManner &manner, void *y,
                  cudaDataType type)
{
    for (size_t i = 0; i < sum.size(); i++) {
        float value = alpha * sum[i];
        value = beta == 0 ? value : value + beta * load(y, type, i);
        store(y, type, i, manner.coarse ? coarsened(value) : value);
        if (manner.perturbed) {
            perturb(y, type, i);
        }
    }
}

static size_t input_size(const ConvSizes &s)
{
    return (size_t)s.N * (size_t)s.H * (size_t)s.W * (size_t)s.C;
}

static size_t filter_size(const ConvSizes &s)
{
    return (size_t)s.K * (size_t)s.R * (size_t)s.S * (size_t)s.C;
}

static size_t output_size(const ConvSizes &s)
{
    return (size_t)s.N * (size_t)s.P * (size_t)s.Q * (size_t)s.K;
}

/* The i-th of `count` in the order that is asked for. */
template <typename T> static inline T ith(T i, T count, bool backwards)
{
    return backwards ? count - 1 - i : i;
}

/* Calls visit(x pixel, tap, y pixel) for every product of the convolution: offsets of their
 * channels in pixels; tap = r S + s. */
template <typename Visit> static void for_taps(const ConvSizes &s, bool backwards, Visit visit)
{
    size_t pixels = (size_t)s.N * (size_t)s.P * (size_t)s.Q, Q = (size_t)s.Q, P = (size_t)s.P;
    for (size_t i = 0; i < pixels; i++) {
        size_t y = ith(i, pixels, backwards), n = y / (P * Q);
        int p = (int)(y / Q % P), q = (int)(y % Q);
        for (int j = 0; j < s.R * s.S; j++) {
            int tap = ith(j, s.R * s.S, backwards);
            int h = p * s.stride_h - s.pad_h + tap / s.S, w = q * s.stride_w - s.pad_w + tap % s.S;
            if (h >= 0 && h < s.H && w >= 0 && w < s.W) {
                visit((n * (size_t)s.H + (size_t)h) * (size_t)s.W + (size_t)w, (size_t)tap, y);
            }
        }
    }
}

/* y[i] += a x[i] */
static inline void add_scaled(size_t count, float a, const float *x, float *y)
{
    for (size_t i = 0; i < count; i++) {
        y[i] += a * x[i];
    }
}

void conv_forward(const ConvSizes &s, cudnnDataType_t data, const ConvManner &manner, float alpha,
                  const void *x, const void *w, float beta, void *y)
{
    cudaDataType type = runtime_type(data);
    size_t C = (size_t)s.C, K = (size_t)s.K, taps = (size_t)(s.R * s.S);
    Floats wide_x = widen(x, type, manner.factors, input_size(s));
    Floats wide_w = widen(w, type, manner.factors, filter_size(s));
    Floats turned(wide_w.size()); /* [tap, C, K] */
    for (size_t k = 0; k < K; k++) {
        for (size_t i = 0; i < taps * C; i++) {
            turned[i * K + k] = wide_w[k * taps * C + i];
        }
    }
    Floats sum(output_size(s));
    for_taps(s, manner.backwards, [&](size_t from, size_t tap, size_t to) {
        for (size_t i = 0; i < C; i++) {
            size_t c = ith(i, C, manner.backwards);
            add_scaled(K, wide_x[from * C + c], &turned[(tap * C + c) * K], &sum[to * K]);
        }
    });
    blend(sum, alpha, beta, manner, y, type);
}

void conv_backward_data(const ConvSizes &s, cudnnDataType_t data, const ConvManner &manner,
                        float alpha, const void *w, const void *dy, float beta, void *dx)
{
    cudaDataType type = runtime_type(data);
    size_t C = (size_t)s.C, K = (size_t)s.K, taps = (size_t)(s.R * s.S);
    Floats wide_w = widen(w, type, manner.factors, filter_size(s));
    Floats wide_dy = widen(dy, type, manner.factors, output_size(s));
    Floats sum(input_size(s));
    for_taps(s, manner.backwards, [&](size_t to, size_t tap, size_t from) {
        for (size_t i = 0; i < K; i++) {
            size_t k = ith(i, K, manner.backwards);
            add_scaled(C, wide_dy[from * K + k], &wide_w[(k * taps + tap) * C], &sum[to * C]);
        }
    });
    blend(sum, alpha, beta, manner, dx, type);
}

void conv_backward_filter(const ConvSizes &s, cudnnDataType_t data, const ConvManner &manner,
                          float alpha, const void *x, const void *dy, float beta, void *dw)
{
    cudaDataType type = runtime_type(data);
    size_t C = (size_t)s.C, K = (size_t)s.K, taps = (size_t)(s.R * s.S);
    Floats wide_x = widen(x, type, manner.factors, input_size(s));
    Floats wide_dy = widen(dy, type, manner.factors, output_size(s));
    Floats sum(filter_size(s));
    for_taps(s, manner.backwards, [&](size_t from, size_t tap, size_t y) {
        for (size_t k = 0; k < K; k++) {
            add_scaled(C, wide_dy[y * K + k], &wide_x[from * C], &sum[(k * taps + tap) * C]);
        }
    });
    blend(sum, alpha, beta, manner, dw, type);
}

/* op(M) [rows, columns] in row-major order from column-major M with leading dimension ld. */
static Floats unfold(const void *M, cudaDataType type, bool tf32, bool transposed, int ld, int rows,
                     int columns)
{
    Floats wide((size_t)rows * (size_t)columns);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
            size_t place = transposed ? (size_t)j + (size_t)i * (size_t)ld
                                      : (size_t)i + (size_t)j * (size_t)ld;
            float value = load(M, type, place);
            wide[(size_t)i * (size_t)columns + (size_t)j] =
                tf32 && type == CUDA_R_32F ? to_tf32(value) : value;
        }
    }
    return wide;
}

void gemm(const GemmSizes &s, cudaDataType type, cudaDataType type_c, bool tf32, float alpha,
          const void *A, const void *B, float beta, void *C)
{
    Floats a = unfold(A, type, tf32, s.transa, s.lda, s.m, s.k);
    Floats b = unfold(B, type, tf32, s.transb, s.ldb, s.k, s.n);
    Floats row((size_t)s.n);
    for (int i = 0; i < s.m; i++) {
        row.assign(row.size(), 0.0f);
        for (int l = 0; l < s.k; l++) {
            add_scaled((size_t)s.n, a[(size_t)i * (size_t)s.k + (size_t)l],
                       &b[(size_t)l * (size_t)s.n], row.data());
        }
        for (int j = 0; j < s.n; j++) {
            size_t place = (size_t)i + (size_t)j * (size_t)s.ldc;
            float value = alpha * row[(size_t)j];
            store(C, type_c, place, beta == 0 ? value : value + beta * load(C, type_c, place));
        }
    }
}

} // namespace rodeo_emulator
