/* Convolutions: cuDNN, channels-last, float32 accumulation.
 *
 * Pictures have CUDA_PICTURE_CHANNELS channels in memory and 3 in the weights: those are padded,
 * and their gradients cut, around the call. Gradients of weights come out of cuDNN in the compute
 * type and are widened into the float32 arena. */
#include "kernels/cuda/conv_plans.h"

static ConvShape padded_shape(const ConvShape *s)
{
    ConvShape padded = *s;
    if (s->C == 3) {
        padded.C = CUDA_PICTURE_CHANNELS;
    }
    return padded;
}

static int64_t filter_positions(const ConvShape *s)
{
    return (int64_t)s->K * s->R * s->R;
}

static int64_t output_rows(const ConvShape *s)
{
    return (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
           conv_out(s->W, s->R, s->stride, s->pad);
}

/* The weights with as many channels as the pictures have; w itself unless C is 3. */
static const void *padded_weights(CudaBackend *cuda, const ConvShape *s, const void *w)
{
    if (s->C != 3) {
        return w;
    }
    int64_t positions = filter_positions(s);
    void *padded =
        cuda_scratch(cuda, (size_t)positions * CUDA_PICTURE_CHANNELS * cuda->base.activation_bytes);
    cuda_pad_channels(cuda, positions, w, padded);
    return padded;
}

void cuda_conv_fprop(Backend *be, const ConvShape *s, const void *x, const void *w,
                     const float *bias, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    CudaLane *lane = cuda_lane(cuda);
    const float one = 1.0f;
    const float zero = 0.0f;
    ConvShape shape = padded_shape(s);
    const void *weights = padded_weights(cuda, s, w);
    const ConvPlan *plan =
        cuda_conv_plan(cuda, CONV_FPROP, &shape, &(ConvOperands){.x = x, .w = weights, .out = y});
    CUDNN_CHECK(cudnnConvolutionForward(lane->cudnn, &one, plan->x, x, plan->w, weights, plan->conv,
                                        (cudnnConvolutionFwdAlgo_t)plan->algorithm, lane->workspace,
                                        plan->workspace_bytes, &zero, plan->y, y));
    if (bias != NULL) {
        cuda_add_bias(cuda, output_rows(s), s->K, bias, false, y);
    }
}

void cuda_conv_dgrad(Backend *be, const ConvShape *s, const void *dy, const void *w, void *dx)
{
    CudaBackend *cuda = cuda_backend(be);
    CudaLane *lane = cuda_lane(cuda);
    const float one = 1.0f;
    const float zero = 0.0f;
    ConvShape shape = padded_shape(s);
    const void *weights = padded_weights(cuda, s, w);
    const ConvPlan *plan = cuda_conv_plan(cuda, CONV_DGRAD, &shape,
                                          &(ConvOperands){.dy = dy, .w = weights, .out = dx});
    CUDNN_CHECK(
        cudnnConvolutionBackwardData(lane->cudnn, &one, plan->w, weights, plan->y, dy, plan->conv,
                                     (cudnnConvolutionBwdDataAlgo_t)plan->algorithm,
                                     lane->workspace, plan->workspace_bytes, &zero, plan->x, dx));
}

/* out = or += the gradient of the weights in the compute type and with padded channels, as cuDNN
 * writes it. Choosing an algorithm overwrites `spare`, which is as large. */
static void filter_gradient(CudaBackend *cuda, const ConvShape *shape, const void *x,
                            const void *dy, void *spare, bool accumulate, void *out)
{
    CudaLane *lane = cuda_lane(cuda);
    const float one = 1.0f;
    const float beta = accumulate ? 1.0f : 0.0f;
    const ConvPlan *plan =
        cuda_conv_plan(cuda, CONV_WGRAD, shape, &(ConvOperands){.x = x, .dy = dy, .out = spare});
    CUDNN_CHECK(cudnnConvolutionBackwardFilter(
        lane->cudnn, &one, plan->x, x, plan->y, dy, plan->conv,
        (cudnnConvolutionBwdFilterAlgo_t)plan->algorithm, lane->workspace, plan->workspace_bytes,
        &beta, plan->w, out));
}

void cuda_conv_wgrad(Backend *be, const ConvShape *s, const void *x, const void *dy,
                     bool accumulate, float *dw, float *dbias)
{
    CudaBackend *cuda = cuda_backend(be);
    ConvShape shape = padded_shape(s);
    int64_t positions = filter_positions(s);
    void *spare =
        cuda_scratch(cuda, (size_t)positions * (size_t)shape.C * cuda->base.activation_bytes);
    if (s->C == 3) {
        filter_gradient(cuda, &shape, x, dy, spare, false, spare);
        cuda_unpad_channels(cuda, positions, spare, accumulate, dw);
    } else if (cuda->type == CUDA_F32) {
        filter_gradient(cuda, &shape, x, dy, spare, accumulate, dw);
    } else {
        filter_gradient(cuda, &shape, x, dy, spare, false, spare);
        cuda_widen(cuda, positions * s->C, spare, accumulate, dw);
    }
    if (dbias != NULL) {
        cuda_sum_rows(cuda, output_rows(s), s->K, dy, false, accumulate, dbias);
    }
}
