/* CUDA's vector types, for cuda_runtime.h: sizes and alignments as on the device. */
#ifndef RODEO_EMULATOR_VECTOR_H
#define RODEO_EMULATOR_VECTOR_H

#define RODEO_ALIGNED(bytes) __attribute__((aligned(bytes)))

#define RODEO_VECTORS(T, base, align2, align4)                                                     \
    typedef struct base##1                                                                         \
    {                                                                                              \
        T x;                                                                                       \
    }                                                                                              \
    base##1;                                                                                       \
    typedef struct RODEO_ALIGNED(align2) base##2                                                   \
    {                                                                                              \
        T x, y;                                                                                    \
    }                                                                                              \
    base##2;                                                                                       \
    typedef struct base##3                                                                         \
    {                                                                                              \
        T x, y, z;                                                                                 \
    }                                                                                              \
    base##3;                                                                                       \
    typedef struct RODEO_ALIGNED(align4) base##4                                                   \
    {                                                                                              \
        T x, y, z, w;                                                                              \
    }                                                                                              \
    base##4;                                                                                       \
    static inline __attribute__((unused)) base##1 make_##base##1(T x)                              \
    {                                                                                              \
        base##1 v = {x};                                                                           \
        return v;                                                                                  \
    }                                                                                              \
    static inline __attribute__((unused)) base##2 make_##base##2(T x, T y)                         \
    {                                                                                              \
        base##2 v = {x, y};                                                                        \
        return v;                                                                                  \
    }                                                                                              \
    static inline __attribute__((unused)) base##3 make_##base##3(T x, T y, T z)                    \
    {                                                                                              \
        base##3 v = {x, y, z};                                                                     \
        return v;                                                                                  \
    }                                                                                              \
    static inline __attribute__((unused)) base##4 make_##base##4(T x, T y, T z, T w)               \
    {                                                                                              \
        base##4 v = {x, y, z, w};                                                                  \
        return v;                                                                                  \
    }

RODEO_VECTORS(signed char, char, 2, 4)
RODEO_VECTORS(unsigned char, uchar, 2, 4)
RODEO_VECTORS(short, short, 4, 8)
RODEO_VECTORS(unsigned short, ushort, 4, 8)
RODEO_VECTORS(int, int, 8, 16)
RODEO_VECTORS(unsigned int, uint, 8, 16)
RODEO_VECTORS(long long, longlong, 16, 16)
RODEO_VECTORS(unsigned long long, ulonglong, 16, 16)
RODEO_VECTORS(float, float, 8, 16)
RODEO_VECTORS(double, double, 16, 16)

#undef RODEO_VECTORS

typedef struct dim3 {
    unsigned int x, y, z;
#ifdef __cplusplus
    constexpr dim3(unsigned int vx = 1, unsigned int vy = 1, unsigned int vz = 1)
        : x(vx), y(vy), z(vz)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
#endif
} dim3;

#endif
