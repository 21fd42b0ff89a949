/* Statistics of batch norm, and the factors of its gradient.
 *
 * mean and variance are sums over x - k and (x - k)^2 with k = the first value of the channel in
 * its group: that keeps the digits that sums of squares lose where the mean is large against the
 * standard deviation. One read of x; the second kernel adds up the chunks' sums, one block for 32
 * channels, and walks through the groups in order, because running statistics move so. */
#include "kernels/cuda/norm.cuh"

static int power_of_two_from(int n)
{
    int power = 1;
    while (power < n) {
        power *= 2;
    }
    return power;
}

NormLayout norm_layout(int groups, int64_t rows, int C, int V)
{
    NormLayout l = {};
    l.groups = groups;
    l.rows = rows;
    l.C = C;
    l.V = V;
    int vectors = C / V;
    l.across = vectors < WARP ? power_of_two_from(vectors) : WARP;
    l.down = NORM_THREADS / l.across;
    l.tiles = (int)divide_up(vectors, l.across);
    int64_t most = divide_up(rows, 4 * (int64_t)l.down);
    int64_t wanted = divide_up(NORM_BLOCKS, (int64_t)groups * l.tiles);
    l.chunk_rows = divide_up(rows, wanted < most ? wanted : most);
    l.chunks = (int)divide_up(rows, l.chunk_rows);
    if (groups > BLOCK_LIMIT || l.tiles > BLOCK_LIMIT) {
        fatal("batch norm over %d groups and %d channels is beyond a GPU's grid", groups, C);
    }
    return l;
}

size_t norm_partial_bytes(const NormLayout *l)
{
    size_t bytes = (size_t)l->groups * (size_t)l->chunks * 2 * (size_t)l->C * sizeof(float);
    return (bytes + 255) / 256 * 256;
}

/* ---- sums over x -------------------------------------------------------------------------------
 */

template <typename T, int V>
__global__ static void __launch_bounds__(NORM_THREADS)
    sum_kernel(NormLayout l, const T *x, float *partial)
{
    NormThread t = norm_thread(l, NORM_FROM_END);
    float sum[V] = {};
    float squares[V] = {};
    if (t.active) {
        float k[V];
        load<T, V>(x + (int64_t)t.group * l.rows * l.C + t.c, k);
        norm_rows<4>(
            l, t, [&](int64_t at) { return load_words<T, V>(x + at); },
            [&](int64_t, const Loaded<T, V> &row) {
                float value[V];
                unpack<T, V>(row, value);
#pragma unroll
                for (int i = 0; i < V; i++) {
                    float d = value[i] - k[i];
                    sum[i] += d;
                    squares[i] = fmaf(d, d, squares[i]);
                }
            });
    }
    norm_store_sums<V>(l, t, sum, squares, partial);
}

/* ---- adding up the chunks ----------------------------------------------------------------------
 */

/* Both sums of channel c over all chunks of a group; threads of a column (x = channel) each take
 * every 32nd chunk. The result is in the threads of row 0. All threads of the block call it. */
__device__ static inline void add_chunks(const float *partial, int chunks, int C, int c, float *a,
                                         float *b)
{
    __shared__ float sums[2][WARP][WARP + 1];
    float sum_a = 0.0f;
    float sum_b = 0.0f;
    for (int k = (int)threadIdx.y; c < C && k < chunks; k += WARP) {
        sum_a += partial[(int64_t)k * 2 * C + c];
        sum_b += partial[((int64_t)k * 2 + 1) * C + c];
    }
    __syncthreads(); /* the sums of the group before have been read */
    sums[0][threadIdx.y][threadIdx.x] = sum_a;
    sums[1][threadIdx.y][threadIdx.x] = sum_b;
    __syncthreads();
    *a = 0.0f;
    *b = 0.0f;
    if (threadIdx.y == 0) {
        for (int i = 0; i < WARP; i++) {
            *a += sums[0][i][threadIdx.x];
            *b += sums[1][i][threadIdx.x];
        }
    }
}

template <typename T>
__global__ static void __launch_bounds__(WARP *WARP)
    statistics_kernel(NormLayout l, float eps, float momentum, const T *x, const float *partial,
                      float *running_mean, float *running_var, float *batch_mean,
                      float *batch_invstd)
{
    int c = (int)blockIdx.x * WARP + (int)threadIdx.x;
    bool writes = threadIdx.y == 0 && c < l.C;
    double n = (double)l.rows;
    for (int g = 0; g < l.groups; g++) {
        float sum;
        float squares;
        add_chunks(partial + (int64_t)g * l.chunks * 2 * l.C, l.chunks, l.C, c, &sum, &squares);
        if (writes) {
            double k = (double)to_float(x[(int64_t)g * l.rows * l.C + c]);
            double d = (double)sum / n;
            double variance = (double)squares / n - d * d;
            variance = variance < 0.0 ? 0.0 : variance;
            double mean = k + d;
            batch_mean[(int64_t)g * l.C + c] = (float)mean;
            batch_invstd[(int64_t)g * l.C + c] = (float)(1.0 / sqrt(variance + (double)eps));
            running_mean[c] += momentum * ((float)mean - running_mean[c]);
            running_var[c] += momentum * ((float)(variance * n / (n - 1.0)) - running_var[c]);
        }
    }
}

void norm_statistics(CudaBackend *cuda, const BatchNormShape *s, const void *x, float *running_mean,
                     float *running_var, float *batch_mean, float *batch_invstd)
{
    dim3 grid((unsigned)divide_up(s->C, WARP));
    bool aligned = are_aligned({x});
#define RUN(T, V)                                                                                  \
    NormLayout l = norm_layout(s->groups, s->rows, s->C, V);                                       \
    float *partial = (float *)cuda_scratch(cuda, norm_partial_bytes(&l));                          \
    launch(cuda, "batch norm sums", sum_kernel<T, V>, norm_grid(&l), norm_block(&l), l,            \
           (const T *)x, partial);                                                                 \
    launch(cuda, "batch norm statistics", statistics_kernel<T>, grid, dim3(WARP, WARP), l, s->eps, \
           s->momentum, (const T *)x, (const float *)partial, running_mean, running_var,           \
           batch_mean, batch_invstd)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}

/* ---- the gradient ------------------------------------------------------------------------------
 */

/* With S = sum g, D = sum g (x - mean) of a group: dbeta += S, dgamma += D invstd, and
 * dx = gamma invstd (g - S/n - (x - mean) invstd^2 D/n). */
__global__ static void __launch_bounds__(WARP *WARP)
    factors_kernel(NormLayout l, const float *partial, const float *gamma, const float *invstd,
                   bool accumulate, float *factors, float *dgamma, float *dbeta)
{
    int c = (int)blockIdx.x * WARP + (int)threadIdx.x;
    bool writes = threadIdx.y == 0 && c < l.C;
    float n = (float)l.rows;
    float total_gamma = writes && accumulate ? dgamma[c] : 0.0f;
    float total_beta = writes && accumulate ? dbeta[c] : 0.0f;
    for (int g = 0; g < l.groups; g++) {
        float sum;
        float projected;
        add_chunks(partial + (int64_t)g * l.chunks * 2 * l.C, l.chunks, l.C, c, &sum, &projected);
        if (writes) {
            float inverse = invstd[(int64_t)g * l.C + c];
            float scale = gamma[c] * inverse;
            float *factor = factors + (int64_t)g * 3 * l.C + c;
            projected *= inverse;
            total_beta += sum;
            total_gamma += projected;
            factor[0] = scale;
            factor[l.C] = scale * (sum / n);
            factor[2 * (int64_t)l.C] = scale * inverse * (projected / n);
        }
    }
    if (writes) {
        dgamma[c] = total_gamma;
        dbeta[c] = total_beta;
    }
}

void norm_gradient_factors(CudaBackend *cuda, const NormLayout *l, const float *partial,
                           const float *gamma, const float *batch_invstd, bool accumulate,
                           float *factors, float *dgamma, float *dbeta)
{
    launch(cuda, "batch norm gradient factors", factors_kernel,
           dim3((unsigned)divide_up(l->C, WARP)), dim3(WARP, WARP), *l, partial, gamma,
           batch_invstd, accumulate, factors, dgamma, dbeta);
}
