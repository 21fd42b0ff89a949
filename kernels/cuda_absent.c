/* Stands in for the CUDA backend in builds without it. */
#include "kernels/backend.h"

bool cuda_backend_is_built(void)
{
    return false;
}

bool cuda_backend_finds_gpu(void)
{
    return false;
}

Backend *cuda_backend_open(const DeviceOptions *options, Err *err)
{
    (void)options;
    err_set(err, "device cuda: this build has only the CPU backend, because CMake found no CUDA "
                 "compiler or no cuDNN; install both and configure again with -DRODEO_CUDA=ON, "
                 "which says what is missing, or give --device cpu");
    return NULL;
}
