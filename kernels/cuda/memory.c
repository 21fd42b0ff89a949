/* Device memory, pinned host memory, copies, memory that grows, and what happens when a call fails.
 */
#include "kernels/cuda/memory.h"

#include "base/mem.h"

#include <stdlib.h>

#define SCRATCH_LEAST ((size_t)16 << 20)

struct CudaBlock {
    void *memory;
    CudaBlock *next;
};

void cuda_fail(cudaError_t status, const char *call, const char *file, int line)
{
    const char *advice = "";
    if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorUnsupportedPtxVersion) {
        advice = "; this build has no code for this GPU and driver: configure again on this "
                 "machine, or with -DRODEO_CUDA_ARCHITECTURES=XY for compute capability X.Y";
    } else if (status == cudaErrorInsufficientDriver) {
        advice = "; the driver is older than the CUDA toolkit of this build";
    }
    fatal("%s failed: %s (%s)%s   [%s:%d]", call, cudaGetErrorString(status),
          cudaGetErrorName(status), advice, file, line);
}

void cudnn_fail(cudnnStatus_t status, const char *call, const char *file, int line)
{
    char last[512] = "";
    cudnnGetLastErrorString(last, sizeof last);
    fatal("%s failed: %s %s  [%s:%d]", call, cudnnGetErrorString(status), last, file, line);
}

void cublas_fail(cublasStatus_t status, const char *call, const char *file, int line)
{
    fatal("%s failed: %s   [%s:%d]", call, cublasGetStatusString(status), file, line);
}

void cuda_memory(const Backend *be, size_t *free_bytes, size_t *total_bytes)
{
    (void)be;
    CUDA_CHECK(cudaMemGetInfo(free_bytes, total_bytes));
}

static double mib(size_t bytes)
{
    return (double)bytes / 1048576.0;
}

void *cuda_alloc(Backend *be, size_t bytes)
{
    void *memory = NULL;
    cudaError_t status = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (status == cudaErrorMemoryAllocation) {
        size_t free_bytes;
        size_t total_bytes;
        cuda_memory(be, &free_bytes, &total_bytes);
        fatal("the GPU's memory does not suffice: %.0f MiB are needed, %.0f of %.0f MiB are free; "
              "choose a smaller batch, or end other programs on this GPU",
              mib(bytes), mib(free_bytes), mib(total_bytes));
    }
    CUDA_CHECK(status);
    return memory;
}

void cuda_free(Backend *be, void *memory)
{
    (void)be;
    CUDA_CHECK(cudaFree(memory));
}

void *cuda_host_alloc(Backend *be, size_t bytes)
{
    (void)be;
    void *memory = NULL;
    cudaError_t status = cudaHostAlloc(&memory, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
    if (status == cudaErrorMemoryAllocation) {
        fatal("this machine's memory does not suffice: %.0f MiB are needed that the GPU can copy "
              "from; choose a smaller batch, or end other programs",
              mib(bytes));
    }
    CUDA_CHECK(status);
    return memory;
}

void cuda_host_free(Backend *be, void *memory)
{
    (void)be;
    CUDA_CHECK(cudaFreeHost(memory));
}

void cuda_zero(Backend *be, void *memory, size_t bytes)
{
    CUDA_CHECK(cudaMemsetAsync(memory, 0, bytes, cuda_stream(be)));
}

void cuda_copy_in(Backend *be, void *device, const void *host, size_t bytes)
{
    CUDA_CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda_stream(be)));
}

void cuda_copy_out_async(Backend *be, void *host, const void *device, size_t bytes)
{
    CUDA_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, cuda_stream(be)));
}

void cuda_copy_out(Backend *be, void *host, const void *device, size_t bytes)
{
    cuda_copy_out_async(be, host, device, bytes);
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream(be)));
}

void cuda_synchronize(Backend *be)
{
    for (int i = 0; i < DEVICE_LANES; i++) {
        CUDA_CHECK(cudaStreamSynchronize(cuda_backend(be)->lanes[i].stream));
    }
}

/* Recorded steps may use the memory as long as there are any; else it is free once what is enqueued
 * has run. */
static void outgrow(CudaBackend *cuda, void *memory)
{
    if (memory != NULL && cuda->has_recorded) {
        CudaBlock *old = mem_zeroed(1, sizeof *old);
        *old = (CudaBlock){.memory = memory, .next = cuda->outgrown};
        cuda->outgrown = old;
    } else if (memory != NULL) {
        cuda_synchronize(&cuda->base);
        cuda_free(&cuda->base, memory);
    }
}

static void *grow(CudaBackend *cuda, CudaGrowing *g, size_t bytes, size_t least)
{
    if (bytes <= g->bytes) {
        return g->memory;
    }
    if (cuda->capturing) {
        fatal("an operator needs %zu bytes of memory of its own while a step is being recorded: it "
              "must have run with this shape before",
              bytes);
    }
    outgrow(cuda, g->memory);
    g->bytes = bytes > least ? bytes : least;
    g->memory = cuda_alloc(&cuda->base, g->bytes);
    return g->memory;
}

void *cuda_scratch(CudaBackend *cuda, size_t bytes)
{
    return grow(cuda, &cuda_lane(cuda)->scratch, bytes, SCRATCH_LEAST);
}

void *cuda_workspace(CudaBackend *cuda, size_t bytes)
{
    return grow(cuda, &cuda_lane(cuda)->workspace, bytes, 0);
}

void cuda_free_outgrown(CudaBackend *cuda)
{
    while (cuda->outgrown) {
        CudaBlock *block = cuda->outgrown;
        cuda->outgrown = block->next;
        cuda_free(&cuda->base, block->memory);
        free(block);
    }
}
