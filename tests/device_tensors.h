/* Operands of operators under test on any backend: device memory in the backend's types with guard
 * bytes on both sides, and the same values in double for the reference. */
#ifndef RODEO_TESTS_DEVICE_TENSORS_H
#define RODEO_TESTS_DEVICE_TENSORS_H

#include "base/rng.h"
#include "kernels/device.h"

#include <stdint.h>

typedef enum {
    ELEMENT_ACT, /* the backend's compute type */
    ELEMENT_F32,
    ELEMENT_I32,
    ELEMENT_U8,
} Element;

typedef struct {
    Backend *be;
    Element element;
    int64_t count;
    int shift; /* elements that it lies behind an address aligned to 256 bytes */
    void *device;
    double *values;         /* of the elements when it was made */
    unsigned char *initial; /* what the memory held then, with the guards */
} DeviceTensor;

/* Host values, rounded to what the backend computes with: to the compute type, where that is tf32
 * to the factors that its products take. */
double device_rounded(const Backend *be, double value);

/* A tensor with the given values, which are rounded to its element type. */
DeviceTensor device_tensor_of(Backend *be, Element element, int64_t count, const double *values,
                              int shift);

/* Uniform on [-size, size), rounded as device_rounded does whatever the element type. */
DeviceTensor device_tensor_random(Backend *be, Element element, int64_t count, Rng *rng,
                                  double size, int shift);

/* An output: not a number, or for integers what no operator writes. */
DeviceTensor device_tensor_poison(Backend *be, Element element, int64_t count, int shift);

/* tensor may be all zeros: one that a test does without. */
void device_tensor_free(DeviceTensor *tensor);

/* The elements as they are now, to be freed. Fails the test if a guard was overwritten. */
double *device_tensor_read(const DeviceTensor *tensor, const char *what);

/* Calls twice with the same operands; fails the test unless both calls left the same bits in the
 * outputs, which are reset to their first contents in between. The results of the second stay. */
void device_call_twice(void (*call)(const void *context), const void *context,
                       const DeviceTensor *const *outputs, int count, const char *what);

/* An element may differ from the expected one by absolute + relative |expected|. */
typedef struct {
    double absolute, relative;
} Tolerance;

/* The one place where tolerances come from.
 *
 * Sums run in float32: each of `terms` additions errs by at most half a unit in the last place of
 * partial sums of at most `size`, 2^-24 size. Errors of either sign add up as a random walk, so to
 * sqrt(terms) of them; four times that is never reached by chance, and summing in the half types
 * would miss it by far. A few more for what is done to the sum. `roundings` intermediate results of
 * that size are stored in the compute type, then the result is stored as `element`: each errs by
 * half a unit of its type, or by half the smallest number that fp16 has. */
Tolerance device_tolerance(const Backend *be, Element element, int64_t terms, double size,
                           int roundings);

/* Fails the test unless the guards are intact and every element is as expected. */
void device_tensor_expect(const DeviceTensor *tensor, const double *expected, Tolerance tolerance,
                          const char *what);

/* Fails the test unless elements first .. first + count - 1 hold what they held at first. */
void device_tensor_expect_untouched(const DeviceTensor *tensor, int64_t first, int64_t count,
                                    const char *what);

#endif
