/* What CUDA kernels see, for g++ and clang++: qualifiers, indices, barriers, warp primitives,
 * atomics, intrinsics, and the launch. Included by cuda_runtime.h in C++.
 *
 * Each thread of a block is a fiber that runs until it meets a barrier or a warp primitive, or
 * ends. Only one block of one kernel runs at a time, on the host thread that waits for it. */
#ifndef RODEO_EMULATOR_KERNEL_H
#define RODEO_EMULATOR_KERNEL_H

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <math.h>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__
/* Thread-local storage is the one kind of static storage that templates and functions share with
 * nothing else, so that the emulator can find it and fill it with NaN before every block. */
#define __shared__ static thread_local

extern uint3 threadIdx, blockIdx; /* of the thread that runs */
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* ---- barriers and warp primitives ---------------------------------------------------------------
 */

namespace rodeo_emulator
{

enum class Exchange { shuffle, ballot, any, all, sync, together };

/* Waits until all lanes of mask have called it with the same kind and mask. Returns the bits of the
 * lane `source` for a shuffle (source 0..31, in the mask), else the vote. */
uint64_t warp_exchange(Exchange kind, unsigned mask, uint64_t bits, int source);
int lane();

/* Waits until all 32 lanes have called it with the same `all`, which then runs once, for what each
 * of them hands over. */
void warp_together(void *own, void (*all)(void *const lanes[32]));

/* Ends the program, saying what is wrong in the thread that runs. */
[[noreturn]] void die_in_kernel(const char *what);

/* Ends the program where kernels are compiled for less than this compute capability, 10 major +
 * minor. */
void require_code(int least);

/* Ends the program where width is not a power of two up to 32. */
void check_width(int width);

using Kernel = std::function<void()>;

cudaError_t launch(const cudaLaunchConfig_t *config, const void *kernel, size_t parameter_bytes,
                   Kernel run);

template <typename T> T shuffle(unsigned mask, T value, int source)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "32 or 64 bits");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = warp_exchange(Exchange::shuffle, mask, bits, source);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

} // namespace rodeo_emulator

void __syncthreads();

/* The same barrier with a vote of all threads of the block. */
int __syncthreads_count(int predicate);
int __syncthreads_or(int predicate);
int __syncthreads_and(int predicate);

inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    rodeo_emulator::warp_exchange(rodeo_emulator::Exchange::sync, mask, 0, 0);
}

inline void __threadfence()
{
}

inline void __threadfence_block()
{
}

template <typename T> T __shfl_sync(unsigned mask, T value, int source, int width = 32)
{
    rodeo_emulator::check_width(width);
    int first = rodeo_emulator::lane() & ~(width - 1);
    return rodeo_emulator::shuffle(mask, value, first + (source & (width - 1)));
}

template <typename T> T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32)
{
    rodeo_emulator::check_width(width);
    int lane = rodeo_emulator::lane();
    int source = lane ^ flip;
    int last = lane | (width - 1);
    return rodeo_emulator::shuffle(mask, value, source > last || source < 0 ? lane : source);
}

template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
    rodeo_emulator::check_width(width);
    int lane = rodeo_emulator::lane();
    int last = lane | (width - 1);
    int64_t source = (int64_t)lane + delta;
    return rodeo_emulator::shuffle(mask, value, source > last ? lane : (int)source);
}

template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
    rodeo_emulator::check_width(width);
    int lane = rodeo_emulator::lane();
    int first = lane & ~(width - 1);
    int64_t source = (int64_t)lane - delta;
    return rodeo_emulator::shuffle(mask, value, source < first ? lane : (int)source);
}

inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    using namespace rodeo_emulator;
    return (unsigned)warp_exchange(Exchange::ballot, mask, predicate != 0, 0);
}

inline int __any_sync(unsigned mask, int predicate)
{
    using namespace rodeo_emulator;
    return (int)warp_exchange(Exchange::any, mask, predicate != 0, 0);
}

inline int __all_sync(unsigned mask, int predicate)
{
    using namespace rodeo_emulator;
    return (int)warp_exchange(Exchange::all, mask, predicate != 0, 0);
}

/* ---- memory: fibers do not interrupt each other, so plain accesses are atomic
 * -------------------- */

/* The other accesses of instrumented code are told by the compiler. */
#define RODEO_UNWATCHED __attribute__((no_sanitize("thread")))

namespace rodeo_emulator
{

void touch_atomic(const void *memory, size_t bytes);

template <typename T> RODEO_UNWATCHED T atomic(const T *p)
{
    touch_atomic(p, sizeof(T));
    return *p;
}

} // namespace rodeo_emulator

#define RODEO_ATOMICS(T)                                                                           \
    RODEO_UNWATCHED inline T atomicAdd(T *p, T v)                                                  \
    {                                                                                              \
        T old = rodeo_emulator::atomic(p);                                                         \
        *p = (T)((unsigned long long)old + (unsigned long long)v);                                 \
        return old;                                                                                \
    }                                                                                              \
    RODEO_UNWATCHED inline T atomicMax(T *p, T v)                                                  \
    {                                                                                              \
        T old = rodeo_emulator::atomic(p);                                                         \
        *p = old > v ? old : v;                                                                    \
        return old;                                                                                \
    }                                                                                              \
    RODEO_UNWATCHED inline T atomicMin(T *p, T v)                                                  \
    {                                                                                              \
        T old = rodeo_emulator::atomic(p);                                                         \
        *p = old < v ? old : v;                                                                    \
        return old;                                                                                \
    }                                                                                              \
    RODEO_UNWATCHED inline T atomicOr(T *p, T v)                                                   \
    {                                                                                              \
        T old = rodeo_emulator::atomic(p);                                                         \
        *p = old | v;                                                                              \
        return old;                                                                                \
    }                                                                                              \
    RODEO_UNWATCHED inline T atomicAnd(T *p, T v)                                                  \
    {                                                                                              \
        T old = rodeo_emulator::atomic(p);                                                         \
        *p = old & v;                                                                              \
        return old;                                                                                \
    }                                                                                              \
    RODEO_UNWATCHED inline T atomicExch(T *p, T v)                                                 \
    {                                                                                              \
        T old = rodeo_emulator::atomic(p);                                                         \
        *p = v;                                                                                    \
        return old;                                                                                \
    }                                                                                              \
    RODEO_UNWATCHED inline T atomicCAS(T *p, T expected, T v)                                      \
    {                                                                                              \
        T old = rodeo_emulator::atomic(p);                                                         \
        *p = old == expected ? v : old;                                                            \
        return old;                                                                                \
    }
RODEO_ATOMICS(int)
RODEO_ATOMICS(unsigned int)
RODEO_ATOMICS(unsigned long long)
#undef RODEO_ATOMICS

#define RODEO_LOAD(name)                                                                           \
    template <typename T> T name(const T *p)                                                       \
    {                                                                                              \
        return *p;                                                                                 \
    }
#define RODEO_STORE(name)                                                                          \
    template <typename T> void name(T *p, T v)                                                     \
    {                                                                                              \
        *p = v;                                                                                    \
    }
RODEO_LOAD(__ldg)
RODEO_LOAD(__ldca)
RODEO_LOAD(__ldcg)
RODEO_LOAD(__ldcs)
RODEO_LOAD(__ldcv)
RODEO_LOAD(__ldlu)
RODEO_STORE(__stcg)
RODEO_STORE(__stcs)
RODEO_STORE(__stwb)
RODEO_STORE(__stwt)
#undef RODEO_LOAD
#undef RODEO_STORE

/* ---- arithmetic ---------------------------------------------------------------------------------
 */

/* The compiler must not contract these; the emulator's CMake function sees to it. */
#define RODEO_BINARY(T, name, op)                                                                  \
    inline T name(T a, T b)                                                                        \
    {                                                                                              \
        return a op b;                                                                             \
    }
RODEO_BINARY(float, __fadd_rn, +)
RODEO_BINARY(float, __fsub_rn, -)
RODEO_BINARY(float, __fmul_rn, *)
RODEO_BINARY(float, __fdiv_rn, /)
RODEO_BINARY(float, __fdividef, /)
RODEO_BINARY(double, __dadd_rn, +)
RODEO_BINARY(double, __dsub_rn, -)
RODEO_BINARY(double, __dmul_rn, *)
RODEO_BINARY(double, __ddiv_rn, /)
#undef RODEO_BINARY

#define RODEO_UNARY(R, name, T, expression)                                                        \
    inline R name(T a)                                                                             \
    {                                                                                              \
        return expression;                                                                         \
    }
RODEO_UNARY(float, rsqrtf, float, (float)(1.0 / std::sqrt((double)a)))
RODEO_UNARY(double, rsqrt, double, 1.0 / std::sqrt(a))
RODEO_UNARY(float, __frsqrt_rn, float, (float)(1.0 / std::sqrt((double)a)))
RODEO_UNARY(float, __fsqrt_rn, float, sqrtf(a))
RODEO_UNARY(float, __frcp_rn, float, 1.0f / a)
RODEO_UNARY(double, __drcp_rn, double, 1.0 / a)
RODEO_UNARY(double, __dsqrt_rn, double, std::sqrt(a))
RODEO_UNARY(float, __expf, float, expf(a))
RODEO_UNARY(float, __logf, float, logf(a))
RODEO_UNARY(float, __log2f, float, log2f(a))
RODEO_UNARY(float, __saturatef, float, a > 0 ? (a < 1 ? a : 1.0f) : 0.0f)
RODEO_UNARY(int, __popc, unsigned, __builtin_popcount(a))
RODEO_UNARY(int, __clz, int, a == 0 ? 32 : __builtin_clz((unsigned)a))
RODEO_UNARY(int, __ffs, int, __builtin_ffs(a))
#undef RODEO_UNARY

inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

inline double __fma_rn(double a, double b, double c)
{
    return fma(a, b, c);
}

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((uint64_t)a * b) >> 32);
}

inline int __mulhi(int a, int b)
{
    return (int)(((int64_t)a * b) >> 32);
}

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift)
{
    return (unsigned)(((((uint64_t)high << 32) | low) << (shift & 31)) >> 32);
}

inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift)
{
    return (unsigned)((((uint64_t)high << 32) | low) >> (shift & 31));
}

#define RODEO_BITS(name, From, To)                                                                 \
    inline To name(From from)                                                                      \
    {                                                                                              \
        To to;                                                                                     \
        std::memcpy(&to, &from, sizeof(to));                                                       \
        return to;                                                                                 \
    }
RODEO_BITS(__float_as_uint, float, unsigned)
RODEO_BITS(__float_as_int, float, int)
RODEO_BITS(__uint_as_float, unsigned, float)
RODEO_BITS(__int_as_float, int, float)
RODEO_BITS(__double_as_longlong, double, long long)
RODEO_BITS(__longlong_as_double, long long, double)
#undef RODEO_BITS

namespace rodeo_emulator
{

/* As the device converts: saturated at the ends of the range; NaN gives 0, or INT64_MIN in 64 bits.
 */
template <typename To> To saturate(double rounded)
{
    if (std::isnan(rounded)) {
        return sizeof(To) == 8 ? (To)(1ULL << 63) : 0;
    }
    double low = (double)std::numeric_limits<To>::min();
    double end = std::ldexp(1.0, std::numeric_limits<To>::digits);
    if (rounded < low) {
        return std::numeric_limits<To>::min();
    }
    return rounded >= end ? std::numeric_limits<To>::max() : (To)rounded;
}

} // namespace rodeo_emulator

#define RODEO_TO_INTEGER(name, From, To)                                                           \
    inline To __##name##_rn(From a)                                                                \
    {                                                                                              \
        return rodeo_emulator::saturate<To>(std::nearbyint((double)a));                            \
    }                                                                                              \
    inline To __##name##_rz(From a)                                                                \
    {                                                                                              \
        return rodeo_emulator::saturate<To>(std::trunc((double)a));                                \
    }                                                                                              \
    inline To __##name##_rd(From a)                                                                \
    {                                                                                              \
        return rodeo_emulator::saturate<To>(std::floor((double)a));                                \
    }                                                                                              \
    inline To __##name##_ru(From a)                                                                \
    {                                                                                              \
        return rodeo_emulator::saturate<To>(std::ceil((double)a));                                 \
    }
RODEO_TO_INTEGER(float2int, float, int)
RODEO_TO_INTEGER(float2uint, float, unsigned)
RODEO_TO_INTEGER(float2ll, float, long long)
RODEO_TO_INTEGER(double2int, double, int)
RODEO_TO_INTEGER(double2uint, double, unsigned)
RODEO_TO_INTEGER(double2ll, double, long long)
#undef RODEO_TO_INTEGER

#define RODEO_FROM(name, From, To)                                                                 \
    inline To name(From a)                                                                         \
    {                                                                                              \
        return (To)a;                                                                              \
    }
RODEO_FROM(__int2float_rn, int, float)
RODEO_FROM(__uint2float_rn, unsigned, float)
RODEO_FROM(__ll2float_rn, long long, float)
RODEO_FROM(__int2double_rn, int, double)
RODEO_FROM(__uint2double_rn, unsigned, double)
RODEO_FROM(__ll2double_rn, long long, double)
RODEO_FROM(__double2float_rn, double, float)
#undef RODEO_FROM

/* fminf and fmaxf return the number where the other argument is NaN, and so do min and max. */
#define RODEO_MIN_MAX(T)                                                                           \
    inline T min(T a, T b)                                                                         \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    inline T max(T a, T b)                                                                         \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }
RODEO_MIN_MAX(int)
RODEO_MIN_MAX(unsigned int)
RODEO_MIN_MAX(long)
RODEO_MIN_MAX(unsigned long)
RODEO_MIN_MAX(long long)
RODEO_MIN_MAX(unsigned long long)
#undef RODEO_MIN_MAX

inline float min(float a, float b)
{
    return fminf(a, b);
}

inline float max(float a, float b)
{
    return fmaxf(a, b);
}

inline double min(double a, double b)
{
    return fmin(a, b);
}

inline double max(double a, double b)
{
    return fmax(a, b);
}

/* ---- launch
 * -------------------------------------------------------------------------------------- */

/* The arguments are copied, as converted to the kernel's parameters. */
template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Params...),
                               Args &&...args)
{
    static_assert((std::is_trivially_copyable<std::decay_t<Params>>::value && ...),
                  "kernel parameters are copied byte by byte");
    static_assert((!std::is_reference<Params>::value && ...),
                  "kernels have no reference parameters");
    std::tuple<std::decay_t<Params>...> copied{std::forward<Args>(args)...};
    return rodeo_emulator::launch(
        config, reinterpret_cast<const void *>(kernel), (sizeof(std::decay_t<Params>) + ... + 0),
        [kernel, copied] { std::apply([kernel](auto... a) { kernel(a...); }, copied); });
}

template <typename T> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, T *kernel)
{
    return ::cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(kernel));
}

template <typename T> cudaError_t cudaMalloc(T **memory, size_t bytes)
{
    return ::cudaMalloc((void **)(void *)memory, bytes);
}

template <typename T> cudaError_t cudaMallocHost(T **memory, size_t bytes)
{
    return ::cudaMallocHost((void **)(void *)memory, bytes);
}

template <typename T> cudaError_t cudaHostAlloc(T **memory, size_t bytes, unsigned int flags)
{
    return ::cudaHostAlloc((void **)(void *)memory, bytes, flags);
}

#endif
