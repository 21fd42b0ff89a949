/* Convolutions that take the statistics of their output, on a backend against the reference: the
 * output like that of any convolution, the statistics against those of the output as it is stored.
 */
#include "base/mem.h"
#include "kernels/ref/ref.h"
#include "kernels/ref/ref_norm.h"
#include "tests/backend_ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double largest =
    4; /* of outputs: sums whose terms are scaled by 1/sqrt of their number */

typedef struct {
    Backend *be;
    ConvStatisticsShape s;
    BatchNormShape norm;
    int channels; /* of x in memory */
    DeviceTensor x, w, y, running_mean, running_var, batch_mean, batch_invstd;
    char text[160];
} Statistics;

static double *doubles(int64_t count)
{
    return mem_alloc((size_t)count * sizeof(double));
}

static BatchNormShape norm_of(const ConvStatisticsShape *s)
{
    const ConvShape *c = &s->conv;
    int64_t positions =
        (int64_t)conv_out(c->H, c->R, c->stride, c->pad) * conv_out(c->W, c->R, c->stride, c->pad);
    return (BatchNormShape){s->groups, c->N / s->groups * positions, c->K, s->eps, s->momentum,
                            false};
}

/* x [N,H,W,channels] from values [N,H,W,C]: what pads pictures is zero. */
static DeviceTensor padded_input(const Statistics *t, const double *values)
{
    const ConvShape *c = &t->s.conv;
    int64_t pixels = (int64_t)c->N * c->H * c->W;
    double *padded = mem_zeroed((size_t)(pixels * t->channels), sizeof(double));
    for (int64_t i = 0; i < pixels; i++) {
        memcpy(padded + i * t->channels, values + i * c->C, (size_t)c->C * sizeof(double));
    }
    DeviceTensor x = device_tensor_of(t->be, ELEMENT_ACT, pixels * t->channels, padded, 0);
    free(padded);
    return x;
}

/* Pictures are brighter from group to group, so that no group has another's statistics. */
static double *input_values(const Statistics *t, Rng *rng)
{
    const ConvShape *c = &t->s.conv;
    int64_t picture = (int64_t)c->H * c->W * c->C;
    double *values = doubles(c->N * picture);
    for (int64_t i = 0; i < c->N * picture; i++) {
        int64_t group = i / picture / (c->N / t->s.groups);
        values[i] = device_rounded(t->be, 2 * rng_uniform(rng) - 1 + (double)group / 4);
    }
    return values;
}

static Statistics statistics_make(Backend *be, const ConvStatisticsShape *s, double **x, Rng *rng)
{
    Statistics t = {.be = be, .s = *s, .norm = norm_of(s)};
    const ConvShape *c = &s->conv;
    snprintf(t.text, sizeof t.text, "groups %d, N %d, H %d, W %d, C %d, K %d, R %d, stride %d",
             s->groups, c->N, c->H, c->W, c->C, c->K, c->R, c->stride);
    t.channels = c->C == 3 ? device_picture_channels(be) : c->C;
    int64_t weights = (int64_t)c->K * c->R * c->R * c->C;
    *x = input_values(&t, rng);
    t.x = padded_input(&t, *x);
    t.w = device_tensor_random(be, ELEMENT_ACT, weights, rng, 1 / sqrt(c->R * c->R * c->C), 0);
    t.y = device_tensor_poison(be, ELEMENT_ACT, s->groups * t.norm.rows * c->K, 0);
    t.running_mean = device_tensor_random(be, ELEMENT_F32, c->K, rng, 1, 0);
    t.running_var = device_tensor_random(be, ELEMENT_F32, c->K, rng, 1, 0);
    t.batch_mean = device_tensor_poison(be, ELEMENT_F32, (int64_t)s->groups * c->K, 0);
    t.batch_invstd = device_tensor_poison(be, ELEMENT_F32, (int64_t)s->groups * c->K, 0);
    return t;
}

static void statistics_free(Statistics *t)
{
    DeviceTensor *const all[] = {&t->x,           &t->w,          &t->y,           &t->running_mean,
                                 &t->running_var, &t->batch_mean, &t->batch_invstd};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        device_tensor_free(all[i]);
    }
}

static void call(const void *context)
{
    const Statistics *t = context;
    op_conv_statistics(t->be, &t->s, t->x.device, t->w.device, t->running_mean.device,
                       t->running_var.device, t->batch_mean.device, t->batch_invstd.device,
                       t->y.device);
}

static void check_output(const Statistics *t, const double *x)
{
    const ConvShape *c = &t->s.conv;
    double *y = doubles(t->y.count);
    ref_conv_fprop(c, x, t->w.values, NULL, y);
    int64_t terms = (int64_t)c->R * c->R * c->C;
    device_tensor_expect(&t->y, y, device_tolerance(t->be, ELEMENT_ACT, terms, largest, 1),
                         t->text);
    free(y);
}

/* The variance is told as well as sums of squares are, and 1/std errs by half of that, relatively,
 * times 1/variance. */
static void check_invstd(const Statistics *t, const double *expected, double variance_error)
{
    double *found = device_tensor_read(&t->batch_invstd, t->text);
    for (int64_t i = 0; i < t->batch_invstd.count; i++) {
        double squared = expected[i] * expected[i];
        double allowed = expected[i] * (variance_error * squared + 1e-6);
        if (!(fabs(found[i] - expected[i]) <= allowed)) {
            fail_msg("%s: 1/std %lld is %.9g, expected %.9g within %.3g", t->text, (long long)i,
                     found[i], expected[i], allowed);
        }
    }
    free(found);
}

static void check_statistics(const Statistics *t)
{
    double *y = device_tensor_read(&t->y, t->text);
    double *running_mean = doubles(t->s.conv.K);
    double *running_var = doubles(t->s.conv.K);
    double *mean = doubles(t->batch_mean.count);
    double *invstd = doubles(t->batch_mean.count);
    memcpy(running_mean, t->running_mean.values, (size_t)t->s.conv.K * sizeof(double));
    memcpy(running_var, t->running_var.values, (size_t)t->s.conv.K * sizeof(double));
    ref_batchnorm_statistics(&t->norm, y, running_mean, running_var, mean, invstd);
    Tolerance means = device_tolerance(t->be, ELEMENT_F32, t->norm.rows, largest, 0);
    Tolerance squares = device_tolerance(t->be, ELEMENT_F32, t->norm.rows, largest * largest, 0);
    device_tensor_expect(&t->batch_mean, mean, means, t->text);
    device_tensor_expect(&t->running_mean, running_mean, means, t->text);
    device_tensor_expect(&t->running_var, running_var, squares, t->text);
    check_invstd(t, invstd, squares.absolute);
    double *const all[] = {y, running_mean, running_var, mean, invstd};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        free(all[i]);
    }
}

static void check(Backend *be, const ConvStatisticsShape *s, Rng *rng)
{
    double *x;
    Statistics t = statistics_make(be, s, &x, rng);
    device_call_twice(call, &t,
                      (const DeviceTensor *const[]){&t.y, &t.batch_mean, &t.batch_invstd,
                                                    &t.running_mean, &t.running_var},
                      5, t.text);
    check_output(&t, x);
    check_statistics(&t);
    statistics_free(&t);
    free(x);
}

static ConvStatisticsShape random_statistics(Rng *rng)
{
    int groups = draw(rng, 1, 6);
    bool pictures = draw(rng, 0, 1);
    ConvStatisticsShape s = {.groups = groups, .eps = 1e-5F, .momentum = 0.1F};
    s.conv = (ConvShape){.N = groups * draw(rng, 1, 3),
                         .H = 2 * draw(rng, 4, 20),
                         .W = 2 * draw(rng, 4, 20),
                         .C = pictures ? 3 : draw(rng, 1, 9),
                         .K = pictures ? 64 : draw(rng, 1, 24),
                         .R = pictures ? 7 : 3,
                         .stride = 2};
    s.conv.pad = s.conv.R / 2;
    return s;
}

/* Beside small ones: pictures that fill tiles of 14 x 16 outputs and those that do not, groups that
 * have fewer tiles than blocks would run, more groups than the statistics take at a time. */
void test_backend_conv_statistics(void **state)
{
    static const ConvStatisticsShape shapes[] = {
        {{1, 1, 2, 1, 1, 1, 1, 0}, 1, 1e-5F, 0.1F},
        {{2, 2, 2, 3, 64, 7, 2, 3}, 1, 1e-3F, 1},
        {{4, 28, 32, 3, 64, 7, 2, 3}, 4, 1e-5F, 0.1F},
        {{4, 40, 70, 3, 64, 7, 2, 3}, 2, 1e-5F, 0.1F},
        {{9, 30, 34, 3, 64, 7, 2, 3}, 9, 1e-5F, 0.1F},
        {{3, 58, 6, 3, 64, 7, 2, 3}, 1, 1e-5F, 0.5F},
        {{6, 15, 13, 3, 16, 7, 2, 3}, 3, 1e-5F, 0.1F},
        {{4, 9, 7, 16, 24, 3, 1, 1}, 2, 1e-5F, 0},
    };
    BackendOps *t = *state;
    Rng rng = backend_ops_rng(t, 15);
    int fixed = sizeof(shapes) / sizeof(shapes[0]);
    for (int i = 0; i < fixed + t->rounds; i++) {
        ConvStatisticsShape s = i < fixed ? shapes[i] : random_statistics(&rng);
        check(t->be, &s, &rng);
    }
}
