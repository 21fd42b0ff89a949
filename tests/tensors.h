/* Operands of operators under test: float32 device memory with guard bytes behind it, and the same
 * values in double for the reference. */
#ifndef RODEO_TESTS_TENSORS_H
#define RODEO_TESTS_TENSORS_H

#include "kernels/device.h"

#include <stdint.h>

typedef struct {
    Backend *be;
    int64_t count;
    float *device;
    double *values; /* what the device memory held when it was filled */
} Tensor;

/* The backend that all tests of operators run on: the CPU with two threads. */
Backend *tensors_open_backend(void);

/* count elements, uniform on [-1, 1); the same for the same seed. */
Tensor tensor_random(Backend *be, int64_t count, uint64_t seed);

/* count elements that are not a number: an output that an operator must overwrite. */
Tensor tensor_nan(Backend *be, int64_t count);

/* A copy of count floats. */
Tensor tensor_of(Backend *be, int64_t count, const float *values);

void tensor_free(Tensor *tensor);

/* Fails the test unless the guard is intact and every element is within tolerance of expected. */
void tensor_expect(const Tensor *tensor, const double *expected, double tolerance,
                   const char *what);

/* As tensor_expect, for values that were computed in float32. */
void tensor_expect_f32(const Tensor *tensor, const float *expected, double tolerance,
                       const char *what);

/* Fails the test unless both hold the same bits. */
void tensor_expect_same_bits(const Tensor *a, const Tensor *b, const char *what);

/* The error that a float32 sum of `terms` products of random numbers below 1 may have. Partial sums
 * grow as sqrt(terms), each addition errs by half an ulp of them, and the errors add up as a random
 * walk: together as terms. */
double tensor_tolerance(int64_t terms);

#endif
