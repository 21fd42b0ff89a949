/* How every kernel begins.
 *
 * From compute capability 9.0 on a kernel is launched while the last blocks of the one before it in
 * its stream still run, and its first blocks take the places that these leave (CUDA programming
 * guide, "programmatic dependent launch"). What lies between two kernels, some microseconds of
 * draining, launching and filling up, then passes while the GPU is busy. Nothing that the earlier
 * kernel does is certain to have happened until begin_kernel() returns. */
#ifndef RODEO_KERNELS_CUDA_OVERLAP_CUH
#define RODEO_KERNELS_CUDA_OVERLAP_CUH

/* Waits until all earlier work of the stream is done, and lets the next kernel be launched. Every
 * thread of every kernel calls it, once, before it accesses memory of the device: even a kernel
 * that could do without, because the ones behind it rely on what it waited for. */
__device__ static inline void begin_kernel()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif
