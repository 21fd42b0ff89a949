/* What every file with kernels needs: launching, element types, vectors of elements, warp sums.
 *
 * Kernels compute in float32; elements are converted when they are loaded and stored. A vector is V
 * consecutive elements that are loaded at once, 16 bytes where the layout allows it. */
#ifndef RODEO_KERNELS_CUDA_DEVICE_CUH
#define RODEO_KERNELS_CUDA_DEVICE_CUH

#include "kernels/cuda/cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <initializer_list>
#include <string.h>
#include <utility>

#define WARP        32
#define FULL_WARP   0xffffffffu
#define BLOCK_LIMIT 65535 /* of a grid's y and z */

/* Enqueues a kernel on the stream of the current lane and checks that it could be. `name` is for
 * the message. A block has `shared` bytes of shared memory besides what the kernel declares. */
template <typename... Params, typename... Args>
static void launch_with_shared(CudaBackend *cuda, const char *name, void (*kernel)(Params...),
                               dim3 grid, dim3 block, size_t shared, Args &&...args)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = cuda_lane(cuda)->stream;
    cudaError_t status = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
    if (status != cudaSuccess) {
        cuda_fail(status, name, __FILE__, __LINE__);
    }
#ifdef RODEO_SYNC
    if (!cuda->capturing) {
        status = cudaStreamSynchronize(config.stream);
        if (status != cudaSuccess) {
            cuda_fail(status, name, __FILE__, __LINE__);
        }
    }
#endif
}

/* The same for a kernel that needs no more than it declares. */
template <typename... Params, typename... Args>
static void launch(CudaBackend *cuda, const char *name, void (*kernel)(Params...), dim3 grid,
                   dim3 block, Args &&...args)
{
    launch_with_shared(cuda, name, kernel, grid, block, 0, std::forward<Args>(args)...);
}

/* ceil(a / b) */
__host__ __device__ static inline int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- elements ----------------------------------------------------------------------------------
 */

__device__ static inline float to_float(float x)
{
    return x;
}

__device__ static inline float to_float(__half x)
{
    return __half2float(x);
}

__device__ static inline float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <typename T> __device__ static inline T from_float(float x);

template <> __device__ inline float from_float<float>(float x)
{
    return x;
}

template <> __device__ inline __half from_float<__half>(float x)
{
    return __float2half_rn(x);
}

template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* x as it reads back after it was stored. */
template <typename T> __device__ static inline float rounded(float x)
{
    return to_float(from_float<T>(x));
}

/* ---- vectors of elements -----------------------------------------------------------------------
 */

/* V elements that lie on an address that is a multiple of their size: one load. */
template <typename T, int V> struct alignas(sizeof(T) * V) Packed {
    T element[V];
};

/* A vector as loaded, in one register for every 4 bytes, zeros until then. Held as elements of 2
 * bytes across a branch, it would take a register for each of them. */
template <int BYTES> struct Words {
    uint32_t word[BYTES / 4] = {};
};

template <> struct Words<2> {
    uint16_t word[1] = {};
};

template <> struct Words<1> {
    uint8_t word[1] = {};
};

template <typename T, int V> struct alignas(sizeof(T) * V) Loaded : Words<(int)sizeof(T) * V> {
};

/* V elements from p, which is aligned to V elements, as they are. */
template <typename T, int V> __device__ static inline Loaded<T, V> load_words(const T *p)
{
    return *reinterpret_cast<const Loaded<T, V> *>(p);
}

/* Its elements as float32. */
template <typename T, int V>
__device__ static inline void unpack(const Loaded<T, V> &loaded, float x[V])
{
    Packed<T, V> packed;
    memcpy(&packed, &loaded, sizeof(packed));
#pragma unroll
    for (int i = 0; i < V; i++) {
        x[i] = to_float(packed.element[i]);
    }
}

/* V elements from p, which is aligned to V elements, as float32. */
template <typename T, int V> __device__ static inline void load(const T *p, float x[V])
{
    unpack<T, V>(load_words<T, V>(p), x);
}

/* V float32 values as elements. */
template <typename T, int V> __device__ static inline Packed<T, V> pack(const float x[V])
{
    Packed<T, V> packed;
#pragma unroll
    for (int i = 0; i < V; i++) {
        packed.element[i] = from_float<T>(x[i]);
    }
    return packed;
}

/* The same in memory from p on, which is aligned to V elements. */
template <typename T, int V> __device__ static inline void store(T *p, const float x[V])
{
    *reinterpret_cast<Packed<T, V> *>(p) = pack<T, V>(x);
}

/* The longest vector of T, at most 16 bytes, that divides C: 8, 4, 2 or 1 elements. */
template <typename T> static inline int vector_length(int64_t C)
{
    int longest = 16 / (int)sizeof(T);
    while (C % longest != 0) {
        longest /= 2;
    }
    return longest;
}

/* Whether p may be accessed in vectors of V elements. Tensors from device_alloc always may; parts
 * of one may not. */
template <typename T> static inline bool is_aligned(const void *p, int V)
{
    return (uintptr_t)p % (sizeof(T) * (size_t)V) == 0;
}

/* Whether all of these may be accessed 16 bytes at a time; NULL may. */
static inline bool are_aligned(std::initializer_list<const void *> pointers)
{
    uintptr_t bits = 0;
    for (const void *p : pointers) {
        bits |= (uintptr_t)p;
    }
    return bits % 16 == 0;
}

/* ---- sums --------------------------------------------------------------------------------------
 */

/* The sum over a warp, in every lane, always in the same order. All 32 lanes must call it. */
__device__ static inline float warp_sum(float x)
{
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(FULL_WARP, x, offset);
    }
    return x;
}

__device__ static inline float warp_max(float x)
{
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, offset));
    }
    return x;
}

/* ---- choosing a kernel's types ------------------------------------------------------------------
 */

/* CALL(T) with T = the backend's element type. */
#define WITH_TYPE(cuda_type, CALL)                                                                 \
    do {                                                                                           \
        switch (cuda_type) {                                                                       \
        case CUDA_F32:                                                                             \
            CALL(float);                                                                           \
            break;                                                                                 \
        case CUDA_F16:                                                                             \
            CALL(__half);                                                                          \
            break;                                                                                 \
        case CUDA_BF16:                                                                            \
            CALL(__nv_bfloat16);                                                                   \
            break;                                                                                 \
        }                                                                                          \
    } while (0)

/* The same for kernels that are there for the half types alone. */
#define WITH_HALF_TYPE(cuda_type, CALL)                                                            \
    do {                                                                                           \
        if ((cuda_type) == CUDA_F16) {                                                             \
            CALL(__half);                                                                          \
        } else {                                                                                   \
            CALL(__nv_bfloat16);                                                                   \
        }                                                                                          \
    } while (0)

#endif
