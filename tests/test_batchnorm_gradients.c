/* The reference loops of batch norm's gradients against finite differences. */
#include "base/rng.h"
#include "kernels/ref/ref_norm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int64_t count_of(const BatchNormShape *s)
{
    return s->groups * s->rows * s->C;
}

/* Uniform on [-1, 1). */
static void draw(Rng *rng, double *values, int count)
{
    for (int i = 0; i < count; i++) {
        values[i] = 2 * rng_uniform(rng) - 1;
    }
}

typedef struct {
    BatchNormShape s;
    double *x, *residual, *gamma, *beta, *dy, *y, *mean, *invstd;
} Reference;

/* sum of dy y, whose gradients bprop gives. */
static double weighted_output(const Reference *r)
{
    double running[2][8] = {{0}};
    ref_batchnorm_train(&r->s, r->x, r->residual, r->gamma, r->beta, running[0], running[1],
                        r->mean, r->invstd, r->y);
    double sum = 0;
    for (int64_t i = 0; i < count_of(&r->s); i++) {
        sum += r->dy[i] * r->y[i];
    }
    return sum;
}

static void check_differences(const Reference *r, double *values, const double *gradient,
                              int64_t count)
{
    const double step = 1e-5;
    for (int64_t i = 0; i < count; i++) {
        double value = values[i];
        values[i] = value + step;
        double above = weighted_output(r);
        values[i] = value - step;
        double below = weighted_output(r);
        values[i] = value;
        assert_true(fabs((above - below) / (2 * step) - gradient[i]) < 1e-7);
    }
}

/* The residual is moved until no value before the ReLU is near its kink. */
static void leave_the_kink(Reference *r)
{
    r->s.relu = false;
    weighted_output(r);
    for (int64_t i = 0; i < count_of(&r->s); i++) {
        if (fabs(r->y[i]) < 0.01) {
            r->residual[i] += 0.1;
        }
    }
    r->s.relu = true;
}

static void test_reference_gradients(void **state)
{
    (void)state;
    enum { N = 2 * 5 * 3, C = 3 };
    double x[N];
    double residual[N];
    double dy[N];
    double gamma[C];
    double beta[C];
    double y[N];
    double mean[2 * C];
    double invstd[2 * C];
    Rng rng = rng_at(2, RNG_SHUFFLE, 0, 0, 0);
    draw(&rng, x, N);
    draw(&rng, residual, N);
    draw(&rng, dy, N);
    draw(&rng, gamma, C);
    draw(&rng, beta, C);
    Reference r = {{2, 5, C, 1e-5F, 0.1F, true}, x, residual, gamma, beta, dy, y, mean, invstd};
    leave_the_kink(&r);
    weighted_output(&r);
    double dx[N];
    double dresidual[N];
    double dgamma[C];
    double dbeta[C];
    ref_batchnorm_bprop(&r.s, r.x, y, r.dy, NULL, r.gamma, mean, invstd, dx, dresidual, dgamma,
                        dbeta);
    check_differences(&r, r.x, dx, N);
    check_differences(&r, r.residual, dresidual, N);
    check_differences(&r, r.gamma, dgamma, C);
    check_differences(&r, r.beta, dbeta, C);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
