/* What Hopper's warps wait for and signal, and how its tensor memory accelerator (TMA) loads, as
 * PTX has them (PTX ISA, under the instructions' names). Shared memory is named by its 32-bit
 * address. */
#ifndef RODEO_KERNELS_CUDA_HOPPER_ASYNC_CUH
#define RODEO_KERNELS_CUDA_HOPPER_ASYNC_CUH

#include <cuda.h>

#include <stdint.h>

/* ---- barriers in shared memory ------------------------------------------------------------------
 */

/* A phase ends with `count` arrivals and when all bytes that it expects have been written. */
__device__ static inline void barrier_init(uint32_t barrier, uint32_t count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

/* Behind the last barrier_init: what TMA does must see them, too. */
__device__ static inline void barriers_are_ready(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ static inline void barrier_arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ static inline void barrier_arrive_expecting(uint32_t barrier, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

/* Until the phase is over whose number has this parity; the first has 0. */
__device__ static inline void barrier_wait(uint32_t barrier, uint32_t parity)
{
    uint32_t is_over;
    do {
        asm volatile("{\n"
                     ".reg .pred over;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, over;\n"
                     "}\n"
                     : "=r"(is_over)
                     : "r"(barrier), "r"(parity)
                     : "memory");
    } while (!is_over);
}

/* ---- named barriers, of some of a block's warps -------------------------------------------------
 */

/* Waits until `threads` have come to it, those counted that do not wait. */
__device__ static inline void named_wait(int name, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

__device__ static inline void named_arrive(int name, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

/* ---- memory -------------------------------------------------------------------------------------
 */

/* What this thread has written to shared memory is there for wgmma and TMA, which take another way
 * to it (PTX ISA, "proxies"), before what it does next. */
__device__ static inline void fence_async(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Has TMA write the box at these coordinates of a tensor, zeros beyond its edges, to shared memory,
 * and tell the barrier of the bytes. The map is a parameter of the kernel. */
__device__ static inline void load_box(uint32_t to, const CUtensorMap *map, uint32_t barrier, int c,
                                       int x, int y, int n)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
                 "l"(map), "r"(barrier), "r"(c), "r"(x), "r"(y), "r"(n)
                 : "memory");
}

/* Four 8 x 8 matrices of 2-byte elements, transposed: lane 8 i + r names row r of matrix i. */
__device__ static inline void store_transposed(uint32_t row, const uint32_t matrix[4])
{
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
        "r"(matrix[0]), "r"(matrix[1]), "r"(matrix[2]), "r"(matrix[3])
        : "memory");
}

__device__ static inline uint4 load_shared(uint32_t address)
{
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(address)
                 : "memory");
    return v;
}

__device__ static inline void store_shared(uint32_t address, uint4 v)
{
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
}

__device__ static inline void store_shared(uint32_t address, uint16_t v)
{
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(address), "h"(v) : "memory");
}

#endif
