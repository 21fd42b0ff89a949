/* The operators: the whole vocabulary that networks and training are written in.
 *
 * The meaning of every operator is fixed here and nowhere else. kernels/ref/ spells it out as plain
 * loops in double precision for the tests; each backend implements the same list (backend.h).
 *
 * Conventions
 *   - Activations are channels-last: [N,H,W,C] in memory order. Convolution weights are [K,R,S,C].
 *   - "act" pointers (activations, their gradients, and weights as the convolutions read them) are
 * in the backend's compute type; float32 on the CPU backend. Everything declared float* is float32
 *     on every backend: parameters of batch norm, statistics, losses, logits, gradients of weights.
 *   - A gradient has its tensor's name with d in front. An operator overwrites what it writes (=),
 *     except where its comment says "+=" or it has a flag `accumulate`: false overwrites, true
 * adds.
 *   - All pointers are device memory of `be`; inputs and outputs must not overlap unless the
 * comment allows it. Sums are in float32 or wider, in an order that depends only on the shape and
 * the number of threads: the same call gives the same bits.
 *   - A call returns before its work has run on backends that are asynchronous. A shape that breaks
 *     the rules ends the program, naming the operator and the shape: no input can cause it. */
#ifndef RODEO_KERNELS_OPS_H
#define RODEO_KERNELS_OPS_H

#include "kernels/device.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- convolution ----------------------------------------------------------------------------- */

/* Cross-correlation of x [N,H,W,C] with w [K,R,R,C] into y [N,P,Q,K], P = (H + 2 pad - R)/stride +
 * 1, likewise Q from W. Where C is 3, x is a batch of pictures as op_augment writes them,
 * [N,H,W,device_picture_channels]; weights and their gradients have 3 channels all the same, and
 * the stride is 2. */
typedef struct {
    int N, H, W, C, K, R, stride, pad;
} ConvShape;

static inline int conv_out(int size, int R, int stride, int pad)
{
    return (size + 2 * pad - R) / stride + 1;
}

/* y = conv(x, w) + bias.   bias [K] or NULL */
void op_conv_fprop(Backend *be, const ConvShape *s, const void *x, const void *w, const float *bias,
                   void *y);

/* dx = the gradient of x. */
void op_conv_dgrad(Backend *be, const ConvShape *s, const void *dy, const void *w, void *dx);

/* dw [K,R,R,C] and dbias [K] (may be NULL) = or += the gradients. */
void op_conv_wgrad(Backend *be, const ConvShape *s, const void *x, const void *dy, bool accumulate,
                   float *dw, float *dbias);

/* ---- linear ---------------------------------------------------------------------------------- */

/* y [N,K] = x [N,C] w^T + bias,   w [K,C]. */
typedef struct {
    int N, C, K;
    bool float_output; /* y and dy are float32 whatever the compute type is: logits */
} LinearShape;

void op_linear_fprop(Backend *be, const LinearShape *s, const void *x, const void *w,
                     const float *bias, void *y);
void op_linear_dgrad(Backend *be, const LinearShape *s, const void *dy, const void *w, void *dx);
void op_linear_wgrad(Backend *be, const LinearShape *s, const void *x, const void *dy,
                     bool accumulate, float *dw, float *dbias);

/* ---- grouped batch norm + residual + ReLU ------------------------------------------------------
 */

/* x [groups, rows, C]: the groups of a merged batch one after the other; rows = N H W of one group
 * (N for vectors). Ioffe and Szegedy 2015, with each group normalised by its own statistics.
 *   mean, biased variance over the rows of a group;   invstd = 1/sqrt(variance + eps)
 *   y = act((x - mean) invstd gamma + beta + residual),   act = ReLU or identity
 * Running statistics move group by group, in order:
 *   running_mean <- (1 - momentum) running_mean + momentum mean
 *   running_var  <- (1 - momentum) running_var  + momentum variance rows/(rows - 1) */
typedef struct {
    int groups;
    int64_t rows;
    int C;
    float eps, momentum;
    bool relu;
} BatchNormShape;

/* Where there is a residual, x alone does not tell the backward pass where the ReLU passed, and y
 * is long to read: its mask tells it. Element i of y has bit i mod m of byte i / m, set unless
 * y <= 0, so a NaN passed; a byte's other bits are 0. m neighbouring channels share a byte: */
static inline int batchnorm_mask_channels(int C)
{
    return C % 8 == 0 ? 8 : C % 4 == 0 ? 4 : 1;
}

/* Bytes of the mask of a y [rows, C]. */
static inline int64_t batchnorm_mask_bytes(int64_t rows, int C)
{
    return rows * (C / batchnorm_mask_channels(C));
}

/* Training. residual [groups, rows, C] or NULL. gamma, beta, running_mean, running_var [C];
 * batch_mean and batch_invstd [groups, C] are kept for the backward pass, and so is y's mask, NULL
 * unless there are both a residual and a ReLU. y may be x or residual. rows must be at least 2. */
void op_batchnorm_train(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                        const float *gamma, const float *beta, float *running_mean,
                        float *running_var, float *batch_mean, float *batch_invstd, void *y,
                        uint8_t *mask);

/* Evaluation: normalises with the running statistics; groups and rows only give the size. y may be
 * x or residual. */
void op_batchnorm_eval(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                       const float *gamma, const float *beta, const float *running_mean,
                       const float *running_var, void *y);

/* Backward of op_batchnorm_train. The gradient of y is dy, or dy + dy_add where dy_add is not NULL
 * (an output that two places read). Where the ReLU passed, mask tells if there was a residual, and
 * if there was none (mask NULL) x, from which y is computed anew, to the bit. Writes dx and, if
 * dresidual is not NULL, the residual's gradient (the gradient of y after the ReLU's mask); NULL
 * says that there was no residual. dgamma, dbeta [C] sum over all groups, = or +=. dx or dresidual
 * may be dy or dy_add, but not each other. */
void op_batchnorm_bprop(Backend *be, const BatchNormShape *s, const void *x, const uint8_t *mask,
                        const void *dy, const void *dy_add, const float *gamma, const float *beta,
                        const float *batch_mean, const float *batch_invstd, bool accumulate,
                        void *dx, void *dresidual, float *dgamma, float *dbeta);

/* ---- the stem: convolution with statistics, then batch norm + ReLU + max pooling in one
 * -----------
 */

/* conv.N pictures are `groups` groups one after the other. */
typedef struct {
    ConvShape conv;
    int groups;
    float eps, momentum;
} ConvStatisticsShape;

/* y = conv(x, w) and, of y as it is stored, what op_batchnorm_train takes of its x: batch_mean and
 * batch_invstd [groups, K], and a step of running_mean and running_var [K] for every group. A
 * backend may form the sums while it has y at hand, and take them around running_mean. A group must
 * have at least 2 positions. */
void op_conv_statistics(Backend *be, const ConvStatisticsShape *s, const void *x, const void *w,
                        float *running_mean, float *running_var, float *batch_mean,
                        float *batch_invstd, void *y);

/* x [groups, N, H, W, C] is normalised per group as above, passes a ReLU and a 3x3 max pooling with
 * stride 2 and padding 1 into y [groups, N, P, Q, C]. The normalised tensor is never stored. */
typedef struct {
    int groups, N, H, W, C;
    float eps; /* of the evaluation */
} StemShape;

#define STEM_NO_GRADIENT 255 /* in argmax: the maximum is 0, the ReLU passed nothing */

/* Training: normalises with batch_mean and batch_invstd [groups, C]. argmax [groups, N, P, Q, C]:
 * which of the 9 window positions (row by row, 0..8) gave the maximum, the first one where several
 * did, or STEM_NO_GRADIENT. */
void op_stem_train(Backend *be, const StemShape *s, const void *x, const float *gamma,
                   const float *beta, const float *batch_mean, const float *batch_invstd, void *y,
                   uint8_t *argmax);

/* Evaluation: with the running statistics. */
void op_stem_eval(Backend *be, const StemShape *s, const void *x, const float *gamma,
                  const float *beta, const float *running_mean, const float *running_var, void *y);

/* The gradient of y is dy (+ dy_add, unless NULL). dx [groups, N, H, W, C], through the statistics
 * of x, too. */
void op_stem_bprop(Backend *be, const StemShape *s, const void *x, const uint8_t *argmax,
                   const void *dy, const void *dy_add, const float *gamma, const float *batch_mean,
                   const float *batch_invstd, bool accumulate, void *dx, float *dgamma,
                   float *dbeta);

/* ---- global average pooling
 * ---------------------------------------------------------------------- */

/* y [N,C] = mean over the HW positions of x [N,HW,C]. */
typedef struct {
    int N, HW, C;
} AvgPoolShape;

void op_avgpool_fprop(Backend *be, const AvgPoolShape *s, const void *x, void *y);
void op_avgpool_bprop(Backend *be, const AvgPoolShape *s, const void *dy, void *dx);

/* ---- joining the two streams along the channels
 * --------------------------------------------------- */

/* y [rows, Ca + Cb] = a [rows, Ca] beside b [rows, Cb]; split is its inverse and its gradient. */
typedef struct {
    int64_t rows;
    int Ca, Cb;
} ConcatShape;

void op_concat(Backend *be, const ConcatShape *s, const void *a, const void *b, void *y);
void op_split(Backend *be, const ConcatShape *s, const void *y, void *a, void *b);

/* ---- dropout
 * ------------------------------------------------------------------------------------------ */

/* y_i = x_i / (1 - p) where kept, else 0; i counts elements from `first`. Element i is kept when
 *   word i mod 4 of philox4x32(key[0], i / 4, RNG_DROPOUT << 24 | layer, low half of key[1], high
 * half) is at least p 2^32 (rounded to the nearest integer). key [2] is device memory: the seed and
 * the number of the step, so that a captured step draws anew at every replay. The mask is not
 * stored: the gradient of dropout is the same operator applied to dy. y may be x. Srivastava et al.
 * 2014. */
typedef struct {
    int64_t count; /* elements */
    int64_t first; /* index of the first one within the whole merged batch; a multiple of 4 */
    uint32_t layer;
    float p; /* in [0, 1); 0 copies */
} DropoutShape;

void op_dropout(Backend *be, const DropoutShape *s, const uint64_t *key, const void *x, void *y);

/* ---- losses
 * --------------------------------------------------------------------------------------------- */

typedef struct {
    int N, C;
} LossShape;

/* scale (device memory) may be NULL, which means 1: gradients are multiplied by scale->scale. */

/* Mean cross-entropy of softmax(logits [N,C]) against labels [N] (0..C-1):
 *   loss [1] = -(1/N) sum_i ln p_i,label(i)      correct [1] = how many argmax (first maximum) hit
 *   dlogits [N,C] = weight scale (p - onehot)/N; may be NULL (evaluation) or logits. */
void op_cross_entropy(Backend *be, const LossShape *s, const float *logits, const int32_t *labels,
                      float weight, const LossScale *scale, float *loss, int32_t *correct,
                      float *dlogits);

/* Mean entropy of the predictions with tiny probabilities masked out, the mask held constant:
 *   loss [1] = -(1/N) sum_i sum_c m_ic p_ic ln p_ic,   m_ic = (p_ic >= 1e-6)
 *   e_ic = m_ic (ln p_ic + 1);   dlogits_ik = weight scale (p_ik/N) (sum_c p_ic e_ic - e_ik);
 * may be logits. */
void op_entropy(Backend *be, const LossShape *s, const float *logits, float weight,
                const LossScale *scale, float *loss, float *dlogits);

/* prediction [N] = the first maximum of each row. */
void op_argmax(Backend *be, const LossShape *s, const float *logits, int32_t *prediction);

/* ---- augmentation
 * ------------------------------------------------------------------------------------------ */

/* N stored pictures become network input y [N,crop,crop,device_picture_channels]: resized
 * to resize x resize exactly as Pillow's bilinear filter does it on 8-bit pixels (a triangle filter
 * that widens when it shrinks; the horizontal pass first, rounded to 8 bits, then the vertical one;
 * a pass that changes nothing is left out), cropped, flipped, turned, and normalised: (v/255 -
 * mean)/std per channel with ImageNet's mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225).
 * Per axis with n input samples, for output j: scale = n/resize, f = max(scale, 1), c = (j + 1/2)
 * scale, first = max(0, trunc(c - f + 1/2)), last = min(n, trunc(c + f + 1/2)), weight of i in
 * [first, last) = max(0, 1 - |i - c + 1/2|/f) over the weights' sum, in doubles, then trunc(w 2^22
 * + 1/2); output = clamp to 0..255 of (2^21 + sum w_i p_i) >> 22. pixels: 8-bit RGB, item i's
 * picture at pixels + items[i].offset. items [N] in device memory. */
typedef struct {
    int N, resize, crop; /* 1 <= crop <= resize */
} AugmentShape;

void op_augment(Backend *be, const AugmentShape *s, const uint8_t *pixels, const AugmentItem *items,
                void *y);

/* ---- optimizer
 * ------------------------------------------------------------------------------------------------
 */

/* A run of consecutive parameters in the arena that share their settings. */
typedef struct {
    int64_t offset, count; /* elements; both multiples of 16 */
    float lr;
} SgdRange;

/* One pass of SGD with momentum over the arena, as torch.optim.SGD without dampening or Nesterov:
 *   d = dw + weight_decay w;   v <- momentum v + d;   w <- w - lr v
 * w, dw, v: float arenas of one size; v starts as zeros. Elements outside the ranges are untouched.
 * ranges: host memory, read before the call returns. w_act, a copy of w in the compute type, is
 * refreshed in the same pass; NULL: there is none.
 *
 * scale (device memory), unless NULL: dw carries the factor scale->scale, which is divided out. If
 * an element of dw within the ranges is not finite, nothing else is changed but scale: its scale is
 * halved (down to 1), the step counts as skipped. After LOSS_SCALE_INTERVAL good steps in a row the
 * scale is doubled (up to LOSS_SCALE_MAXIMUM). */
typedef struct {
    float momentum, weight_decay;
    int ranges; /* 1..8 */
    SgdRange range[8];
} SgdShape;

void op_sgd(Backend *be, const SgdShape *s, LossScale *scale, const float *dw, float *v, float *w,
            void *w_act);

/* y = x in the compute type, count elements. */
void op_cast(Backend *be, int64_t count, const float *x, void *y);

#endif
