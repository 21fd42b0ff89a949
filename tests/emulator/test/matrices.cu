/* Matrices in registers and their products, as kernels/cuda/tensor_core.cuh has them. */
#include "harness.h"

#include <kernels/cuda/tensor_core.cuh>

/* y [16,8] = a [16,16] b [16,8] with a[i][k] = i - k and b[k][j] = 3 k - j, all exact in half. */
__global__ void multiply(float *y)
{
    __shared__ __align__(16) __half a[16][16];
    __shared__ __align__(16) __half b[16][8];
    int lane = (int)threadIdx.x;
    for (int i = lane; i < 256; i += 32) {
        a[i / 16][i % 16] = __float2half_rn((float)(i / 16 - i % 16));
    }
    for (int i = lane; i < 128; i += 32) {
        b[i / 8][i % 8] = __float2half_rn((float)(3 * (i / 8) - i % 8));
    }
    __syncwarp();
    uint32_t left[4];
    uint32_t right[4];
    float sum[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    load_matrices(&a[lane % 16][lane / 16 * 8], left);
    load_transposed(&b[lane % 16][0], right); /* twice, of which the first two count */
    multiply_add<__half>(left, right, sum);
    for (int i = 0; i < 4; i++) {
        y[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
    }
}

static void products_are_right()
{
    Device d;
    float y[128];
    OK(launch(d.stream, 1, 32, multiply, d.a));
    OK(cudaMemcpyAsync(y, d.a, sizeof(y), cudaMemcpyDeviceToHost, d.stream));
    OK(cudaStreamSynchronize(d.stream));
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 8; j++) {
            float expected = (float)(1 + i / 8 * 2 + j % 2);
            for (int k = 0; k < 16; k++) {
                expected += (float)((i - k) * (3 * k - j));
            }
            CHECK(y[i * 8 + j] == expected);
        }
    }
}

__global__ void misaligned()
{
    __shared__ __align__(16) __half rows[32 * 8 + 1];
    rows[threadIdx.x] = __float2half_rn(0.0f);
    uint32_t matrix[4];
    load_matrices(rows + threadIdx.x * 8 + 1, matrix);
}

__global__ void only_some_lanes(float *y)
{
    uint32_t a[4] = {};
    float sum[4] = {};
    if (threadIdx.x != 5) {
        multiply_add<__half>(a, a, sum);
    }
    y[threadIdx.x] = sum[0];
}

void test_matrices()
{
    CHECK(failures(products_are_right, 20) == 0);
    Outcome odd = in_child([] {
        Device d;
        OK(launch(d.stream, 1, 32, misaligned));
        cudaStreamSynchronize(d.stream);
    });
    CHECK(odd.status == 128 + 6 && odd.says("not aligned to 16 bytes"));
    Outcome missing = in_child([] {
        Device d;
        OK(launch(d.stream, 1, 32, only_some_lanes, d.a));
        cudaStreamSynchronize(d.stream);
    });
    CHECK(missing.status == 128 + 6 && missing.says("do not come"));
    Outcome old = in_child(products_are_right, {{"CODE", "7.0"}});
    CHECK(old.status == 128 + 6 && old.says("code for compute capability 7.0"));
}
