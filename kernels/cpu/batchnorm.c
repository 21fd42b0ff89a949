/* Batch norm with residual and ReLU on the CPU, forward.
 *
 * Memory-bound: training reads x for the statistics, then reads x (and the residual) and
 * writes y. A group is finished before the next one starts, so that its second reading finds in the
 * cache whatever the cache can hold.
 *
 * Statistics. A chunk is read once, in blocks of rows. A block's sums of d = x - shift and of d^2
 * are formed in float32, where shift is the mean of the chunk's earlier blocks: d is small wherever
 * the variance is small, so nothing cancels. Blocks, and then chunks, are combined in double (Chan,
 * Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
 * 1979). */
#include "kernels/cpu/batchnorm.h"

#include <math.h>

enum {
    CHUNK_ELEMENTS = 65536, /* large enough that combining chunks costs nothing beside them */
    MAX_CHUNKS = 64,        /* enough for every thread, and a bound on the scratch memory */
    BLOCK_ROWS = 64,        /* short enough for sums in float32 */
    SHIFT_ROWS = 8,         /* whose mean is a chunk's first shift */
};

RowChunks row_chunks(int64_t rows, int C)
{
    int64_t by_size = (CHUNK_ELEMENTS + C - 1) / C;
    int64_t by_number = (rows + MAX_CHUNKS - 1) / MAX_CHUNKS;
    int64_t wanted = by_size > by_number ? by_size : by_number;
    int64_t chunk_rows = (wanted + BLOCK_ROWS - 1) / BLOCK_ROWS * BLOCK_ROWS;
    return (RowChunks){.rows = rows,
                       .chunk_rows = chunk_rows,
                       .chunks = (int)((rows + chunk_rows - 1) / chunk_rows),
                       .C = C};
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* Of the rows seen so far, per channel; and the sums of the block at work. */
typedef struct {
    double *mean, *m2; /* m2: sum of squared deviations from the mean */
    float *shift, *sum, *squares;
} Moments;

static size_t moments_bytes(int C)
{
    return 2 * scratch_piece((size_t)C * sizeof(double)) +
           3 * scratch_piece((size_t)C * sizeof(float));
}

static Moments moments_at(void *scratch, int C, int chunk)
{
    char *next = (char *)scratch + (size_t)chunk * moments_bytes(C);
    Moments m;
    m.mean = scratch_take(&next, (size_t)C * sizeof(double));
    m.m2 = scratch_take(&next, (size_t)C * sizeof(double));
    m.shift = scratch_take(&next, (size_t)C * sizeof(float));
    m.sum = scratch_take(&next, (size_t)C * sizeof(float));
    m.squares = scratch_take(&next, (size_t)C * sizeof(float));
    return m;
}

static void moments_start(const Moments *m, const float *x, int64_t rows, int C)
{
    int64_t few = rows < SHIFT_ROWS ? rows : SHIFT_ROWS;
    for (int c = 0; c < C; c++) {
        m->mean[c] = 0;
        m->m2[c] = 0;
        m->shift[c] = x[c];
    }
    for (int64_t r = 1; r < few; r++) {
        for (int c = 0; c < C; c++) {
            m->shift[c] += x[r * C + c];
        }
    }
    for (int c = 0; c < C; c++) {
        m->shift[c] /= (float)few;
    }
}

/* sum and squares of one block's deviations from shift. */
static void sum_block(const float *restrict x, int64_t rows, int C, const float *restrict shift,
                      float *restrict sum, float *restrict squares)
{
    for (int c = 0; c < C; c++) {
        sum[c] = 0;
        squares[c] = 0;
    }
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float *x0 = x + r * C;
        const float *x1 = x0 + C;
        const float *x2 = x1 + C;
        const float *x3 = x2 + C;
#pragma omp simd
        for (int c = 0; c < C; c++) {
            float d0 = x0[c] - shift[c];
            float d1 = x1[c] - shift[c];
            float d2 = x2[c] - shift[c];
            float d3 = x3[c] - shift[c];
            sum[c] += (d0 + d1) + (d2 + d3);
            squares[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
        }
    }
    for (; r < rows; r++) {
        for (int c = 0; c < C; c++) {
            float d = x[r * C + c] - shift[c];
            sum[c] += d;
            squares[c] += d * d;
        }
    }
}

/* Adds the block's sums to the moments of the `seen` rows before it. */
static void absorb_block(const Moments *m, int64_t seen, int64_t rows, int C)
{
    double n = (double)rows;
    double share = n / (double)(seen + rows);
    double between = (double)seen * share;
    double *restrict mean = m->mean;
    double *restrict m2 = m->m2;
    float *restrict shift = m->shift;
    const float *restrict sum = m->sum;
    const float *restrict squares = m->squares;
    for (int c = 0; c < C; c++) {
        double offset = sum[c] / n;
        double inside = squares[c] - sum[c] * offset;
        double delta = shift[c] + offset - mean[c];
        mean[c] += delta * share;
        m2[c] += (inside < 0 ? 0 : inside) + delta * delta * between;
        shift[c] = (float)mean[c];
    }
}

/* Adds the moments of `more` rows to those of the `seen` rows before them. */
static void absorb_moments(const Moments *m, int64_t seen, const Moments *other, int64_t more,
                           int C)
{
    double share = (double)more / (double)(seen + more);
    double between = (double)seen * share;
    double *restrict mean = m->mean;
    double *restrict m2 = m->m2;
    const double *restrict other_mean = other->mean;
    const double *restrict other_m2 = other->m2;
    for (int c = 0; c < C; c++) {
        double delta = other_mean[c] - mean[c];
        mean[c] += delta * share;
        m2[c] += other_m2[c] + delta * delta * between;
    }
}

static void chunk_moments(const Moments *m, const float *x, int64_t rows, int C)
{
    moments_start(m, x, rows, C);
    for (int64_t r = 0; r < rows; r += BLOCK_ROWS) {
        int64_t block = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        sum_block(x + r * C, block, C, m->shift, m->sum, m->squares);
        absorb_block(m, r, block, C);
    }
}

size_t batchnorm_statistics_scratch(const RowChunks *cut)
{
    return (size_t)cut->chunks * moments_bytes(cut->C);
}

void batchnorm_statistics(const CpuBackend *cpu, const RowChunks *cut, float eps, float momentum,
                          const float *x, const GroupStatistics *out, void *scratch)
{
    int C = cut->C;
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cut->chunks > 1)
    for (int chunk = 0; chunk < cut->chunks; chunk++) {
        Moments m = moments_at(scratch, C, chunk);
        chunk_moments(&m, x + row_chunk_first(cut, chunk) * C, row_chunk_rows(cut, chunk), C);
    }
    Moments total = moments_at(scratch, C, 0);
    for (int chunk = 1; chunk < cut->chunks; chunk++) {
        Moments m = moments_at(scratch, C, chunk);
        absorb_moments(&total, row_chunk_first(cut, chunk), &m, row_chunk_rows(cut, chunk), C);
    }
    double n = (double)cut->rows;
    for (int c = 0; c < C; c++) {
        double variance = total.m2[c] / n;
        double unbiased = total.m2[c] / (n - 1);
        out->batch_mean[c] = (float)total.mean[c];
        out->batch_invstd[c] = (float)(1 / sqrt(variance + eps));
        out->running_mean[c] =
            (float)((1 - (double)momentum) * out->running_mean[c] + momentum * total.mean[c]);
        out->running_var[c] =
            (float)((1 - (double)momentum) * out->running_var[c] + momentum * unbiased);
    }
}

void batchnorm_eval_scale(int C, float eps, const float *gamma, const float *running_var,
                          float *scale)
{
    for (int c = 0; c < C; c++) {
        scale[c] = (float)(gamma[c] / sqrt((double)running_var[c] + eps));
    }
}

/* ---- normalise ------------------------------------------------------------------------------- */

/* y = act((x - mean) scale + beta + residual) for some rows of one group. */
typedef struct {
    const float *mean, *scale, *beta;
    bool relu;
} Normalise;

/* Compiled once for each pair of flags. y may be x or residual: every element is read before it is
 * written. A NaN passes the ReLU, so that it is seen in the loss. */
static inline __attribute__((always_inline)) void
normalise_rows(const Normalise *p, int64_t rows, int C, const float *x, const float *residual,
               bool has_residual, bool relu, float *y)
{
    const float *mean = p->mean;
    const float *scale = p->scale;
    const float *beta = p->beta;
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int c = 0; c < C; c++) {
            float value = batchnorm_normalised(x[r * C + c], mean[c], scale[c], beta[c]);
            if (has_residual) {
                value += residual[r * C + c];
            }
            y[r * C + c] = relu && value < 0 ? 0 : value;
        }
    }
}

static void normalise_block(const Normalise *p, int64_t rows, int C, const float *x,
                            const float *residual, float *y)
{
    if (residual != NULL && p->relu) {
        normalise_rows(p, rows, C, x, residual, true, true, y);
    } else if (residual != NULL) {
        normalise_rows(p, rows, C, x, residual, true, false, y);
    } else if (p->relu) {
        normalise_rows(p, rows, C, x, NULL, false, true, y);
    } else {
        normalise_rows(p, rows, C, x, NULL, false, false, y);
    }
}

/* The mask of `bytes` times `channels` elements. */
static inline __attribute__((always_inline)) void
write_bytes(const float *restrict y, int64_t bytes, int channels, uint8_t *restrict mask)
{
    for (int64_t b = 0; b < bytes; b++) {
        unsigned bits = 0;
        for (int i = 0; i < channels; i++) {
            bits |= (y[b * channels + i] <= 0 ? 0U : 1U) << i;
        }
        mask[b] = (uint8_t)bits;
    }
}

/* Of y [rows, C]. */
static void write_mask(const float *y, int64_t rows, int C, uint8_t *mask)
{
    int64_t bytes = batchnorm_mask_bytes(rows, C);
    switch (batchnorm_mask_channels(C)) {
    case 8:
        write_bytes(y, bytes, 8, mask);
        break;
    case 4:
        write_bytes(y, bytes, 4, mask);
        break;
    default:
        write_bytes(y, bytes, 1, mask);
    }
}

/* From the last chunk to the first: the statistics have just read the last ones, which are the
 * likeliest to be in the cache. mask: as in op_batchnorm_train. */
static void normalise(const CpuBackend *cpu, const RowChunks *cut, const Normalise *p,
                      const float *x, const float *residual, float *y, uint8_t *mask)
{
    int64_t block = batchnorm_block_rows(cut->C);
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cut->chunks > 1)
    for (int i = 0; i < cut->chunks; i++) {
        int chunk = cut->chunks - 1 - i;
        int64_t first = row_chunk_first(cut, chunk);
        int64_t end = first + row_chunk_rows(cut, chunk);
        for (int64_t r = first; r < end; r += block) {
            int64_t rows = end - r < block ? end - r : block;
            int64_t at = r * cut->C;
            normalise_block(p, rows, cut->C, x + at, residual != NULL ? residual + at : NULL,
                            y + at);
            if (mask != NULL) {
                write_mask(y + at, rows, cut->C, mask + batchnorm_mask_bytes(r, cut->C));
            }
        }
    }
}

/* ---- operators ------------------------------------------------------------------------------- */

void cpu_batchnorm_train(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                         const float *gamma, const float *beta, float *running_mean,
                         float *running_var, float *batch_mean, float *batch_invstd, void *y,
                         uint8_t *mask)
{
    CpuBackend *cpu = cpu_backend(be);
    RowChunks cut = row_chunks(s->rows, s->C);
    size_t statistics = scratch_piece(batchnorm_statistics_scratch(&cut));
    char *scratch = cpu_scratch(cpu, statistics + (size_t)s->C * sizeof(float));
    float *scale = (float *)(scratch + statistics);
    for (int g = 0; g < s->groups; g++) {
        int64_t at = g * s->rows * s->C;
        GroupStatistics own = {running_mean, running_var, batch_mean + (int64_t)g * s->C,
                               batch_invstd + (int64_t)g * s->C};
        batchnorm_statistics(cpu, &cut, s->eps, s->momentum, (const float *)x + at, &own, scratch);
        for (int c = 0; c < s->C; c++) {
            scale[c] = gamma[c] * own.batch_invstd[c];
        }
        Normalise p = {own.batch_mean, scale, beta, s->relu};
        normalise(cpu, &cut, &p, (const float *)x + at,
                  residual != NULL ? (const float *)residual + at : NULL, (float *)y + at,
                  mask != NULL ? mask + batchnorm_mask_bytes(g * s->rows, s->C) : NULL);
    }
}

void cpu_batchnorm_eval(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                        const float *gamma, const float *beta, const float *running_mean,
                        const float *running_var, void *y)
{
    CpuBackend *cpu = cpu_backend(be);
    RowChunks cut = row_chunks(s->groups * s->rows, s->C);
    float *scale = cpu_scratch(cpu, (size_t)s->C * sizeof(float));
    batchnorm_eval_scale(s->C, s->eps, gamma, running_var, scale);
    Normalise p = {running_mean, scale, beta, s->relu};
    normalise(cpu, &cut, &p, x, residual, y, NULL);
}
