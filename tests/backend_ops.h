/* The tests of every operator on a backend, by topic: test_backend_ops.c runs them all. */
#ifndef RODEO_TESTS_BACKEND_OPS_H
#define RODEO_TESTS_BACKEND_OPS_H

#include "kernels/ops.h"
#include "tests/device_tensors.h"

typedef struct {
    Backend *be;
    uint64_t seed;    /* of the shapes and values that are drawn anew */
    int rounds;       /* random shapes an operator, behind the fixed ones */
    bool no_products; /* leaves out what calls cuDNN and cuBLAS */
} BackendOps;

/* A sequence of draws for one topic. */
static inline Rng backend_ops_rng(const BackendOps *t, uint32_t topic)
{
    return rng_at(t->seed, RNG_SHUFFLE, topic, 0, 0);
}

/* A whole number from low to high. */
static inline int draw(Rng *rng, int low, int high)
{
    return low + (int)rng_below(rng, (uint32_t)(high - low) + 1);
}

/* The three passes of a convolution against the reference: test_backend_ops_products.c. */
void check_backend_conv(Backend *be, const ConvShape *s, bool accumulate, bool bias, Rng *rng);

/* Tests for cmocka; *state is a BackendOps. */
void test_backend_conv(void **state);
void test_backend_own_conv(void **state);
void test_backend_linear(void **state);
void test_backend_batchnorm(void **state);
void test_backend_conv_statistics(void **state);
void test_backend_stem(void **state);
void test_backend_avgpool(void **state);
void test_backend_concat(void **state);
void test_backend_dropout(void **state);
void test_backend_cast(void **state);
void test_backend_cross_entropy(void **state);
void test_backend_entropy(void **state);
void test_backend_argmax(void **state);
void test_backend_sgd(void **state);
void test_backend_augment(void **state);

#endif
