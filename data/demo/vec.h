/* Vectors of three floats, for the demo scenes: points, directions and linear RGB colours. */
#ifndef RODEO_DATA_DEMO_VEC_H
#define RODEO_DATA_DEMO_VEC_H

#include <math.h>

typedef struct {
    float x, y, z;
} Vec3;

static inline Vec3 vec(float x, float y, float z)
{
    return (Vec3){x, y, z};
}

static inline Vec3 vec_add(Vec3 a, Vec3 b)
{
    return vec(a.x + b.x, a.y + b.y, a.z + b.z);
}

static inline Vec3 vec_sub(Vec3 a, Vec3 b)
{
    return vec(a.x - b.x, a.y - b.y, a.z - b.z);
}

static inline Vec3 vec_mul(Vec3 a, Vec3 b)
{
    return vec(a.x * b.x, a.y * b.y, a.z * b.z);
}

static inline Vec3 vec_scale(Vec3 a, float s)
{
    return vec(a.x * s, a.y * s, a.z * s);
}

/* a + s b */
static inline Vec3 vec_along(Vec3 a, Vec3 b, float s)
{
    return vec(a.x + b.x * s, a.y + b.y * s, a.z + b.z * s);
}

static inline float vec_dot(Vec3 a, Vec3 b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

static inline Vec3 vec_cross(Vec3 a, Vec3 b)
{
    return vec(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}

static inline float vec_length(Vec3 a)
{
    return sqrtf(vec_dot(a, a));
}

/* a at length 1; (0, 0, 1) where a has no direction. */
static inline Vec3 vec_unit(Vec3 a)
{
    float length = vec_length(a);
    return length > 1e-12F ? vec_scale(a, 1.0F / length) : vec(0, 0, 1);
}

static inline Vec3 vec_mix(Vec3 a, Vec3 b, float t)
{
    return vec_along(a, vec_sub(b, a), t);
}

/* a turned about the y axis; cosine and sine of the angle. */
static inline Vec3 vec_turn(Vec3 a, float c, float s)
{
    return vec(c * a.x + s * a.z, a.y, c * a.z - s * a.x);
}

/* The larger and the smaller of two numbers; unlike fmaxf and fminf one instruction each, as
 * nothing is promised for what is not a number. */
static inline float maxf(float a, float b)
{
    return a > b ? a : b;
}

static inline float minf(float a, float b)
{
    return a < b ? a : b;
}

static inline float clampf(float v, float low, float high)
{
    return v < low ? low : v > high ? high : v;
}

static inline float mixf(float a, float b, float t)
{
    return a + (b - a) * t;
}

/* 0 below `low`, 1 above `high`, a smooth cubic between. */
static inline float smoothstepf(float low, float high, float v)
{
    float t = clampf((v - low) / (high - low), 0, 1);
    return t * t * (3 - 2 * t);
}

#endif
