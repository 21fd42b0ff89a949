/* Batch norm with residual and ReLU on the CPU, backward.
 *
 * With g the gradient of y behind the ReLU's mask, xhat = (x - mean) invstd, n rows:
 *   dbeta = sum g,   dgamma = sum g xhat,   dx = gamma invstd (g - dbeta/n - xhat dgamma/n)
 * One pass for the sums (x, dy, dy_add), one for dx. Where there was a residual, which wants g
 * anyway, the first pass also reads y's mask and writes g, and the second reads g instead of dy and
 * dy_add; where there was none, both compute y anew from x. */
#include "kernels/cpu/batchnorm.h"

#include <omp.h>
#include <string.h>

/* The tensors of one group [rows, C]; dy_add, dresidual and mask may be NULL. */
typedef struct {
    const float *x, *dy, *dy_add;
    float *dx, *dresidual;
    const uint8_t *mask;
    const float *mean, *scale, *beta; /* [C]; scale = gamma invstd */
    bool relu;
} GroupTensors;

/* Scratch memory of the backward pass. */
typedef struct {
    double *chunk_sums;           /* [chunks][2][C]: sum g, sum g (x - mean) */
    float *thread_blocks;         /* [threads][block + 2 C]: g of a block, its two sums */
    size_t thread_stride;         /* elements */
    float *scale, *shift, *slope; /* [C]: dx = scale g - shift - slope (x - mean) */
    double *dgamma, *dbeta;       /* [C]: summed over the groups */
} BackwardScratch;

static BackwardScratch backward_scratch(CpuBackend *cpu, const RowChunks *cut)
{
    size_t C = (size_t)cut->C;
    BackwardScratch b;
    b.thread_stride =
        scratch_piece(((size_t)batchnorm_block_rows(cut->C) + 2) * C * sizeof(float)) /
        sizeof(float);
    size_t sums = (size_t)cut->chunks * 2 * C * sizeof(double);
    size_t blocks = (size_t)cpu->threads * b.thread_stride * sizeof(float);
    size_t floats = C * sizeof(float);
    size_t doubles = C * sizeof(double);
    char *next = cpu_scratch(cpu, scratch_piece(sums) + scratch_piece(blocks) +
                                      3 * scratch_piece(floats) + 2 * scratch_piece(doubles));
    b.chunk_sums = scratch_take(&next, sums);
    b.thread_blocks = scratch_take(&next, blocks);
    b.scale = scratch_take(&next, floats);
    b.shift = scratch_take(&next, floats);
    b.slope = scratch_take(&next, floats);
    b.dgamma = scratch_take(&next, doubles);
    b.dbeta = scratch_take(&next, doubles);
    return b;
}

/* g = those of `bytes` times `channels` elements of dy whose bit is set, else 0. */
static inline __attribute__((always_inline)) void
keep_bytes(const uint8_t *mask, int64_t bytes, int channels, const float *dy, float *g)
{
    for (int64_t b = 0; b < bytes; b++) {
        int byte = mask[b];
#pragma omp simd
        for (int i = 0; i < channels; i++) {
            float value = dy[b * channels + i];
            g[b * channels + i] = byte & 1 << i ? value : 0;
        }
    }
}

static void keep_where_set(const uint8_t *mask, int64_t rows, int C, const float *dy, float *g)
{
    int64_t bytes = batchnorm_mask_bytes(rows, C);
    switch (batchnorm_mask_channels(C)) {
    case 8:
        keep_bytes(mask, bytes, 8, dy, g);
        break;
    case 4:
        keep_bytes(mask, bytes, 4, dy, g);
        break;
    default:
        keep_bytes(mask, bytes, 1, dy, g);
    }
}

/* g = dy where y, computed anew from x [rows, C], passes the ReLU, else 0. */
static void keep_where_passed(const GroupTensors *t, const float *x, int64_t rows, int C,
                              const float *dy, float *g)
{
    const float *mean = t->mean;
    const float *scale = t->scale;
    const float *beta = t->beta;
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int c = 0; c < C; c++) {
            int64_t i = r * C + c;
            float value = dy[i];
            g[i] = batchnorm_normalised(x[i], mean[c], scale[c], beta[c]) <= 0 ? 0 : value;
        }
    }
}

static void add(const float *a, const float *b, int64_t count, float *sum)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        sum[i] = a[i] + b[i];
    }
}

/* g of `rows` rows from row `first` on. Returns where it is: in `into`, or in dy itself where
 * nothing has to be done. `into` may be dy or dy_add. */
static const float *gradient_behind_relu(const GroupTensors *t, int64_t first, int64_t rows, int C,
                                         float *into)
{
    int64_t at = first * C;
    const float *g = t->dy + at;
    if (t->dy_add != NULL) {
        add(g, t->dy_add + at, rows * C, into);
        g = into;
    }
    if (t->mask != NULL) {
        keep_where_set(t->mask + batchnorm_mask_bytes(first, C), rows, C, g, into);
        g = into;
    } else if (t->relu) {
        keep_where_passed(t, t->x + at, rows, C, g, into);
        g = into;
    }
    return g;
}

/* sum_g and sum_gx = sum of g (x - mean) over one block. */
static void sum_gradients(const float *restrict g, const float *restrict x, int64_t rows, int C,
                          const float *restrict mean, float *restrict sum_g, float *restrict sum_gx)
{
    for (int c = 0; c < C; c++) {
        sum_g[c] = 0;
        sum_gx[c] = 0;
    }
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float *g0 = g + r * C;
        const float *x0 = x + r * C;
#pragma omp simd
        for (int c = 0; c < C; c++) {
            float a0 = g0[c];
            float a1 = g0[c + C];
            float a2 = g0[c + 2 * (int64_t)C];
            float a3 = g0[c + 3 * (int64_t)C];
            float p0 = a0 * (x0[c] - mean[c]);
            float p1 = a1 * (x0[c + C] - mean[c]);
            float p2 = a2 * (x0[c + 2 * (int64_t)C] - mean[c]);
            float p3 = a3 * (x0[c + 3 * (int64_t)C] - mean[c]);
            sum_g[c] += (a0 + a1) + (a2 + a3);
            sum_gx[c] += (p0 + p1) + (p2 + p3);
        }
    }
    for (; r < rows; r++) {
        for (int c = 0; c < C; c++) {
            sum_g[c] += g[r * C + c];
            sum_gx[c] += g[r * C + c] * (x[r * C + c] - mean[c]);
        }
    }
}

static float *thread_block(const BackwardScratch *b)
{
    return b->thread_blocks + (size_t)omp_get_thread_num() * b->thread_stride;
}

static void chunk_gradient_sums(const GroupTensors *t, const RowChunks *cut, int chunk,
                                const BackwardScratch *b)
{
    int C = cut->C;
    int64_t block = batchnorm_block_rows(C);
    float *buffer = thread_block(b);
    float *sum_g = buffer + block * C;
    float *sum_gx = sum_g + C;
    double *total_g = b->chunk_sums + (int64_t)chunk * 2 * C;
    double *total_gx = total_g + C;
    memset(total_g, 0, (size_t)C * 2 * sizeof(double));
    int64_t first = row_chunk_first(cut, chunk);
    int64_t end = first + row_chunk_rows(cut, chunk);
    for (int64_t r = first; r < end; r += block) {
        int64_t rows = end - r < block ? end - r : block;
        int64_t at = r * C;
        const float *g =
            gradient_behind_relu(t, r, rows, C, t->dresidual != NULL ? t->dresidual + at : buffer);
        if (t->dresidual != NULL && g != t->dresidual + at) {
            memcpy(t->dresidual + at, g, (size_t)(rows * C) * sizeof(float));
        }
        sum_gradients(g, t->x + at, rows, C, t->mean, sum_g, sum_gx);
        for (int c = 0; c < C; c++) {
            total_g[c] += sum_g[c];
            total_gx[c] += sum_gx[c];
        }
    }
}

/* Adds up the chunks, adds the group to dgamma and dbeta, and derives what dx needs. */
static void finish_gradient_sums(const RowChunks *cut, const float *gamma, const float *invstd,
                                 const BackwardScratch *b)
{
    int C = cut->C;
    double n = (double)cut->rows;
    double *sum_g = b->chunk_sums;
    double *sum_gx = sum_g + C;
    for (int chunk = 1; chunk < cut->chunks; chunk++) {
        const double *more = b->chunk_sums + (int64_t)chunk * 2 * C;
        for (int c = 0; c < 2 * C; c++) {
            sum_g[c] += more[c];
        }
    }
    for (int c = 0; c < C; c++) {
        double scale = (double)gamma[c] * invstd[c];
        double dgamma = sum_gx[c] * invstd[c];
        b->dbeta[c] += sum_g[c];
        b->dgamma[c] += dgamma;
        b->shift[c] = (float)(scale * sum_g[c] / n);
        b->slope[c] = (float)(scale * invstd[c] * dgamma / n);
    }
}

/* dx of one block; dx may be g. */
static void write_dx(const float *g, const float *x, int64_t rows, int C, const float *mean,
                     const BackwardScratch *b, float *dx)
{
    const float *scale = b->scale;
    const float *shift = b->shift;
    const float *slope = b->slope;
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int c = 0; c < C; c++) {
            int64_t i = r * C + c;
            dx[i] = (scale[c] * g[i] - shift[c]) - slope[c] * (x[i] - mean[c]);
        }
    }
}

static void chunk_dx(const GroupTensors *t, const RowChunks *cut, int chunk,
                     const BackwardScratch *b)
{
    int C = cut->C;
    int64_t block = batchnorm_block_rows(C);
    float *buffer = thread_block(b);
    int64_t first = row_chunk_first(cut, chunk);
    int64_t end = first + row_chunk_rows(cut, chunk);
    for (int64_t r = first; r < end; r += block) {
        int64_t rows = end - r < block ? end - r : block;
        int64_t at = r * C;
        const float *g =
            t->dresidual != NULL ? t->dresidual + at : gradient_behind_relu(t, r, rows, C, buffer);
        write_dx(g, t->x + at, rows, C, t->mean, b, t->dx + at);
    }
}

static void group_bprop(const CpuBackend *cpu, const RowChunks *cut, const GroupTensors *t,
                        const float *gamma, const float *invstd, const BackwardScratch *b)
{
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cut->chunks > 1)
    for (int chunk = 0; chunk < cut->chunks; chunk++) {
        chunk_gradient_sums(t, cut, chunk, b);
    }
    finish_gradient_sums(cut, gamma, invstd, b);
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cut->chunks > 1)
    for (int i = 0; i < cut->chunks; i++) {
        chunk_dx(t, cut, cut->chunks - 1 - i, b);
    }
}

void cpu_batchnorm_bprop(Backend *be, const BatchNormShape *s, const void *x, const uint8_t *mask,
                         const void *dy, const void *dy_add, const float *gamma, const float *beta,
                         const float *batch_mean, const float *batch_invstd, bool accumulate,
                         void *dx, void *dresidual, float *dgamma, float *dbeta)
{
    CpuBackend *cpu = cpu_backend(be);
    RowChunks cut = row_chunks(s->rows, s->C);
    BackwardScratch b = backward_scratch(cpu, &cut);
    for (int c = 0; c < s->C; c++) {
        b.dgamma[c] = accumulate ? dgamma[c] : 0;
        b.dbeta[c] = accumulate ? dbeta[c] : 0;
    }
    for (int g = 0; g < s->groups; g++) {
        int64_t first = g * s->rows;
        int64_t at = first * s->C;
        const float *invstd = batch_invstd + (int64_t)g * s->C;
        for (int c = 0; c < s->C; c++) {
            b.scale[c] = gamma[c] * invstd[c];
        }
        GroupTensors t = {.x = (const float *)x + at,
                          .dy = (const float *)dy + at,
                          .dy_add = dy_add != NULL ? (const float *)dy_add + at : NULL,
                          .dx = (float *)dx + at,
                          .dresidual = dresidual != NULL ? (float *)dresidual + at : NULL,
                          .mask = mask != NULL ? mask + batchnorm_mask_bytes(first, s->C) : NULL,
                          .mean = batch_mean + (int64_t)g * s->C,
                          .scale = b.scale,
                          .beta = beta,
                          .relu = s->relu};
        group_bprop(cpu, &cut, &t, gamma, invstd, &b);
    }
    for (int c = 0; c < s->C; c++) {
        dgamma[c] = (float)b.dgamma[c];
        dbeta[c] = (float)b.dbeta[c];
    }
}
