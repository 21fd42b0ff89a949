#ifndef RODEO_KERNELS_CUDA_PROBE_H
#define RODEO_KERNELS_CUDA_PROBE_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cudaSuccess if this build's kernels can run on the current device. Then *compiled_for is the
 * compute capability that they were compiled for (10 major + minor), which may be less than the
 * device's. */
cudaError_t cuda_probe(int *compiled_for);

#ifdef __cplusplus
}
#endif

#endif
