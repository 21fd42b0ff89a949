/* Convolutions: cuDNN, channels-last, float32 accumulation.
 *
 * Pictures have CUDA_PICTURE_CHANNELS channels in memory and 3 in the weights, and may lie in
 * blocks of 2 x 2 pixels: their weights are rearranged, and the gradients of these, around the
 * call. Gradients of weights come out of cuDNN in the compute type and are widened into the float32
 * arena. */
#include "kernels/cuda/conv_plans.h"

static int64_t filter_elements(const ConvShape *s)
{
    return (int64_t)s->K * s->R * s->R * s->C;
}

static int64_t output_rows(const ConvShape *s)
{
    return (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
           conv_out(s->W, s->R, s->stride, s->pad);
}

/* ---- pictures ----------------------------------------------------------------------------------
 */

/* Over blocks, output o of a convolution with stride 2 reads pixels 2 o - pad to 2 o - pad + R - 1,
 * which lie in blocks o - ceil(pad/2) to o + floor((R - 1 - pad)/2). */
static PictureFilter picture_filter(const CudaBackend *cuda, const ConvShape *s)
{
    int before = (s->pad + 1) / 2;
    return (PictureFilter){.K = s->K,
                           .R = s->R,
                           .blocks = cuda->base.picture_blocks && s->H % 2 == 0 && s->W % 2 == 0,
                           .side = before + (s->R - 1 - s->pad) / 2 + 1,
                           .shift = 2 * before - s->pad};
}

/* The convolution of pictures as one of four channels, or of blocks with sixteen. The zeros below
 * and to the right are as many as give the outputs wanted. */
static void describe_pictures(const CudaBackend *cuda, const ConvShape *s, ConvProblem *problem)
{
    PictureFilter f = picture_filter(cuda, s);
    ConvShape *shape = &problem->shape;
    shape->C = CUDA_PICTURE_CHANNELS;
    if (f.blocks) {
        *shape = (ConvShape){.N = s->N,
                             .H = s->H / 2,
                             .W = s->W / 2,
                             .C = 4 * CUDA_PICTURE_CHANNELS,
                             .K = s->K,
                             .R = f.side,
                             .stride = 1,
                             .pad = (s->pad + 1) / 2};
        int outputs = conv_out(s->H, s->R, s->stride, s->pad);
        problem->pad_after = outputs - 1 + f.side - shape->H - shape->pad;
    }
}

/* The weights as cuDNN gets them; w itself unless they are of pictures. */
static const void *padded_weights(CudaBackend *cuda, const ConvShape *s, const void *w)
{
    if (s->C != 3) {
        return w;
    }
    PictureFilter f = picture_filter(cuda, s);
    void *padded =
        cuda_scratch(cuda, (size_t)picture_filter_elements(&f) * cuda->base.activation_bytes);
    cuda_pad_filter(cuda, &f, w, padded);
    return padded;
}

/* ---- the passes --------------------------------------------------------------------------------
 */

/* Runs a pass with the engine that is the fastest for it. */
static void run(CudaBackend *cuda, ConvPass pass, const ConvShape *s, const ConvOperands *operands)
{
    static const cudnnDataType_t types[] = {[CUDA_F32] = CUDNN_DATA_FLOAT,
                                            [CUDA_F16] = CUDNN_DATA_HALF,
                                            [CUDA_BF16] = CUDNN_DATA_BFLOAT16};
    CudaLane *lane = cuda_lane(cuda);
    ConvProblem problem = {
        .pass = pass, .type = types[cuda->type], .shape = *s, .pad_after = s->pad};
    if (s->C == 3) {
        describe_pictures(cuda, s, &problem);
    }
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

/* The gradients of pictures' weights, rearranged. */
static void picture_wgrad(CudaBackend *cuda, const ConvShape *s, const void *x, const void *dy,
                          bool accumulate, float *dw)
{
    PictureFilter f = picture_filter(cuda, s);
    void *padded =
        cuda_scratch(cuda, (size_t)picture_filter_elements(&f) * cuda->base.activation_bytes);
    run(cuda, CONV_WGRAD, s, &(ConvOperands){.x = x, .w = padded, .y = dy});
    cuda_cut_filter(cuda, &f, padded, accumulate, dw);
}

void cuda_conv_wgrad(Backend *be, const ConvShape *s, const void *x, const void *dy,
                     bool accumulate, float *dw, float *dbias)
{
    CudaBackend *cuda = cuda_backend(be);
    if (s->C == 3) {
        picture_wgrad(cuda, s, x, dy, accumulate, dw);
    } else if (cuda->type == CUDA_F32 && !accumulate) {
        run(cuda, CONV_WGRAD, s, &(ConvOperands){.x = x, .w = dw, .y = dy});
    } else {
        int64_t count = filter_elements(s);
        void *narrow = cuda_scratch(cuda, (size_t)count * cuda->base.activation_bytes);
        run(cuda, CONV_WGRAD, s, &(ConvOperands){.x = x, .w = narrow, .y = dy});
        cuda_widen(cuda, count, narrow, accumulate, dw);
    }
    if (dbias != NULL) {
        cuda_sum_rows(cuda, output_rows(s), s->K, dy, false, accumulate, dbias);
    }
}
