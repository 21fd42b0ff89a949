/* What batch norm and the stem share: how threads are laid over a tensor [groups, rows, C], sums
 * over the rows of a group, and the statistics and gradient factors that follow from them.
 *
 * A block has 512 threads: `across` of them side by side along the channels, each on a vector of V,
 * the others further down the rows. A block works on one chunk of the rows of one group; a thread
 * keeps its channels all the way, so that what belongs to a channel stays in registers. Sums go
 * thread -> block (shared memory) -> chunks (a second kernel), in float32 and in an order that the
 * shape and the GPU's size alone decide.
 *
 * There is one block for each multiprocessor, so that none is left over for a second round, and its
 * threads share all registers: what counts is how many bytes of loads are under way. */
#ifndef RODEO_KERNELS_CUDA_NORM_CUH
#define RODEO_KERNELS_CUDA_NORM_CUH

#include "kernels/cuda/device.cuh"

#define NORM_THREADS 512
#define NORM_BOUNDS  __launch_bounds__(NORM_THREADS, 1)
#define NORM_SIDE    8 /* channels whose partial sums lie side by side */

typedef struct {
    int groups, C, V;
    int64_t rows;
    int across, down; /* threads of a block along the channels and along the rows */
    int tiles;        /* blocks along the channels */
    int chunks;       /* of the rows of a group */
    int64_t chunk_rows;
} NormLayout;

NormLayout norm_layout(const CudaBackend *cuda, int groups, int64_t rows, int C, int V);

static inline dim3 norm_grid(const NormLayout *l)
{
    return dim3((unsigned)l->chunks, (unsigned)l->tiles, (unsigned)l->groups);
}

static inline dim3 norm_block(const NormLayout *l)
{
    return dim3((unsigned)l->across, (unsigned)l->down);
}

/* Bytes of the partial sums [ceil(C / 8), groups, chunks, 2, 8] that norm_store_sums writes,
 * rounded up to 256. Channels come first because those who add up the chunks share the channels
 * among them: what each of them reads lies in one piece. */
size_t norm_partial_bytes(const NormLayout *l);

/* In which order the blocks take the tensor: they start by and by, from blockIdx 0 on. */
enum NormOrder {
    NORM_FROM_START,
    NORM_FROM_END,
};

/* A thread's place. */
struct NormThread {
    int group, c;       /* c: first of its V channels */
    int tile, chunk;    /* of its block */
    bool active;        /* c lies within C */
    int64_t first, end; /* its rows within the group: first, first + down, ... below end */
};

/* A pass that comes right behind the tensor's writer goes from the end: what was written last is
 * still in the L2 cache. It leaves the tensor's beginning there for a second pass, which goes from
 * the start. Chunks and their sums lie where they lie in either order. */
__device__ static inline NormThread norm_thread(const NormLayout &l, NormOrder order)
{
    NormThread t;
    bool back = order == NORM_FROM_END;
    t.group = (int)(back ? gridDim.z - 1 - blockIdx.z : blockIdx.z);
    t.tile = (int)(back ? gridDim.y - 1 - blockIdx.y : blockIdx.y);
    t.chunk = (int)(back ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    t.c = (t.tile * l.across + (int)threadIdx.x) * l.V;
    t.active = t.c < l.C;
    int64_t begin = t.chunk * l.chunk_rows;
    t.first = begin + threadIdx.y;
    t.end = begin + l.chunk_rows < l.rows ? begin + l.chunk_rows : l.rows;
    return t;
}

/* Walks down the thread's rows, STAGED at a time: operands = load(at) for each of them, then
 * use(at, operands) for each in order, where `at` is the vector's first element within the tensor.
 * So STAGED rows are on their way before the first of them is waited for: an H100 needs some 32 KB
 * of loads under way in each SM. Left to itself the compiler begins a row when it is done with the
 * one before, because there may be no other, or because what is stored for one row might be what
 * the next one loads (y may be x). It is not, for a thread touches only its own positions. */
template <int STAGED, typename Load, typename Use>
__device__ static inline void norm_rows(const NormLayout &l, const NormThread &t, Load load,
                                        Use use)
{
    int64_t step = (int64_t)l.down * l.C;
    int64_t at = ((int64_t)t.group * l.rows + t.first) * l.C + t.c;
    for (int64_t r = t.first; r < t.end; r += STAGED * l.down) {
        decltype(load(at)) row[STAGED];
#pragma unroll
        for (int k = 0; k < STAGED; k++) {
            if (r + k * l.down < t.end) {
                row[k] = load(at + k * step);
            }
        }
#pragma unroll
        for (int k = 0; k < STAGED; k++) {
            if (r + k * l.down < t.end) {
                use(at + k * step, row[k]);
            }
        }
        at += STAGED * step;
    }
}

/* V float32 values of the thread's channels from p [C], in vectors of up to 16 bytes. */
template <int V> __device__ static inline void norm_channels(const float *p, float x[V])
{
    constexpr int at_once = V < 4 ? V : 4;
#pragma unroll
    for (int i = 0; i < V; i += at_once) {
        load<float, at_once>(p + i, x + i);
    }
}

/* Where the first sum of a channel over a chunk lies; the second lies NORM_SIDE behind it. */
__device__ static inline int64_t norm_partial_at(const NormLayout &l, int c, int group, int chunk)
{
    int64_t piece = ((int64_t)(c / NORM_SIDE) * l.groups + group) * l.chunks + chunk;
    return piece * 2 * NORM_SIDE + c % NORM_SIDE;
}

/* Adds up the two sums of all threads of the block that share a channel and writes them to
 * partial. Every thread of the block must call it. */
template <int V>
__device__ static inline void norm_store_sums(const NormLayout &l, const NormThread &t,
                                              const float a[V], const float b[V], float *partial)
{
    __shared__ float sums[2 * V][NORM_THREADS + 1];
    int thread = (int)threadIdx.y * l.across + (int)threadIdx.x;
#pragma unroll
    for (int i = 0; i < V; i++) {
        sums[i][thread] = a[i];
        sums[V + i][thread] = b[i];
    }
    __syncthreads();
    int first_c = t.tile * l.across * V;
    for (int k = thread; k < 2 * V * l.across; k += NORM_THREADS) {
        int which = k / (V * l.across);
        int channel = k % (V * l.across);
        int c = first_c + channel;
        if (c < l.C) {
            const float *column = &sums[which * V + channel % V][channel / V];
            float sum = 0.0f;
            for (int row = 0; row < l.down; row++) {
                sum += column[row * l.across];
            }
            partial[norm_partial_at(l, c, t.group, t.chunk) + which * NORM_SIDE] = sum;
        }
    }
}

/* dx = scale g - shift - slope (x - mean), per group and channel: [groups, 3, C]. */
static inline size_t norm_factor_bytes(int groups, int C)
{
    return (size_t)groups * 3 * (size_t)C * sizeof(float);
}

/* Statistics of every group of x; running statistics move group by group. */
void norm_statistics(CudaBackend *cuda, const BatchNormShape *s, const void *x, float *running_mean,
                     float *running_var, float *batch_mean, float *batch_invstd);

/* The same from partial sums of x - running_mean and of its square in the layout's chunks, of which
 * only the number counts. */
void norm_statistics_of_sums(CudaBackend *cuda, const BatchNormShape *s, const NormLayout *l,
                             const float *partial, float *running_mean, float *running_var,
                             float *batch_mean, float *batch_invstd);

/* From partial sums of g and g (x - mean) to dgamma, dbeta and the factors of dx. */
void norm_gradient_factors(CudaBackend *cuda, const NormLayout *l, const float *partial,
                           const float *gamma, const float *batch_invstd, bool accumulate,
                           float *factors, float *dgamma, float *dbeta);

/* RUN(T, V) for the backend's element type and a vector length: the longest that fits C and the
 * tensors' alignment. aligned: the tensors and what belongs to the channels start on 16-byte
 * boundaries. */
template <typename T> static inline int norm_vector(int C, bool aligned)
{
    int V = aligned ? vector_length<T>(C) : 1;
    return V == 2 ? 1 : V;
}

#define WITH_TYPE_AND_VECTOR(cuda_type, C, aligned, RUN)                                           \
    do {                                                                                           \
        if ((cuda_type) == CUDA_F32) {                                                             \
            if (norm_vector<float>(C, aligned) == 4) {                                             \
                RUN(float, 4);                                                                     \
            } else {                                                                               \
                RUN(float, 1);                                                                     \
            }                                                                                      \
        } else if ((cuda_type) == CUDA_F16) {                                                      \
            WITH_HALF_VECTOR(__half, C, aligned, RUN);                                             \
        } else {                                                                                   \
            WITH_HALF_VECTOR(__nv_bfloat16, C, aligned, RUN);                                      \
        }                                                                                          \
    } while (0)

#define WITH_HALF_VECTOR(T, C, aligned, RUN)                                                       \
    do {                                                                                           \
        int vector_ = norm_vector<T>(C, aligned);                                                  \
        if (vector_ == 8) {                                                                        \
            RUN(T, 8);                                                                             \
        } else if (vector_ == 4) {                                                                 \
            RUN(T, 4);                                                                             \
        } else {                                                                                   \
            RUN(T, 1);                                                                             \
        }                                                                                          \
    } while (0)

#endif
