/* The stem on the CPU, forward: the convolution's statistics, and batch norm + ReLU + 3x3 max
 * pooling (stride 2, padding 1).
 *
 * Each input row is normalised into one of three row buffers with a column of zeros at either end;
 * the window's maximum starts from 0, which is the ReLU, so zeros never win and stand for the
 * padding as well. A task is a band of output rows of one picture. */
#include "kernels/cpu/batchnorm.h"

#include <omp.h>
#include <string.h>

enum { BAND_ROWS = 16 }; /* output rows of a task: one input row in 32 is normalised twice */

/* One group's x [N,H,W,C] on its way to y and argmax (NULL in evaluation) [N,P,Q,C]. */
typedef struct {
    int N, H, W, C, P, Q;
    const float *x;
    const float *mean, *scale, *beta;
    float *y;
    uint8_t *argmax;
} StemPool;

/* Elements of a row buffer: a row of x between two columns of zeros. */
static size_t padded_row(int W, int C)
{
    return scratch_piece((size_t)(W + 2) * (size_t)C * sizeof(float)) / sizeof(float);
}

static void normalise_row(const StemPool *p, const float *restrict x, float *restrict row)
{
    int C = p->C;
    const float *restrict mean = p->mean;
    const float *restrict scale = p->scale;
    const float *restrict beta = p->beta;
    for (int w = 0; w < p->W; w++) {
        const float *restrict from = x + (int64_t)w * C;
        float *restrict to = row + (int64_t)(w + 1) * C;
        for (int c = 0; c < C; c++) {
            to[c] = (from[c] - mean[c]) * scale[c] + beta[c];
        }
    }
    memset(row, 0, (size_t)C * sizeof(float));
    memset(row + (int64_t)(p->W + 1) * C, 0, (size_t)C * sizeof(float));
}

/* One window: a, b, c point to its top left element in the three rows. The first of equal maxima
 * stays; a NaN, which in training has spread to the whole channel, is not hidden. */
static inline __attribute__((always_inline)) void
pool_window(int C, const float *restrict a, const float *restrict b, const float *restrict c,
            float *restrict y, uint8_t *restrict argmax)
{
#pragma omp simd
    for (int i = 0; i < C; i++) {
        const float value[9] = {a[i],         a[i + C], a[i + 2 * C], b[i],        b[i + C],
                                b[i + 2 * C], c[i],     c[i + C],     c[i + 2 * C]};
        float best = 0;
        int32_t at = STEM_NO_GRADIENT;
        for (int k = 0; k < 9; k++) {
            bool better = !(value[k] <= best);
            best = better ? value[k] : best;
            at = better ? k : at;
        }
        y[i] = best;
        if (argmax != NULL) {
            argmax[i] = (uint8_t)at;
        }
    }
}

static void pool_row(const StemPool *p, const float *const rows[3], float *y, uint8_t *argmax)
{
    int C = p->C;
    for (int q = 0; q < p->Q; q++) {
        int64_t in = (int64_t)2 * q * C;
        int64_t out = (int64_t)q * C;
        if (argmax != NULL) {
            pool_window(C, rows[0] + in, rows[1] + in, rows[2] + in, y + out, argmax + out);
        } else {
            pool_window(C, rows[0] + in, rows[1] + in, rows[2] + in, y + out, NULL);
        }
    }
}

/* Output rows [first, end) of picture n. ring: three row buffers and one of zeros. */
static void pool_band(const StemPool *p, int n, int first, int end, float *ring)
{
    size_t stride = padded_row(p->W, p->C);
    const float *zeros = ring + 3 * stride;
    int ready = 2 * first - 1; /* the next input row to be normalised */
    for (int row = first; row < end; row++) {
        const float *rows[3];
        for (int r = 0; r < 3; r++) {
            int h = 2 * row - 1 + r;
            float *buffer = ring + (size_t)((h + 3) % 3) * stride;
            bool inside = h >= 0 && h < p->H;
            if (inside && h >= ready) {
                normalise_row(p, p->x + ((int64_t)n * p->H + h) * p->W * p->C, buffer);
                ready = h + 1;
            }
            rows[r] = inside ? buffer : zeros;
        }
        int64_t out = ((int64_t)n * p->P + row) * p->Q * p->C;
        pool_row(p, rows, p->y + out, p->argmax != NULL ? p->argmax + out : NULL);
    }
}

static size_t ring_bytes(const StemShape *s)
{
    return 4 * padded_row(s->W, s->C) * sizeof(float);
}

static void pool_group(const CpuBackend *cpu, const StemPool *p, float *rings)
{
    size_t stride = padded_row(p->W, p->C);
    int bands = (p->P + BAND_ROWS - 1) / BAND_ROWS;
#pragma omp parallel num_threads(cpu->threads)
    {
        float *ring = rings + (size_t)omp_get_thread_num() * 4 * stride;
        memset(ring + 3 * stride, 0, stride * sizeof(float));
#pragma omp for schedule(static)
        for (int task = 0; task < p->N * bands; task++) {
            int first = task % bands * BAND_ROWS;
            int end = first + BAND_ROWS < p->P ? first + BAND_ROWS : p->P;
            pool_band(p, task / bands, first, end, ring);
        }
    }
}

static StemPool stem_pool(const StemShape *s)
{
    return (StemPool){.N = s->N,
                      .H = s->H,
                      .W = s->W,
                      .C = s->C,
                      .P = conv_out(s->H, 3, 2, 1),
                      .Q = conv_out(s->W, 3, 2, 1)};
}

void cpu_conv_statistics(Backend *be, const ConvStatisticsShape *s, const void *x, const void *w,
                         float *running_mean, float *running_var, float *batch_mean,
                         float *batch_invstd, void *y)
{
    CpuBackend *cpu = cpu_backend(be);
    BatchNormShape norm = conv_statistics_norm(s);
    cpu_conv_fprop(be, &s->conv, x, w, NULL, y);
    RowChunks cut = row_chunks(norm.rows, norm.C);
    void *moments = cpu_scratch(cpu, batchnorm_statistics_scratch(&cut));
    for (int g = 0; g < norm.groups; g++) {
        int64_t own = (int64_t)g * norm.C;
        GroupStatistics out = {running_mean, running_var, batch_mean + own, batch_invstd + own};
        batchnorm_statistics(cpu, &cut, norm.eps, norm.momentum,
                             (const float *)y + g * norm.rows * norm.C, &out, moments);
    }
}

void cpu_stem_train(Backend *be, const StemShape *s, const void *x, const float *gamma,
                    const float *beta, const float *batch_mean, const float *batch_invstd, void *y,
                    uint8_t *argmax)
{
    CpuBackend *cpu = cpu_backend(be);
    StemPool p = stem_pool(s);
    size_t scales = (size_t)s->C * sizeof(float);
    size_t rings = (size_t)cpu->threads * ring_bytes(s);
    char *next = cpu_scratch(cpu, scratch_piece(scales) + scratch_piece(rings));
    float *scale = scratch_take(&next, scales);
    float *ring = scratch_take(&next, rings);
    for (int g = 0; g < s->groups; g++) {
        int64_t own = (int64_t)g * s->C;
        int64_t out = (int64_t)g * p.N * p.P * p.Q * p.C;
        for (int c = 0; c < s->C; c++) {
            scale[c] = gamma[c] * batch_invstd[own + c];
        }
        p.x = (const float *)x + (int64_t)g * p.N * p.H * p.W * p.C;
        p.mean = batch_mean + own;
        p.scale = scale;
        p.beta = beta;
        p.y = (float *)y + out;
        p.argmax = argmax + out;
        pool_group(cpu, &p, ring);
    }
}

void cpu_stem_eval(Backend *be, const StemShape *s, const void *x, const float *gamma,
                   const float *beta, const float *running_mean, const float *running_var, void *y)
{
    CpuBackend *cpu = cpu_backend(be);
    size_t scales = (size_t)s->C * sizeof(float);
    size_t rings = (size_t)cpu->threads * ring_bytes(s);
    char *next = cpu_scratch(cpu, scratch_piece(scales) + scratch_piece(rings));
    float *scale = scratch_take(&next, scales);
    float *ring = scratch_take(&next, rings);
    batchnorm_eval_scale(s->C, s->eps, gamma, running_var, scale);
    StemPool p = stem_pool(s);
    p.N = s->groups * s->N;
    p.x = x;
    p.mean = running_mean;
    p.scale = scale;
    p.beta = beta;
    p.y = y;
    pool_group(cpu, &p, ring);
}
