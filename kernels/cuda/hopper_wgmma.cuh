/* Products of matrices on Hopper's tensor cores by a warpgroup (PTX ISA, "wgmma.mma_async"), for
 * code that is compiled for sm_90a.
 *
 *   sums [64, TILE] = or += a [64, 16] b [16, TILE], in float32
 *
 * b lies in shared memory as hopper_geometry.cuh describes it, transposed; a as well, or in
 * registers. All 128 threads make the call; it takes effect behind wgmma_wait(). A register list
 * cannot be written shorter: the instruction names each of a thread's TILE / 2 sums. */
#ifndef RODEO_KERNELS_CUDA_HOPPER_WGMMA_CUH
#define RODEO_KERNELS_CUDA_HOPPER_WGMMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <stdint.h>

/* Before the first product, after registers that it uses have been written. */
__device__ static inline void wgmma_fence(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* Behind the last product. */
__device__ static inline void wgmma_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until all products are done. */
__device__ static inline void wgmma_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

#define NAMES_64                                                                                   \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_96                                                                                   \
    NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "  \
             "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define NAMES_128                                                                                  \
    NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "  \
             "%110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, "      \
             "%123, %124, %125, %126, %127"

#define SUMS_4(i)  "+f"(sums[i]), "+f"(sums[(i) + 1]), "+f"(sums[(i) + 2]), "+f"(sums[(i) + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4((i) + 4), SUMS_4((i) + 8), SUMS_4((i) + 12)
#define SUMS_32(i) SUMS_16(i), SUMS_16((i) + 16)
#define SUMS_64    SUMS_32(0), SUMS_32(32)
#define SUMS_96    SUMS_64, SUMS_32(64)
#define SUMS_128   SUMS_96, SUMS_32(96)

template <typename T, int TILE> struct Wgmma;

/* ADDS, A and B name the operands that follow the sums; the sums are set where `adds` is false. */
#define MULTIPLY_ADD(TYPES, TILE, REGISTERS, ADDS, A, B, TRANSPOSED, ...)                          \
    asm volatile("{\n"                                                                             \
                 ".reg .pred adds;\n"                                                              \
                 "setp.ne.b32 adds, " ADDS ", 0;\n"                                                \
                 "wgmma.mma_async.sync.aligned.m64n" #TILE "k16.f32." TYPES " {" NAMES_##REGISTERS \
                 "}, " A ", " B ", adds, 1, 1, " TRANSPOSED ";\n"                                  \
                 "}\n"                                                                             \
                 : SUMS_##REGISTERS                                                                \
                 : __VA_ARGS__)

#define MULTIPLY_SHARED(TYPES, TILE, REGISTERS, A, B, ADDS)                                        \
    static __device__ __forceinline__ void multiply_add(float(&sums)[REGISTERS], uint64_t a,       \
                                                        uint64_t b, bool adds)                     \
    {                                                                                              \
        MULTIPLY_ADD(TYPES, TILE, REGISTERS, ADDS, A, B, "0, 0", "l"(a), "l"(b), "r"((int)adds));  \
    }

#define MULTIPLY_REGISTERS(TYPES)                                                                  \
    static __device__ __forceinline__ void multiply_add(float(&sums)[64], const uint32_t a[4],     \
                                                        uint64_t b, bool adds)                     \
    {                                                                                              \
        MULTIPLY_ADD(TYPES, 128, 64, "%69", "{%64, %65, %66, %67}", "%68", "0", "r"(a[0]),         \
                     "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)adds));                     \
    }

#define DEFINE_WGMMA(T, TYPES)                                                                     \
    template <> struct Wgmma<T, 128> {                                                             \
        MULTIPLY_SHARED(TYPES, 128, 64, "%64", "%65", "%66")                                       \
        MULTIPLY_REGISTERS(TYPES)                                                                  \
    };                                                                                             \
    template <> struct Wgmma<T, 192> {                                                             \
        MULTIPLY_SHARED(TYPES, 192, 96, "%96", "%97", "%98")                                       \
    };                                                                                             \
    template <> struct Wgmma<T, 256> {                                                             \
        MULTIPLY_SHARED(TYPES, 256, 128, "%128", "%129", "%130")                                   \
    };

DEFINE_WGMMA(__half, "f16.f16")
DEFINE_WGMMA(__nv_bfloat16, "bf16.bf16")

#undef DEFINE_WGMMA
#undef MULTIPLY_REGISTERS
#undef MULTIPLY_SHARED
#undef MULTIPLY_ADD

#endif
