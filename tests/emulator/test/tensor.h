/* Tensors on the device for the tests of cuBLAS and cuDNN. */
#ifndef RODEO_EMULATOR_TEST_TENSOR_H
#define RODEO_EMULATOR_TEST_TENSOR_H

#include "harness.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>
#include <random>

enum Type { F32, F16, BF16 };

constexpr double unit[] = {0x1p-24, 0x1p-11, 0x1p-8};

inline float rounded(Type type, float x)
{
    return type == F16    ? __half2float(__float2half_rn(x))
           : type == BF16 ? __bfloat162float(__float2bfloat16_rn(x))
                          : x;
}

/* A tensor on the device and, as doubles, on the host. */
struct Tensor {
    Type type;
    std::vector<double> host;
    void *device = nullptr;
    Tensor(Type t, size_t count, unsigned seed) : type(t), host(count)
    {
        std::mt19937 random(seed);
        std::vector<char> raw(count * bytes());
        for (size_t i = 0; i < count; i++) {
            float x = rounded(t, (float)random() / 4294967296.0f - 0.5f);
            host[i] = x;
            if (t == F32) {
                std::memcpy(&raw[4 * i], &x, 4);
            } else {
                unsigned short bits = t == F16 ? __half_as_ushort(__float2half_rn(x))
                                               : __bfloat16_as_ushort(__float2bfloat16_rn(x));
                std::memcpy(&raw[2 * i], &bits, 2);
            }
        }
        OK(cudaMalloc(&device, raw.size()));
        OK(cudaMemcpy(device, raw.data(), raw.size(), cudaMemcpyHostToDevice));
    }
    ~Tensor()
    {
        OK(cudaFree(device));
    }
    Tensor(const Tensor &) = delete;
    Tensor &operator=(const Tensor &) = delete;
    size_t bytes() const
    {
        return type == F32 ? 4 : 2;
    }
    double at(size_t i) const
    {
        unsigned char raw[4];
        OK(cudaMemcpy(raw, (char *)device + i * bytes(), bytes(), cudaMemcpyDeviceToHost));
        float wide;
        unsigned short half;
        std::memcpy(&wide, raw, 4);
        std::memcpy(&half, raw, 2);
        return type == F32   ? wide
               : type == F16 ? __half2float(__ushort_as_half(half))
                             : __bfloat162float(__ushort_as_bfloat16(half));
    }
    /* The device has what the host expects. size: of the sums of absolute values. */
    void compare(const std::vector<double> &expected, double size, double factor_error) const
    {
        OK(cudaDeviceSynchronize());
        for (size_t i = 0; i < expected.size(); i++) {
            double tolerance =
                unit[type] * std::fabs(expected[i]) + size * (0x1p-20 + factor_error);
            if (!(std::fabs(at(i) - expected[i]) <= tolerance)) {
                std::fprintf(stderr, "[%zu] is %g, not %g\n", i, at(i), expected[i]);
                CHECK(false);
            }
        }
    }
};

#endif
