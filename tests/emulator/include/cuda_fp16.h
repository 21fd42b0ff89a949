/* IEEE half precision as kernels see it: storage and conversions, no arithmetic. */
#ifndef RODEO_EMULATOR_CUDA_FP16_H
#define RODEO_EMULATOR_CUDA_FP16_H

#include "cuda_runtime.h"

typedef struct RODEO_ALIGNED(2) __half {
    unsigned short bits;
} __half;

typedef struct RODEO_ALIGNED(4) __half2 {
    __half x, y;
} __half2;

#ifdef __cplusplus

namespace rodeo_emulator
{
unsigned short half_from_float(float x); /* to nearest, ties to even */
float half_to_float(unsigned short bits);
} // namespace rodeo_emulator

inline __half __float2half_rn(float x)
{
    return __half{rodeo_emulator::half_from_float(x)};
}

inline __half __float2half(float x)
{
    return __float2half_rn(x);
}

inline float __half2float(__half x)
{
    return rodeo_emulator::half_to_float(x.bits);
}

inline __half2 __floats2half2_rn(float x, float y)
{
    return __half2{__float2half_rn(x), __float2half_rn(y)};
}

inline __half2 __float22half2_rn(float2 v)
{
    return __floats2half2_rn(v.x, v.y);
}

inline float2 __half22float2(__half2 v)
{
    return make_float2(__half2float(v.x), __half2float(v.y));
}

inline __half2 __halves2half2(__half x, __half y)
{
    return __half2{x, y};
}

inline float __low2float(__half2 v)
{
    return __half2float(v.x);
}

inline float __high2float(__half2 v)
{
    return __half2float(v.y);
}

inline unsigned short __half_as_ushort(__half x)
{
    return x.bits;
}

inline __half __ushort_as_half(unsigned short bits)
{
    return __half{bits};
}
#endif

#endif
