/* Products of matrices on Hopper's tensor cores by a warpgroup (PTX ISA, "wgmma.mma_async"), for
 * code that is compiled for sm_90a.
 *
 *   sums [64, 256] = or += a [64, 16] b [16, 256], in float32
 *
 * a, and b transposed, lie in shared memory as hopper_geometry.cuh describes it. All 128 threads
 * make the call; it takes effect behind wgmma_wait(). A register list cannot be written shorter:
 * the instruction names each of a thread's 128 sums. */
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

#define NAMES                                                                                      \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "             \
    "%110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, "               \
    "%123, %124, %125, %126, %127"

#define SUMS_4(i)  "+f"(sums[i]), "+f"(sums[(i) + 1]), "+f"(sums[(i) + 2]), "+f"(sums[(i) + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4((i) + 4), SUMS_4((i) + 8), SUMS_4((i) + 12)
#define SUMS_64(i) SUMS_16(i), SUMS_16((i) + 16), SUMS_16((i) + 32), SUMS_16((i) + 48)

#define MULTIPLY_ADD(TYPES)                                                                        \
    asm volatile("{\n"                                                                             \
                 ".reg .pred adds;\n"                                                              \
                 "setp.ne.b32 adds, %130, 0;\n"                                                    \
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPES " {" NAMES                   \
                 "}, %128, %129, adds, 1, 1, 0, 0;\n"                                              \
                 "}\n"                                                                             \
                 : SUMS_64(0), SUMS_64(64)                                                         \
                 : "l"(a), "l"(b), "r"((int)adds))

/* The sums are set where `adds` is false. a and b: hopper_geometry.cuh's descriptors. */
template <typename T>
__device__ static __forceinline__ void wgmma_multiply_add(float (&sums)[128], uint64_t a,
                                                          uint64_t b, bool adds);

template <>
__device__ __forceinline__ void wgmma_multiply_add<__half>(float (&sums)[128], uint64_t a,
                                                           uint64_t b, bool adds)
{
    MULTIPLY_ADD("f16.f16");
}

template <>
__device__ __forceinline__ void wgmma_multiply_add<__nv_bfloat16>(float (&sums)[128], uint64_t a,
                                                                  uint64_t b, bool adds)
{
    MULTIPLY_ADD("bf16.bf16");
}

#undef MULTIPLY_ADD
#undef SUMS_64
#undef SUMS_16
#undef SUMS_4
#undef NAMES

#endif
