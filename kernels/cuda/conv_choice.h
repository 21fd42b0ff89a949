/* Timing cuDNN's algorithms for one convolution, and preparing a plan for the chosen one. */
#ifndef RODEO_KERNELS_CUDA_CONV_CHOICE_H
#define RODEO_KERNELS_CUDA_CONV_CHOICE_H

#include "kernels/cuda/conv_plans.h"

typedef struct {
    int algorithm;
    cudnnMathType_t math;
} ConvChoice;

/* Times the algorithms on the operands and prepares the plan for the fastest that always gives the
 * same bits and fits the workspace; *choice tells which. Ends the program if there is none. */
void conv_choice_measure(CudaBackend *cuda, ConvPlan *plan, const ConvOperands *operands,
                         ConvChoice *choice);

/* Sets the plan's algorithm, math type and workspace. False if this cuDNN cannot run it so, or only
 * with more workspace than there is. */
bool conv_choice_apply(CudaBackend *cuda, ConvPlan *plan, const ConvChoice *choice);

#endif
