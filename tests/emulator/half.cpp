/* Conversions between float and the two 16-bit types, to nearest, ties to even. */
#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace rodeo_emulator
{

/* v / 2^shift, to nearest, ties to even; shift in 1..31. */
static uint32_t shift_rounded(uint32_t v, int shift)
{
    uint32_t half = 1u << (shift - 1);
    uint32_t rest = v & ((1u << shift) - 1);
    uint32_t q = v >> shift;
    return rest > half || (rest == half && (q & 1) != 0) ? q + 1 : q;
}

unsigned short half_from_float(float x)
{
    uint32_t bits = __float_as_uint(x);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return 0x7fff; /* the device's one NaN */
    }
    if (magnitude >= 0x47800000) { /* 2^16 */
        return (unsigned short)(sign | 0x7c00);
    }
    if (magnitude >= 0x38800000) { /* 2^-14: a normal number, unless it rounds up to infinity */
        return (unsigned short)(sign | shift_rounded(magnitude - (112u << 23), 13));
    }
    int exponent = (int)(magnitude >> 23);
    if (exponent < 102) { /* below half of the smallest subnormal, 2^-24 */
        return (unsigned short)sign;
    }
    uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    return (unsigned short)(sign | shift_rounded(mantissa, 126 - exponent));
}

float half_to_float(unsigned short bits)
{
    float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
    int exponent = bits >> 10 & 31;
    int mantissa = bits & 0x3ff;
    if (exponent == 31) {
        return __uint_as_float((bits & 0x8000u) << 16 | 0x7f800000u | (uint32_t)mantissa << 13);
    }
    return exponent == 0 ? sign * ldexpf((float)mantissa, -24)
                         : sign * ldexpf((float)(mantissa | 0x400), exponent - 25);
}

unsigned short bf16_from_float(float x)
{
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000) {
        return 0x7fff;
    }
    return (unsigned short)shift_rounded(bits, 16);
}

float bf16_to_float(unsigned short bits)
{
    return __uint_as_float((uint32_t)bits << 16);
}

} // namespace rodeo_emulator
