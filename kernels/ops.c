/* Checks what every backend may rely on, then calls the backend's table. */
#include "kernels/ops.h"

#include "kernels/backend.h"
#include "kernels/work.h"

#include <math.h>

/* Ends the program where one of the pointers that an operator needs is NULL. */
static void require_pointers(const char *op, const void *const *pointers, int count)
{
    for (int i = 0; i < count; i++) {
        if (pointers[i] == NULL) {
            fatal("%s: pointer %d of the %d that it needs is NULL", op, i + 1, count);
        }
    }
}

#define REQUIRE_POINTERS(...)                                                                      \
    require_pointers(__func__, (const void *const[]){__VA_ARGS__},                                 \
                     (int)(sizeof((const void *const[]){__VA_ARGS__}) / sizeof(const void *)))

/* Calls an operator of the backend, and whoever measures it before and after; `work` is worked out
 * only then. */
#define RUN(call, work)                                                                            \
    do {                                                                                           \
        const ProfileHook *profile_ = be->profile;                                                 \
        if (profile_ != NULL) {                                                                    \
            profile_->before(profile_->user);                                                      \
        }                                                                                          \
        be->table->call;                                                                           \
        if (profile_ != NULL) {                                                                    \
            OpWork work_ = (work);                                                                 \
            profile_->after(profile_->user, __func__ + sizeof "op_" - 1, &work_);                  \
        }                                                                                          \
    } while (0)

/* ---- convolution ----------------------------------------------------------------------------- */

static void require_conv(const char *op, const ConvShape *s)
{
    bool sizes = s->N >= 1 && s->H >= 1 && s->W >= 1 && s->C >= 1 && s->K >= 1;
    bool kernel = s->R >= 1 && s->stride >= 1 && s->pad >= 0 && s->pad < s->R;
    bool fits = kernel && s->H + 2 * s->pad >= s->R && s->W + 2 * s->pad >= s->R;
    bool picture = s->C == 3;
    if (!sizes || !fits || (picture && s->stride != 2)) {
        fatal(
            "%s: N %d, H %d, W %d, C %d, K %d, R %d, stride %d, pad %d: sizes and stride must be "
            "at least 1, pad less than R, the kernel must fit into the padded picture, and with 3 "
            "channels the stride is 2",
            op, s->N, s->H, s->W, s->C, s->K, s->R, s->stride, s->pad);
    }
}

void op_conv_fprop(Backend *be, const ConvShape *s, const void *x, const void *w, const float *bias,
                   void *y)
{
    require_conv(__func__, s);
    REQUIRE_POINTERS(x, w, y);
    RUN(conv_fprop(be, s, x, w, bias, y), work_conv(be, s, be->activation_bytes));
}

void op_conv_dgrad(Backend *be, const ConvShape *s, const void *dy, const void *w, void *dx)
{
    require_conv(__func__, s);
    REQUIRE_POINTERS(dy, w, dx);
    RUN(conv_dgrad(be, s, dy, w, dx), work_conv(be, s, be->activation_bytes));
}

void op_conv_wgrad(Backend *be, const ConvShape *s, const void *x, const void *dy, bool accumulate,
                   float *dw, float *dbias)
{
    require_conv(__func__, s);
    REQUIRE_POINTERS(x, dy, dw);
    RUN(conv_wgrad(be, s, x, dy, accumulate, dw, dbias), work_conv(be, s, accumulate ? 8 : 4));
}

/* ---- linear ---------------------------------------------------------------------------------- */

static void require_linear(const char *op, const LinearShape *s)
{
    if (s->N < 1 || s->C < 1 || s->K < 1) {
        fatal("%s: N %d, C %d, K %d: all must be at least 1", op, s->N, s->C, s->K);
    }
}

void op_linear_fprop(Backend *be, const LinearShape *s, const void *x, const void *w,
                     const float *bias, void *y)
{
    require_linear(__func__, s);
    REQUIRE_POINTERS(x, w, y);
    RUN(linear_fprop(be, s, x, w, bias, y), work_linear(be, s, be->activation_bytes));
}

void op_linear_dgrad(Backend *be, const LinearShape *s, const void *dy, const void *w, void *dx)
{
    require_linear(__func__, s);
    REQUIRE_POINTERS(dy, w, dx);
    RUN(linear_dgrad(be, s, dy, w, dx), work_linear(be, s, be->activation_bytes));
}

void op_linear_wgrad(Backend *be, const LinearShape *s, const void *x, const void *dy,
                     bool accumulate, float *dw, float *dbias)
{
    require_linear(__func__, s);
    REQUIRE_POINTERS(x, dy, dw);
    RUN(linear_wgrad(be, s, x, dy, accumulate, dw, dbias), work_linear(be, s, accumulate ? 8 : 4));
}

/* ---- batch norm ------------------------------------------------------------------------------ */

/* least_rows: 2 where a variance is taken, for its unbiased form divides by rows - 1. */
static void require_batchnorm(const char *op, const BatchNormShape *s, int64_t least_rows)
{
    if (s->groups < 1 || s->rows < least_rows || s->C < 1) {
        fatal("%s: groups %d, rows %lld, C %d: groups and C must be at least 1, rows at least %lld",
              op, s->groups, (long long)s->rows, s->C, (long long)least_rows);
    }
    if (!(s->eps > 0.0f) || !(s->momentum >= 0.0f && s->momentum <= 1.0f)) {
        fatal("%s: eps %g, momentum %g: eps must be above 0, momentum in 0..1", op, (double)s->eps,
              (double)s->momentum);
    }
}

static void require_mask(const char *op, bool wanted, const uint8_t *mask)
{
    if (wanted != (mask != NULL)) {
        fatal("%s: %s, though there %s a residual and a ReLU", op, wanted ? "no mask" : "a mask",
              wanted ? "are" : "are not both");
    }
}

void op_batchnorm_train(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                        const float *gamma, const float *beta, float *running_mean,
                        float *running_var, float *batch_mean, float *batch_invstd, void *y,
                        uint8_t *mask)
{
    require_batchnorm(__func__, s, 2);
    REQUIRE_POINTERS(x, gamma, beta, running_mean, running_var, batch_mean, batch_invstd, y);
    require_mask(__func__, s->relu && residual != NULL, mask);
    RUN(batchnorm_train(be, s, x, residual, gamma, beta, running_mean, running_var, batch_mean,
                        batch_invstd, y, mask),
        work_batchnorm(be, s, 3 + (residual != NULL), mask != NULL));
}

void op_batchnorm_eval(Backend *be, const BatchNormShape *s, const void *x, const void *residual,
                       const float *gamma, const float *beta, const float *running_mean,
                       const float *running_var, void *y)
{
    require_batchnorm(__func__, s, 1);
    REQUIRE_POINTERS(x, gamma, beta, running_mean, running_var, y);
    RUN(batchnorm_eval(be, s, x, residual, gamma, beta, running_mean, running_var, y),
        work_batchnorm(be, s, 2 + (residual != NULL), false));
}

/* Reduction and input gradient both read x, dy and dy_add; the second writes dx. Where there was a
 * residual, the first writes dresidual, which the second reads in place of dy and dy_add. */
static int batchnorm_bprop_passes(const void *dy_add, const void *dresidual)
{
    int gradients = 1 + (dy_add != NULL);
    return dresidual != NULL ? (1 + gradients) + 1 + 2 + 1 : 2 * (1 + gradients) + 1;
}

void op_batchnorm_bprop(Backend *be, const BatchNormShape *s, const void *x, const uint8_t *mask,
                        const void *dy, const void *dy_add, const float *gamma, const float *beta,
                        const float *batch_mean, const float *batch_invstd, bool accumulate,
                        void *dx, void *dresidual, float *dgamma, float *dbeta)
{
    require_batchnorm(__func__, s, 2);
    REQUIRE_POINTERS(x, dy, gamma, beta, batch_mean, batch_invstd, dx, dgamma, dbeta);
    require_mask(__func__, s->relu && dresidual != NULL, mask);
    if (dx == dresidual) {
        fatal("%s: dx and dresidual are the same memory", __func__);
    }
    RUN(batchnorm_bprop(be, s, x, mask, dy, dy_add, gamma, beta, batch_mean, batch_invstd,
                        accumulate, dx, dresidual, dgamma, dbeta),
        work_batchnorm(be, s, batchnorm_bprop_passes(dy_add, dresidual), mask != NULL));
}

/* ---- stem ------------------------------------------------------------------------------------ */

void op_conv_statistics(Backend *be, const ConvStatisticsShape *s, const void *x, const void *w,
                        float *running_mean, float *running_var, float *batch_mean,
                        float *batch_invstd, void *y)
{
    require_conv(__func__, &s->conv);
    if (s->groups < 1 || s->conv.N % s->groups != 0) {
        fatal("%s: N %d, groups %d: groups must be at least 1 and divide N", __func__, s->conv.N,
              s->groups);
    }
    BatchNormShape norm = conv_statistics_norm(s);
    require_batchnorm(__func__, &norm, 2);
    REQUIRE_POINTERS(x, w, running_mean, running_var, batch_mean, batch_invstd, y);
    RUN(conv_statistics(be, s, x, w, running_mean, running_var, batch_mean, batch_invstd, y),
        work_conv(be, &s->conv, be->activation_bytes));
}

static void require_stem(const char *op, const StemShape *s, int64_t least_rows)
{
    if (s->groups < 1 || s->N < 1 || s->H < 1 || s->W < 1 || s->C < 1 ||
        (int64_t)s->N * s->H * s->W < least_rows) {
        fatal("%s: groups %d, N %d, H %d, W %d, C %d: all must be at least 1, N H W at least %lld",
              op, s->groups, s->N, s->H, s->W, s->C, (long long)least_rows);
    }
    if (!(s->eps > 0.0f)) {
        fatal("%s: eps %g: it must be above 0", op, (double)s->eps);
    }
}

void op_stem_train(Backend *be, const StemShape *s, const void *x, const float *gamma,
                   const float *beta, const float *batch_mean, const float *batch_invstd, void *y,
                   uint8_t *argmax)
{
    require_stem(__func__, s, 1);
    REQUIRE_POINTERS(x, gamma, beta, batch_mean, batch_invstd, y, argmax);
    RUN(stem_train(be, s, x, gamma, beta, batch_mean, batch_invstd, y, argmax),
        work_stem(be, s, 1, 1, true));
}

void op_stem_eval(Backend *be, const StemShape *s, const void *x, const float *gamma,
                  const float *beta, const float *running_mean, const float *running_var, void *y)
{
    require_stem(__func__, s, 1);
    REQUIRE_POINTERS(x, gamma, beta, running_mean, running_var, y);
    RUN(stem_eval(be, s, x, gamma, beta, running_mean, running_var, y),
        work_stem(be, s, 1, 1, false));
}

void op_stem_bprop(Backend *be, const StemShape *s, const void *x, const uint8_t *argmax,
                   const void *dy, const void *dy_add, const float *gamma, const float *batch_mean,
                   const float *batch_invstd, bool accumulate, void *dx, float *dgamma,
                   float *dbeta)
{
    require_stem(__func__, s, 2);
    REQUIRE_POINTERS(x, argmax, dy, gamma, batch_mean, batch_invstd, dx, dgamma, dbeta);
    RUN(stem_bprop(be, s, x, argmax, dy, dy_add, gamma, batch_mean, batch_invstd, accumulate, dx,
                   dgamma, dbeta),
        work_stem(be, s, 3, dy_add != NULL ? 4 : 2, true));
}

/* ---- pooling, joining, dropout --------------------------------------------------------------- */

static void require_avgpool(const char *op, const AvgPoolShape *s)
{
    if (s->N < 1 || s->HW < 1 || s->C < 1) {
        fatal("%s: N %d, HW %d, C %d: all must be at least 1", op, s->N, s->HW, s->C);
    }
}

void op_avgpool_fprop(Backend *be, const AvgPoolShape *s, const void *x, void *y)
{
    require_avgpool(__func__, s);
    REQUIRE_POINTERS(x, y);
    RUN(avgpool_fprop(be, s, x, y), work_avgpool(be, s));
}

void op_avgpool_bprop(Backend *be, const AvgPoolShape *s, const void *dy, void *dx)
{
    require_avgpool(__func__, s);
    REQUIRE_POINTERS(dy, dx);
    RUN(avgpool_bprop(be, s, dy, dx), work_avgpool(be, s));
}

static void require_concat(const char *op, const ConcatShape *s)
{
    if (s->rows < 1 || s->Ca < 1 || s->Cb < 1) {
        fatal("%s: rows %lld, Ca %d, Cb %d: all must be at least 1", op, (long long)s->rows, s->Ca,
              s->Cb);
    }
}

void op_concat(Backend *be, const ConcatShape *s, const void *a, const void *b, void *y)
{
    require_concat(__func__, s);
    REQUIRE_POINTERS(a, b, y);
    RUN(concat(be, s, a, b, y), work_concat(be, s));
}

void op_split(Backend *be, const ConcatShape *s, const void *y, void *a, void *b)
{
    require_concat(__func__, s);
    REQUIRE_POINTERS(y, a, b);
    RUN(split(be, s, y, a, b), work_concat(be, s));
}

void op_dropout(Backend *be, const DropoutShape *s, const uint64_t *key, const void *x, void *y)
{
    if (s->count < 1 || s->first < 0 || s->first % 4 != 0 || s->layer >= 1u << 24 ||
        !(s->p >= 0.0f && s->p < 1.0f)) {
        fatal("%s: count %lld, first %lld, layer %u, p %g: count must be at least 1, first a "
              "multiple of 4 from 0 on, layer below 2^24, 0 <= p < 1",
              __func__, (long long)s->count, (long long)s->first, s->layer, (double)s->p);
    }
    REQUIRE_POINTERS(key, x, y);
    RUN(dropout(be, s, key, x, y), work_dropout(be, s));
}

/* ---- losses ---------------------------------------------------------------------------------- */

static void require_loss(const char *op, const LossShape *s)
{
    if (s->N < 1 || s->C < 1) {
        fatal("%s: N %d, C %d: both must be at least 1", op, s->N, s->C);
    }
}

void op_cross_entropy(Backend *be, const LossShape *s, const float *logits, const int32_t *labels,
                      float weight, const LossScale *scale, float *loss, int32_t *correct,
                      float *dlogits)
{
    require_loss(__func__, s);
    REQUIRE_POINTERS(logits, labels, loss, correct);
    RUN(cross_entropy(be, s, logits, labels, weight, scale, loss, correct, dlogits),
        work_loss(s, dlogits != NULL ? 2 : 1));
}

void op_entropy(Backend *be, const LossShape *s, const float *logits, float weight,
                const LossScale *scale, float *loss, float *dlogits)
{
    require_loss(__func__, s);
    REQUIRE_POINTERS(logits, loss, dlogits);
    RUN(entropy(be, s, logits, weight, scale, loss, dlogits), work_loss(s, 2));
}

void op_argmax(Backend *be, const LossShape *s, const float *logits, int32_t *prediction)
{
    require_loss(__func__, s);
    REQUIRE_POINTERS(logits, prediction);
    RUN(argmax(be, s, logits, prediction), work_loss(s, 1));
}

/* ---- augmentation, optimizer ----------------------------------------------------------------- */

void op_augment(Backend *be, const AugmentShape *s, const uint8_t *pixels, const AugmentItem *items,
                void *y)
{
    if (s->N < 1 || s->crop < 1 || s->crop > s->resize) {
        fatal("%s: N %d, resize %d, crop %d: N must be at least 1, and 1 <= crop <= resize",
              __func__, s->N, s->resize, s->crop);
    }
    REQUIRE_POINTERS(pixels, items, y);
    RUN(augment(be, s, pixels, items, y), work_augment(be, s));
}

void op_sgd(Backend *be, const SgdShape *s, LossScale *scale, const float *dw, float *v, float *w,
            void *w_act)
{
    const int most = sizeof(s->range) / sizeof(s->range[0]);
    if (s->ranges < 1 || s->ranges > most || !isfinite(s->momentum) || !isfinite(s->weight_decay)) {
        fatal("%s: %d ranges, momentum %g, weight decay %g: 1 to %d ranges, finite settings",
              __func__, s->ranges, (double)s->momentum, (double)s->weight_decay, most);
    }
    for (int i = 0; i < s->ranges; i++) {
        const SgdRange *range = &s->range[i];
        if (range->offset < 0 || range->offset % 16 != 0 || range->count < 0 ||
            range->count % 16 != 0 || !isfinite(range->lr)) {
            fatal(
                "%s: range %d: offset %lld, count %lld, lr %g: offset and count must be multiples "
                "of 16 from 0 on, lr finite",
                __func__, i, (long long)range->offset, (long long)range->count, (double)range->lr);
        }
    }
    REQUIRE_POINTERS(dw, v, w);
    RUN(sgd(be, s, scale, dw, v, w, w_act), work_sgd(be, s, scale != NULL, w_act != NULL));
}

void op_cast(Backend *be, int64_t count, const float *x, void *y)
{
    if (count < 1) {
        fatal("%s: count %lld must be at least 1", __func__, (long long)count);
    }
    REQUIRE_POINTERS(x, y);
    RUN(cast(be, count, x, y), work_cast(be, count));
}
