/* What an operator has to do, from its shape alone: for measurements. Only kernels/ops.c asks.
 *
 * FLOPs: of convolutions and matrix products, a multiply-add counting as two; 0 for the rest, which
 * memory limits. Bytes: each tensor once a pass over it; batch norm's statistics and its backward
 * reduction are passes of their own, since no cache holds the tensors in between; those of
 * op_conv_statistics are none, since its output is at hand. */
#ifndef RODEO_KERNELS_WORK_H
#define RODEO_KERNELS_WORK_H

#include "kernels/ops.h"

/* The same for fprop, dgrad and wgrad: all three go over both activations and the weights once.
 * weight_bytes: of one element of the weights, or of their gradient, there and back. */
OpWork work_conv(const Backend *be, const ConvShape *s, size_t weight_bytes);
OpWork work_linear(const Backend *be, const LinearShape *s, size_t weight_bytes);

/* passes: how often a tensor of x's size is read or written. */
OpWork work_batchnorm(const Backend *be, const BatchNormShape *s, int passes, bool mask);

/* x_passes over the convolution's output, y_passes over the pooled tensor. */
OpWork work_stem(const Backend *be, const StemShape *s, int x_passes, int y_passes, bool argmax);

OpWork work_avgpool(const Backend *be, const AvgPoolShape *s);
OpWork work_concat(const Backend *be, const ConcatShape *s);
OpWork work_dropout(const Backend *be, const DropoutShape *s);
OpWork work_loss(const LossShape *s, int passes);
OpWork work_augment(const Backend *be, const AugmentShape *s);
OpWork work_sgd(const Backend *be, const SgdShape *s, bool scaled, bool copied);
OpWork work_cast(const Backend *be, int64_t count);

#endif
