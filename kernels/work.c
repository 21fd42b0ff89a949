#include "kernels/work.h"

#include "kernels/backend.h"

#include <stdio.h>

static double activation(const Backend *be)
{
    return (double)be->activation_bytes;
}

OpWork work_conv(const Backend *be, const ConvShape *s, size_t weight_bytes)
{
    double P = conv_out(s->H, s->R, s->stride, s->pad);
    double Q = conv_out(s->W, s->R, s->stride, s->pad);
    double weights = (double)s->K * s->R * s->R * s->C;
    int stored_C = s->C == 3 ? be->picture_channels : s->C;
    double elements = (double)s->N * s->H * s->W * stored_C + s->N * P * Q * s->K;
    OpWork work = {.flops = 2.0 * s->N * P * Q * weights,
                   .bytes = activation(be) * elements + (double)weight_bytes * weights};
    snprintf(work.shape, sizeof work.shape, "%dx%d/%d %d->%d at %d", s->R, s->R, s->stride, s->C,
             s->K, s->H);
    return work;
}

OpWork work_linear(const Backend *be, const LinearShape *s, size_t weight_bytes)
{
    double y_bytes = s->float_output ? 4.0 : activation(be);
    double weights = (double)s->K * s->C;
    OpWork work = {.flops = 2.0 * s->N * weights,
                   .bytes = activation(be) * s->N * s->C + y_bytes * s->N * s->K +
                            (double)weight_bytes * weights};
    snprintf(work.shape, sizeof work.shape, "%d->%d", s->C, s->K);
    return work;
}

OpWork work_batchnorm(const Backend *be, const BatchNormShape *s, int passes, bool mask)
{
    int64_t rows = s->groups * s->rows;
    OpWork work = {.bytes = activation(be) * passes * (double)rows * s->C +
                            (mask ? (double)batchnorm_mask_bytes(rows, s->C) : 0.0)};
    snprintf(work.shape, sizeof work.shape, "%d x %lld x %d, %d passes", s->groups,
             (long long)s->rows, s->C, passes);
    return work;
}

OpWork work_stem(const Backend *be, const StemShape *s, int x_passes, int y_passes, bool argmax)
{
    double samples = (double)s->groups * s->N;
    double x = samples * s->H * s->W * s->C;
    double y = samples * conv_out(s->H, 3, 2, 1) * conv_out(s->W, 3, 2, 1) * s->C;
    OpWork work = {.bytes = activation(be) * (x_passes * x + y_passes * y) +
                            (argmax ? (double)y_passes * y : 0.0)};
    snprintf(work.shape, sizeof work.shape, "%d at %d", s->C, s->H);
    return work;
}

OpWork work_avgpool(const Backend *be, const AvgPoolShape *s)
{
    OpWork work = {.bytes = activation(be) * s->N * (s->HW + 1.0) * s->C};
    snprintf(work.shape, sizeof work.shape, "%d x %d", s->HW, s->C);
    return work;
}

OpWork work_concat(const Backend *be, const ConcatShape *s)
{
    OpWork work = {.bytes = activation(be) * 2.0 * (double)s->rows * (s->Ca + s->Cb)};
    snprintf(work.shape, sizeof work.shape, "%d + %d", s->Ca, s->Cb);
    return work;
}

OpWork work_dropout(const Backend *be, const DropoutShape *s)
{
    OpWork work = {.bytes = activation(be) * 2.0 * (double)s->count};
    snprintf(work.shape, sizeof work.shape, "%lld", (long long)s->count);
    return work;
}

OpWork work_loss(const LossShape *s, int passes)
{
    OpWork work = {.bytes = 4.0 * passes * s->N * s->C};
    snprintf(work.shape, sizeof work.shape, "%d x %d", s->N, s->C);
    return work;
}

OpWork work_augment(const Backend *be, const AugmentShape *s)
{
    OpWork work = {.bytes =
                       activation(be) * be->picture_channels * s->N * (double)s->crop * s->crop};
    snprintf(work.shape, sizeof work.shape, "%d -> %d", s->resize, s->crop);
    return work;
}

OpWork work_sgd(const Backend *be, const SgdShape *s, bool scaled, bool copied)
{
    double count = 0;
    for (int i = 0; i < s->ranges; i++) {
        count += (double)s->range[i].count;
    }
    /* dw, v and w are read, v and w written; a loss scale has dw searched beforehand. */
    OpWork work = {.bytes =
                       count * (20.0 + (scaled ? 4.0 : 0.0) + (copied ? activation(be) : 0.0))};
    snprintf(work.shape, sizeof work.shape, "%.0f", count);
    return work;
}

OpWork work_cast(const Backend *be, int64_t count)
{
    OpWork work = {.bytes = (4.0 + activation(be)) * (double)count};
    snprintf(work.shape, sizeof work.shape, "%lld", (long long)count);
    return work;
}
