/* Memory: guard zones, alignment, limits, copies, the host's hands off device memory, leaks. */
#include "harness.h"

#include <cstring>

__global__ static void write_at(float *y, int i)
{
    y[i] = 1;
}

__global__ static void write_vector(float *y)
{
    *(float4 *)y = make_float4(1, 2, 3, 4);
}

static Outcome write_outside(int i)
{
    return in_child([i] {
        Device d;
        OK(launch(d.stream, 1, 1, write_at, d.a, i));
        OK(cudaStreamSynchronize(d.stream));
    });
}

static void fresh_memory()
{
    Device d;
    unsigned char *odd, bytes[13];
    OK(cudaMalloc(&odd, 13));
    CHECK((uintptr_t)odd % 512 == 256 && (uintptr_t)d.a % 512 == 256);
    OK(cudaMemcpy(bytes, odd, 13, cudaMemcpyDeviceToHost));
    for (unsigned char byte : bytes) {
        CHECK(byte == 0xFF);
    }
    CHECK(cudaMemcpy(bytes, odd + 1, 13, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(bytes, odd, 13, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemset(odd, 0, 14) == cudaErrorInvalidValue);
    OK(cudaFree(odd));
    CHECK(cudaFree(odd) == cudaErrorInvalidValue);
}

static void memory_limit()
{
    void *p, *q;
    size_t left, total;
    OK(cudaMalloc(&p, 600000));
    CHECK(cudaMalloc(&q, 600000) == cudaErrorMemoryAllocation && q == nullptr);
    OK(cudaMemGetInfo(&left, &total));
    CHECK(total == 1000000 && left == 400000);
    OK(cudaFree(p));
    OK(cudaMalloc(&q, 600000));
    OK(cudaFree(q));
}

/* Pinned memory is read when the copy runs, pageable memory at the call. */
static void when_sources_are_read()
{
    Device d;
    float *pinned, pageable = 1, result[2];
    OK(cudaMallocHost(&pinned, sizeof(float)));
    *pinned = 1;
    OK(cudaMemcpyAsync(d.a, pinned, 4, cudaMemcpyHostToDevice, d.stream));
    OK(cudaMemcpyAsync(d.a + 1, &pageable, 4, cudaMemcpyHostToDevice, d.stream));
    *pinned = pageable = 2;
    OK(cudaMemcpyAsync(result, d.a, 8, cudaMemcpyDeviceToHost, d.stream));
    CHECK(result[0] == 2 && result[1] == 1);
    OK(cudaFreeHost(pinned));
}

void test_memory()
{
    for (int place : {-1, floats, floats + 8}) {
        Outcome outside = write_outside(place);
        CHECK(outside.status != 0);
        CHECK(outside.says("AddressSanitizer") ||
              (outside.says(place < 0 ? "before" : "behind") && outside.says("4096 bytes") &&
               outside.says("write_at")));
    }
    must_succeed(fresh_memory);
    must_succeed(memory_limit, {{"MEMORY", "1000000"}});
    must_succeed(when_sources_are_read);

    Outcome touched = in_child([] {
        Device d;
        d.a[0] = 1;
    });
    CHECK(touched.status != 0 && touched.says("the host touched device memory"));
    Outcome stale = in_child([] {
        Device d;
        float *p;
        OK(cudaMalloc(&p, 4));
        OK(cudaFree(p));
        OK(launch(d.stream, 1, 1, write_at, p, 0));
        OK(cudaStreamSynchronize(d.stream));
    });
    CHECK(stale.status != 0 && stale.says("memory that was freed"));

    auto leak = [] {
        void *p;
        cudaEvent_t event;
        OK(cudaMalloc(&p, 77));
        OK(cudaEventCreate(&event));
    };
    Outcome leaked = in_child(leak);
    CHECK(leaked.status == 23 && leaked.says("77 bytes") && leaked.says("events"));
    must_succeed(
        [] {
            void *p;
            OK(cudaMalloc(&p, 77));
        },
        {{"LEAKS", "0"}});
#ifdef __SANITIZE_ADDRESS__
    Outcome misaligned = in_child([] {
        Device d;
        OK(launch(d.stream, 1, 1, write_vector, d.a + 1));
        OK(cudaStreamSynchronize(d.stream));
    });
    CHECK(misaligned.status != 0 && misaligned.says("misaligned"));
#else
    (void)write_vector;
#endif
    must_succeed(
        [] {
            int count = 7;
            CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0);
            CHECK(cudaSetDevice(0) == cudaErrorNoDevice);
        },
        {{"GPUS", "0"}});
    must_succeed(
        [] {
            cudaDeviceProp p;
            OK(cudaGetDeviceProperties(&p, 0));
            CHECK(p.major == 7 && p.minor == 5 && !std::strcmp(p.name, "emulated GPU"));
        },
        {{"SM", "7.5"}});
}
