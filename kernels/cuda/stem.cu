/* Forward pass of the stem's batch norm + ReLU + 3x3/2 max pooling in one (ops.h): the normalised
 * tensor, the largest of the whole network, is never stored.
 *
 * x is read, y and the place of each maximum are written. A thread
 * walks down a strip of pooled rows for one vector of channels; the maximum over the lowest row of
 * a window is kept for the next window, which begins with it. The six positions of the other two
 * rows are on their way before the first of them is waited for. */
#include "kernels/cuda/stem.cuh"

#define POOL_THREADS 256
#define STRIP        8 /* pooled rows that a thread walks through */

Divisor divisor(int by)
{
    Divisor d = {by, 0, 31};
    while ((int64_t)1 << (d.shift - 31) < by) {
        d.shift++;
    }
    d.factor = (uint32_t)((((uint64_t)1 << d.shift) + (uint64_t)by - 1) / (uint64_t)by);
    return d;
}

PoolShape pool_shape(const StemShape *s, int V)
{
    if ((int64_t)s->groups * s->N * s->H * s->W >= 1 << 30) {
        fatal("the stem over %d groups of %d pictures of %d x %d has 2^30 positions or more",
              s->groups, s->N, s->H, s->W);
    }
    PoolShape p = {};
    p.pictures = s->groups * s->N;
    p.N = s->N;
    p.H = s->H;
    p.W = s->W;
    p.P = conv_out(s->H, 3, 2, 1);
    p.Q = conv_out(s->W, 3, 2, 1);
    p.C = s->C;
    p.vectors = s->C / V;
    p.by_H = divisor(p.H);
    p.by_P = divisor(p.P);
    p.by_Q = divisor(p.Q);
    return p;
}

/* The maxima of a window so far, and where they are. */
template <int V> struct Maxima {
    float value[V];
    uint8_t at[V];
};

/* What the pooling needs besides its shape. spread: as in batchnorm.cu, 1/std per group where eps
 * is negative, else the variance for all. */
typedef struct {
    const float *mean, *spread, *gamma, *beta;
    float eps;
    bool per_group;
} PoolNorm;

template <int V> struct PoolChannels {
    float mean[V], scale[V], beta[V];
};

template <int V>
__device__ static inline PoolChannels<V> pool_channels(const PoolNorm &n, int group, int C, int c)
{
    PoolChannels<V> ch;
    int64_t own = n.per_group ? (int64_t)group * C + c : c;
    norm_channels<V>(n.mean + own, ch.mean);
    norm_channels<V>(n.spread + own, ch.scale);
    norm_channels<V>(n.beta + c, ch.beta);
    float gamma[V];
    norm_channels<V>(n.gamma + c, gamma);
#pragma unroll
    for (int i = 0; i < V; i++) {
        float inverse = n.per_group ? ch.scale[i] : 1.0f / sqrtf(ch.scale[i] + n.eps);
        ch.scale[i] = gamma[i] * inverse;
    }
    return ch;
}

/* The three positions of a window's row; `column` is the first one's, which may lie outside. */
template <typename T, int V> struct WindowRow {
    Loaded<T, V> x[3];
};

/* Whether the row has its k-th position. */
__device__ static inline bool has_position(const PoolShape &s, int h, int column, int k)
{
    return h >= 0 && h < s.H && column + k >= 0 && column + k < s.W;
}

template <typename T, int V>
__device__ static inline WindowRow<T, V> read_row(const PoolShape &s, const T *picture, int h,
                                                  int column)
{
    WindowRow<T, V> row;
#pragma unroll
    for (int k = 0; k < 3; k++) {
        if (has_position(s, h, column, k)) {
            row.x[k] = load_words<T, V>(picture + (int64_t)(h * s.W + column + k) * s.C);
        }
    }
    return row;
}

/* Takes a row into the maxima, as window positions `first` to first + 2. A value replaces an equal
 * one only if that stands later; a NaN stays. */
template <typename T, int V>
__device__ static inline void take_row(const PoolShape &s, const WindowRow<T, V> &row, int h,
                                       int column, const PoolChannels<V> &ch, int first,
                                       Maxima<V> &m)
{
#pragma unroll
    for (int k = 0; k < 3; k++) {
        if (has_position(s, h, column, k)) {
            float x[V];
            unpack<T, V>(row.x[k], x);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float value = fmaf(x[i] - ch.mean[i], ch.scale[i], ch.beta[i]);
                if (value > m.value[i] || isnan(value)) {
                    m.value[i] = value;
                    m.at[i] = (uint8_t)(first + k);
                }
            }
        }
    }
}

template <int V> __device__ static inline Maxima<V> no_maxima()
{
    Maxima<V> m;
#pragma unroll
    for (int i = 0; i < V; i++) {
        m.value[i] = 0.0f; /* the ReLU: only what is above counts */
        m.at[i] = STEM_NO_GRADIENT;
    }
    return m;
}

/* Takes another row's maxima, which stand `shift` positions later in this window. */
template <int V>
__device__ static inline void take_maxima(const Maxima<V> &row, int shift, Maxima<V> &m)
{
#pragma unroll
    for (int i = 0; i < V; i++) {
        if (row.value[i] > m.value[i] || isnan(row.value[i])) {
            m.value[i] = row.value[i];
            m.at[i] = (uint8_t)(row.at[i] + shift);
        }
    }
}

template <typename T, int V>
__global__ static void __launch_bounds__(POOL_THREADS)
    pool_kernel(PoolShape s, PoolNorm n, Divisor by_vectors, Divisor by_strips, const T *x, T *y,
                uint8_t *argmax)
{
    int c = (int)blockIdx.x * POOL_THREADS + (int)threadIdx.x;
    int q = divide(&c, by_vectors);
    int strip = divide(&q, s.by_Q);
    int picture = divide(&strip, by_strips);
    if (picture >= s.pictures) {
        return;
    }
    c *= V;
    PoolChannels<V> ch = pool_channels<V>(n, picture / s.N, s.C, c);
    const T *from = x + (int64_t)picture * s.H * s.W * s.C + c;
    int column = 2 * q - 1;
    int first = strip * STRIP;
    int end = first + STRIP < s.P ? first + STRIP : s.P;
    Maxima<V> above = no_maxima<V>();
    take_row<T, V>(s, read_row<T, V>(s, from, 2 * first - 1, column), 2 * first - 1, column, ch, 0,
                   above);
    for (int p = first; p < end; p++) {
        Maxima<V> m = above;
        Maxima<V> below = no_maxima<V>();
        WindowRow<T, V> middle = read_row<T, V>(s, from, 2 * p, column);
        WindowRow<T, V> lowest = read_row<T, V>(s, from, 2 * p + 1, column);
        take_row<T, V>(s, middle, 2 * p, column, ch, 3, m);
        take_row<T, V>(s, lowest, 2 * p + 1, column, ch, 0, below);
        take_maxima<V>(below, 6, m);
        int64_t at = ((int64_t)(picture * s.P + p) * s.Q + q) * s.C + c;
        store<T, V>(y + at, m.value);
        if (argmax != NULL) {
            Packed<uint8_t, V> places;
#pragma unroll
            for (int i = 0; i < V; i++) {
                places.element[i] = m.at[i];
            }
            *reinterpret_cast<Packed<uint8_t, V> *>(argmax + at) = places;
        }
        above = below;
    }
}

/* Threads are counted in 32 bits, too. */
static dim3 pool_grid(const PoolShape *p, int strips)
{
    int64_t threads = (int64_t)p->pictures * strips * p->Q * p->vectors;
    if (threads > INT32_MAX - POOL_THREADS) {
        fatal("pooling %d pictures of %d x %d with %d channels takes more than 2^31 threads",
              p->pictures, p->H, p->W, p->C);
    }
    return dim3((unsigned)divide_up(threads, POOL_THREADS));
}

static void pool(CudaBackend *cuda, const StemShape *s, const PoolNorm *n, const void *x, void *y,
                 uint8_t *argmax)
{
    bool aligned = are_aligned({x, y, n->mean, n->spread, n->gamma, n->beta, argmax});
#define RUN(T, V)                                                                                  \
    PoolShape p = pool_shape(s, V);                                                                \
    int strips = (int)divide_up(p.P, STRIP);                                                       \
    launch(cuda, "stem pooling", pool_kernel<T, V>, pool_grid(&p, strips), dim3(POOL_THREADS), p,  \
           *n, divisor(p.vectors), divisor(strips), (const T *)x, (T *)y, argmax)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}

void cuda_stem_train(Backend *be, const StemShape *s, const void *x, const float *gamma,
                     const float *beta, const float *batch_mean, const float *batch_invstd, void *y,
                     uint8_t *argmax)
{
    PoolNorm n = {batch_mean, batch_invstd, gamma, beta, 0.0f, true};
    pool(cuda_backend(be), s, &n, x, y, argmax);
}

void cuda_stem_eval(Backend *be, const StemShape *s, const void *x, const float *gamma,
                    const float *beta, const float *running_mean, const float *running_var, void *y)
{
    PoolNorm n = {running_mean, running_var, gamma, beta, s->eps, false};
    pool(cuda_backend(be), s, &n, x, y, NULL);
}
