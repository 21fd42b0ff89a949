/* Convolutions and matrix products in float, in an order that depends only on the shape. Operands
 * are widened to float first; the innermost loops run along memory. */
#include "emulator.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"

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

static Floats widen(const void *p, cudaDataType type, bool tf32, size_t count)
{
    Floats wide(count);
    for (size_t i = 0; i < count; i++) {
        float value = load(p, type, i);
        wide[i] = tf32 && type == CUDA_R_32F ? to_tf32(value) : value;
    }
    return wide;
}

/* y = alpha sum + beta y; what y holds does not matter where beta is 0. */
static void blend(const Floats &sum, float alpha, float beta, void *y, cudaDataType type)
{
    for (size_t i = 0; i < sum.size(); i++) {
        float value = alpha * sum[i];
        store(y, type, i, beta == 0 ? value : value + beta * load(y, type, i));
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

/* Calls visit(x pixel, tap, y pixel) for every product of the convolution: offsets of their
 * channels in pixels; tap = r S + s. */
template <typename Visit> static void for_taps(const ConvSizes &s, Visit visit)
{
    size_t y = 0;
    for (int n = 0; n < s.N; n++) {
        for (int p = 0; p < s.P; p++) {
            for (int q = 0; q < s.Q; q++, y++) {
                for (int r = 0; r < s.R; r++) {
                    int h = p * s.stride_h - s.pad_h + r;
                    for (int t = 0; t < s.S && h >= 0 && h < s.H; t++) {
                        int w = q * s.stride_w - s.pad_w + t;
                        if (w >= 0 && w < s.W) {
                            visit(((size_t)n * (size_t)s.H + (size_t)h) * (size_t)s.W + (size_t)w,
                                  (size_t)(r * s.S + t), y);
                        }
                    }
                }
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

void conv_forward(const ConvSizes &s, cudnnDataType_t data, bool tf32, float alpha, const void *x,
                  const void *w, float beta, void *y)
{
    cudaDataType type = runtime_type(data);
    size_t C = (size_t)s.C, K = (size_t)s.K, taps = (size_t)(s.R * s.S);
    Floats wide_x = widen(x, type, tf32, input_size(s));
    Floats wide_w = widen(w, type, tf32, filter_size(s));
    Floats turned(wide_w.size()); /* [tap, C, K] */
    for (size_t k = 0; k < K; k++) {
        for (size_t i = 0; i < taps * C; i++) {
            turned[i * K + k] = wide_w[k * taps * C + i];
        }
    }
    Floats sum(output_size(s));
    for_taps(s, [&](size_t from, size_t tap, size_t to) {
        for (size_t c = 0; c < C; c++) {
            add_scaled(K, wide_x[from * C + c], &turned[(tap * C + c) * K], &sum[to * K]);
        }
    });
    blend(sum, alpha, beta, y, type);
}

void conv_backward_data(const ConvSizes &s, cudnnDataType_t data, bool tf32, float alpha,
                        const void *w, const void *dy, float beta, void *dx)
{
    cudaDataType type = runtime_type(data);
    size_t C = (size_t)s.C, K = (size_t)s.K, taps = (size_t)(s.R * s.S);
    Floats wide_w = widen(w, type, tf32, filter_size(s));
    Floats wide_dy = widen(dy, type, tf32, output_size(s));
    Floats sum(input_size(s));
    for_taps(s, [&](size_t to, size_t tap, size_t from) {
        for (size_t k = 0; k < K; k++) {
            add_scaled(C, wide_dy[from * K + k], &wide_w[(k * taps + tap) * C], &sum[to * C]);
        }
    });
    blend(sum, alpha, beta, dx, type);
}

void conv_backward_filter(const ConvSizes &s, cudnnDataType_t data, bool tf32, float alpha,
                          const void *x, const void *dy, float beta, void *dw)
{
    cudaDataType type = runtime_type(data);
    size_t C = (size_t)s.C, K = (size_t)s.K, taps = (size_t)(s.R * s.S);
    Floats wide_x = widen(x, type, tf32, input_size(s));
    Floats wide_dy = widen(dy, type, tf32, output_size(s));
    Floats sum(filter_size(s));
    for_taps(s, [&](size_t from, size_t tap, size_t y) {
        for (size_t k = 0; k < K; k++) {
            add_scaled(C, wide_dy[y * K + k], &wide_x[from * C], &sum[(k * taps + tap) * C]);
        }
    });
    blend(sum, alpha, beta, dw, type);
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
