/* Statistics of batch norm, and the factors of its gradient.
 *
 * mean and variance are sums over x - k and (x - k)^2 with k = the first value of the channel in
 * its group, or the running mean where the sums come from elsewhere: that keeps the digits that
 * sums of squares lose where the mean is large against the standard deviation. One read of x; the
 * second kernel adds up the chunks' sums, one block for 8 channels, and walks through the groups in
 * order, because running statistics move so. */
#include "kernels/cuda/norm.cuh"

static int power_of_two_from(int n)
{
    int power = 1;
    while (power < n) {
        power *= 2;
    }
    return power;
}

NormLayout norm_layout(const CudaBackend *cuda, int groups, int64_t rows, int C, int V)
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
    int64_t wanted = cuda->multiprocessors / ((int64_t)groups * l.tiles);
    wanted = wanted > 0 ? wanted : 1;
    l.chunk_rows = divide_up(rows, wanted < most ? wanted : most);
    l.chunks = (int)divide_up(rows, l.chunk_rows);
    if (groups > BLOCK_LIMIT || l.tiles > BLOCK_LIMIT) {
        fatal("batch norm over %d groups and %d channels is beyond a GPU's grid", groups, C);
    }
    return l;
}

size_t norm_partial_bytes(const NormLayout *l)
{
    size_t channels = (size_t)divide_up(l->C, NORM_SIDE) * NORM_SIDE;
    size_t bytes = (size_t)l->groups * (size_t)l->chunks * 2 * channels * sizeof(float);
    return (bytes + 255) / 256 * 256;
}

/* ---- sums over x -------------------------------------------------------------------------------
 */

template <typename T, int V>
__global__ static void NORM_BOUNDS sum_kernel(NormLayout l, const T *x, float *partial)
{
    NormThread t = norm_thread(l, NORM_FROM_END);
    float sum[V] = {};
    float squares[V] = {};
    if (t.active) {
        float k[V];
        load<T, V>(x + (int64_t)t.group * l.rows * l.C + t.c, k);
        norm_rows<8>(
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

/* A block has NORM_SIDE channels, and a quarter of its threads has a group; where there are fewer
 * than 3 groups, 2 or 4 quarters share one. There is little to add, and nearly all the time goes
 * into waiting. So a thread has all its loads under way before it waits for the first, and the
 * first warp does the rest in a few steps, all groups side by side. The launch bounds ask for one
 * block an SM, or else the compiler saves registers and waits for every load. */
#define ADD_THREADS         256
#define ADD_GROUPS          4 /* at once */
#define ADD_QUARTER_THREADS (ADD_THREADS / ADD_GROUPS)
#define ADD_QUARTER_FLOATS  (4 * ADD_QUARTER_THREADS) /* that a quarter loads at once */
#define ADD_AHEAD           16 /* loads: all there are of 1, 2 or 4 groups in 1024 chunks */

static_assert(ADD_GROUPS * NORM_SIDE == WARP, "a warp has every group and channel");

static dim3 add_grid(int C)
{
    return dim3((unsigned)divide_up(C, NORM_SIDE));
}

/* Whose sums a thread of the first warp gets. */
struct AddThread {
    int shift; /* a group has 1 << shift quarters of the block */
    int group, c;
    bool active; /* they exist, and no other thread answers for them */
};

__device__ static inline AddThread add_thread(const NormLayout &l, int first_group)
{
    AddThread t;
    int quarter = (int)(threadIdx.x / NORM_SIDE);
    t.shift = l.groups > 2 ? 0 : l.groups == 2 ? 1 : 2;
    t.group = first_group + (quarter >> t.shift);
    t.c = (int)(blockIdx.x * NORM_SIDE + threadIdx.x % NORM_SIDE);
    t.active = quarter < ADD_GROUPS && (quarter & ((1 << t.shift) - 1)) == 0 &&
               t.group < l.groups && t.c < l.C;
    return t;
}

/* The thread's share of 4 of the 2 * NORM_SIDE sums of a group: those from 4 * threadIdx.x modulo
 * 16 on. Beyond C they are of no meaning. */
__device__ static inline void add_share(const NormLayout &l, int shift, const float *partial,
                                        int first_group, float sum[4])
{
    int quarter = (int)(threadIdx.x / ADD_QUARTER_THREADS);
    int group = first_group + (quarter >> shift);
    const float *from = partial + norm_partial_at(l, (int)blockIdx.x * NORM_SIDE, group, 0);
    int count = group < l.groups ? l.chunks * 2 * NORM_SIDE : 0;
    int i = (quarter & ((1 << shift) - 1)) * ADD_AHEAD * ADD_QUARTER_FLOATS +
            (int)(threadIdx.x % ADD_QUARTER_THREADS) * 4;
    for (; i < count; i += ADD_AHEAD * ADD_QUARTER_FLOATS << shift) {
        Loaded<float, 4> loaded[ADD_AHEAD];
#pragma unroll
        for (int k = 0; k < ADD_AHEAD; k++) {
            if (i + k * ADD_QUARTER_FLOATS < count) {
                loaded[k] = load_words<float, 4>(from + i + k * ADD_QUARTER_FLOATS);
            }
        }
#pragma unroll
        for (int k = 0; k < ADD_AHEAD; k++) {
            float value[4];
            unpack<float, 4>(loaded[k], value);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sum[j] += value[j];
            }
        }
    }
}

/* Both sums over all chunks, for the threads of the first warp; of no meaning in other warps. All
 * threads of the block call it. */
__device__ static inline void add_chunks(const NormLayout &l, const AddThread &t,
                                         const float *partial, int first_group, float *a, float *b)
{
    /* NORM_SIDE more, so that the quarters lie in different banks. */
    __shared__ __align__(16) float shares[ADD_GROUPS][ADD_QUARTER_FLOATS + NORM_SIDE];
    float share[4] = {};
    add_share(l, t.shift, partial, first_group, share);
    if (first_group > 0) {
        __syncthreads(); /* those of the groups before have been read */
    }
    store<float, 4>(
        &shares[threadIdx.x / ADD_QUARTER_THREADS][threadIdx.x % ADD_QUARTER_THREADS * 4], share);
    __syncthreads();
    *a = 0.0f;
    *b = 0.0f;
    if (threadIdx.x < WARP) {
        const float *of_channel = shares[threadIdx.x / NORM_SIDE] + threadIdx.x % NORM_SIDE;
#pragma unroll
        for (int i = 0; i < ADD_QUARTER_FLOATS; i += 2 * NORM_SIDE) {
            *a += of_channel[i];
            *b += of_channel[i + NORM_SIDE];
        }
#pragma unroll
        for (int i = 0; (1 << i) < ADD_GROUPS; i++) {
            if (i < t.shift) {
                *a += __shfl_xor_sync(FULL_WARP, *a, NORM_SIDE << i);
                *b += __shfl_xor_sync(FULL_WARP, *b, NORM_SIDE << i);
            }
        }
    }
}

/* The value that the first warp's thread for the same channel and the k-th group has. All of that
 * warp call it. */
__device__ static inline float of_group(const AddThread &t, float value, int k)
{
    return __shfl_sync(FULL_WARP, value,
                       (k << t.shift) * NORM_SIDE + (int)(threadIdx.x % NORM_SIDE));
}

typedef struct {
    double per_row, unbiased; /* 1 / rows and rows / (rows - 1) */
    float eps, momentum;
} Averages;

struct Moments {
    float mean, invstd, unbiased; /* unbiased: variance */
};

/* Of a group, from the sums of x - k and (x - k)^2. */
__device__ static inline Moments moments(const Averages &averages, float k, float sum,
                                         float squares)
{
    double d = (double)sum * averages.per_row;
    double variance = (double)squares * averages.per_row - d * d;
    variance = variance < 0.0 ? 0.0 : variance;
    Moments m;
    m.mean = (float)((double)k + d);
    m.invstd = (float)rsqrt(variance + (double)averages.eps);
    m.unbiased = (float)(variance * averages.unbiased);
    return m;
}

/* x NULL: the sums are around the running mean. */
template <typename T>
__global__ static void __launch_bounds__(ADD_THREADS, 1)
    statistics_kernel(NormLayout l, Averages averages, const T *x, const float *partial,
                      float *running_mean, float *running_var, float *batch_mean,
                      float *batch_invstd)
{
    AddThread t = add_thread(l, 0);
    bool first = threadIdx.x < NORM_SIDE && t.active;
    float old_mean = threadIdx.x < WARP && t.c < l.C ? running_mean[t.c] : 0.0f;
    float moved_mean = old_mean;
    float moved_var = first ? running_var[t.c] : 0.0f;
    for (int g = 0; g < l.groups; g += ADD_GROUPS) {
        t = add_thread(l, g);
        Loaded<T, 1> loaded;
        if (t.active && x != NULL) {
            loaded = load_words<T, 1>(x + (int64_t)t.group * l.rows * l.C + t.c);
        }
        float sum;
        float squares;
        add_chunks(l, t, partial, g, &sum, &squares);
        if (threadIdx.x >= WARP) {
            continue;
        }
        float k;
        unpack<T, 1>(loaded, &k);
        Moments m = moments(averages, x != NULL ? k : old_mean, sum, squares);
        if (t.active) {
            batch_mean[(int64_t)t.group * l.C + t.c] = m.mean;
            batch_invstd[(int64_t)t.group * l.C + t.c] = m.invstd;
        }
#pragma unroll
        for (int i = 0; i < ADD_GROUPS; i++) {
            float next_mean = of_group(t, m.mean, i);
            float next_var = of_group(t, m.unbiased, i);
            if (g + i < l.groups) {
                moved_mean += averages.momentum * (next_mean - moved_mean);
                moved_var += averages.momentum * (next_var - moved_var);
            }
        }
    }
    if (first) {
        running_mean[t.c] = moved_mean;
        running_var[t.c] = moved_var;
    }
}

template <typename T>
static void finish_statistics(CudaBackend *cuda, const BatchNormShape *s, const NormLayout *l,
                              const T *x, const float *partial, float *running_mean,
                              float *running_var, float *batch_mean, float *batch_invstd)
{
    double n = (double)s->rows;
    Averages averages = {1.0 / n, n / (n - 1.0), s->eps, s->momentum};
    launch(cuda, "batch norm statistics", statistics_kernel<T>, add_grid(s->C), dim3(ADD_THREADS),
           *l, averages, x, partial, running_mean, running_var, batch_mean, batch_invstd);
}

void norm_statistics(CudaBackend *cuda, const BatchNormShape *s, const void *x, float *running_mean,
                     float *running_var, float *batch_mean, float *batch_invstd)
{
    bool aligned = are_aligned({x});
#define RUN(T, V)                                                                                  \
    NormLayout l = norm_layout(cuda, s->groups, s->rows, s->C, V);                                 \
    float *partial = (float *)cuda_scratch(cuda, norm_partial_bytes(&l));                          \
    launch(cuda, "batch norm sums", sum_kernel<T, V>, norm_grid(&l), norm_block(&l), l,            \
           (const T *)x, partial);                                                                 \
    finish_statistics<T>(cuda, s, &l, (const T *)x, partial, running_mean, running_var,            \
                         batch_mean, batch_invstd)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}

void norm_statistics_of_sums(CudaBackend *cuda, const BatchNormShape *s, const NormLayout *l,
                             const float *partial, float *running_mean, float *running_var,
                             float *batch_mean, float *batch_invstd)
{
    finish_statistics<float>(cuda, s, l, NULL, partial, running_mean, running_var, batch_mean,
                             batch_invstd);
}

/* ---- the gradient ------------------------------------------------------------------------------
 */

/* With S = sum g, D = sum g (x - mean) of a group: dbeta += S, dgamma += D invstd, and
 * dx = gamma invstd (g - S/n - (x - mean) invstd^2 D/n). */
__global__ static void __launch_bounds__(ADD_THREADS, 1)
    factors_kernel(NormLayout l, const float *partial, const float *gamma, const float *invstd,
                   bool accumulate, float *factors, float *dgamma, float *dbeta)
{
    AddThread t = add_thread(l, 0);
    bool first = threadIdx.x < NORM_SIDE && t.active;
    float n = (float)l.rows;
    float total_gamma = first && accumulate ? dgamma[t.c] : 0.0f;
    float total_beta = first && accumulate ? dbeta[t.c] : 0.0f;
    for (int g = 0; g < l.groups; g += ADD_GROUPS) {
        t = add_thread(l, g);
        float inverse = t.active ? invstd[(int64_t)t.group * l.C + t.c] : 0.0f;
        float scale = t.active ? gamma[t.c] : 0.0f;
        float sum;
        float projected;
        add_chunks(l, t, partial, g, &sum, &projected);
        if (threadIdx.x >= WARP) {
            continue;
        }
        scale *= inverse;
        projected *= inverse;
        if (t.active) {
            float *factor = factors + (int64_t)t.group * 3 * l.C + t.c;
            factor[0] = scale;
            factor[l.C] = scale * (sum / n);
            factor[2 * (int64_t)l.C] = scale * inverse * (projected / n);
        }
#pragma unroll
        for (int i = 0; i < ADD_GROUPS; i++) {
            float next_beta = of_group(t, sum, i);
            float next_gamma = of_group(t, projected, i);
            if (g + i < l.groups) {
                total_beta += next_beta;
                total_gamma += next_gamma;
            }
        }
    }
    if (first) {
        dgamma[t.c] = total_gamma;
        dbeta[t.c] = total_beta;
    }
}

void norm_gradient_factors(CudaBackend *cuda, const NormLayout *l, const float *partial,
                           const float *gamma, const float *batch_invstd, bool accumulate,
                           float *factors, float *dgamma, float *dbeta)
{
    launch(cuda, "batch norm gradient factors", factors_kernel, add_grid(l->C), dim3(ADD_THREADS),
           *l, partial, gamma, batch_invstd, accumulate, factors, dgamma, dbeta);
}
