/* Where things lie in the Hopper convolution (hopper_conv.cu): index arithmetic, no more.
 *
 * Positions. The batch is one sequence of padded positions, a picture 57 x 57 of them:
 *
 *   input   i = n 57 57 + (y + 1) 57 + (x + 1), y and x from -1 to 55
 *   output  m = n 57 57 + y 57 + x,             y and x from 0 to 56
 *
 * One row of zeros above each picture serves as the one below the picture before it, one column of
 * zeros left of each row as the one right of the row before it. Outputs of y = 56 or x = 56 are
 * thrown away, 3 in 100. Then tap (r, s) of output m reads input m + 57 r + s: always.
 *
 * A block owns consecutive tiles of positions and streams the input's rows through a ring in shared
 * memory, once. The ring's first rows are kept a second time behind its end (the mirror), so that
 * what a tile reads never wraps. */
#ifndef RODEO_KERNELS_CUDA_HOPPER_GEOMETRY_CUH
#define RODEO_KERNELS_CUDA_HOPPER_GEOMETRY_CUH

#include <stdint.h>

#define HOPPER_CHANNELS 64 /* in and out */
#define HOPPER_SIDE     56 /* of a picture */
#define HOPPER_TAPS     9

#define PITCH          (HOPPER_SIDE + 1) /* positions of a padded row */
#define PICTURE        (PITCH * PITCH)
#define REACH          (2 * PITCH + 2) /* from an output to its farthest tap */
#define POSITION_BYTES (HOPPER_CHANNELS * 2)
#define ROW_BYTES      (PITCH * POSITION_BYTES)
#define TAP_BYTES      (HOPPER_CHANNELS * POSITION_BYTES) /* weights of one tap */
#define SHARED_LIMIT   232448                             /* of a block of compute capability 9.0 */
#define SWIZZLE_BYTES  1024 /* swizzled memory is aligned so, and repeats itself so */
#define DONE_BARRIERS  16   /* of tiles that have been computed */
#define PART_POSITIONS 64   /* that are written out at once */
#define PART_BYTES     (PART_POSITIONS * POSITION_BYTES)
#define BARRIERS_BYTES 1024
#define CHUNK          8 /* elements of 16 bytes, which swizzling moves together */

/* Shared memory of a block: weights, a part of a tile for each of two warpgroups, barriers, the
 * ring. */
template <int TILE> struct HopperLayout {
    static constexpr int weights = 0;
    static constexpr int parts = HOPPER_TAPS * TAP_BYTES;
    static constexpr int barriers = parts + 2 * PART_BYTES;
    static constexpr int ring = barriers + BARRIERS_BYTES;
    static constexpr int rows = (SHARED_LIMIT - SWIZZLE_BYTES - ring - 128) / ROW_BYTES;
    static constexpr int mirror = (TILE - 1 + PITCH - 1) / PITCH; /* of those rows */
    static constexpr int ring_rows = rows - mirror;
    static constexpr int ring_positions = ring_rows * PITCH;
    /* With room to align the beginning. */
    static constexpr int bytes = ring + rows * ROW_BYTES + SWIZZLE_BYTES;

    static_assert(bytes <= SHARED_LIMIT, "shared memory");
    static_assert(ring % SWIZZLE_BYTES == 0 && parts % SWIZZLE_BYTES == 0, "alignment");
    static_assert((ring_rows + DONE_BARRIERS) * 8 <= BARRIERS_BYTES, "barriers");
    static_assert(ring_positions - 1 + TILE <= rows * PITCH, "the mirror ends a tile");
    /* A barrier's phases are told apart by their parity, so nobody may be two of them behind. */
    static_assert(ring_positions >= 2 * TILE + REACH + PITCH, "two tiles fit into the ring");
    static_assert(DONE_BARRIERS * TILE >= ring_positions, "the producer has seen the last round");
};

/* ---- what a block computes --------------------------------------------------------------------
 */

typedef struct {
    int m;     /* the first output position */
    int tiles; /* may be none */
    int row;   /* the first padded input row, counted through the batch */
    int rows;
} BlockRange;

__host__ __device__ static inline int tiles_of(int pictures, int tile)
{
    return (pictures * PICTURE + tile - 1) / tile;
}

__host__ __device__ static inline BlockRange range_of(int block, int blocks, int pictures, int tile)
{
    int tiles = tiles_of(pictures, tile);
    int first = (int)((int64_t)block * tiles / blocks);
    int end = (int)((int64_t)(block + 1) * tiles / blocks);
    BlockRange range;
    range.m = first * tile;
    range.tiles = end - first;
    range.row = range.m / PITCH;
    range.rows = (end * tile - 1 + REACH) / PITCH - range.row + 1;
    return range;
}

/* The first input position of tile t of the block, counted from the block's first row. */
__host__ __device__ static inline int tile_position(const BlockRange &range, int t, int tile)
{
    return range.m - range.row * PITCH + t * tile;
}

/* The rows that it reads, counted likewise. */
__host__ __device__ static inline int first_row(int position)
{
    return position / PITCH;
}

__host__ __device__ static inline int last_row(int position, int tile)
{
    return (position + tile - 1 + REACH) / PITCH;
}

/* The pixel of an output position, counted through the batch; -1 for those that are thrown away. */
__host__ __device__ static inline int pixel_of(int m, int pictures)
{
    unsigned n = (unsigned)m / PICTURE;
    unsigned rest = (unsigned)m - n * PICTURE;
    unsigned y = rest / PITCH;
    unsigned x = rest - y * PITCH;
    bool is_pixel = (int)n < pictures && y < HOPPER_SIDE && x < HOPPER_SIDE;
    return is_pixel ? (int)((n * HOPPER_SIDE + y) * HOPPER_SIDE + x) : -1;
}

/* ---- operands of the products -----------------------------------------------------------------
 */

/* Swizzled rows of 128 bytes, as TMA writes them and wgmma reads them (PTX ISA, "shared memory
 * matrix layout", 128-byte swizzling): bits 4 to 6 of an address are XORed with its bits 7 to 9. */
__host__ __device__ static inline uint32_t swizzled(int row, int chunk)
{
    return (uint32_t)(row * POSITION_BYTES + ((chunk ^ (row & 7)) << 4));
}

/* Describes such rows from `address` on (PTX ISA, "matrix descriptor"): the start in units of 16
 * bytes; the leading offset, which swizzled operands whose rows run along the sums ignore; 1024
 * bytes from 8 rows to the next 8; 128-byte swizzling. The base offset is 0 wherever the rows
 * begin, for swizzling goes by the address itself. */
__host__ __device__ static inline uint64_t describe_rows(uint32_t address)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 |
           (uint64_t)(SWIZZLE_BYTES >> 4) << 32 | (uint64_t)1 << 62;
}

/* What describes the next 16 terms of the sums, or the next tap's weights, is that much more. */
#define TERMS_ON (16 * 2 / 16)
#define TAP_ON   (TAP_BYTES / 16)

/* The weights in shared memory are swizzled rows of 64 inputs, [taps, outputs, inputs]. */
__host__ __device__ static inline uint32_t shared_weight(int tap, int out, int in)
{
    return (uint32_t)(tap * TAP_BYTES) + swizzled(out, in / CHUNK) + in % CHUNK * 2;
}

/* The element of w [K,R,S,C] that takes input `in` to output `out`. In a dgrad these are K and C,
 * and the taps are turned around. */
__host__ __device__ static inline int weight_index(bool dgrad, int tap, int out, int in)
{
    return dgrad ? (in * HOPPER_TAPS + (HOPPER_TAPS - 1 - tap)) * HOPPER_CHANNELS + out
                 : (out * HOPPER_TAPS + tap) * HOPPER_CHANNELS + in;
}

/* A warpgroup's sums [64 outputs, TILE positions] (PTX ISA, "wgmma", fragment of D): element
 * 4 j + e of a thread is output 16 warp + lane / 4 + 8 (e / 2), position 8 j + 2 (lane % 4) + e
 * % 2. Blocks j and j + 1 of 8 positions, j even, are four matrices of 8 x 8; where in a part in
 * shared memory, swizzled rows of a position's 64 outputs, stmatrix writes the row that this lane
 * names. */
__host__ __device__ static inline uint32_t part_row(int warp, int lane, int j)
{
    int matrix = lane / 8;
    int position = 8 * (j + matrix / 2) + lane % 8;
    return swizzled(position, 2 * warp + matrix % 2);
}

#endif
