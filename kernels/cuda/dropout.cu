/* Dropout: y_i = x_i / (1 - p) where word i mod 4 of block i / 4 is at least p 2^32, else 0.
 *
 * The mask comes from a counter (ops.h), so threads need to agree on nothing: a thread owns a block
 * of four elements, which it loads and stores as one vector where the memory allows it. Whether an
 * element lies in a vector or not does not change its value. */
#include "kernels/cuda/elements.cuh"

#include <math.h>

#define RNG_INLINE static inline __host__ __device__
extern "C" {
#include "base/rng.h"
}

enum { DRAWN = 4 }; /* elements a block of random words */

typedef struct {
    int64_t count;
    uint32_t first_block, layer, threshold;
    float scale;
} DropoutRule;

template <int V>
__device__ static void drop(const DropoutRule *rule, const Philox *draw, int word, float x[V])
{
#pragma unroll
    for (int i = 0; i < V; i++) {
        x[i] = draw->word[word + i] >= rule->threshold ? x[i] * rule->scale : 0;
    }
}

/* y may be x. V: 4, or 1 where the addresses are not those of vectors. */
template <typename T, int V>
__global__ void dropout(DropoutRule rule, const uint64_t *key, const T *x, T *y)
{
    uint64_t seed = key[0];
    uint64_t step = key[1];
    int64_t blocks = divide_up(rule.count, DRAWN);
    for (int64_t i = flat_first(); i < blocks; i += flat_stride()) {
        Philox draw = philox4x32(seed, rule.first_block + (uint32_t)i, rule.layer, (uint32_t)step,
                                 (uint32_t)(step >> 32));
        int64_t at = i * DRAWN;
        if (V == DRAWN && at + DRAWN <= rule.count) {
            float value[DRAWN];
            load<T, DRAWN>(x + at, value);
            drop<DRAWN>(&rule, &draw, 0, value);
            store<T, DRAWN>(y + at, value);
            continue;
        }
#pragma unroll
        for (int k = 0; k < DRAWN; k++) {
            if (at + k < rule.count) {
                float value = to_float(x[at + k]);
                drop<1>(&rule, &draw, k, &value);
                y[at + k] = from_float<T>(value);
            }
        }
    }
}

template <typename T>
static void dropout_of(CudaBackend *cuda, const DropoutRule *rule, const uint64_t *key,
                       const void *x, void *y)
{
    bool vectors = is_aligned<T>(x, DRAWN) && is_aligned<T>(y, DRAWN);
    launch(cuda, "dropout", vectors ? dropout<T, DRAWN> : dropout<T, 1>,
           flat_grid(divide_up(rule->count, DRAWN)), dim3(BLOCK), *rule, key, (const T *)x, (T *)y);
}

void cuda_dropout(Backend *be, const DropoutShape *s, const uint64_t *key, const void *x, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    if (s->p == 0) {
        if (y != x) {
            CUDA_CHECK(cudaMemcpyAsync(y, x, (size_t)s->count * be->activation_bytes,
                                       cudaMemcpyDeviceToDevice, cuda_stream(be)));
        }
        return;
    }
    DropoutRule rule = {
        s->count, (uint32_t)(s->first / DRAWN), (uint32_t)RNG_DROPOUT << 24 | s->layer,
        (uint32_t)llrint((double)s->p * 4294967296.0), (float)(1 / (1 - (double)s->p))};
#define CALL(T) dropout_of<T>(cuda, &rule, key, x, y)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}
