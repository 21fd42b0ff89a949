/* Kernels with and without faults: what the emulator must tell apart. */
#include "harness.h"

#include <cstdio>

__global__ void fill(float *y, float first)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    y[i] = first + (float)i;
}

/* The sum of one block's x; without its barriers it depends on the order of threads. */
template <bool barriers> __global__ void sum(const float *x, float *y)
{
    __shared__ float partial[256];
    unsigned t = threadIdx.x;
    partial[t] = x[t];
    if (barriers) {
        __syncthreads();
    }
    for (unsigned half = 128; half > 0; half /= 2) {
        if (t < half) {
            partial[t] += partial[t + half];
        }
        if (barriers) {
            __syncthreads();
        }
    }
    if (t == 0) {
        *y = partial[0];
    }
}

/* Every thread reads what its neighbour wrote in the round before: without the second barrier some
 * read what the neighbour wrote in this round. */
template <bool second> __global__ void shift(float *y)
{
    __shared__ float row[64];
    unsigned t = threadIdx.x;
    row[t] = (float)t;
    __syncthreads();
    float neighbour = row[(t + 1) % 64];
    if (second) {
        __syncthreads();
    }
    row[t] = neighbour;
    __syncthreads();
    y[t] = row[t];
}

__global__ void leave_before_barrier()
{
    if (threadIdx.x == 7) {
        return;
    }
    __syncthreads();
}

__global__ void all_leave_or_none()
{
    if (blockIdx.x == 1) {
        return;
    }
    __syncthreads();
}

__global__ void half_a_warp(float *y)
{
    float x = 1;
    if (threadIdx.x < 16) {
        x += __shfl_xor_sync(0xffffffffu, x, 8);
    }
    y[threadIdx.x] = x;
}

__global__ void reads_outside_mask(float *y)
{
    if (threadIdx.x < 16) {
        y[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 20);
    }
}

__global__ void no_initial_value(float *y)
{
    __shared__ float row[32];
    __shared__ int other[3];
    y[blockIdx.x * 32 + threadIdx.x] = row[threadIdx.x] + (float)other[0];
    __syncthreads();
    row[threadIdx.x] = 0;
}

__global__ void primitives(int *y)
{
    int t = (int)threadIdx.x;
    int lane = t % 32;
    int ok = __shfl_sync(0xffffffffu, t, 3) == t - lane + 3;
    ok &= __shfl_sync(0xffffffffu, t, 1, 8) == t - t % 8 + 1;
    ok &= __shfl_xor_sync(0xffffffffu, t, 5) == (t ^ 5);
    ok &= __shfl_down_sync(0xffffffffu, t, 4) == (lane < 28 ? t + 4 : t);
    ok &= __shfl_up_sync(0xffffffffu, t, 4u) == (lane >= 4 ? t - 4 : t);
    ok &= __shfl_xor_sync(0xffffffffu, 0x100000000LL * t, 1) == 0x100000000LL * (t ^ 1);
    ok &= __ballot_sync(0xffffffffu, lane % 2) == 0xaaaaaaaau;
    ok &= __any_sync(0xffffffffu, lane == 9) == 1 && __any_sync(0xffffffffu, 0) == 0;
    ok &= __all_sync(0xffffffffu, 1) == 1 && __all_sync(0xffffffffu, lane != 9) == 0;
    ok &= __syncthreads_count(t < 10) == 10;
    ok &= __syncthreads_or(t == 40) && !__syncthreads_or(0);
    ok &= __syncthreads_and(1) && !__syncthreads_and(t != 40);
    atomicAdd(&y[0], ok);
    atomicMax(&y[1], t);
    atomicOr((unsigned *)&y[2], 1u << lane);
}

__global__ void indices(int *seen)
{
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    seen[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1;
}

static void run_sum(void (*kernel)(const float *, float *))
{
    Device d;
    float result = 0;
    OK(launch(d.stream, 1, 256, fill, d.a, 1.0f));
    OK(launch(d.stream, 1, 256, kernel, d.a, d.b));
    OK(cudaMemcpyAsync(&result, d.b, sizeof(result), cudaMemcpyDeviceToHost, d.stream));
    CHECK(result == 256 * 257 / 2);
}

static void run_shift(void (*kernel)(float *))
{
    Device d;
    float y[64];
    OK(launch(d.stream, 1, 64, kernel, d.a));
    OK(cudaMemcpyAsync(y, d.a, sizeof(y), cudaMemcpyDeviceToHost, d.stream));
    for (int i = 0; i < 64; i++) {
        CHECK(y[i] == (float)((i + 1) % 64));
    }
}

template <typename... Params, typename... Args>
static Outcome fault(dim3 grid, dim3 block, void (*kernel)(Params...), Args... args)
{
    return in_child([=] {
        Device d;
        OK(launch(d.stream, grid, block, kernel, args...));
        OK(cudaStreamSynchronize(d.stream));
    });
}

/* The same for a kernel that writes to memory. */
static Outcome fault_writing(void (*kernel)(float *))
{
    return in_child([=] {
        Device d;
        OK(launch(d.stream, 1, 32, kernel, d.a));
        OK(cudaStreamSynchronize(d.stream));
    });
}

static void shared_memory_starts_as_nan()
{
    Device d;
    float y[32];
    for (int i = 0; i < 2; i++) {
        OK(launch(d.stream, 3, 32, no_initial_value, d.a));
        OK(cudaMemcpyAsync(y, d.a, sizeof(y), cudaMemcpyDeviceToHost, d.stream));
        for (float v : y) {
            CHECK(v != v);
        }
    }
}

static void primitives_work()
{
    Device d;
    int y[3];
    OK(cudaMemsetAsync(d.a, 0, sizeof(y), d.stream));
    OK(launch(d.stream, 1, 96, primitives, (int *)d.a));
    OK(cudaMemcpyAsync(y, d.a, sizeof(y), cudaMemcpyDeviceToHost, d.stream));
    CHECK(y[0] == 96 && y[1] == 95 && (unsigned)y[2] == 0xffffffffu);
}

static void every_index_once()
{
    Device d;
    int y[960];
    OK(cudaMemsetAsync(d.a, 0, sizeof(y), d.stream));
    OK(launch(d.stream, dim3(2, 5, 4), dim3(4, 2, 3), indices, (int *)d.a));
    OK(cudaMemcpyAsync(y, d.a, sizeof(y), cudaMemcpyDeviceToHost, d.stream));
    for (int count : y) {
        CHECK(count == 1);
    }
}

static void bad_launches()
{
    Device d;
    CHECK(launch(d.stream, 0, 32, fill, d.a, 0.0f) == cudaErrorInvalidConfiguration);
    CHECK(launch(d.stream, 1, 1025, fill, d.a, 0.0f) == cudaErrorInvalidConfiguration);
    CHECK(launch(d.stream, 1, dim3(64, 32), fill, d.a, 0.0f) == cudaErrorInvalidConfiguration);
    CHECK(launch(d.stream, dim3(1, 65536), 32, fill, d.a, 0.0f) == cudaErrorInvalidConfiguration);
    CHECK(cudaPeekAtLastError() == cudaErrorInvalidConfiguration);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    CHECK(cudaGetLastError() == cudaSuccess);
}

void test_kernels()
{
    CHECK(failures([] { run_sum(sum<true>); }, 20) == 0);
    CHECK(failures([] { run_sum(sum<false>); }, 20) == 20);
    CHECK(failures([] { run_shift(shift<true>); }, 20) == 0);
    CHECK(failures([] { run_shift(shift<false>); }, 20) == 20);

    Outcome left = fault(1, 64, leave_before_barrier);
    CHECK(left.status == 128 + 6 && left.says("__syncthreads") &&
          left.says("leave_before_barrier"));
    must_succeed([] {
        Device d;
        OK(launch(d.stream, 3, 64, all_leave_or_none));
        OK(cudaStreamSynchronize(d.stream));
    });
    Outcome missing = fault_writing(half_a_warp);
    CHECK(missing.status == 128 + 6 && missing.says("half_a_warp") && missing.says("do not come"));
    Outcome outside = fault_writing(reads_outside_mask);
    CHECK(outside.status == 128 + 6 && outside.says("reads lane 20"));

#ifndef __clang__
    must_succeed(shared_memory_starts_as_nan);
#else
    (void)shared_memory_starts_as_nan;
#endif
    must_succeed(primitives_work);
    must_succeed(every_index_once);
    must_succeed(bad_launches);
}
