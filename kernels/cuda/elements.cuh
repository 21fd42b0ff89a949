/* How simple kernels spread their work: over a flat sequence of items, or over the rows and columns
 * of a matrix. */
#ifndef RODEO_KERNELS_CUDA_ELEMENTS_CUH
#define RODEO_KERNELS_CUDA_ELEMENTS_CUH

#include "kernels/cuda/device.cuh"

#define BLOCK 256 /* threads */

/* Enough blocks to fill the largest GPU several times over; each walks on in strides of the grid.
 */
#define MOST_BLOCKS 4096

/* Blocks for `items` items, one a thread and step. */
static inline dim3 flat_grid(int64_t items)
{
    int64_t blocks = divide_up(items, BLOCK);
    return dim3((unsigned)(blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS));
}

/* A thread's first item, and how far it is to its next one. */
__device__ static inline int64_t flat_first()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ static inline int64_t flat_stride()
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* A matrix [rows, columns] whose columns are vectors: blocks of block.x columns and block.y rows
 * tile it, grid.x blocks lie beside each other, grid.y below each other; a thread owns one column
 * and walks down in strides of grid.y block.y rows. Neighbouring threads touch neighbouring
 * columns. Everything depends on the shape alone. */
typedef struct {
    dim3 grid, block;
} RowTiles;

/* rows_each: how many rows a thread should have at least before there are more blocks. */
static inline RowTiles row_tiles(int64_t rows, int64_t columns, int rows_each)
{
    unsigned across = 1;
    while (across < WARP && across < columns) {
        across *= 2;
    }
    unsigned down = BLOCK / across;
    int64_t beside = divide_up(columns, across);
    int64_t most = MOST_BLOCKS / 4 / beside;
    int64_t below = divide_up(rows, (int64_t)down * rows_each);
    below = below < most ? below : most;
    return (RowTiles){dim3((unsigned)beside, (unsigned)(below > 0 ? below : 1)),
                      dim3(across, down)};
}

__device__ static inline int64_t row_column()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ static inline int64_t row_first()
{
    return (int64_t)blockIdx.y * blockDim.y + threadIdx.y;
}

__device__ static inline int64_t row_stride()
{
    return (int64_t)gridDim.y * blockDim.y;
}

#endif
