/* Backward pass of the stem's batch norm + ReLU + 3x3/2 max pooling in one (ops.h).
 *
 * A gradient reaches x only where a maximum was taken, so the sums run over the pooled positions
 * and fetch x there. dx then gathers: a thread takes two neighbouring positions of x and the up to
 * four windows that they lie in. Sums as in norm.cuh. */
#include "kernels/cuda/stem.cuh"

/* The operands of the backward pass; dy_add may be NULL. */
template <typename T> struct StemGradients {
    const T *x, *dy, *dy_add;
    const uint8_t *argmax;
    const float *mean;
    T *dx;
};

/* The gradient of one vector of y, and where its maxima were. */
template <typename T, int V> struct PooledRow {
    Loaded<T, V> dy, dy_add;
    Loaded<uint8_t, V> places;
};

template <typename T, int V>
__device__ static inline PooledRow<T, V> read_pooled(const StemGradients<T> &p, int64_t at)
{
    PooledRow<T, V> row;
    row.places = load_words<uint8_t, V>(p.argmax + at);
    row.dy = load_words<T, V>(p.dy + at);
    if (p.dy_add != NULL) {
        row.dy_add = load_words<T, V>(p.dy_add + at);
    }
    return row;
}

template <typename T, int V>
__device__ static inline void pooled_gradient(const StemGradients<T> &p, const PooledRow<T, V> &row,
                                              float g[V])
{
    unpack<T, V>(row.dy, g);
    if (p.dy_add != NULL) {
        float more[V];
        unpack<T, V>(row.dy_add, more);
#pragma unroll
        for (int i = 0; i < V; i++) {
            g[i] += more[i];
        }
    }
}

/* The place of the i-th channel's maximum. */
template <int V> __device__ static inline int place_of(const Loaded<uint8_t, V> &places, int i)
{
    return (int)(places.word[i / 4] >> 8 * (i % 4) & 255);
}

/* x at the maxima of pooled position `row`. All loads are under way before one is waited for: where
 * there was no maximum, the first element of x is loaded in its place, and not used. */
template <typename T, int V>
__device__ static inline void gather_maxima(const PoolShape &s, const T *x, int row, int c,
                                            const Loaded<uint8_t, V> &places, T at_maximum[V])
{
    int line = divide(&row, s.by_Q);
    int picture = divide(&line, s.by_P);
    int corner = (picture * s.H + 2 * line - 1) * s.W + 2 * row - 1;
#pragma unroll
    for (int i = 0; i < V; i++) {
        int place = place_of<V>(places, i);
        int down = place * 11 >> 5; /* place / 3 for 0..8 */
        int position = corner + place + down * (s.W - 3);
        int64_t at = (int64_t)position * s.C + c + i;
        at_maximum[i] = x[place == STEM_NO_GRADIENT ? 0 : at];
    }
}

/* Sums of g and g (x - mean) over the pooled positions of a group, which are the layout's rows. */
template <typename T, int V>
__global__ static void NORM_BOUNDS stem_sums_kernel(NormLayout l, PoolShape s, StemGradients<T> p,
                                                    float *partial)
{
    NormThread t = norm_thread(l, NORM_FROM_END);
    float sum[V] = {};
    float projected[V] = {};
    if (t.active) {
        float mean[V];
        norm_channels<V>(p.mean + (int64_t)t.group * l.C + t.c, mean);
        int row = t.group * (int)l.rows + (int)t.first;
        auto read = [&](int64_t at) { return read_pooled<T, V>(p, at); };
        auto add = [&](int64_t, const PooledRow<T, V> &pooled) {
            T x[V];
            gather_maxima<T, V>(s, p.x, row, t.c, pooled.places, x);
            row += l.down;
            float g[V];
            pooled_gradient<T, V>(p, pooled, g);
#pragma unroll
            for (int i = 0; i < V; i++) {
                if (place_of<V>(pooled.places, i) != STEM_NO_GRADIENT) {
                    sum[i] += g[i];
                    projected[i] = fmaf(g[i], to_float(x[i]) - mean[i], projected[i]);
                }
            }
        };
        norm_rows<2>(l, t, read, add);
    }
    norm_store_sums<V>(l, t, sum, projected, partial);
}

/* Two neighbouring positions of x, in row h from column 2q on, and the up to four windows that one
 * of them lies in: those of the pooled rows h/2 and, where h is odd, h/2 + 1, and of the pooled
 * columns q and q + 1. So a window is decoded once for both. */
template <typename T, int V> struct StemPair {
    Loaded<T, V> x[2];
    PooledRow<T, V> window[4];
    int position, h, q;
};

/* The second position may be beyond the row's end. */
__device__ static inline bool has_second(const PoolShape &s, int q)
{
    return 2 * q + 1 < s.W;
}

/* Whether window k is there: row by row, 0 to 3. */
__device__ static inline bool has_window(const PoolShape &s, int h, int q, int k)
{
    return (k < 2 || (h % 2 != 0 && h / 2 + 1 < s.P)) && (k % 2 == 0 || q + 1 < s.Q);
}

/* The pair `row` of all pairs. */
template <typename T, int V>
__device__ static inline StemPair<T, V> read_pair(const PoolShape &s, const StemGradients<T> &p,
                                                  int row, int c)
{
    StemPair<T, V> pair;
    pair.q = row;
    pair.h = divide(&pair.q, s.by_Q);
    pair.position = pair.h * s.W + 2 * pair.q;
    int picture = divide(&pair.h, s.by_H);
    const T *x = p.x + (int64_t)pair.position * s.C + c;
    pair.x[0] = load_words<T, V>(x);
    if (has_second(s, pair.q)) {
        pair.x[1] = load_words<T, V>(x + s.C);
    }
    int first = (picture * s.P + pair.h / 2) * s.Q + pair.q;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (has_window(s, pair.h, pair.q, k)) {
            int64_t at = (int64_t)(first + k / 2 * s.Q + k % 2) * s.C + c;
            pair.window[k] = read_pooled<T, V>(p, at);
        }
    }
    return pair;
}

/* The gradient that reaches both positions from their windows. */
template <typename T, int V>
__device__ static inline void gather_gradients(const PoolShape &s, const StemGradients<T> &p,
                                               const StemPair<T, V> &pair, float g[2][V])
{
#pragma unroll
    for (int i = 0; i < V; i++) {
        g[0][i] = 0.0f;
        g[1][i] = 0.0f;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (has_window(s, pair.h, pair.q, k)) {
            float more[V];
            pooled_gradient<T, V>(p, pair.window[k], more);
            /* where the window's second column, 2(q + k % 2), is among its places */
            int middle = (pair.h % 2 + 1 - k / 2 * 2) * 3 + 1;
#pragma unroll
            for (int i = 0; i < V; i++) {
                int place = place_of<V>(pair.window[k].places, i);
                if (k % 2 == 0) {
                    g[0][i] += place == middle ? more[i] : 0.0f;
                    g[1][i] += place == middle + 1 ? more[i] : 0.0f;
                } else {
                    g[1][i] += place == middle - 1 ? more[i] : 0.0f;
                }
            }
        }
    }
}

/* The layout's rows are pairs of positions. */
template <typename T, int V>
__global__ static void NORM_BOUNDS stem_dx_kernel(NormLayout l, PoolShape s, StemGradients<T> p,
                                                  const float *factors)
{
    NormThread t = norm_thread(l, NORM_FROM_START);
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
    int row = t.group * (int)l.rows + (int)t.first;
    auto read = [&](int64_t) {
        int own_row = row;
        row += l.down;
        return read_pair<T, V>(s, p, own_row, t.c);
    };
    auto write = [&](int64_t, const StemPair<T, V> &pair) {
        float g[2][V];
        gather_gradients<T, V>(s, p, pair, g);
        T *dx = p.dx + (int64_t)pair.position * s.C + t.c;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            if (j == 1 && !has_second(s, pair.q)) {
                return;
            }
            float x[V];
            unpack<T, V>(pair.x[j], x);
#pragma unroll
            for (int i = 0; i < V; i++) {
                x[i] = fmaf(scale[i], g[j][i], -shift[i]) - slope[i] * (x[i] - mean[i]);
            }
            store<T, V>(dx + j * s.C, x);
        }
    };
    norm_rows<1>(l, t, read, write);
}

/* The sums run over pooled positions, but their means are over all positions. */
template <typename T, int V>
static void run_stem_bprop(CudaBackend *cuda, const StemShape *s, const StemGradients<T> &p,
                           const float *gamma, const float *batch_invstd, bool accumulate,
                           float *dgamma, float *dbeta)
{
    PoolShape shape = pool_shape(s, V);
    NormLayout pooled = norm_layout(cuda, s->groups, (int64_t)s->N * shape.P * shape.Q, s->C, V);
    NormLayout pairs = norm_layout(cuda, s->groups, (int64_t)s->N * s->H * shape.Q, s->C, V);
    size_t partial_bytes = norm_partial_bytes(&pooled);
    char *scratch = (char *)cuda_scratch(cuda, partial_bytes + norm_factor_bytes(s->groups, s->C));
    float *partial = (float *)scratch;
    float *factors = (float *)(scratch + partial_bytes);
    launch(cuda, "stem gradient sums", stem_sums_kernel<T, V>, norm_grid(&pooled),
           norm_block(&pooled), pooled, shape, p, partial);
    NormLayout sums = pooled;
    sums.rows = (int64_t)s->N * s->H * s->W;
    norm_gradient_factors(cuda, &sums, partial, gamma, batch_invstd, accumulate, factors, dgamma,
                          dbeta);
    launch(cuda, "stem dx", stem_dx_kernel<T, V>, norm_grid(&pairs), norm_block(&pairs), pairs,
           shape, p, (const float *)factors);
}

void cuda_stem_bprop(Backend *be, const StemShape *s, const void *x, const uint8_t *argmax,
                     const void *dy, const void *dy_add, const float *gamma,
                     const float *batch_mean, const float *batch_invstd, bool accumulate, void *dx,
                     float *dgamma, float *dbeta)
{
    CudaBackend *cuda = cuda_backend(be);
    bool aligned = are_aligned({x, dy, dy_add, dx, argmax, batch_mean});
#define RUN(T, V)                                                                                  \
    StemGradients<T> p = {(const T *)x, (const T *)dy, (const T *)dy_add,                          \
                          argmax,       batch_mean,    (T *)dx};                                   \
    run_stem_bprop<T, V>(cuda, s, p, gamma, batch_invstd, accumulate, dgamma, dbeta)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}
