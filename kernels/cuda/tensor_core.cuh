/* Tensor cores from compute capability 7.5 on, with bfloat16 from 8.0 on, as PTX has them (PTX ISA,
 * "ldmatrix" and "mma"); code for older GPUs stops there. A warp holds a matrix of 8 x 8 elements
 * of 2 bytes in one register a lane: lane 4 r + j has the elements 2j and 2j + 1 of row r. All 32
 * lanes must make these calls. */
#ifndef RODEO_KERNELS_CUDA_TENSOR_CORE_CUH
#define RODEO_KERNELS_CUDA_TENSOR_CORE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <stdint.h>

/* Compute capabilities, 10 major + minor, from which on compiled code has them. */
#define TENSOR_CORES_FP16 75
#define TENSOR_CORES_BF16 80

/* Four matrices from shared memory: lane 8 i + r names row r of matrix i, 16 bytes that are aligned
 * so. */
__device__ static inline void load_matrices(const void *row, uint32_t matrix[4]);

/* The same, each matrix transposed. */
__device__ static inline void load_transposed(const void *row, uint32_t matrix[4]);

/* sum [16,8] += a [16,16] b [16,8], in float32. a in four matrices: upper left, lower left, upper
 * right, lower right. b in two, the upper and the lower, both transposed. Lane 4 r + j has columns
 * 2j and 2j + 1 of the sum, of row r in sum[0] and sum[1] and of row r + 8 in the others. */
template <typename T>
__device__ static inline void multiply_add(const uint32_t a[4], const uint32_t b[2], float sum[4]);

#if defined(__CUDA_ARCH__)
#define TENSOR_CORES __CUDA_ARCH__
#else
#define TENSOR_CORES 800 /* the host's pass compiles nothing of this */
#endif

#if TENSOR_CORES >= 750

__device__ static inline void load_matrices(const void *row, uint32_t matrix[4])
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row)));
}

__device__ static inline void load_transposed(const void *row, uint32_t matrix[4])
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row)));
}

#else

__device__ static inline void load_matrices(const void *, uint32_t *)
{
    __trap();
}

__device__ static inline void load_transposed(const void *, uint32_t *)
{
    __trap();
}

#endif

#define MULTIPLY_ADD_16(TYPES)                                                                     \
    asm volatile("mma.sync.aligned.m16n8k16.row.col." TYPES                                        \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                \
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                          \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

#if TENSOR_CORES >= 800

template <>
__device__ inline void multiply_add<__half>(const uint32_t a[4], const uint32_t b[2], float sum[4])
{
    MULTIPLY_ADD_16("f32.f16.f16.f32");
}

template <>
__device__ inline void multiply_add<__nv_bfloat16>(const uint32_t a[4], const uint32_t b[2],
                                                   float sum[4])
{
    MULTIPLY_ADD_16("f32.bf16.bf16.f32");
}

#else

template <typename T>
__device__ static inline void multiply_add(const uint32_t *, const uint32_t *, float *)
{
    __trap();
}

#if TENSOR_CORES >= 750

/* Half of a's columns and of b's rows. */
__device__ static inline void multiply_add_8(const uint32_t a[2], uint32_t b, float sum[4])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"
                 " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

template <>
__device__ inline void multiply_add<__half>(const uint32_t a[4], const uint32_t b[2], float sum[4])
{
    multiply_add_8(a, b[0], sum);
    multiply_add_8(a + 2, b[1], sum);
}

#endif
#endif

#undef MULTIPLY_ADD_16
#undef TENSOR_CORES

#endif
