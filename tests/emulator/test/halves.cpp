/* Conversions of the 16-bit types against formulas that share nothing with them. */
#include "harness.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <random>

/* The value of a 16-bit float with `digits` bits of mantissa below the leading one. */
static double value_of(unsigned bits, int digits)
{
    int exponents = 15 - digits;
    int bias = (1 << (exponents - 1)) - 1;
    int exponent = (int)(bits >> digits) & ((1 << exponents) - 1);
    double mantissa = bits & ((1u << digits) - 1);
    double sign = (bits & 0x8000) != 0 ? -1 : 1;
    if (exponent == (1 << exponents) - 1) {
        return mantissa == 0 ? sign * INFINITY : NAN;
    }
    return exponent == 0 ? sign * std::ldexp(mantissa, 1 - bias - digits)
                         : sign * std::ldexp(mantissa + (1 << digits), exponent - bias - digits);
}

/* x to the nearest multiple of the spacing at its size, ties to even; infinity from half a step
 * above the largest number on. */
static double nearest(double x, int digits)
{
    int bias = (1 << (14 - digits)) - 1;
    int exponent = x == 0 ? 1 - bias : std::max(std::ilogb(x), 1 - bias);
    double step = std::ldexp(1.0, exponent - digits);
    double rounded = std::nearbyint(x / step) * step;
    return std::fabs(rounded) >= std::ldexp(1.0, bias + 1) ? std::copysign(INFINITY, x) : rounded;
}

static bool same(double a, double b)
{
    return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

static void check_rounding(float x)
{
    double half = value_of(__half_as_ushort(__float2half_rn(x)), 10);
    double bf16 = value_of(__bfloat16_as_ushort(__float2bfloat16_rn(x)), 7);
    if (std::isfinite(x)) {
        CHECK(same(half, nearest(x, 10)));
        CHECK(same(bf16, nearest(x, 7)));
    } else {
        CHECK(same(half, x) && same(bf16, x));
    }
}

void test_halves()
{
    for (unsigned bits = 0; bits < 65536; bits++) {
        float half = __half2float(__ushort_as_half((unsigned short)bits));
        float bf16 = __bfloat162float(__ushort_as_bfloat16((unsigned short)bits));
        CHECK(same(half, value_of(bits, 10)) && same(bf16, value_of(bits, 7)));
        CHECK(std::isnan(half) || __half_as_ushort(__float2half_rn(half)) == bits);
        CHECK(std::isnan(bf16) || __bfloat16_as_ushort(__float2bfloat16_rn(bf16)) == bits);
        /* Between two neighbours: the middle and the floats beside it. */
        float above = __half2float(__ushort_as_half((unsigned short)(bits + 1)));
        float middle = (half + above) / 2;
        for (float x : {middle, nextafterf(middle, INFINITY), nextafterf(middle, -INFINITY)}) {
            check_rounding(x);
        }
    }
    std::mt19937 random(1);
    for (int i = 0; i < 1000000; i++) {
        check_rounding(__uint_as_float(random()));
    }
    for (float x : {0.0f, -0.0f, 65504.0f, 65519.99f, 65520.0f, 5.9604645e-8f, 2.9802322e-8f,
                    2.9802326e-8f, 3.4028235e38f, INFINITY, -INFINITY, NAN}) {
        check_rounding(x);
    }
    CHECK(sizeof(__half2) == 4 && alignof(__half2) == 4 && sizeof(__nv_bfloat162) == 4);
    CHECK(alignof(float4) == 16 && alignof(float2) == 8 && alignof(uchar4) == 4);
}
