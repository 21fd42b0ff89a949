/* Global average pooling, and joining and splitting along the channels.
 *
 *   y[n, c] = (1/HW) sum_i x[n, i, c]    one thread a vector of channels of one picture, which it
 *                                        sums in float32 from the first position to the last
 *   dx[n, i, c] = dy[n, c] / HW          the same, every thread at some of the positions
 *   y[r] = a[r] beside b[r]              plain copies of 16 bytes, or of the largest power of two
 *                                        that divides both widths: no element type
 *
 * x [N,HW,C], y [N,C]; a [rows,Ca], b [rows,Cb], y [rows,Ca+Cb]. Neighbouring threads touch
 * neighbouring vectors. */
#include "kernels/cuda/elements.cuh"

/* ---- average pooling ------------------------------------------------------------------------- */

template <typename T, int V>
__global__ void avgpool_fprop(int N, int HW, int64_t columns, const T *x, T *y)
{
    for (int64_t i = flat_first(); i < N * columns; i += flat_stride()) {
        int64_t n = i / columns;
        const T *picture = x + (n * HW * columns + i % columns) * V;
        float sum[V] = {};
#pragma unroll 8
        for (int at = 0; at < HW; at++) {
            float value[V];
            load<T, V>(picture + at * columns * V, value);
#pragma unroll
            for (int k = 0; k < V; k++) {
                sum[k] += value[k];
            }
        }
#pragma unroll
        for (int k = 0; k < V; k++) {
            sum[k] /= (float)HW;
        }
        store<T, V>(y + i * V, sum);
    }
}

template <typename T, int V>
__global__ void avgpool_bprop(int N, int HW, int64_t columns, const T *dy, T *dx)
{
    for (int64_t i = flat_first(); i < N * columns; i += flat_stride()) {
        int64_t n = i / columns;
        T *picture = dx + (n * HW * columns + i % columns) * V;
        float value[V];
        load<T, V>(dy + i * V, value);
#pragma unroll
        for (int k = 0; k < V; k++) {
            value[k] /= (float)HW;
        }
        for (int at = (int)blockIdx.y; at < HW; at += (int)gridDim.y) {
            store<T, V>(picture + at * columns * V, value);
        }
    }
}

template <typename T, int V>
static void launch_avgpool_fprop(CudaBackend *cuda, const AvgPoolShape *s, const void *x, void *y)
{
    int64_t columns = s->C / V;
    launch(cuda, "avgpool_fprop", avgpool_fprop<T, V>, flat_grid(s->N * columns), dim3(BLOCK), s->N,
           s->HW, columns, (const T *)x, (T *)y);
}

template <typename T, int V>
static void launch_avgpool_bprop(CudaBackend *cuda, const AvgPoolShape *s, const void *dy, void *dx)
{
    int64_t columns = s->C / V;
    dim3 grid = flat_grid(s->N * columns);
    grid.y = (unsigned)(s->HW < 8 ? s->HW : 8);
    launch(cuda, "avgpool_bprop", avgpool_bprop<T, V>, grid, dim3(BLOCK), s->N, s->HW, columns,
           (const T *)dy, (T *)dx);
}

/* Whether rows of C elements at p and q may be accessed in the longest vectors. */
template <typename T> static bool rows_fit(int C, const void *p, const void *q)
{
    constexpr int most = 16 / (int)sizeof(T);
    return vector_length<T>(C) == most && is_aligned<T>(p, most) && is_aligned<T>(q, most);
}

void cuda_avgpool_fprop(Backend *be, const AvgPoolShape *s, const void *x, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
#define CALL(T)                                                                                    \
    rows_fit<T>(s->C, x, y) ? launch_avgpool_fprop<T, 16 / (int)sizeof(T)>(cuda, s, x, y)          \
                            : launch_avgpool_fprop<T, 1>(cuda, s, x, y)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}

void cuda_avgpool_bprop(Backend *be, const AvgPoolShape *s, const void *dy, void *dx)
{
    CudaBackend *cuda = cuda_backend(be);
#define CALL(T)                                                                                    \
    rows_fit<T>(s->C, dy, dx) ? launch_avgpool_bprop<T, 16 / (int)sizeof(T)>(cuda, s, dy, dx)      \
                              : launch_avgpool_bprop<T, 1>(cuda, s, dy, dx)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}

/* ---- joining and splitting ------------------------------------------------------------------- */

/* A row is `left` units of a, then `right` units of b. */
template <typename Unit>
__global__ void concat(int64_t rows, int64_t left, int64_t right, const Unit *a, const Unit *b,
                       Unit *y)
{
    int64_t column = row_column();
    int64_t columns = left + right;
    bool from_a = column < left;
    const Unit *from = from_a ? a + column : b + (column - left);
    int64_t step = from_a ? left : right;
    for (int64_t row = row_first(); row < rows && column < columns; row += row_stride()) {
        y[row * columns + column] = from[row * step];
    }
}

template <typename Unit>
__global__ void split(int64_t rows, int64_t left, int64_t right, const Unit *y, Unit *a, Unit *b)
{
    int64_t column = row_column();
    int64_t columns = left + right;
    bool to_a = column < left;
    Unit *to = to_a ? a + column : b + (column - left);
    int64_t step = to_a ? left : right;
    for (int64_t row = row_first(); row < rows && column < columns; row += row_stride()) {
        to[row * step] = y[row * columns + column];
    }
}

/* The largest unit of at most 16 bytes, a power of two, that divides both widths and all addresses.
 */
static size_t unit_bytes(size_t left, size_t right, const void *a, const void *b, const void *y)
{
    uintptr_t all = left | right | (uintptr_t)a | (uintptr_t)b | (uintptr_t)y | 16;
    return all & (~all + 1);
}

#define WITH_UNIT(bytes, CALL)                                                                     \
    do {                                                                                           \
        switch (bytes) {                                                                           \
        case 16:                                                                                   \
            CALL(uint4);                                                                           \
            break;                                                                                 \
        case 8:                                                                                    \
            CALL(uint2);                                                                           \
            break;                                                                                 \
        case 4:                                                                                    \
            CALL(uint32_t);                                                                        \
            break;                                                                                 \
        default:                                                                                   \
            CALL(uint16_t);                                                                        \
            break;                                                                                 \
        }                                                                                          \
    } while (0)

void cuda_concat(Backend *be, const ConcatShape *s, const void *a, const void *b, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    size_t left = (size_t)s->Ca * be->activation_bytes;
    size_t right = (size_t)s->Cb * be->activation_bytes;
    size_t unit = unit_bytes(left, right, a, b, y);
    RowTiles tiles = row_tiles(s->rows, (int64_t)((left + right) / unit), 2);
#define CALL(Unit)                                                                                 \
    launch(cuda, "concat", concat<Unit>, tiles.grid, tiles.block, s->rows, (int64_t)(left / unit), \
           (int64_t)(right / unit), (const Unit *)a, (const Unit *)b, (Unit *)y)
    WITH_UNIT(unit, CALL);
#undef CALL
}

void cuda_split(Backend *be, const ConcatShape *s, const void *y, void *a, void *b)
{
    CudaBackend *cuda = cuda_backend(be);
    size_t left = (size_t)s->Ca * be->activation_bytes;
    size_t right = (size_t)s->Cb * be->activation_bytes;
    size_t unit = unit_bytes(left, right, a, b, y);
    RowTiles tiles = row_tiles(s->rows, (int64_t)((left + right) / unit), 2);
#define CALL(Unit)                                                                                 \
    launch(cuda, "split", split<Unit>, tiles.grid, tiles.block, s->rows, (int64_t)(left / unit),   \
           (int64_t)(right / unit), (const Unit *)y, (Unit *)a, (Unit *)b)
    WITH_UNIT(unit, CALL);
#undef CALL
}
