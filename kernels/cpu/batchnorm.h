/* What batch norm and the stem share: the statistics of a group, and scratch memory in pieces. Only
 * kernels/cpu/ includes this. */
#ifndef RODEO_KERNELS_CPU_BATCHNORM_H
#define RODEO_KERNELS_CPU_BATCHNORM_H

#include "base/mem.h"
#include "kernels/cpu/cpu.h"

/* bytes rounded up so that the piece of scratch behind it is aligned too. */
static inline size_t scratch_piece(size_t bytes)
{
    return (bytes + RODEO_ALIGNMENT - 1) / RODEO_ALIGNMENT * RODEO_ALIGNMENT;
}

/* The next piece of scratch memory: advances *next by scratch_piece(bytes). */
static inline void *scratch_take(char **next, size_t bytes)
{
    void *piece = *next;
    *next += scratch_piece(bytes);
    return piece;
}

/* How the rows of a group are cut up for the threads. The cut depends on the shape alone: sums are
 * formed per chunk and combined in the chunks' order, so no result depends on how many threads
 * there are. */
typedef struct {
    int64_t rows;       /* of the group */
    int64_t chunk_rows; /* of every chunk but the last, which may be smaller */
    int chunks;
    int C;
} RowChunks;

RowChunks row_chunks(int64_t rows, int C);

/* How many rows are worked on at once: few enough to stay in the first-level cache, and for sums in
 * float32. */
static inline int64_t batchnorm_block_rows(int C)
{
    int64_t rows = 4096 / C;
    return rows < 4 ? 4 : rows > 64 ? 64 : rows;
}

static inline int64_t row_chunk_first(const RowChunks *cut, int chunk)
{
    return chunk * cut->chunk_rows;
}

static inline int64_t row_chunk_rows(const RowChunks *cut, int chunk)
{
    int64_t left = cut->rows - chunk * cut->chunk_rows;
    return left < cut->chunk_rows ? left : cut->chunk_rows;
}

/* Running statistics [C] of one layer, and where one group's own statistics [C] go. */
typedef struct {
    float *running_mean, *running_var;
    float *batch_mean, *batch_invstd;
} GroupStatistics;

/* Scratch bytes that batchnorm_statistics needs for groups cut in this way. */
size_t batchnorm_statistics_scratch(const RowChunks *cut);

/* Mean and 1/sqrt(biased variance + eps) over the rows of one group x [rows, C], and its step of
 * the running statistics. scratch: batchnorm_statistics_scratch(cut) bytes. */
void batchnorm_statistics(const CpuBackend *cpu, const RowChunks *cut, float eps, float momentum,
                          const float *x, const GroupStatistics *out, void *scratch);

/* y before residual and ReLU, scale = gamma invstd: forward and backward must agree to the bit on
 * where it is positive. */
static inline float batchnorm_normalised(float x, float mean, float scale, float beta)
{
    return (x - mean) * scale + beta;
}

/* scale [C] = gamma / sqrt(running_var + eps), as evaluation multiplies by it. */
void batchnorm_eval_scale(int C, float eps, const float *gamma, const float *running_var,
                          float *scale);

#endif
