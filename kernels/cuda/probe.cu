/* Which code of this build the GPU at hand runs. */
#include "kernels/cuda/device.cuh"

#include "kernels/cuda/probe.h"

__global__ static void probe_kernel()
{
}

cudaError_t cuda_probe(int *compiled_for)
{
    struct cudaFuncAttributes attributes = {};
    cudaError_t status = cudaFuncGetAttributes(&attributes, probe_kernel);
    cudaGetLastError(); /* the error stays behind otherwise and would be taken for a later call's */
    *compiled_for = attributes.ptxVersion;
    return status;
}
