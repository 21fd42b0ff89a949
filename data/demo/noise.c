#include "data/demo/noise.h"

/* A 32-bit mix with full avalanche, after the finalisers of common hash functions. */
static uint32_t mix_bits(uint32_t h)
{
    h ^= h >> 16;
    h *= 0x7FEB352Du;
    h ^= h >> 15;
    h *= 0x846CA68Bu;
    return h ^ h >> 16;
}

static float corner(int x, int y, int z, uint32_t seed)
{
    uint32_t h = seed ^ (uint32_t)x * 0x8DA6B343u ^ (uint32_t)y * 0xD8163841u;
    return (float)(mix_bits(h ^ (uint32_t)z * 0xCB1AB31Fu) >> 8) * 0x1p-24F;
}

float noise_value(Vec3 p, uint32_t seed)
{
    float fx = floorf(p.x);
    float fy = floorf(p.y);
    float fz = floorf(p.z);
    int x = (int)fx;
    int y = (int)fy;
    int z = (int)fz;
    float tx = smoothstepf(0, 1, p.x - fx);
    float ty = smoothstepf(0, 1, p.y - fy);
    float tz = smoothstepf(0, 1, p.z - fz);
    float face[2];
    for (int k = 0; k < 2; k++) {
        float low = mixf(corner(x, y, z + k, seed), corner(x + 1, y, z + k, seed), tx);
        float high = mixf(corner(x, y + 1, z + k, seed), corner(x + 1, y + 1, z + k, seed), tx);
        face[k] = mixf(low, high, ty);
    }
    return mixf(face[0], face[1], tz);
}

float noise_fractal(Vec3 p, int octaves, uint32_t seed)
{
    float sum = 0;
    float weight = 1;
    float total = 0;
    for (int i = 0; i < octaves; i++) {
        sum += weight * noise_value(p, seed + (uint32_t)i);
        total += weight;
        weight *= 0.5F;
        p = vec_scale(p, 2.03F);
    }
    return sum / total;
}
