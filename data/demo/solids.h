/* Signed distances of the simple solids that shapes are put together from. */
#ifndef RODEO_DATA_DEMO_SOLIDS_H
#define RODEO_DATA_DEMO_SOLIDS_H

#include "data/demo/vec.h"

/* A segment from a to b, `radius` thick all around. */
static inline float solid_capsule(Vec3 p, Vec3 a, Vec3 b, float radius)
{
    Vec3 pa = vec_sub(p, a);
    Vec3 ba = vec_sub(b, a);
    float t = clampf(vec_dot(pa, ba) / vec_dot(ba, ba), 0, 1);
    return vec_length(vec_along(pa, ba, -t)) - radius;
}

/* A box about the origin with half sides `half` and rounded edges. */
static inline float solid_box(Vec3 p, Vec3 half, float rounding)
{
    float x = fabsf(p.x) - half.x + rounding;
    float y = fabsf(p.y) - half.y + rounding;
    float z = fabsf(p.z) - half.z + rounding;
    float outside = vec_length(vec(maxf(x, 0), maxf(y, 0), maxf(z, 0)));
    return outside + minf(maxf(x, maxf(y, z)), 0) - rounding;
}

/* An ellipsoid about the origin; close to exact near its surface. */
static inline float solid_ellipsoid(Vec3 p, Vec3 radius)
{
    Vec3 q = vec(p.x / radius.x, p.y / radius.y, p.z / radius.z);
    Vec3 g = vec(q.x / radius.x, q.y / radius.y, q.z / radius.z);
    float k = vec_length(q);
    return k * (k - 1) / maxf(vec_length(g), 1e-6F);
}

/* A ring about the y axis, `radius` to the middle of a tube of radius `tube`. */
static inline float solid_ring(Vec3 p, float radius, float tube)
{
    float r = sqrtf(p.x * p.x + p.z * p.z) - radius;
    return sqrtf(r * r + p.y * p.y) - tube;
}

/* A handle: a ring in the plane z = 0, stretched to half width w and half height h. */
static inline float solid_handle(Vec3 p, float w, float h, float tube)
{
    float straight = maxf(h - w, 0);
    float y = p.y - clampf(p.y, -straight, straight);
    float r = sqrtf(p.x * p.x + y * y) - w;
    return sqrtf(r * r + p.z * p.z) - tube;
}

/* The union of two solids, with a fillet of about size k where they meet. */
static inline float solid_blend(float a, float b, float k)
{
    float h = maxf(k - fabsf(a - b), 0) / k;
    return minf(a, b) - h * h * k * 0.25F;
}

/* Takes part `part` at distance d where it is nearer. */
static inline float solid_nearer(float distance, float d, int part, int *nearest)
{
    if (d < distance) {
        *nearest = part;
        return d;
    }
    return distance;
}

#endif
