/* What kernels/cuda/overlap.cuh says in PTX: it is found before that one. */
#ifndef RODEO_EMULATOR_OVERLAP_CUH
#define RODEO_EMULATOR_OVERLAP_CUH

inline void begin_kernel()
{
    rodeo_emulator::wait_for_earlier_kernels();
}

#endif
