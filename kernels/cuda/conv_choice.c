#include "kernels/cuda/conv_choice.h"

#include <stdio.h>

#define MOST_ALGORITHMS 16 /* timed for one convolution; cuDNN has fewer */

/* What cuDNN found out about one algorithm; its three structs for the three passes are alike. */
typedef struct {
    int algorithm;
    cudnnMathType_t math;
    cudnnStatus_t status;
    cudnnDeterminism_t determinism;
    float ms;
    size_t bytes;
} Timed;

/* float32 stays float32 unless TF32 was asked for; half types want tensor cores where there are. */
static cudnnMathType_t wanted_math(const CudaBackend *cuda)
{
    if (cuda->type == CUDA_F32) {
        return cuda->tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
    }
    return cuda->sm >= 70 ? CUDNN_TENSOR_OP_MATH : CUDNN_DEFAULT_MATH;
}

#define COPY_TIMED(found, count, timed)                                                            \
    for (int i_ = 0; i_ < (count); i_++) {                                                         \
        (timed)[i_] = (Timed){.algorithm = (int)(found)[i_].algo,                                  \
                              .math = (found)[i_].mathType,                                        \
                              .status = (found)[i_].status,                                        \
                              .determinism = (found)[i_].determinism,                              \
                              .ms = (found)[i_].time,                                              \
                              .bytes = (found)[i_].memory};                                        \
    }

static int time_fprop(CudaBackend *cuda, const ConvPlan *p, const ConvOperands *o, Timed *timed)
{
    CudaLane *lane = cuda_lane(cuda);
    cudnnConvolutionFwdAlgoPerf_t found[MOST_ALGORITHMS];
    int count = 0;
    CUDNN_CHECK(cudnnFindConvolutionForwardAlgorithmEx(lane->cudnn, p->x, o->x, p->w, o->w, p->conv,
                                                       p->y, o->out, MOST_ALGORITHMS, &count, found,
                                                       lane->workspace, cuda->workspace_bytes));
    COPY_TIMED(found, count, timed);
    return count;
}

static int time_dgrad(CudaBackend *cuda, const ConvPlan *p, const ConvOperands *o, Timed *timed)
{
    CudaLane *lane = cuda_lane(cuda);
    cudnnConvolutionBwdDataAlgoPerf_t found[MOST_ALGORITHMS];
    int count = 0;
    CUDNN_CHECK(cudnnFindConvolutionBackwardDataAlgorithmEx(
        lane->cudnn, p->w, o->w, p->y, o->dy, p->conv, p->x, o->out, MOST_ALGORITHMS, &count, found,
        lane->workspace, cuda->workspace_bytes));
    COPY_TIMED(found, count, timed);
    return count;
}

static int time_wgrad(CudaBackend *cuda, const ConvPlan *p, const ConvOperands *o, Timed *timed)
{
    CudaLane *lane = cuda_lane(cuda);
    cudnnConvolutionBwdFilterAlgoPerf_t found[MOST_ALGORITHMS];
    int count = 0;
    CUDNN_CHECK(cudnnFindConvolutionBackwardFilterAlgorithmEx(
        lane->cudnn, p->x, o->x, p->y, o->dy, p->conv, p->w, o->out, MOST_ALGORITHMS, &count, found,
        lane->workspace, cuda->workspace_bytes));
    COPY_TIMED(found, count, timed);
    return count;
}

/* These add in whatever order threads finish; cuDNN's own word on it was seen to be wrong. */
static bool uses_atomics(ConvPass pass, int algorithm)
{
    return (pass == CONV_DGRAD && algorithm == (int)CUDNN_CONVOLUTION_BWD_DATA_ALGO_0) ||
           (pass == CONV_WGRAD && (algorithm == (int)CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 ||
                                   algorithm == (int)CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3));
}

/* cuDNN may offer to round float32 to TF32 although that was not asked for. */
static bool keeps_precision(const CudaBackend *cuda, cudnnMathType_t math)
{
    bool float32 = cuda->type == CUDA_F32 && !cuda->tf32;
    return !float32 || math == CUDNN_FMA_MATH || math == CUDNN_DEFAULT_MATH;
}

static bool is_usable(const CudaBackend *cuda, ConvPass pass, const Timed *t)
{
    return t->status == CUDNN_STATUS_SUCCESS && t->determinism == CUDNN_DETERMINISTIC &&
           !uses_atomics(pass, t->algorithm) && keeps_precision(cuda, t->math) &&
           t->bytes <= cuda->workspace_bytes;
}

static cudnnStatus_t workspace_size(cudnnHandle_t cudnn, const ConvPlan *p, int algorithm,
                                    size_t *bytes)
{
    switch (p->pass) {
    case CONV_FPROP:
        return cudnnGetConvolutionForwardWorkspaceSize(cudnn, p->x, p->w, p->conv, p->y,
                                                       (cudnnConvolutionFwdAlgo_t)algorithm, bytes);
    case CONV_DGRAD:
        return cudnnGetConvolutionBackwardDataWorkspaceSize(
            cudnn, p->w, p->y, p->conv, p->x, (cudnnConvolutionBwdDataAlgo_t)algorithm, bytes);
    default:
        return cudnnGetConvolutionBackwardFilterWorkspaceSize(
            cudnn, p->x, p->y, p->conv, p->w, (cudnnConvolutionBwdFilterAlgo_t)algorithm, bytes);
    }
}

bool conv_choice_apply(CudaBackend *cuda, ConvPlan *plan, const ConvChoice *choice)
{
    size_t bytes = 0;
    if (cudnnSetConvolutionMathType(plan->conv, choice->math) != CUDNN_STATUS_SUCCESS ||
        workspace_size(cuda_lane(cuda)->cudnn, plan, choice->algorithm, &bytes) !=
            CUDNN_STATUS_SUCCESS ||
        bytes > cuda->workspace_bytes) {
        return false;
    }
    plan->algorithm = choice->algorithm;
    plan->math = choice->math;
    plan->workspace_bytes = bytes;
    return true;
}

static ConvChoice choice_of(const CudaBackend *cuda, const Timed *t)
{
    bool float32 = cuda->type == CUDA_F32 && !cuda->tf32;
    return (ConvChoice){.algorithm = t->algorithm, .math = float32 ? CUDNN_FMA_MATH : t->math};
}

void conv_choice_measure(CudaBackend *cuda, ConvPlan *plan, const ConvOperands *operands,
                         ConvChoice *choice)
{
    static int (*const time_pass[])(CudaBackend *, const ConvPlan *, const ConvOperands *,
                                    Timed *) = {
        [CONV_FPROP] = time_fprop, [CONV_DGRAD] = time_dgrad, [CONV_WGRAD] = time_wgrad};
    Timed timed[MOST_ALGORITHMS];
    CUDNN_CHECK(cudnnSetConvolutionMathType(plan->conv, wanted_math(cuda)));
    int count = time_pass[plan->pass](cuda, plan, operands, timed);
    for (;;) {
        Timed *best = NULL;
        for (int i = 0; i < count; i++) {
            if (is_usable(cuda, plan->pass, &timed[i]) &&
                (best == NULL || timed[i].ms < best->ms)) {
                best = &timed[i];
            }
        }
        if (best == NULL) {
            const ConvShape *s = &plan->shape;
            fatal("cuDNN has no deterministic algorithm for a convolution with N %d, H %d, W %d, "
                  "C %d, K %d, R %d, stride %d, pad %d in %s",
                  s->N, s->H, s->W, s->C, s->K, s->R, s->stride, s->pad, cuda->base.precision);
        }
        *choice = choice_of(cuda, best);
        if (conv_choice_apply(cuda, plan, choice)) {
            return;
        }
        best->status = CUDNN_STATUS_NOT_SUPPORTED;
    }
}
