/* Matrix products in float32 by plain multiply-adds, a block's tile at a time: what the own
 * convolutions of float_conv.cu and float_wgrad.cu have in common.
 *
 * A tile of sums is [TILE_ROWS, COLUMNS], and a thread has 8 x 8 of them: in either direction two
 * times four side by side. The factors of TILE_DEPTH terms lie in shared memory, terms apart by a
 * pitch, twice: while one half is multiplied, the other is filled, so that a step has one barrier.
 * Global memory is read a step ahead into registers. */
#ifndef RODEO_KERNELS_CUDA_FLOAT_TILE_CUH
#define RODEO_KERNELS_CUDA_FLOAT_TILE_CUH

#include "kernels/cuda/device.cuh"

#define TILE_ROWS  128
#define TILE_DEPTH 8 /* terms of a step */
#define VECTOR     4 /* elements that are loaded at once */
#define OWN        8 /* rows, and columns, of a thread's sums */

/* A warp has 32 rows and 64 columns of the sums, its lanes 4 x 8 vectors. Half a warp, which is
 * served together if lanes whose numbers differ in one of the two lowest bits read the same, has 2
 * x 8: even and odd lanes have the same columns, pairs of lanes the same two rows. A thread's
 * second vector of rows or columns lies half a warp's rows or columns behind the first. */
#define WARP_ROWS    32
#define WARP_COLUMNS 64

template <int COLUMNS> struct Tile {
    static constexpr int threads = TILE_ROWS * COLUMNS / (OWN * OWN);
    static constexpr int resident = COLUMNS == WARP_COLUMNS ? 3 : 2; /* blocks, for registers */
    static constexpr int rows_each = TILE_ROWS * TILE_DEPTH / VECTOR / threads; /* loads a step */
};

/* A pitch of 4 modulo 8 lets the eight terms of a column be written without bank conflicts by
 * threads that have two vectors along the terms, and keeps vectors aligned. */
template <int COLUMNS> struct Factors {
    static constexpr int row_pitch = TILE_ROWS + VECTOR;
    static constexpr int column_pitch = COLUMNS + VECTOR;
    float rows[2][TILE_DEPTH * row_pitch];
    float columns[2][TILE_DEPTH * column_pitch];
};

/* Of a thread's first sum in its tile. */
typedef struct {
    int row, column;
} TilePlace;

template <int COLUMNS> __device__ static inline TilePlace tile_place(void)
{
    constexpr int across = COLUMNS / WARP_COLUMNS;
    int warp = (int)threadIdx.x / WARP;
    int lane = (int)threadIdx.x % WARP;
    TilePlace place;
    place.row = warp / across * WARP_ROWS + (lane / 16 * 2 + lane % 2) * VECTOR;
    place.column = warp % across * WARP_COLUMNS + lane / 2 % 8 * VECTOR;
    return place;
}

/* Where a thread's i-th row or column lies behind its first. */
__device__ static inline int row_behind(int i)
{
    return i / VECTOR * (WARP_ROWS / 2) + i % VECTOR;
}

__device__ static inline int column_behind(int i)
{
    return i / VECTOR * (WARP_COLUMNS / 2) + i % VECTOR;
}

/* sums += rows^T columns over a step's terms; both begin at the thread's place. */
template <int COLUMNS>
__device__ static inline void multiply_step(const float *rows, const float *columns,
                                            float sums[OWN][OWN])
{
#pragma unroll
    for (int k = 0; k < TILE_DEPTH; k++) {
        const float *row = rows + k * Factors<COLUMNS>::row_pitch;
        const float *column = columns + k * Factors<COLUMNS>::column_pitch;
        float a[OWN];
        float b[OWN];
#pragma unroll
        for (int i = 0; i < OWN; i += VECTOR) {
            load<float, VECTOR>(row + row_behind(i), a + i);
            load<float, VECTOR>(column + column_behind(i), b + i);
        }
#pragma unroll
        for (int i = 0; i < OWN; i++) {
#pragma unroll
            for (int j = 0; j < OWN; j++) {
                sums[i][j] += a[i] * b[j];
            }
        }
    }
}

/* A vector as loaded, or zeros where it is not wanted. */
__device__ static inline Loaded<float, VECTOR> load_if(bool wanted, const float *p)
{
    Loaded<float, VECTOR> loaded;
    if (wanted) {
        loaded = load_words<float, VECTOR>(p);
    }
    return loaded;
}

/* A vector of terms of one row or column, into shared memory where terms are a pitch apart. */
template <int PITCH>
__device__ static inline void write_terms(const Loaded<float, VECTOR> &terms, float *to)
{
    float x[VECTOR];
    unpack<float, VECTOR>(terms, x);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        to[i * PITCH] = x[i];
    }
}

/* A vector of rows or columns of one term. */
__device__ static inline void write_side_by_side(const Loaded<float, VECTOR> &x, float *to)
{
    *reinterpret_cast<Loaded<float, VECTOR> *>(to) = x;
}

#endif
