#ifndef RODEO_KERNELS_CUDA_PROBE_H
#define RODEO_KERNELS_CUDA_PROBE_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cudaSuccess if this build's kernels can run on the current device. */
cudaError_t cuda_probe(void);

#ifdef __cplusplus
}
#endif

#endif
