/* bfloat16 as kernels see it: storage and conversions, no arithmetic. */
#ifndef RODEO_EMULATOR_CUDA_BF16_H
#define RODEO_EMULATOR_CUDA_BF16_H

#include "cuda_runtime.h"

typedef struct RODEO_ALIGNED(2) __nv_bfloat16 {
    unsigned short bits;
} __nv_bfloat16;

typedef struct RODEO_ALIGNED(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
} __nv_bfloat162;

#ifdef __cplusplus

namespace rodeo_emulator
{
unsigned short bf16_from_float(float x); /* to nearest, ties to even */
float bf16_to_float(unsigned short bits);
} // namespace rodeo_emulator

inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __nv_bfloat16{rodeo_emulator::bf16_from_float(x)};
}

inline __nv_bfloat16 __float2bfloat16(float x)
{
    return __float2bfloat16_rn(x);
}

inline float __bfloat162float(__nv_bfloat16 x)
{
    return rodeo_emulator::bf16_to_float(x.bits);
}

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return __nv_bfloat162{__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}

inline __nv_bfloat162 __float22bfloat162_rn(float2 v)
{
    return __floats2bfloat162_rn(v.x, v.y);
}

inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return make_float2(__bfloat162float(v.x), __bfloat162float(v.y));
}

inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return __nv_bfloat162{x, y};
}

inline float __low2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.x);
}

inline float __high2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.y);
}

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}

inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return __nv_bfloat16{bits};
}
#endif

#endif
