/* Batch norm with residual and ReLU (ops.h), statistics per group of a merged batch.
 *
 * Passes over memory, in tensors of the activation's size: forward, statistics read x, then x (and
 * the residual) is read and y written. Backward, the sums read x and dy (and dy_add), then dx reads
 * x and g and writes. y is not read: where there was a residual, the sums read y's mask, a bit an
 * element, which the forward pass has written; where there was none, the mask follows from x. The
 * residual's gradient g = the masked dy + dy_add is wanted anyway: the sums write it, and dx reads
 * it in place of dy and dy_add. Thread layout and sums: norm.cuh. */
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

/* ---- the mask ----------------------------------------------------------------------------------
 */

/* Where the ReLU passed (ops.h). 1 << shift channels share a byte, a multiple of V: with V = 8 a
 * thread has a byte for itself. bytes NULL: no mask. */
template <typename Byte> struct Mask {
    Byte *bytes;
    int shift;
};

template <typename Byte> static Mask<Byte> mask_of(Byte *bytes, int C)
{
    int channels = batchnorm_mask_channels(C);
    return {bytes, channels == 8 ? 3 : channels == 4 ? 2 : 0};
}

template <int V, typename Byte> __device__ static inline int mask_shift(const Mask<Byte> &mask)
{
    return V == 8 ? 3 : mask.shift;
}

/* The byte of the vector that begins at element `at`, as it is. */
template <int V>
__device__ static inline uint8_t load_mask(const Mask<const uint8_t> &mask, int64_t at)
{
    return mask.bytes[at >> mask_shift<V>(mask)];
}

/* The vector's V bits of its byte. */
template <int V>
__device__ static inline unsigned mask_bits(const Mask<const uint8_t> &mask, int64_t at,
                                            unsigned byte)
{
    return byte >> (at & ((1 << mask_shift<V>(mask)) - 1));
}

/* Writes the vector's bits. Lanes whose vectors share a byte have the same row and come together:
 * each gathers the bits of all, and the first one writes them. */
template <int V>
__device__ static inline void store_mask(const Mask<uint8_t> &mask, int64_t at, unsigned bits)
{
    if (V == 8) {
        mask.bytes[at / 8] = (uint8_t)bits;
        return;
    }
    int lanes = (1 << mask.shift) / V;
    int lane = (int)(threadIdx.y * blockDim.x + threadIdx.x) % WARP;
    int place = lane & (lanes - 1);
    unsigned together = ((1u << lanes) - 1) << (lane - place);
    unsigned byte = 0;
#pragma unroll
    for (int k = 0; k < 8 / V; k++) {
        if (k < lanes) {
            byte |= __shfl_sync(together, bits, k, lanes) << (k * V);
        }
    }
    if (place == 0) {
        mask.bytes[at >> mask.shift] = (uint8_t)byte;
    }
}

/* ---- forward -----------------------------------------------------------------------------------
 */

template <typename T, int V> struct NormaliseRow {
    Loaded<T, V> x, residual;
};

template <typename T, int V>
__global__ static void NORM_BOUNDS normalise_kernel(NormLayout l, bool relu, const T *x,
                                                    const T *residual, const float *mean,
                                                    const float *spread, float eps,
                                                    const float *gamma, const float *beta, T *y,
                                                    Mask<uint8_t> mask)
{
    NormThread t = norm_thread(l, NORM_FROM_START);
    if (!t.active) {
        return;
    }
    int64_t own = (int64_t)t.group * l.C;
    Channels<V> ch = read_channels<V>(mean + own, spread + own, eps, gamma, beta, t.c);
    auto read = [&](int64_t at) {
        NormaliseRow<T, V> row;
        row.x = load_words<T, V>(x + at);
        if (residual != NULL) {
            row.residual = load_words<T, V>(residual + at);
        }
        return row;
    };
    auto write = [&](int64_t at, const NormaliseRow<T, V> &row) {
        float value[V];
        unpack<T, V>(row.x, value);
#pragma unroll
        for (int i = 0; i < V; i++) {
            value[i] = normalised<V>(ch, i, value[i]);
        }
        if (residual != NULL) {
            float more[V];
            unpack<T, V>(row.residual, more);
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
        Packed<T, V> stored = pack<T, V>(value);
        *reinterpret_cast<Packed<T, V> *>(y + at) = stored;
        if (mask.bytes != NULL) {
            unsigned bits = 0;
#pragma unroll
            for (int i = 0; i < V; i++) {
                bits |= to_float(stored.element[i]) <= 0.0f ? 0 : 1u << i;
            }
            store_mask<V>(mask, at, bits);
        }
    };
    norm_rows<4>(l, t, read, write);
}

static void normalise(CudaBackend *cuda, const BatchNormShape *s, const void *x,
                      const void *residual, const float *mean, const float *spread, float eps,
                      const float *gamma, const float *beta, void *y, uint8_t *mask)
{
    bool aligned = are_aligned({x, residual, y, mean, spread, gamma, beta});
#define RUN(T, V)                                                                                  \
    NormLayout l = norm_layout(cuda, s->groups, s->rows, s->C, V);                                 \
    launch(cuda, "batch norm", normalise_kernel<T, V>, norm_grid(&l), norm_block(&l), l, s->relu,  \
           (const T *)x, (const T *)residual, mean, spread, eps, gamma, beta, (T *)y,              \
           mask_of(mask, s->C))
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}

void cuda_batchnorm_train(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                          const float *gamma, const float *beta, float *running_mean,
                          float *running_var, float *batch_mean, float *batch_invstd, void *y,
                          uint8_t *mask)
{
    CudaBackend *cuda = cuda_backend(be);
    norm_statistics(cuda, s, x, running_mean, running_var, batch_mean, batch_invstd);
    normalise(cuda, s, x, residual, batch_mean, batch_invstd, SPREAD_IS_INVSTD, gamma, beta, y,
              mask);
}

void cuda_batchnorm_eval(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                         const float *gamma, const float *beta, const float *running_mean,
                         const float *running_var, void *y)
{
    BatchNormShape whole = *s;
    whole.groups = 1;
    whole.rows = s->groups * s->rows;
    normalise(cuda_backend(be), &whole, x, residual, running_mean, running_var, s->eps, gamma, beta,
              y, NULL);
}

/* ---- backward ----------------------------------------------------------------------------------
 */

/* The tensors of a backward pass; dy_add and dresidual may be NULL, and dresidual and dx may be dy
 * or dy_add: a thread reads all of a vector's operands before it writes there. */
template <typename T> struct Gradients {
    const T *x, *dy, *dy_add;
    T *dresidual, *dx;
    Mask<const uint8_t> mask;
    const float *mean, *invstd, *gamma, *beta;
    bool relu;
};

/* What is read for one vector; RESIDUAL: the kernel's batch norm had one. */
template <typename T, int V> struct GradientRow {
    Loaded<T, V> x, dy, dy_add;
    uint8_t mask = 0;
};

/* Everything that the mask and the gradient behind it need. */
template <typename T, int V, bool RESIDUAL>
__device__ static inline GradientRow<T, V> read_gradient(const Gradients<T> &p, int64_t at)
{
    GradientRow<T, V> row;
    row.x = load_words<T, V>(p.x + at);
    row.dy = load_words<T, V>(p.dy + at);
    if (p.dy_add != NULL) {
        row.dy_add = load_words<T, V>(p.dy_add + at);
    }
    if (RESIDUAL && p.relu) {
        row.mask = load_mask<V>(p.mask, at);
    }
    return row;
}

/* g = the gradient behind the ReLU's mask; x is the input of the vector at element `at`. */
template <typename T, int V, bool RESIDUAL>
__device__ static inline void masked_gradient(const Gradients<T> &p, const Channels<V> &ch,
                                              int64_t at, const GradientRow<T, V> &row,
                                              const float x[V], float g[V])
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
    if (!p.relu) {
        return;
    }
    unsigned bits = RESIDUAL ? mask_bits<V>(p.mask, at, row.mask) : 0;
#pragma unroll
    for (int i = 0; i < V; i++) {
        bool passed = RESIDUAL ? bits >> i & 1 : !(rounded<T>(normalised<V>(ch, i, x[i])) <= 0.0f);
        g[i] = passed ? g[i] : 0.0f;
    }
}

/* Sums of g and g (x - mean); writes the residual's gradient. */
template <typename T, int V, bool RESIDUAL>
__global__ static void NORM_BOUNDS gradient_sums_kernel(NormLayout l, Gradients<T> p,
                                                        float *partial)
{
    NormThread t = norm_thread(l, NORM_FROM_END);
    float sum[V] = {};
    float projected[V] = {};
    if (t.active) {
        int64_t own = (int64_t)t.group * l.C;
        Channels<V> ch =
            read_channels<V>(p.mean + own, p.invstd + own, SPREAD_IS_INVSTD, p.gamma, p.beta, t.c);
        auto read = [&](int64_t at) { return read_gradient<T, V, RESIDUAL>(p, at); };
        auto add = [&](int64_t at, const GradientRow<T, V> &row) {
            float x[V];
            float g[V];
            unpack<T, V>(row.x, x);
            masked_gradient<T, V, RESIDUAL>(p, ch, at, row, x, g);
            if (RESIDUAL) {
                store<T, V>(p.dresidual + at, g);
            }
#pragma unroll
            for (int i = 0; i < V; i++) {
                float used = RESIDUAL ? rounded<T>(g[i]) : g[i];
                sum[i] += used;
                projected[i] = fmaf(used, x[i] - ch.mean[i], projected[i]);
            }
        };
        norm_rows<4>(l, t, read, add);
    }
    norm_store_sums<V>(l, t, sum, projected, partial);
}

template <typename T, int V, bool RESIDUAL>
__global__ static void NORM_BOUNDS dx_kernel(NormLayout l, Gradients<T> p, const float *factors)
{
    NormThread t = norm_thread(l, NORM_FROM_START);
    if (!t.active) {
        return;
    }
    int64_t own = (int64_t)t.group * l.C;
    Channels<V> ch =
        read_channels<V>(p.mean + own, p.invstd + own, SPREAD_IS_INVSTD, p.gamma, p.beta, t.c);
    float shift[V];
    float slope[V];
    const float *factor = factors + 3 * own + t.c; /* the first of the three is ch.scale */
    norm_channels<V>(factor + l.C, shift);
    norm_channels<V>(factor + 2 * (int64_t)l.C, slope);
    auto read = [&](int64_t at) {
        if (!RESIDUAL) {
            return read_gradient<T, V, RESIDUAL>(p, at);
        }
        GradientRow<T, V> row;
        row.x = load_words<T, V>(p.x + at);
        row.dy = load_words<T, V>(p.dresidual + at); /* masked and added up already */
        return row;
    };
    auto write = [&](int64_t at, const GradientRow<T, V> &row) {
        float x[V];
        float g[V];
        unpack<T, V>(row.x, x);
        if (RESIDUAL) {
            unpack<T, V>(row.dy, g);
        } else {
            masked_gradient<T, V, RESIDUAL>(p, ch, at, row, x, g);
        }
#pragma unroll
        for (int i = 0; i < V; i++) {
            g[i] = fmaf(ch.scale[i], g[i], -shift[i]) - slope[i] * (x[i] - ch.mean[i]);
        }
        store<T, V>(p.dx + at, g);
    };
    norm_rows<4>(l, t, read, write);
}

template <typename T, int V, bool RESIDUAL>
static void run_bprop(CudaBackend *cuda, const BatchNormShape *s, const Gradients<T> &p,
                      bool accumulate, float *dgamma, float *dbeta)
{
    NormLayout l = norm_layout(cuda, s->groups, s->rows, s->C, V);
    size_t partial_bytes = norm_partial_bytes(&l);
    char *scratch = (char *)cuda_scratch(cuda, partial_bytes + norm_factor_bytes(s->groups, s->C));
    float *partial = (float *)scratch;
    float *factors = (float *)(scratch + partial_bytes);
    launch(cuda, "batch norm gradient sums", gradient_sums_kernel<T, V, RESIDUAL>, norm_grid(&l),
           norm_block(&l), l, p, partial);
    norm_gradient_factors(cuda, &l, partial, p.gamma, p.invstd, accumulate, factors, dgamma, dbeta);
    launch(cuda, "batch norm dx", dx_kernel<T, V, RESIDUAL>, norm_grid(&l), norm_block(&l), l, p,
           (const float *)factors);
}

void cuda_batchnorm_bprop(Backend *be, const BatchNormShape *s, const void *x, const uint8_t *mask,
                          const void *dy, const void *dy_add, const float *gamma, const float *beta,
                          const float *batch_mean, const float *batch_invstd, bool accumulate,
                          void *dx, void *dresidual, float *dgamma, float *dbeta)
{
    CudaBackend *cuda = cuda_backend(be);
    bool aligned =
        are_aligned({x, dy, dy_add, dx, dresidual, gamma, beta, batch_mean, batch_invstd});
#define RUN(T, V)                                                                                  \
    Gradients<T> p = {(const T *)x,   (const T *)dy, (const T *)dy_add,                            \
                      (T *)dresidual, (T *)dx,       mask_of(mask, s->C),                          \
                      batch_mean,     batch_invstd,  gamma,                                        \
                      beta,           s->relu};                                                    \
    (dresidual != NULL ? run_bprop<T, V, true> : run_bprop<T, V, false>)(cuda, s, p, accumulate,   \
                                                                         dgamma, dbeta)
    WITH_TYPE_AND_VECTOR(cuda->type, s->C, aligned, RUN);
#undef RUN
}
