/* In the place of hopper_conv.cu where no code for sm_90a is built. */
#include "kernels/cuda/hopper_conv.h"

#include "base/err.h"

bool cuda_can_convolve_hopper(const CudaBackend *cuda, const ConvProblem *problem)
{
    (void)cuda;
    (void)problem;
    return false;
}

void cuda_hopper_conv(CudaBackend *cuda, const ConvProblem *problem, const ConvOperands *operands)
{
    (void)cuda;
    (void)problem;
    (void)operands;
    fatal("this build has no convolutions for Hopper");
}
