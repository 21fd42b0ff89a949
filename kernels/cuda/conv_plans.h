/* The convolutions that this process runs, each with the engine that is the fastest for it here.
 *
 * The first time that a convolution is met, cuDNN's most promising engines and own kernels are
 * timed on the operands at hand (conv_choice.h). Choices are kept in a text file, one for each GPU
 * model and cuDNN version, so that the next launch need not measure and, because engines round
 * differently, gives the same bits. Of processes with the same folder one measures at a time; the
 * others wait for it, some minutes at most, and take its choices. */
#ifndef RODEO_KERNELS_CUDA_CONV_PLANS_H
#define RODEO_KERNELS_CUDA_CONV_PLANS_H

#include "kernels/cuda/conv_choice.h"

/* Reads the choices of this GPU in options->cache_dir (NULL: keeps none). A file that is missing,
 * or lines that are not sound, are as good as none: then it is measured, of which options->notice
 * is told once. */
CudaConvPlans *cuda_conv_plans_open(const DeviceOptions *options, const char *gpu);
void cuda_conv_plans_close(CudaConvPlans *plans);

/* Writes the choices, if there are new ones, beside those that other processes have written since,
 * and lets these measure. Where that fails it is tried again, but at most once a minute, and when
 * the plans are closed. */
void cuda_conv_plans_save(CudaConvPlans *plans);

/* A convolution that is ready to run in the current lane; belongs to the plans, and is valid until
 * the next call. Both lanes use the same engine. Measuring overwrites what the pass writes. Ends
 * the program if there is no engine for it. */
const ConvChoice *cuda_conv_plan(CudaBackend *cuda, const ConvProblem *problem,
                                 const ConvOperands *operands);

#endif
