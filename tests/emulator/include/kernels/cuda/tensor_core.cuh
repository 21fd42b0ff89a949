/* What kernels/cuda/tensor_core.cuh says in PTX, in C++: it is found before that one. */
#ifndef RODEO_EMULATOR_TENSOR_CORE_CUH
#define RODEO_EMULATOR_TENSOR_CORE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#define TENSOR_CORES_FP16 75
#define TENSOR_CORES_BF16 80

namespace rodeo_emulator
{

/* The row that a lane names, and what it gets. */
struct MatrixLane {
    uint16_t row[8];
    uint32_t *matrix;
    bool transposed;
};

inline void spread_matrices(void *const lanes[32])
{
    for (int lane = 0; lane < 32; lane++) {
        const MatrixLane *own = (const MatrixLane *)lanes[lane];
        for (int i = 0; i < 4; i++) {
            uint16_t pair[2];
            for (int k = 0; k < 2; k++) {
                int row = lane / 4;
                int column = lane % 4 * 2 + k;
                const MatrixLane *from =
                    (const MatrixLane *)lanes[8 * i + (own->transposed ? column : row)];
                pair[k] = from->row[own->transposed ? row : column];
            }
            std::memcpy(&own->matrix[i], pair, sizeof pair);
        }
    }
}

inline void load_matrices(const void *row, bool transposed, uint32_t matrix[4])
{
    MatrixLane lane;
    if ((uintptr_t)row % 16 != 0) {
        die_in_kernel("a row of a matrix that is not aligned to 16 bytes");
    }
    for (int i = 0; i < 8; i++) {
        lane.row[i] = ((const uint16_t *)row)[i];
    }
    lane.matrix = matrix;
    lane.transposed = transposed;
    warp_together(&lane, spread_matrices);
}

/* A lane's operands of multiply_add. */
struct ProductLane {
    const uint32_t *a, *b;
    float *sum;
};

template <typename T> float element_of(uint32_t pair, int which);

template <> inline float element_of<__half>(uint32_t pair, int which)
{
    return __half2float(__half{(unsigned short)(pair >> 16 * which)});
}

template <> inline float element_of<__nv_bfloat16>(uint32_t pair, int which)
{
    return __bfloat162float(__nv_bfloat16{(unsigned short)(pair >> 16 * which)});
}

template <typename T> void multiply_matrices(void *const lanes[32])
{
    float a[16][16];
    float b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const ProductLane *own = (const ProductLane *)lanes[lane];
        int row = lane / 4;
        for (int k = 0; k < 2; k++) {
            int column = lane % 4 * 2 + k;
            for (int i = 0; i < 4; i++) {
                a[row + i % 2 * 8][column + i / 2 * 8] = element_of<T>(own->a[i], k);
            }
            b[column][row] = element_of<T>(own->b[0], k);
            b[column + 8][row] = element_of<T>(own->b[1], k);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        float *sum = ((const ProductLane *)lanes[lane])->sum;
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + i / 2 * 8;
            int column = lane % 4 * 2 + i % 2;
            for (int k = 0; k < 16; k++) {
                sum[i] += a[row][k] * b[k][column];
            }
        }
    }
}

} // namespace rodeo_emulator

inline void load_matrices(const void *row, uint32_t matrix[4])
{
    rodeo_emulator::load_matrices(row, false, matrix);
}

inline void load_transposed(const void *row, uint32_t matrix[4])
{
    rodeo_emulator::load_matrices(row, true, matrix);
}

template <typename T> void multiply_add(const uint32_t a[4], const uint32_t b[2], float sum[4])
{
    bool is_half = std::is_same<T, __half>::value;
    rodeo_emulator::require_code(is_half ? TENSOR_CORES_FP16 : TENSOR_CORES_BF16);
    rodeo_emulator::ProductLane lane = {a, b, sum};
    rodeo_emulator::warp_together(&lane, rodeo_emulator::multiply_matrices<T>);
}

#endif
