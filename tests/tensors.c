#include "tensors.h"

#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD_BYTES = 64, GUARD = 0xA5 };

Backend *tensors_open_backend(void)
{
    Err err;
    Backend *be = device_open("cpu", &(DeviceOptions){.threads = 2}, &err);
    if (be == NULL) {
        fail_msg("%s", err.text);
    }
    return be;
}

static size_t bytes_of(int64_t count)
{
    return (size_t)count * sizeof(float);
}

Tensor tensor_of(Backend *be, int64_t count, const float *values)
{
    Tensor tensor = {be, count, device_alloc(be, bytes_of(count) + GUARD_BYTES),
                     mem_alloc((size_t)count * sizeof(double))};
    unsigned char guard[GUARD_BYTES];
    memset(guard, GUARD, sizeof(guard));
    device_copy_in(be, tensor.device, values, bytes_of(count));
    device_copy_in(be, tensor.device + count, guard, sizeof(guard));
    device_synchronize(be);
    for (int64_t i = 0; i < count; i++) {
        tensor.values[i] = values[i];
    }
    return tensor;
}

Tensor tensor_random(Backend *be, int64_t count, uint64_t seed)
{
    Rng rng = rng_at(seed, RNG_INITIAL_WEIGHTS, 0, 0, 0);
    float *values = mem_alloc(bytes_of(count));
    for (int64_t i = 0; i < count; i++) {
        values[i] = (float)(2.0 * rng_uniform(&rng) - 1.0);
    }
    Tensor tensor = tensor_of(be, count, values);
    free(values);
    return tensor;
}

Tensor tensor_nan(Backend *be, int64_t count)
{
    float *values = mem_alloc(bytes_of(count));
    for (int64_t i = 0; i < count; i++) {
        values[i] = NAN;
    }
    Tensor tensor = tensor_of(be, count, values);
    free(values);
    return tensor;
}

void tensor_free(Tensor *tensor)
{
    device_free(tensor->be, tensor->device);
    free(tensor->values);
    *tensor = (Tensor){0};
}

static float *read_back(const Tensor *tensor, const char *what)
{
    char *bytes = mem_alloc(bytes_of(tensor->count) + GUARD_BYTES);
    device_copy_out(tensor->be, bytes, tensor->device, bytes_of(tensor->count) + GUARD_BYTES);
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        if ((unsigned char)bytes[bytes_of(tensor->count) + i] != GUARD) {
            fail_msg("%s: byte %zu behind the end was overwritten", what, i);
        }
    }
    return (float *)bytes;
}

void tensor_expect(const Tensor *tensor, const double *expected, double tolerance, const char *what)
{
    float *found = read_back(tensor, what);
    for (int64_t i = 0; i < tensor->count; i++) {
        /* Written so that a value that is not a number fails. */
        if (!(fabs(found[i] - expected[i]) <= tolerance)) {
            fail_msg("%s: element %lld of %lld is %.9g, expected %.9g within %.3g", what,
                     (long long)i, (long long)tensor->count, (double)found[i], expected[i],
                     tolerance);
        }
    }
    free(found);
}

void tensor_expect_f32(const Tensor *tensor, const float *expected, double tolerance,
                       const char *what)
{
    double *wide = mem_alloc((size_t)tensor->count * sizeof(double));
    for (int64_t i = 0; i < tensor->count; i++) {
        wide[i] = expected[i];
    }
    tensor_expect(tensor, wide, tolerance, what);
    free(wide);
}

void tensor_expect_same_bits(const Tensor *a, const Tensor *b, const char *what)
{
    float *first = read_back(a, what);
    float *second = read_back(b, what);
    assert_int_equal(a->count, b->count);
    if (memcmp(first, second, bytes_of(a->count)) != 0) {
        fail_msg("%s: two runs gave different bits", what);
    }
    free(first);
    free(second);
}

double tensor_tolerance(int64_t terms)
{
    const double half_ulp = 0x1p-24;
    return half_ulp * (8.0 + 2.0 * (double)terms);
}
