/* The operators' meaning as plain loops in double precision, for tests to compare backends with.
 * One function an operator, with the shapes and pointers of ops.h but everything in double and no
 * backend; gradients overwrite. The operators that normalise, draw or take losses are in
 * ref_norm.h. */
#ifndef RODEO_KERNELS_REF_H
#define RODEO_KERNELS_REF_H

#include "kernels/ops.h"

/* bias may be NULL. */
void ref_conv_fprop(const ConvShape *s, const double *x, const double *w, const double *bias,
                    double *y);
void ref_conv_dgrad(const ConvShape *s, const double *dy, const double *w, double *dx);

/* dbias may be NULL. */
void ref_conv_wgrad(const ConvShape *s, const double *x, const double *dy, double *dw,
                    double *dbias);

/* bias, dbias may be NULL. */
void ref_linear_fprop(const LinearShape *s, const double *x, const double *w, const double *bias,
                      double *y);
void ref_linear_dgrad(const LinearShape *s, const double *dy, const double *w, double *dx);
void ref_linear_wgrad(const LinearShape *s, const double *x, const double *dy, double *dw,
                      double *dbias);

void ref_avgpool_fprop(const AvgPoolShape *s, const double *x, double *y);
void ref_avgpool_bprop(const AvgPoolShape *s, const double *dy, double *dx);

void ref_concat(const ConcatShape *s, const double *a, const double *b, double *y);
void ref_split(const ConcatShape *s, const double *y, double *a, double *b);

void ref_sgd(const SgdShape *s, const double *dw, double *v, double *w);

#endif
