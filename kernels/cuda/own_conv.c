#include "kernels/cuda/own_conv.h"

#include "kernels/cuda/float_conv.h"
#include "kernels/cuda/hopper_conv.h"

static bool is_float(const ConvProblem *problem)
{
    return problem->type == CUDNN_DATA_FLOAT;
}

int own_conv_tiles(const ConvProblem *problem, int64_t tiles[OWN_CONV_TILES])
{
    if (is_float(problem)) {
        tiles[0] = FLOAT_CONV_NARROW;
        tiles[1] = FLOAT_CONV_WIDE;
        return 2;
    }
    tiles[0] = HOPPER_CONV_TILE;
    return 1;
}

bool own_conv_can_run(const CudaBackend *cuda, const ConvProblem *problem, int64_t tile)
{
    return is_float(problem) ? cuda_can_convolve_floats(cuda, problem, tile)
                             : tile == HOPPER_CONV_TILE && cuda_can_convolve_hopper(cuda, problem);
}

size_t own_conv_workspace(const CudaBackend *cuda, const ConvProblem *problem, int64_t tile)
{
    return is_float(problem) ? cuda_float_conv_workspace(cuda, problem, tile) : 0;
}

void own_conv_run(CudaBackend *cuda, const ConvProblem *problem, int64_t tile,
                  const ConvOperands *operands, void *workspace)
{
    if (is_float(problem)) {
        cuda_float_conv(cuda, problem, tile, operands, workspace);
    } else {
        cuda_hopper_conv(cuda, problem, operands);
    }
}
