/* Rodeo's own convolutions, more candidates beside cuDNN's engines: float_conv.h's for float32,
 * hopper_conv.h's for the half types. They come with tiles of several sizes: how much of the result
 * a block computes at once. */
#ifndef RODEO_KERNELS_CUDA_OWN_CONV_H
#define RODEO_KERNELS_CUDA_OWN_CONV_H

#include "kernels/cuda/conv_graph.h"

#define OWN_CONV_TILES 2 /* for one problem, at most */

/* The tiles that there are for problems of this type; returns how many. */
int own_conv_tiles(const ConvProblem *problem, int64_t tiles[OWN_CONV_TILES]);

/* Whether there is an own kernel for a problem with this tile. The others may be called only then.
 */
bool own_conv_can_run(const CudaBackend *cuda, const ConvProblem *problem, int64_t tile);

/* Bytes of device memory that a run uses besides its operands. */
size_t own_conv_workspace(const CudaBackend *cuda, const ConvProblem *problem, int64_t tile);

/* Enqueues it on the stream of the current lane. */
void own_conv_run(CudaBackend *cuda, const ConvProblem *problem, int64_t tile,
                  const ConvOperands *operands, void *workspace);

#endif
