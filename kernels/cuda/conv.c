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

/* Runs a pass with the engine that is the fastest for it. */
static void run(CudaBackend *cuda, ConvPass pass, const ConvShape *s, const ConvOperands *operands)
{
    static const cudnnDataType_t types[] = {[CUDA_F32] = CUDNN_DATA_FLOAT,
                                            [CUDA_F16] = CUDNN_DATA_HALF,
                                            [CUDA_BF16] = CUDNN_DATA_BFLOAT16};
    CudaLane *lane = cuda_lane(cuda);
    ConvProblem problem = {
        .pass = pass, .type = types[cuda->type], .shape = padded_shape(s), .pad_after = s->pad};
    const ConvPlan *plan = cuda_conv_plan(cuda, &problem, operands);
    void *workspace = cuda_workspace(cuda, conv_plan_workspace(plan));
    CUDNN_CHECK(conv_plan_run(plan, lane->cudnn, operands, workspace));
}

void cuda_conv_fprop(Backend *be, const ConvShape *s, const void *x, const void *w,
                     const float *bias, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    const void *weights = padded_weights(cuda, s, w);
    run(cuda, CONV_FPROP, s, &(ConvOperands){.x = x, .w = weights, .y = y});
    if (bias != NULL) {
        cuda_add_bias(cuda, output_rows(s), s->K, bias, false, y);
    }
}

void cuda_conv_dgrad(Backend *be, const ConvShape *s, const void *dy, const void *w, void *dx)
{
    CudaBackend *cuda = cuda_backend(be);
    const void *weights = padded_weights(cuda, s, w);
    run(cuda, CONV_DGRAD, s, &(ConvOperands){.x = dx, .w = weights, .y = dy});
}

/* cuDNN writes the gradient in the compute type, with the channels that there are in memory; it
 * becomes a float32 gradient of the weights' own channels where that is something else. */
void cuda_conv_wgrad(Backend *be, const ConvShape *s, const void *x, const void *dy,
                     bool accumulate, float *dw, float *dbias)
{
    CudaBackend *cuda = cuda_backend(be);
    int64_t positions = filter_positions(s);
    size_t elements = (size_t)positions * (size_t)padded_shape(s).C;
    bool direct = cuda->type == CUDA_F32 && s->C != 3 && !accumulate;
    void *out = direct ? dw : cuda_scratch(cuda, elements * cuda->base.activation_bytes);
    run(cuda, CONV_WGRAD, s, &(ConvOperands){.x = x, .w = out, .y = dy});
    if (s->C == 3) {
        cuda_unpad_channels(cuda, positions, out, accumulate, dw);
    } else if (!direct) {
        cuda_widen(cuda, positions * s->C, out, accumulate, dw);
    }
    if (dbias != NULL) {
        cuda_sum_rows(cuda, output_rows(s), s->K, dy, false, accumulate, dbias);
    }
}
