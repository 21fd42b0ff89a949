/* The stem's batch norm + ReLU + 3x3/2 max pooling in one (ops.h): the normalised tensor, the
 * largest of the whole network, is never stored.
 *
 * Forward: statistics read x once; pooling reads x and writes y and the place of each maximum. A
 * thread walks down a strip of pooled rows for one vector of channels; the maximum over the lowest
 * row of a window is kept for the next window, which begins with it.
 * Backward: a gradient reaches x only where a maximum was taken, so the sums run over the pooled
 * positions and fetch x there; dx then gathers, for each position, from the up to four windows that
 * contain it. Sums as in norm.cuh. */
#include "kernels/cuda/norm.cuh"

#define STRIP 8 /* pooled rows that a thread walks through */

typedef struct {
    int pictures; /* of all groups */
    int N;        /* pictures of a group */
    int H, W, P, Q, C;
    int vectors; /* of the channels */
} PoolShape;

static PoolShape pool_shape(const StemShape *s, int V)
{
    PoolShape p = {};
    p.pictures = s->groups * s->N;
    p.N = s->N;
    p.H = s->H;
    p.W = s->W;
    p.P = conv_out(s->H, 3, 2, 1);
    p.Q = conv_out(s->W, 3, 2, 1);
    p.C = s->C;
    p.vectors = s->C / V;
    return p;
}

static BatchNormShape stem_batchnorm(const StemShape *s)
{
    BatchNormShape b = {};
    b.groups = s->groups;
    b.rows = (int64_t)s->N * s->H * s->W;
    b.C = s->C;
    b.eps = s->eps;
    b.momentum = s->momentum;
    b.relu = true;
    return b;
}

/* ---- forward -----------------------------------------------------------------------------------
 */

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
#pragma unroll
    for (int i = 0; i < V; i++) {
        float inverse = n.per_group ? ch.scale[i] : 1.0f / sqrtf(ch.scale[i] + n.eps);
        ch.scale[i] = n.gamma[c + i] * inverse;
    }
    return ch;
}

/* The three positions of a row around column 2q; those outside of the picture are left out. */
template <typename T, int V> struct PoolRow {
    Packed<T, V> x[3];
    bool inside[3];
};

template <typename T, int V>
__device__ static inline PoolRow<T, V> fetch_row(const PoolShape &s, const T *picture, int h, int q,
                                                 int c)
{
    PoolRow<T, V> row;
#pragma unroll
    for (int k = 0; k < 3; k++) {
        int w = 2 * q - 1 + k;
        row.inside[k] = h >= 0 && h < s.H && w >= 0 && w < s.W;
        if (row.inside[k]) {
            row.x[k] = fetch<T, V>(picture + ((int64_t)h * s.W + w) * s.C + c);
        }
    }
    return row;
}

/* Takes a row into the maxima, as window positions `first` to first + 2. A value replaces an equal
 * one only if that stands later; a NaN stays. */
template <typename T, int V>
__device__ static inline void take_row(const PoolRow<T, V> &row, const PoolChannels<V> &ch,
                                       int first, Maxima<V> &m)
{
#pragma unroll
    for (int k = 0; k < 3; k++) {
        if (row.inside[k]) {
            float x[V];
            widen<T, V>(row.x[k], x);
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
__global__ static void __launch_bounds__(NORM_THREADS)
    pool_kernel(PoolShape s, PoolNorm n, const T *x, T *y, uint8_t *argmax)
{
    int64_t thread = (int64_t)blockIdx.x * NORM_THREADS + threadIdx.x;
    int strips = (int)divide_up(s.P, STRIP);
    int c = (int)(thread % s.vectors) * V;
    int64_t place = thread / s.vectors;
    int q = (int)(place % s.Q);
    place /= s.Q;
    int strip = (int)(place % strips);
    int64_t picture = place / strips;
    if (picture >= s.pictures) {
        return;
    }
    PoolChannels<V> ch = pool_channels<V>(n, (int)(picture / s.N), s.C, c);
    const T *from = x + picture * s.H * s.W * s.C;
    int first = strip * STRIP;
    int end = first + STRIP < s.P ? first + STRIP : s.P;
    Maxima<V> above = no_maxima<V>();
    take_row<T, V>(fetch_row<T, V>(s, from, 2 * first - 1, q, c), ch, 0, above);
    for (int p = first; p < end; p++) {
        Maxima<V> m = above;
        Maxima<V> below = no_maxima<V>();
        PoolRow<T, V> middle_row = fetch_row<T, V>(s, from, 2 * p, q, c);
        PoolRow<T, V> lower_row = fetch_row<T, V>(s, from, 2 * p + 1, q, c);
        take_row<T, V>(middle_row, ch, 3, m);
        take_row<T, V>(lower_row, ch, 0, below);
        take_maxima<V>(below, 6, m);
        int64_t at = ((picture * s.P + p) * s.Q + q) * s.C + c;
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

static void pool(CudaBackend *cuda, const StemShape *s, const PoolNorm *n, const void *x, void *y,
                 uint8_t *argmax)
{
    bool aligned =
        is_aligned<float>(x, 4) && is_aligned<float>(y, 4) && is_aligned<uint8_t>(argmax, 8);
#define RUN(T, V)                                                                                  \
    PoolShape p = pool_shape(s, V);                                                                \
    int64_t threads = (int64_t)p.pictures * divide_up(p.P, STRIP) * p.Q * p.vectors;               \
    launch(cuda, "stem pooling", pool_kernel<T, V>,                                                \
           dim3((unsigned)divide_up(threads, NORM_THREADS)), dim3(NORM_THREADS), p, *n,            \
           (const T *)x, (T *)y, argmax)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}

void cuda_stem_train(Backend *be, const StemShape *s, const void *x, const float *gamma,
                     const float *beta, float *running_mean, float *running_var, float *batch_mean,
                     float *batch_invstd, void *y, uint8_t *argmax)
{
    CudaBackend *cuda = cuda_backend(be);
    BatchNormShape batchnorm = stem_batchnorm(s);
    PoolNorm n = {batch_mean, batch_invstd, gamma, beta, 0.0f, true};
    norm_statistics(cuda, &batchnorm, x, running_mean, running_var, batch_mean, batch_invstd);
    pool(cuda, s, &n, x, y, argmax);
}

void cuda_stem_eval(Backend *be, const StemShape *s, const void *x, const float *gamma,
                    const float *beta, const float *running_mean, const float *running_var, void *y)
{
    PoolNorm n = {running_mean, running_var, gamma, beta, s->eps, false};
    pool(cuda_backend(be), s, &n, x, y, NULL);
}

/* ---- backward ----------------------------------------------------------------------------------
 */

/* The operands of the backward pass; dy_add may be NULL. */
template <typename T> struct StemGradients {
    const T *x, *dy, *dy_add;
    const uint8_t *argmax;
    const float *mean;
    T *dx;
};

/* The gradient of one vector of y, and where its maxima were. */
template <typename T, int V>
__device__ static inline void pooled_gradient(const StemGradients<T> &p, int64_t at, float g[V],
                                              Packed<uint8_t, V> &places)
{
    places = *reinterpret_cast<const Packed<uint8_t, V> *>(p.argmax + at);
    load<T, V>(p.dy + at, g);
    if (p.dy_add != NULL) {
        float more[V];
        load<T, V>(p.dy_add + at, more);
#pragma unroll
        for (int i = 0; i < V; i++) {
            g[i] += more[i];
        }
    }
}

/* Row r of the thread's group, counted from the first group; run_stem_bprop checks that it fits. */
__device__ static inline int position_of(const NormLayout &l, const NormThread &t, int64_t r)
{
    return t.group * (int)l.rows + (int)r;
}

/* Sums of g and g (x - mean) over the pooled positions of a group, which are the layout's rows. */
template <typename T, int V>
__global__ static void __launch_bounds__(NORM_THREADS)
    stem_sums_kernel(NormLayout l, PoolShape s, StemGradients<T> p, float *partial)
{
    NormThread t = norm_thread_backwards(l);
    float sum[V] = {};
    float projected[V] = {};
    if (t.active) {
        float mean[V];
        norm_channels<V>(p.mean + (int64_t)t.group * l.C + t.c, mean);
        for (int64_t r = t.first; r < t.end; r += l.down) {
            int row = position_of(l, t, r);
            int line = row / s.Q;
            int q = row - line * s.Q;
            int picture_index = line / s.P;
            int top = 2 * (line - picture_index * s.P) - 1;
            const T *picture = p.x + (int64_t)picture_index * s.H * s.W * s.C + t.c;
            float g[V];
            Packed<uint8_t, V> places;
            pooled_gradient<T, V>(p, (int64_t)row * l.C + t.c, g, places);
#pragma unroll
            for (int i = 0; i < V; i++) {
                int place = places.element[i];
                if (place != STEM_NO_GRADIENT) {
                    int h = top + place / 3;
                    int w = 2 * q - 1 + place % 3;
                    float x = to_float(picture[((int64_t)h * s.W + w) * s.C + i]);
                    sum[i] += g[i];
                    projected[i] = fmaf(g[i], x - mean[i], projected[i]);
                }
            }
        }
    }
    norm_store_sums<V>(l, t, sum, projected, partial);
}

/* The gradient that reaches position (h, w) of a picture, from every window that contains it. */
template <typename T, int V>
__device__ static inline void gather_gradient(const PoolShape &s, const StemGradients<T> &p,
                                              int picture, int h, int w, int c, float g[V])
{
#pragma unroll
    for (int i = 0; i < V; i++) {
        g[i] = 0.0f;
    }
    for (int row = h / 2; row <= (h + 1) / 2 && row < s.P; row++) {
        for (int q = w / 2; q <= (w + 1) / 2 && q < s.Q; q++) {
            int place = (h - (2 * row - 1)) * 3 + (w - (2 * q - 1));
            float more[V];
            Packed<uint8_t, V> places;
            int64_t at = (int64_t)((picture * s.P + row) * s.Q + q) * s.C + c;
            pooled_gradient<T, V>(p, at, more, places);
#pragma unroll
            for (int i = 0; i < V; i++) {
                g[i] += places.element[i] == place ? more[i] : 0.0f;
            }
        }
    }
}

template <typename T, int V>
__global__ static void __launch_bounds__(NORM_THREADS, NORM_RESIDENT)
    stem_dx_kernel(NormLayout l, PoolShape s, StemGradients<T> p, const float *factors)
{
    NormThread t = norm_thread(l);
    if (!t.active) {
        return;
    }
    float mean[V];
    float scale[V];
    float shift[V];
    float slope[V];
    int64_t own = (int64_t)t.group * l.C;
    const float *factor = factors + 3 * own + t.c;
    norm_channels<V>(p.mean + own + t.c, mean);
    norm_channels<V>(factor, scale);
    norm_channels<V>(factor + l.C, shift);
    norm_channels<V>(factor + 2 * (int64_t)l.C, slope);
    for (int64_t r = t.first; r < t.end; r += l.down) {
        int row = position_of(l, t, r);
        int line = row / s.W;
        int w = row - line * s.W;
        int picture = line / s.H;
        int64_t at = (int64_t)row * l.C + t.c;
        Packed<T, V> packed = fetch<T, V>(p.x + at);
        float x[V];
        float g[V];
        gather_gradient<T, V>(s, p, picture, line - picture * s.H, w, t.c, g);
        widen<T, V>(packed, x);
#pragma unroll
        for (int i = 0; i < V; i++) {
            g[i] = fmaf(scale[i], g[i], -shift[i]) - slope[i] * (x[i] - mean[i]);
        }
        store<T, V>(p.dx + at, g);
    }
}

/* The sums run over pooled positions, but their means are over all positions. */
template <typename T, int V>
static void run_stem_bprop(CudaBackend *cuda, const StemShape *s, const StemGradients<T> &p,
                           const float *gamma, const float *batch_invstd, bool accumulate,
                           float *dgamma, float *dbeta)
{
    PoolShape shape = pool_shape(s, V);
    NormLayout pooled = norm_layout(s->groups, (int64_t)s->N * shape.P * shape.Q, s->C, V);
    NormLayout all = norm_layout(s->groups, (int64_t)s->N * s->H * s->W, s->C, V);
    if (all.groups * all.rows > INT32_MAX) {
        fatal("a stem of %lld positions is too large for a GPU",
              (long long)(all.groups * all.rows));
    }
    size_t partial_bytes = norm_partial_bytes(&pooled);
    char *scratch = (char *)cuda_scratch(cuda, partial_bytes + norm_factor_bytes(s->groups, s->C));
    float *partial = (float *)scratch;
    float *factors = (float *)(scratch + partial_bytes);
    launch(cuda, "stem gradient sums", stem_sums_kernel<T, V>, norm_grid(&pooled),
           norm_block(&pooled), pooled, shape, p, partial);
    NormLayout sums = pooled;
    sums.rows = all.rows;
    norm_gradient_factors(cuda, &sums, partial, gamma, batch_invstd, accumulate, factors, dgamma,
                          dbeta);
    launch(cuda, "stem dx", stem_dx_kernel<T, V>, norm_grid(&all), norm_block(&all), all, shape, p,
           (const float *)factors);
}

void cuda_stem_bprop(Backend *be, const StemShape *s, const void *x, const uint8_t *argmax,
                     const void *dy, const void *dy_add, const float *gamma,
                     const float *batch_mean, const float *batch_invstd, bool accumulate, void *dx,
                     float *dgamma, float *dbeta)
{
    CudaBackend *cuda = cuda_backend(be);
    bool aligned = is_aligned<float>(x, 4) && is_aligned<float>(dy, 4) &&
                   is_aligned<float>(dy_add, 4) && is_aligned<float>(dx, 4) &&
                   is_aligned<uint8_t>(argmax, 8);
#define RUN(T, V)                                                                                  \
    StemGradients<T> p = {(const T *)x, (const T *)dy, (const T *)dy_add,                          \
                          argmax,       batch_mean,    (T *)dx};                                   \
    run_stem_bprop<T, V>(cuda, s, p, gamma, batch_invstd, accumulate, dgamma, dbeta)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}
