/* Batch norm with residual and ReLU (ops.h), statistics per group of a merged batch.
 *
 * Passes over memory, in tensors of the activation's size: forward, statistics read x, then x (and
 * the residual) is read and y written. Backward, the sums read x and dy (and dy_add), then dx reads
 * x and g and writes. Where there was a residual, its gradient g = the masked dy + dy_add is wanted
 * anyway: the first pass writes it and needs y for the mask, the second reads it. Where there was
 * none, the mask follows from x, so y is not read at all. Thread layout and sums: norm.cuh. */
#include "kernels/cuda/norm.cuh"

/* What belongs to a thread's V channels. */
template <int V> struct Channels {
    float mean[V], scale[V], beta[V]; /* scale = gamma invstd */
};

/* y before residual and ReLU. Forward and backward must agree to the bit on where it is positive.
 */
template <int V> __device__ static inline float normalised(const Channels<V> &ch, int i, float x)
{
    return fmaf(x - ch.mean[i], ch.scale[i], ch.beta[i]);
}

/* spread [groups or 1, C]: 1/std, or the variance where eps >= 0 comes with it. */
template <int V>
__device__ static inline Channels<V> read_channels(const float *mean, const float *spread,
                                                   float eps, const float *gamma, const float *beta,
                                                   int c)
{
    Channels<V> ch;
    float inverse[V];
    norm_channels<V>(mean + c, ch.mean);
    norm_channels<V>(spread + c, inverse);
    norm_channels<V>(gamma + c, ch.scale);
    norm_channels<V>(beta + c, ch.beta);
#pragma unroll
    for (int i = 0; i < V; i++) {
        inverse[i] = eps >= 0.0f ? 1.0f / sqrtf(inverse[i] + eps) : inverse[i];
        ch.scale[i] *= inverse[i];
    }
    return ch;
}

#define SPREAD_IS_INVSTD (-1.0f)

/* ---- forward -----------------------------------------------------------------------------------
 */

template <typename T, int V>
__global__ static void __launch_bounds__(NORM_THREADS)
    normalise_kernel(NormLayout l, bool relu, const T *x, const T *residual, const float *mean,
                     const float *spread, float eps, const float *gamma, const float *beta, T *y)
{
    NormThread t = norm_thread(l);
    if (!t.active) {
        return;
    }
    int64_t own = (int64_t)t.group * l.C;
    Channels<V> ch = read_channels<V>(mean + own, spread + own, eps, gamma, beta, t.c);
    int64_t base = (int64_t)t.group * l.rows * l.C + t.c;
#pragma unroll 4
    for (int64_t r = t.first; r < t.end; r += l.down) {
        int64_t at = base + r * l.C;
        float value[V];
        load<T, V>(x + at, value);
#pragma unroll
        for (int i = 0; i < V; i++) {
            value[i] = normalised<V>(ch, i, value[i]);
        }
        if (residual != NULL) {
            float more[V];
            load<T, V>(residual + at, more);
#pragma unroll
            for (int i = 0; i < V; i++) {
                value[i] += more[i];
            }
        }
#pragma unroll
        for (int i = 0; i < V; i++) {
            /* not fmaxf: a NaN must stay one, or nobody would notice it */
            value[i] = relu && value[i] < 0.0f ? 0.0f : value[i];
        }
        store<T, V>(y + at, value);
    }
}

static void normalise(CudaBackend *cuda, const BatchNormShape *s, const void *x,
                      const void *residual, const float *mean, const float *spread, float eps,
                      const float *gamma, const float *beta, void *y)
{
    bool aligned =
        is_aligned<float>(x, 4) && is_aligned<float>(residual, 4) && is_aligned<float>(y, 4);
#define RUN(T, V)                                                                                  \
    NormLayout l = norm_layout(s->groups, s->rows, s->C, V);                                       \
    launch(cuda, "batch norm", normalise_kernel<T, V>, norm_grid(&l), norm_block(&l), l, s->relu,  \
           (const T *)x, (const T *)residual, mean, spread, eps, gamma, beta, (T *)y)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}

void cuda_batchnorm_train(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                          const float *gamma, const float *beta, float *running_mean,
                          float *running_var, float *batch_mean, float *batch_invstd, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    norm_statistics(cuda, s, x, running_mean, running_var, batch_mean, batch_invstd);
    normalise(cuda, s, x, residual, batch_mean, batch_invstd, SPREAD_IS_INVSTD, gamma, beta, y);
}

void cuda_batchnorm_eval(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                         const float *gamma, const float *beta, const float *running_mean,
                         const float *running_var, void *y)
{
    BatchNormShape whole = *s;
    whole.groups = 1;
    whole.rows = s->groups * s->rows;
    normalise(cuda_backend(be), &whole, x, residual, running_mean, running_var, s->eps, gamma, beta,
              y);
}

/* ---- backward ----------------------------------------------------------------------------------
 */

/* The tensors of a backward pass; dy_add and dresidual may be NULL, and dresidual and dx may be dy
 * or dy_add: a thread reads all of a vector's operands before it writes there. */
template <typename T> struct Gradients {
    const T *x, *y, *dy, *dy_add;
    T *dresidual, *dx;
    const float *mean, *invstd, *gamma, *beta;
    bool relu;
};

/* One vector of the operands, as they are in memory. */
template <typename T, int V> struct Operands {
    Packed<T, V> x, y, dy, dy_add;
};

/* y is only needed for the mask, and only where it does not follow from x. */
template <typename T, int V>
__device__ static inline Operands<T, V> fetch_operands(const Gradients<T> &p, int64_t at)
{
    Operands<T, V> o;
    o.x = fetch<T, V>(p.x + at);
    o.dy = fetch<T, V>(p.dy + at);
    if (p.dy_add != NULL) {
        o.dy_add = fetch<T, V>(p.dy_add + at);
    }
    if (p.relu && p.dresidual != NULL) {
        o.y = fetch<T, V>(p.y + at);
    }
    return o;
}

/* g = the gradient behind the ReLU's mask at one vector; x is that vector's input. */
template <typename T, int V>
__device__ static inline void masked_gradient(const Gradients<T> &p, const Channels<V> &ch,
                                              const Operands<T, V> &o, const float x[V], float g[V])
{
    widen<T, V>(o.dy, g);
    if (p.dy_add != NULL) {
        float more[V];
        widen<T, V>(o.dy_add, more);
#pragma unroll
        for (int i = 0; i < V; i++) {
            g[i] += more[i];
        }
    }
    if (!p.relu) {
        return;
    }
    if (p.dresidual != NULL) {
        float y[V];
        widen<T, V>(o.y, y);
#pragma unroll
        for (int i = 0; i < V; i++) {
            g[i] = y[i] <= 0.0f ? 0.0f : g[i];
        }
    } else {
#pragma unroll
        for (int i = 0; i < V; i++) {
            g[i] = rounded<T>(normalised<V>(ch, i, x[i])) <= 0.0f ? 0.0f : g[i];
        }
    }
}

#define GRADIENT_ROWS 2 /* fetched at once */

/* Adds one vector to the sums of g and g (x - mean), and writes the residual's gradient. */
template <typename T, int V>
__device__ static inline void add_gradient(const Gradients<T> &p, const Channels<V> &ch, int64_t at,
                                           const Operands<T, V> &o, float sum[V],
                                           float projected[V])
{
    float x[V];
    float g[V];
    widen<T, V>(o.x, x);
    masked_gradient<T, V>(p, ch, o, x, g);
    if (p.dresidual != NULL) {
        store<T, V>(p.dresidual + at, g);
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        float used = p.dresidual != NULL ? rounded<T>(g[i]) : g[i];
        sum[i] += used;
        projected[i] = fmaf(used, x[i] - ch.mean[i], projected[i]);
    }
}

template <typename T, int V>
__global__ static void __launch_bounds__(NORM_THREADS, NORM_RESIDENT)
    gradient_sums_kernel(NormLayout l, Gradients<T> p, float *partial)
{
    NormThread t = norm_thread_backwards(l);
    float sum[V] = {};
    float projected[V] = {};
    if (t.active) {
        int64_t own = (int64_t)t.group * l.C;
        Channels<V> ch =
            read_channels<V>(p.mean + own, p.invstd + own, SPREAD_IS_INVSTD, p.gamma, p.beta, t.c);
        int64_t base = (int64_t)t.group * l.rows * l.C + t.c;
        int64_t r = t.first;
        for (; r + (GRADIENT_ROWS - 1) * l.down < t.end; r += GRADIENT_ROWS * l.down) {
            Operands<T, V> o[GRADIENT_ROWS];
#pragma unroll
            for (int i = 0; i < GRADIENT_ROWS; i++) {
                o[i] = fetch_operands<T, V>(p, base + (r + i * l.down) * l.C);
            }
#pragma unroll
            for (int i = 0; i < GRADIENT_ROWS; i++) {
                add_gradient<T, V>(p, ch, base + (r + i * l.down) * l.C, o[i], sum, projected);
            }
        }
        for (; r < t.end; r += l.down) {
            int64_t at = base + r * l.C;
            add_gradient<T, V>(p, ch, at, fetch_operands<T, V>(p, at), sum, projected);
        }
    }
    norm_store_sums<V>(l, t, sum, projected, partial);
}

/* dx = scale g - shift - slope (x - mean) */
template <int V> struct Factors {
    float scale[V], shift[V], slope[V];
};

template <int V>
__device__ static inline Factors<V> read_factors(const float *factors, int group, int C, int c)
{
    Factors<V> f;
    const float *own = factors + (int64_t)group * 3 * C + c;
    norm_channels<V>(own, f.scale);
    norm_channels<V>(own + C, f.shift);
    norm_channels<V>(own + 2 * (int64_t)C, f.slope);
    return f;
}

/* What dx follows from: where there was a residual, g is its gradient. */
template <typename T, int V>
__device__ static inline Operands<T, V> fetch_for_dx(const Gradients<T> &p, int64_t at)
{
    if (p.dresidual == NULL) {
        return fetch_operands<T, V>(p, at);
    }
    Operands<T, V> o;
    o.x = fetch<T, V>(p.x + at);
    o.dy = fetch<T, V>(p.dresidual + at);
    return o;
}

template <typename T, int V>
__device__ static inline void write_dx(const Gradients<T> &p, const Channels<V> &ch,
                                       const Factors<V> &f, int64_t at, const Operands<T, V> &o)
{
    float x[V];
    float g[V];
    widen<T, V>(o.x, x);
    if (p.dresidual != NULL) {
        widen<T, V>(o.dy, g);
    } else {
        masked_gradient<T, V>(p, ch, o, x, g);
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        g[i] = fmaf(f.scale[i], g[i], -f.shift[i]) - f.slope[i] * (x[i] - ch.mean[i]);
    }
    store<T, V>(p.dx + at, g);
}

template <typename T, int V>
__global__ static void __launch_bounds__(NORM_THREADS, NORM_RESIDENT)
    dx_kernel(NormLayout l, Gradients<T> p, const float *factors)
{
    NormThread t = norm_thread(l);
    if (!t.active) {
        return;
    }
    int64_t own = (int64_t)t.group * l.C;
    Channels<V> ch =
        read_channels<V>(p.mean + own, p.invstd + own, SPREAD_IS_INVSTD, p.gamma, p.beta, t.c);
    Factors<V> f = read_factors<V>(factors, t.group, l.C, t.c);
    int64_t base = (int64_t)t.group * l.rows * l.C + t.c;
    int64_t r = t.first;
    for (; r + (GRADIENT_ROWS - 1) * l.down < t.end; r += GRADIENT_ROWS * l.down) {
        Operands<T, V> o[GRADIENT_ROWS];
#pragma unroll
        for (int i = 0; i < GRADIENT_ROWS; i++) {
            o[i] = fetch_for_dx<T, V>(p, base + (r + i * l.down) * l.C);
        }
#pragma unroll
        for (int i = 0; i < GRADIENT_ROWS; i++) {
            write_dx<T, V>(p, ch, f, base + (r + i * l.down) * l.C, o[i]);
        }
    }
    for (; r < t.end; r += l.down) {
        int64_t at = base + r * l.C;
        write_dx<T, V>(p, ch, f, at, fetch_for_dx<T, V>(p, at));
    }
}

template <typename T, int V>
static void run_bprop(CudaBackend *cuda, const BatchNormShape *s, const Gradients<T> &p,
                      bool accumulate, float *dgamma, float *dbeta)
{
    NormLayout l = norm_layout(s->groups, s->rows, s->C, V);
    size_t partial_bytes = norm_partial_bytes(&l);
    char *scratch = (char *)cuda_scratch(cuda, partial_bytes + norm_factor_bytes(s->groups, s->C));
    float *partial = (float *)scratch;
    float *factors = (float *)(scratch + partial_bytes);
    launch(cuda, "batch norm gradient sums", gradient_sums_kernel<T, V>, norm_grid(&l),
           norm_block(&l), l, p, partial);
    norm_gradient_factors(cuda, &l, partial, p.gamma, p.invstd, accumulate, factors, dgamma, dbeta);
    launch(cuda, "batch norm dx", dx_kernel<T, V>, norm_grid(&l), norm_block(&l), l, p,
           (const float *)factors);
}

void cuda_batchnorm_bprop(Backend *be, const BatchNormShape *s, const void *x, const void *y,
                          const void *dy, const void *dy_add, const float *gamma, const float *beta,
                          const float *batch_mean, const float *batch_invstd, bool accumulate,
                          void *dx, void *dresidual, float *dgamma, float *dbeta)
{
    CudaBackend *cuda = cuda_backend(be);
    const void *tensors[] = {x, y, dy, dy_add, dx, dresidual};
    bool aligned = true;
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        aligned = aligned && is_aligned<float>(tensors[i], 4);
    }
#define RUN(T, V)                                                                                  \
    Gradients<T> p = {(const T *)x,   (const T *)y, (const T *)dy, (const T *)dy_add,              \
                      (T *)dresidual, (T *)dx,      batch_mean,    batch_invstd,                   \
                      gamma,          beta,         s->relu};                                      \
    run_bprop<T, V>(cuda, s, p, accumulate, dgamma, dbeta)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}
