/* Losses over logits [N, C] in float32, and predictions.
 *
 * With d_c = z_c - max z and S = sum_c exp d_c:  p_c = exp(d_c)/S,  ln p_c = d_c - ln S.
 *   cross entropy   loss = (1/N) sum_i (ln S - d_label)      dz = weight scale (p - onehot)/N
 *   entropy         loss = -(1/N) sum_i sum_c m p ln p       m = [p >= 1e-6]
 *                   dz_k = weight scale (p_k/N) (sum_c m p (ln p + 1) - m_k (ln p_k + 1))
 *
 * One block does it all, because a batch has some thousand logits. A warp takes a row at a time;
 * its lanes take every 32nd class, so that each lane reads the very logits over which it writes the
 * gradients. A row is computed in float32, the sum over rows in double: first the rows of each warp
 * in their order, then the warps in theirs.
 *
 * A logit that is not a number makes S and so the loss not a number: nothing here picks values in a
 * way that would lose it but the search for the maximum, which S does not depend on. */
#include "kernels/cuda/device.cuh"

#include <math.h>

/* Of the one block. It has as many threads as a block may have: without launch bounds a compiler
 * could give them more registers than there are, and the launch would fail. */
#define WARPS 32

/* Terms with a smaller p count neither in the loss nor in the gradient. A NaN is not smaller. */
#define MASKED_BELOW 1e-6f

typedef struct {
    float value;
    int at;
} Maximum;

__device__ static Maximum larger(Maximum a, Maximum b)
{
    bool take_b = b.value > a.value || (b.value == a.value && b.at < a.at);
    return take_b ? b : a;
}

/* The row's first maximum, in every lane. What is not a number is passed over, except in class 0,
 * which then stays the maximum because nothing is larger. */
__device__ static Maximum row_maximum(const float *row, int C, int lane)
{
    Maximum best = {-INFINITY, 0};
    for (int c = lane; c < C; c += WARP) {
        best = larger(best, Maximum{row[c], c});
    }
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        Maximum other = {__shfl_xor_sync(FULL_WARP, best.value, offset),
                         __shfl_xor_sync(FULL_WARP, best.at, offset)};
        best = larger(best, other);
    }
    float first = row[0];
    return first != first ? Maximum{first, 0} : best;
}

/* sum_c exp(z_c - maximum), in every lane */
__device__ static float sum_exp(const float *row, int C, int lane, float maximum)
{
    float sum = 0;
    for (int c = lane; c < C; c += WARP) {
        sum += expf(row[c] - maximum);
    }
    return warp_sum(sum);
}

/* The mean over N of what lane 0 of every warp has added up, and the sum of their counts. */
__device__ static void finish(int N, double sum, int hits, float *loss, int32_t *correct)
{
    __shared__ double sums[WARPS];
    __shared__ int counts[WARPS];
    int warp = (int)threadIdx.x / WARP;
    if (threadIdx.x % WARP == 0) {
        sums[warp] = sum;
        counts[warp] = hits;
    }
    __syncthreads();
    if (threadIdx.x != 0) {
        return;
    }
    double total = 0;
    int32_t count = 0;
    for (int i = 0; i < WARPS; i++) {
        total += sums[i];
        count += counts[i];
    }
    *loss = (float)(total / N);
    if (correct != NULL) {
        *correct = count;
    }
}

/* What a row's gradients are multiplied by. */
__device__ static float share_of(float weight, const LossScale *scale, int N)
{
    return weight * (scale != NULL ? scale->scale : 1.0f) / (float)N;
}

/* dlogits may be logits, or NULL. */
__global__ void __launch_bounds__(WARPS *WARP, 1)
    cross_entropy(int N, int C, const float *logits, const int32_t *labels, float weight,
                  const LossScale *scale, float *loss, int32_t *correct, float *dlogits)
{
    int lane = (int)threadIdx.x % WARP;
    float share = share_of(weight, scale, N);
    double sum = 0;
    int hits = 0;
    for (int i = (int)threadIdx.x / WARP; i < N; i += WARPS) {
        const float *row = logits + (int64_t)i * C;
        int label = labels[i];
        float at_label = row[label];
        Maximum maximum = row_maximum(row, C, lane);
        float total = sum_exp(row, C, lane, maximum.value);
        sum += logf(total) - (at_label - maximum.value);
        hits += maximum.at == label;
        __syncwarp(); /* every lane has read the label's logit */
        for (int c = lane; dlogits != NULL && c < C; c += WARP) {
            float p = expf(row[c] - maximum.value) / total;
            dlogits[(int64_t)i * C + c] = share * (p - (float)(c == label));
        }
    }
    finish(N, sum, hits, loss, correct);
}

typedef struct {
    float ln_p, p, kept; /* kept: m, 1 or 0 */
} Share;

__device__ static Share share_at(float logit, float maximum, float total, float log_total)
{
    Share s;
    float d = logit - maximum;
    s.ln_p = d - log_total;
    s.p = expf(d) / total;
    s.kept = s.p < MASKED_BELOW ? 0.0f : 1.0f;
    return s;
}

/* dlogits may be logits. */
__global__ void __launch_bounds__(WARPS *WARP, 1)
    entropy(int N, int C, const float *logits, float weight, const LossScale *scale, float *loss,
            float *dlogits)
{
    int lane = (int)threadIdx.x % WARP;
    float share = share_of(weight, scale, N);
    double sum = 0;
    for (int i = (int)threadIdx.x / WARP; i < N; i += WARPS) {
        const float *row = logits + (int64_t)i * C;
        float maximum = row_maximum(row, C, lane).value;
        float total = sum_exp(row, C, lane, maximum);
        float log_total = logf(total);
        float p_ln_p = 0;
        float mass = 0;
        for (int c = lane; c < C; c += WARP) {
            Share s = share_at(row[c], maximum, total, log_total);
            if (s.kept != 0) { /* 0 ln 0 would not be a number */
                p_ln_p += s.p * s.ln_p;
                mass += s.p;
            }
        }
        p_ln_p = warp_sum(p_ln_p);
        mass = warp_sum(mass);
        sum -= p_ln_p;
        __syncwarp(); /* every lane has read what row_maximum compares with first */
        for (int c = lane; c < C; c += WARP) {
            Share s = share_at(row[c], maximum, total, log_total);
            float e = s.kept != 0 ? s.ln_p + 1 : 0;
            dlogits[(int64_t)i * C + c] = share * s.p * (p_ln_p + mass - e);
        }
    }
    finish(N, sum, 0, loss, NULL);
}

/* One warp a row. */
__global__ void argmax(int N, int C, const float *logits, int32_t *prediction)
{
    int lane = (int)threadIdx.x % WARP;
    int rows_beside = (int)(gridDim.x * blockDim.x) / WARP;
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x) / WARP; i < N; i += rows_beside) {
        Maximum maximum = row_maximum(logits + (int64_t)i * C, C, lane);
        if (lane == 0) {
            prediction[i] = maximum.at;
        }
    }
}

void cuda_cross_entropy(Backend *be, const LossShape *s, const float *logits, const int32_t *labels,
                        float weight, const LossScale *scale, float *loss, int32_t *correct,
                        float *dlogits)
{
    launch(cuda_backend(be), "cross_entropy", cross_entropy, dim3(1), dim3(WARPS * WARP), s->N,
           s->C, logits, labels, weight, scale, loss, correct, dlogits);
}

void cuda_entropy(Backend *be, const LossShape *s, const float *logits, float weight,
                  const LossScale *scale, float *loss, float *dlogits)
{
    launch(cuda_backend(be), "entropy", entropy, dim3(1), dim3(WARPS * WARP), s->N, s->C, logits,
           weight, scale, loss, dlogits);
}

void cuda_argmax(Backend *be, const LossShape *s, const float *logits, int32_t *prediction)
{
    int64_t blocks = divide_up(s->N, 256 / WARP);
    launch(cuda_backend(be), "argmax", argmax, dim3((unsigned)(blocks < 1024 ? blocks : 1024)),
           dim3(256), s->N, s->C, logits, prediction);
}
