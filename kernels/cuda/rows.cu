/* Helpers of the operators that are libraries' work: bias and its gradient, and copies between
 * float32 and the compute type.
 *
 *   y[r, k] += bias[k]                  one thread a vector of columns, down the rows
 *   dbias[k] = or += sum_r dy[r, k]     the same, in float32, in two stages: a block sums its rows
 *                                       and leaves a row of partial sums in scratch memory; then
 *                                       one thread a column adds these from first to last
 *   y[i] = or += x[i], other type       one thread four elements
 *
 * Rows [rows, K] are contiguous. The order of every sum depends on the shape alone. */
#include "kernels/cuda/elements.cuh"

/* ---- bias ------------------------------------------------------------------------------------ */

template <typename T, int V>
__global__ void add_bias(int64_t rows, int64_t columns, const float *bias, T *y)
{
    int64_t column = row_column();
    if (column >= columns) {
        return;
    }
    float b[V];
#pragma unroll
    for (int i = 0; i < V; i++) {
        b[i] = bias[column * V + i];
    }
    for (int64_t row = row_first(); row < rows; row += row_stride()) {
        T *at = y + (row * columns + column) * V;
        float sum[V];
        load<T, V>(at, sum);
#pragma unroll
        for (int i = 0; i < V; i++) {
            sum[i] += b[i];
        }
        store<T, V>(at, sum);
    }
}

template <typename T, int V>
static void launch_add_bias(CudaBackend *cuda, int64_t rows, int K, const float *bias, void *y)
{
    int64_t columns = K / V;
    RowTiles tiles = row_tiles(rows, columns, 2);
    launch(cuda, "add_bias", add_bias<T, V>, tiles.grid, tiles.block, rows, columns, bias, (T *)y);
}

/* The longest vector for rows of K elements of T that begin at p. */
template <typename T> static int row_vector(int K, const void *p)
{
    int V = vector_length<T>(K);
    return is_aligned<T>(p, V) ? V : 1;
}

template <typename T>
static void add_bias_of(CudaBackend *cuda, int64_t rows, int K, const float *bias, void *y)
{
    constexpr int most = 16 / (int)sizeof(T);
    if (row_vector<T>(K, y) == most) {
        launch_add_bias<T, most>(cuda, rows, K, bias, y);
    } else {
        launch_add_bias<T, 1>(cuda, rows, K, bias, y);
    }
}

void cuda_add_bias(CudaBackend *cuda, int64_t rows, int K, const float *bias, bool float_output,
                   void *y)
{
#define CALL(T) add_bias_of<T>(cuda, rows, K, bias, y)
    WITH_TYPE(float_output ? CUDA_F32 : cuda->type, CALL);
#undef CALL
}

/* ---- the gradient of bias -------------------------------------------------------------------- */

/* Threads of a block that share a column add up their sums pair by pair, through shared memory. */
template <typename T, int V>
__global__ void sum_rows(int64_t rows, int64_t columns, const T *dy, float *partial)
{
    __shared__ float sums[BLOCK][V];
    int64_t column = row_column();
    float sum[V] = {};
    for (int64_t row = row_first(); row < rows && column < columns; row += row_stride()) {
        float x[V];
        load<T, V>(dy + (row * columns + column) * V, x);
#pragma unroll
        for (int i = 0; i < V; i++) {
            sum[i] += x[i];
        }
    }
    unsigned self = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
    for (int i = 0; i < V; i++) {
        sums[self][i] = sum[i];
    }
    for (unsigned below = blockDim.y / 2; below > 0; below /= 2) {
        __syncthreads();
        if (threadIdx.y < below) {
#pragma unroll
            for (int i = 0; i < V; i++) {
                sum[i] += sums[self + below * blockDim.x][i];
                sums[self][i] = sum[i];
            }
        }
    }
    if (threadIdx.y == 0 && column < columns) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            partial[(blockIdx.y * columns + column) * V + i] = sum[i];
        }
    }
}

__global__ void sum_partials(int count, int K, const float *partial, bool accumulate, float *dbias)
{
    int k = (int)flat_first();
    if (k >= K) {
        return;
    }
    float sum = 0;
    for (int i = 0; i < count; i++) {
        sum += partial[(int64_t)i * K + k];
    }
    dbias[k] = accumulate ? dbias[k] + sum : sum;
}

template <typename T, int V>
static void launch_sum_rows(CudaBackend *cuda, int64_t rows, int K, const void *dy, bool accumulate,
                            float *dbias)
{
    int64_t columns = K / V;
    RowTiles tiles = row_tiles(rows, columns, 8);
    int count = (int)tiles.grid.y;
    float *partial = (float *)cuda_scratch(cuda, (size_t)count * (size_t)K * sizeof(float));
    launch(cuda, "sum_rows", sum_rows<T, V>, tiles.grid, tiles.block, rows, columns, (const T *)dy,
           partial);
    launch(cuda, "sum_partials", sum_partials, dim3((unsigned)divide_up(K, BLOCK)), dim3(BLOCK),
           count, K, partial, accumulate, dbias);
}

template <typename T>
static void sum_rows_of(CudaBackend *cuda, int64_t rows, int K, const void *dy, bool accumulate,
                        float *dbias)
{
    constexpr int most = 16 / (int)sizeof(T);
    if (row_vector<T>(K, dy) == most) {
        launch_sum_rows<T, most>(cuda, rows, K, dy, accumulate, dbias);
    } else {
        launch_sum_rows<T, 1>(cuda, rows, K, dy, accumulate, dbias);
    }
}

void cuda_sum_rows(CudaBackend *cuda, int64_t rows, int K, const void *dy, bool float_output,
                   bool accumulate, float *dbias)
{
#define CALL(T) sum_rows_of<T>(cuda, rows, K, dy, accumulate, dbias)
    WITH_TYPE(float_output ? CUDA_F32 : cuda->type, CALL);
#undef CALL
}

/* ---- between types --------------------------------------------------------------------------- */

enum { CONVERTED = 4 }; /* elements a thread: 16 bytes of float32 */

template <typename From, typename To, int V>
__device__ static void convert_at(int64_t i, const From *x, bool accumulate, To *y)
{
    float value[V];
    load<From, V>(x + i, value);
    if (accumulate) {
        float before[V];
        load<To, V>(y + i, before);
#pragma unroll
        for (int k = 0; k < V; k++) {
            value[k] += before[k];
        }
    }
    store<To, V>(y + i, value);
}

/* y[i] = or += x[i]; what is left behind the last vector is done one by one. */
template <typename From, typename To, int V>
__global__ void convert(int64_t count, const From *x, bool accumulate, To *y)
{
    int64_t vectors = count / V;
    for (int64_t i = flat_first(); i < vectors; i += flat_stride()) {
        convert_at<From, To, V>(i * V, x, accumulate, y);
    }
    int64_t left = vectors * V + flat_first();
    if (left < count) {
        convert_at<From, To, 1>(left, x, accumulate, y);
    }
}

template <typename From, typename To>
static void convert_all(CudaBackend *cuda, int64_t count, const From *x, bool accumulate, To *y)
{
    if (is_aligned<From>(x, CONVERTED) && is_aligned<To>(y, CONVERTED)) {
        launch(cuda, "convert", convert<From, To, CONVERTED>,
               flat_grid(divide_up(count, CONVERTED)), dim3(BLOCK), count, x, accumulate, y);
    } else {
        launch(cuda, "convert", convert<From, To, 1>, flat_grid(count), dim3(BLOCK), count, x,
               accumulate, y);
    }
}

void cuda_widen(CudaBackend *cuda, int64_t count, const void *x, bool accumulate, float *dw)
{
#define CALL(T) convert_all<T, float>(cuda, count, (const T *)x, accumulate, dw)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}

void cuda_narrow(CudaBackend *cuda, int64_t count, const float *x, void *y)
{
#define CALL(T) convert_all<float, T>(cuda, count, x, false, (T *)y)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}

void cuda_cast(Backend *be, int64_t count, const float *x, void *y)
{
    cuda_narrow(cuda_backend(be), count, x, y);
}

/* ---- the weights of pictures ----------------------------------------------------------------- */

/* One thread a position; `positions` counts [K,R,R]. */
template <typename T> __global__ void pad_filter(int64_t positions, const T *w, T *padded)
{
    int64_t i = flat_first();
    if (i < positions) {
        float pixel[CUDA_PICTURE_CHANNELS] = {};
        for (int c = 0; c < 3; c++) {
            pixel[c] = to_float(w[i * 3 + c]);
        }
        store<T, CUDA_PICTURE_CHANNELS>(padded + i * CUDA_PICTURE_CHANNELS, pixel);
    }
}

template <typename T>
__global__ void cut_filter(int64_t positions, const T *padded, bool accumulate, float *dw)
{
    int64_t i = flat_first();
    if (i < positions) {
        float pixel[CUDA_PICTURE_CHANNELS];
        load<T, CUDA_PICTURE_CHANNELS>(padded + i * CUDA_PICTURE_CHANNELS, pixel);
        for (int c = 0; c < 3; c++) {
            float *to = dw + i * 3 + c;
            *to = accumulate ? *to + pixel[c] : pixel[c];
        }
    }
}

/* `padded` is memory of the backend's own: always aligned. */
void cuda_pad_filter(CudaBackend *cuda, int64_t positions, const void *w, void *padded)
{
    dim3 grid((unsigned)divide_up(positions, BLOCK));
#define CALL(T)                                                                                    \
    launch(cuda, "pad_filter", pad_filter<T>, grid, dim3(BLOCK), positions, (const T *)w,          \
           (T *)padded)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}

void cuda_cut_filter(CudaBackend *cuda, int64_t positions, const void *padded, bool accumulate,
                     float *dw)
{
    dim3 grid((unsigned)divide_up(positions, BLOCK));
#define CALL(T)                                                                                    \
    launch(cuda, "cut_filter", cut_filter<T>, grid, dim3(BLOCK), positions, (const T *)padded,     \
           accumulate, dw)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}
