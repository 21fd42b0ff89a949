/* Convolutions: cuDNN, channels-last, float32 accumulation; own kernels for pictures where they
 * can, and in float32 and on Hopper where they are faster (conv_choice.h).
 *
 * Pictures have CUDA_PICTURE_CHANNELS channels in memory and 3 in the weights: cuDNN gets padded
 * weights, and the gradients of these are cut. Gradients of weights come out of cuDNN in the
 * compute type and are widened into the float32 arena. */
#include "kernels/cuda/conv_plans.h"
#include "kernels/cuda/picture_conv.h"

static int64_t filter_elements(const ConvShape *s)
{
    return (int64_t)s->K * s->R * s->R * s->C;
}

static int64_t output_rows(const ConvShape *s)
{
    return (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
           conv_out(s->W, s->R, s->stride, s->pad);
}

static int64_t filter_positions(const ConvShape *s)
{
    return (int64_t)s->K * s->R * s->R;
}

static size_t picture_bytes(const CudaBackend *cuda, int64_t pixels)
{
    return (size_t)pixels * CUDA_PICTURE_CHANNELS * cuda->base.activation_bytes;
}

/* Scratch memory for padded weights. cuDNN takes pictures only from where CONV_ALIGNMENT lets them
 * begin, and a part of a step's pictures, each of an odd number of pixels, may begin elsewhere:
 * then *x becomes a copy of them, behind the weights. x may be NULL. */
static void *padded_filter(CudaBackend *cuda, const ConvShape *s, const void **x)
{
    size_t filter = (picture_bytes(cuda, filter_positions(s)) + 255) / 256 * 256;
    bool moves = x != NULL && (uintptr_t)*x % CONV_ALIGNMENT != 0;
    size_t pictures = moves ? picture_bytes(cuda, (int64_t)s->N * s->H * s->W) : 0;
    char *padded = cuda_scratch(cuda, filter + pictures);
    if (moves) {
        CUDA_CHECK(cudaMemcpyAsync(padded + filter, *x, pictures, cudaMemcpyDeviceToDevice,
                                   cuda_lane(cuda)->stream));
        *x = padded + filter;
    }
    return padded;
}

/* The weights as cuDNN gets them; w itself unless they are of pictures. x as in padded_filter. */
static const void *padded_weights(CudaBackend *cuda, const ConvShape *s, const void *w,
                                  const void **x)
{
    if (s->C != 3) {
        return w;
    }
    void *padded = padded_filter(cuda, s, x);
    cuda_pad_filter(cuda, filter_positions(s), w, padded);
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
    ConvProblem problem = {.pass = pass, .type = types[cuda->type], .shape = *s};
    if (s->C == 3) {
        problem.shape.C = CUDA_PICTURE_CHANNELS;
    }
    const ConvChoice *choice = cuda_conv_plan(cuda, &problem, operands);
    void *workspace = cuda_workspace(cuda, conv_choice_workspace(cuda, choice));
    CUDNN_CHECK(conv_choice_run(cuda, choice, operands, workspace));
}

void cuda_conv_fprop(Backend *be, const ConvShape *s, const void *x, const void *w,
                     const float *bias, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    if (cuda_can_convolve_pictures(cuda, s)) {
        cuda_picture_fprop(cuda, s, x, w, y);
    } else {
        const void *weights = padded_weights(cuda, s, w, &x);
        run(cuda, CONV_FPROP, s, &(ConvOperands){.x = x, .w = weights, .y = y});
    }
    if (bias != NULL) {
        cuda_add_bias(cuda, output_rows(s), s->K, bias, false, y);
    }
}

void cuda_conv_dgrad(Backend *be, const ConvShape *s, const void *dy, const void *w, void *dx)
{
    CudaBackend *cuda = cuda_backend(be);
    const void *weights = padded_weights(cuda, s, w, NULL);
    run(cuda, CONV_DGRAD, s, &(ConvOperands){.x = dx, .w = weights, .y = dy});
}

static void picture_wgrad(CudaBackend *cuda, const ConvShape *s, const void *x, const void *dy,
                          bool accumulate, float *dw)
{
    void *padded = padded_filter(cuda, s, &x);
    run(cuda, CONV_WGRAD, s, &(ConvOperands){.x = x, .w = padded, .y = dy});
    cuda_cut_filter(cuda, filter_positions(s), padded, accumulate, dw);
}

void cuda_conv_wgrad(Backend *be, const ConvShape *s, const void *x, const void *dy,
                     bool accumulate, float *dw, float *dbias)
{
    CudaBackend *cuda = cuda_backend(be);
    if (cuda_can_convolve_pictures(cuda, s)) {
        cuda_picture_wgrad(cuda, s, x, dy, accumulate, dw);
    } else if (s->C == 3) {
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
