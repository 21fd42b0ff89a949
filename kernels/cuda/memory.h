/* The memory functions of the backend's table. The meaning is that of their namesakes in device.h.
 */
#ifndef RODEO_KERNELS_CUDA_MEMORY_H
#define RODEO_KERNELS_CUDA_MEMORY_H

#include "kernels/cuda/cuda.h"

void cuda_memory(const Backend *be, size_t *free_bytes, size_t *total_bytes);
void *cuda_alloc(Backend *be, size_t bytes);
void cuda_free(Backend *be, void *memory);
void *cuda_host_alloc(Backend *be, size_t bytes);
void cuda_host_free(Backend *be, void *memory);
void cuda_zero(Backend *be, void *memory, size_t bytes);
void cuda_copy_in(Backend *be, void *device, const void *host, size_t bytes);
void cuda_copy_out(Backend *be, void *host, const void *device, size_t bytes);
void cuda_copy_out_async(Backend *be, void *host, const void *device, size_t bytes);
void cuda_synchronize(Backend *be);

#endif
