/* SGD with momentum over the parameter arena, and the loss scale's bookkeeping.
 *
 *   d = dw/scale + weight_decay w;   v <- momentum v + d;   w <- w - lr v;   w_act = w
 *
 * A thread owns four consecutive elements of a range at a time: it reads dw, v and w once and
 * writes v, w and the copy in the compute type. blockIdx.y is the range.
 *
 * With a loss scale three kernels follow each other, and the host learns nothing: the first raises
 * scale->overflow where a gradient is not finite, the second updates unless it is raised, the third
 * moves the scale. Flags are joined with an integer OR, so nothing depends on an order. */
#include "kernels/cuda/elements.cuh"

#include <stddef.h>

enum { UPDATED = 4 }; /* elements a thread and step: 16 bytes */

/* The threads of a grid for the largest of the ranges, V elements a thread; a range in y. */
static dim3 ranges_grid(const SgdShape *s, int V)
{
    int64_t largest = 1;
    for (int i = 0; i < s->ranges; i++) {
        largest = s->range[i].count > largest ? s->range[i].count : largest;
    }
    dim3 grid = flat_grid(divide_up(largest, V));
    grid.y = (unsigned)s->ranges;
    return grid;
}

template <int V> __global__ void find_overflow(SgdShape s, const float *dw, LossScale *scale)
{
    const SgdRange range = s.range[blockIdx.y];
    int found = 0;
    for (int64_t i = flat_first(); i < range.count / V; i += flat_stride()) {
        float gradient[V];
        load<float, V>(dw + range.offset + i * V, gradient);
#pragma unroll
        for (int k = 0; k < V; k++) {
            found |= !isfinite(gradient[k]);
        }
    }
    if (__syncthreads_or(found) && threadIdx.x == 0) {
        atomicOr(&scale->overflow, 1);
    }
}

template <typename T, int V>
__global__ void update(SgdShape s, const LossScale *scale, const float *dw, float *v, float *w,
                       T *w_act)
{
    if (scale != NULL && scale->overflow) {
        return;
    }
    const SgdRange range = s.range[blockIdx.y];
    float unscale = scale != NULL ? 1.0f / scale->scale : 1.0f;
    for (int64_t i = flat_first(); i < range.count / V; i += flat_stride()) {
        int64_t at = range.offset + i * V;
        float d[V];
        float velocity[V];
        float weight[V];
        load<float, V>(dw + at, d);
        load<float, V>(v + at, velocity);
        load<float, V>(w + at, weight);
#pragma unroll
        for (int k = 0; k < V; k++) {
            velocity[k] = s.momentum * velocity[k] + (d[k] * unscale + s.weight_decay * weight[k]);
            weight[k] -= range.lr * velocity[k];
        }
        store<float, V>(v + at, velocity);
        store<float, V>(w + at, weight);
        if (w_act != NULL) {
            store<T, V>(w_act + at, weight);
        }
    }
}

/* One thread. */
__global__ void move_scale(LossScale *scale)
{
    LossScale s = *scale;
    if (s.overflow) {
        s.scale = fmaxf(s.scale * 0.5f, 1.0f);
        s.good_steps = 0;
        s.skipped++;
    } else if (++s.good_steps == LOSS_SCALE_INTERVAL) {
        s.scale = fminf(s.scale * 2.0f, LOSS_SCALE_MAXIMUM);
        s.good_steps = 0;
    }
    *scale = s;
}

template <int V>
static void start_scale(CudaBackend *cuda, const SgdShape *s, LossScale *scale, const float *dw)
{
    CUDA_CHECK(
        cudaMemsetAsync(&scale->overflow, 0, sizeof(scale->overflow), cuda_lane(cuda)->stream));
    launch(cuda, "find_overflow", find_overflow<V>, ranges_grid(s, V), dim3(BLOCK), *s, dw, scale);
}

template <typename T, int V>
static void sgd_of(CudaBackend *cuda, const SgdShape *s, LossScale *scale, const float *dw,
                   float *v, float *w, void *w_act)
{
    if (scale != NULL) {
        start_scale<V>(cuda, s, scale, dw);
    }
    launch(cuda, "update", update<T, V>, ranges_grid(s, V), dim3(BLOCK), *s, scale, dw, v, w,
           (T *)w_act);
    if (scale != NULL) {
        launch(cuda, "move_scale", move_scale, dim3(1), dim3(1), scale);
    }
}

template <typename T>
static void sgd_in(CudaBackend *cuda, const SgdShape *s, LossScale *scale, const float *dw,
                   float *v, float *w, void *w_act)
{
    bool vectors = is_aligned<float>(dw, UPDATED) && is_aligned<float>(v, UPDATED) &&
                   is_aligned<float>(w, UPDATED) && is_aligned<T>(w_act, UPDATED);
    if (vectors) {
        sgd_of<T, UPDATED>(cuda, s, scale, dw, v, w, w_act);
    } else {
        sgd_of<T, 1>(cuda, s, scale, dw, v, w, w_act);
    }
}

void cuda_sgd(Backend *be, const SgdShape *s, LossScale *scale, const float *dw, float *v, float *w,
              void *w_act)
{
    CudaBackend *cuda = cuda_backend(be);
#define CALL(T) sgd_in<T>(cuda, s, scale, dw, v, w, w_act)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}
