/* The meaning, in double precision, of the operators that normalise, draw or take losses, and of
 * the augmentation. As in ref.h: the shapes and pointers of ops.h, everything float in double, no
 * backend; gradients overwrite. */
#ifndef RODEO_KERNELS_REF_NORM_H
#define RODEO_KERNELS_REF_NORM_H

#include "kernels/ops.h"

/* What op_batchnorm_train takes of x, and op_conv_statistics of the convolution's output. */
void ref_batchnorm_statistics(const BatchNormShape *s, const double *x, double *running_mean,
                              double *running_var, double *batch_mean, double *batch_invstd);

/* residual may be NULL. */
void ref_batchnorm_train(const BatchNormShape *s, const double *x, const double *residual,
                         const double *gamma, const double *beta, double *running_mean,
                         double *running_var, double *batch_mean, double *batch_invstd, double *y);
void ref_batchnorm_eval(const BatchNormShape *s, const double *x, const double *residual,
                        const double *gamma, const double *beta, const double *running_mean,
                        const double *running_var, double *y);

/* The mask of y, which op_batchnorm_train writes. */
void ref_batchnorm_mask(const BatchNormShape *s, const double *y, uint8_t *mask);

/* y decides where the ReLU passed. dy_add and dresidual may be NULL. */
void ref_batchnorm_bprop(const BatchNormShape *s, const double *x, const double *y,
                         const double *dy, const double *dy_add, const double *gamma,
                         const double *batch_mean, const double *batch_invstd, double *dx,
                         double *dresidual, double *dgamma, double *dbeta);

void ref_stem_train(const StemShape *s, const double *x, const double *gamma, const double *beta,
                    const double *batch_mean, const double *batch_invstd, double *y,
                    uint8_t *argmax);
void ref_stem_eval(const StemShape *s, const double *x, const double *gamma, const double *beta,
                   const double *running_mean, const double *running_var, double *y);

/* dy_add may be NULL. */
void ref_stem_bprop(const StemShape *s, const double *x, const uint8_t *argmax, const double *dy,
                    const double *dy_add, const double *gamma, const double *batch_mean,
                    const double *batch_invstd, double *dx, double *dgamma, double *dbeta);

void ref_dropout(const DropoutShape *s, const uint64_t *key, const double *x, double *y);

/* dlogits may be NULL. */
void ref_cross_entropy(const LossShape *s, const double *logits, const int32_t *labels,
                       double weight, double *loss, int32_t *correct, double *dlogits);
void ref_entropy(const LossShape *s, const double *logits, double weight, double *loss,
                 double *dlogits);
void ref_argmax(const LossShape *s, const double *logits, int32_t *prediction);

void ref_augment(const AugmentShape *s, const uint8_t *pixels, const AugmentItem *items, double *y);

#endif
