/* Events, lanes and recorded steps of the CUDA backend: streams, CUDA events and CUDA graphs. */
#ifndef RODEO_KERNELS_CUDA_ASYNC_H
#define RODEO_KERNELS_CUDA_ASYNC_H

#include "kernels/cuda/cuda.h"

extern const AsyncTable cuda_async_table;

#endif
