#include "tests/device_tensors.h"

#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD_BYTES = 256, GUARD = 0xA5, POISON = 0xEE };

/* ---- number formats -------------------------------------------------------------------------- */

/* A binary format of IEEE 754's kind. */
typedef struct {
    int fraction; /* bits behind the point */
    int bias;     /* of the exponent; the smallest one is 1 - bias */
} Format;

static Format format_of(const Backend *be)
{
    const char *name = device_precision(be);
    if (strcmp(name, "fp16") == 0) {
        return (Format){10, 15};
    }
    if (strcmp(name, "bf16") == 0) {
        return (Format){7, 127};
    }
    return strcmp(name, "tf32") == 0 ? (Format){10, 127} : (Format){23, 127};
}

/* The unit in the last place of value. */
static double unit_of(Format f, double value)
{
    int exponent = value == 0 ? 1 - f.bias : ilogb(value);
    exponent = exponent < 1 - f.bias ? 1 - f.bias : exponent;
    return ldexp(1, exponent - f.fraction);
}

static double round_to(Format f, double value)
{
    if (!isfinite(value)) {
        return value;
    }
    double unit = unit_of(f, value);
    double rounded = nearbyint(value / unit) * unit;
    return fabs(rounded) >= ldexp(1, f.bias + 1) ? copysign(INFINITY, value) : rounded;
}

double device_rounded(const Backend *be, double value)
{
    return round_to(format_of(be), value);
}

/* The bits of a 16-bit format. */
static uint16_t encode(Format f, double value)
{
    uint16_t sign = (uint16_t)(signbit(value) ? 1u << 15 : 0);
    uint16_t top = (uint16_t)((2u * (unsigned)f.bias + 1) << f.fraction);
    if (isnan(value)) {
        return (uint16_t)(sign | top | 1u << (f.fraction - 1));
    }
    double rounded = fabs(round_to(f, value));
    if (isinf(rounded)) {
        return (uint16_t)(sign | top);
    }
    double unit = unit_of(f, rounded);
    unsigned digits = (unsigned)(rounded / unit);
    unsigned steps = (unsigned)(ilogb(unit) + f.fraction - (1 - f.bias));
    return (uint16_t)(sign | ((steps << f.fraction) + digits));
}

static double decode(Format f, uint16_t bits)
{
    unsigned digits = bits & ((1u << f.fraction) - 1);
    int exponent = (int)((bits & 0x7FFFu) >> f.fraction);
    double value;
    if (exponent == 2 * f.bias + 1) {
        value = digits != 0 ? (double)NAN : (double)INFINITY;
    } else if (exponent == 0) {
        value = ldexp(digits, 1 - f.bias - f.fraction);
    } else {
        value = ldexp(digits + (1u << f.fraction), exponent - f.bias - f.fraction);
    }
    return bits >> 15 ? -value : value;
}

static size_t element_bytes(const Backend *be, Element element)
{
    switch (element) {
    case ELEMENT_ACT:
        return device_activation_bytes(be);
    case ELEMENT_U8:
        return 1;
    default:
        return 4;
    }
}

static bool is_half(const Backend *be, Element element)
{
    return element == ELEMENT_ACT && device_activation_bytes(be) == 2;
}

static void write_element(const Backend *be, Element element, unsigned char *to, double value)
{
    if (is_half(be, element)) {
        uint16_t bits = encode(format_of(be), value);
        memcpy(to, &bits, sizeof(bits));
    } else if (element == ELEMENT_I32) {
        int32_t integer = (int32_t)value;
        memcpy(to, &integer, sizeof(integer));
    } else if (element == ELEMENT_U8) {
        *to = (unsigned char)value;
    } else {
        float single = (float)value;
        memcpy(to, &single, sizeof(single));
    }
}

static double read_element(const Backend *be, Element element, const unsigned char *from)
{
    if (is_half(be, element)) {
        uint16_t bits;
        memcpy(&bits, from, sizeof(bits));
        return decode(format_of(be), bits);
    }
    if (element == ELEMENT_I32) {
        int32_t integer;
        memcpy(&integer, from, sizeof(integer));
        return integer;
    }
    if (element == ELEMENT_U8) {
        return *from;
    }
    float single;
    memcpy(&single, from, sizeof(single));
    return single;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static size_t offset_of(const DeviceTensor *t, int64_t i)
{
    return GUARD_BYTES + (size_t)(t->shift + i) * element_bytes(t->be, t->element);
}

static size_t whole_bytes(const DeviceTensor *t)
{
    return offset_of(t, t->count) + GUARD_BYTES;
}

static void *whole_memory(const DeviceTensor *t)
{
    return (char *)t->device - offset_of(t, 0);
}

static void reset(const DeviceTensor *t)
{
    device_copy_in(t->be, whole_memory(t), t->initial, whole_bytes(t));
    device_synchronize(t->be);
}

/* A tensor whose elements are all POISON, on the host. */
static DeviceTensor make(Backend *be, Element element, int64_t count, int shift)
{
    DeviceTensor t = {.be = be, .element = element, .count = count, .shift = shift};
    t.initial = mem_alloc(whole_bytes(&t));
    memset(t.initial, GUARD, whole_bytes(&t));
    memset(t.initial + offset_of(&t, 0), POISON, offset_of(&t, count) - offset_of(&t, 0));
    t.values = mem_zeroed((size_t)count, sizeof(double));
    return t;
}

/* Gives it device memory with what the host has. */
static void upload(DeviceTensor *t)
{
    for (int64_t i = 0; i < t->count; i++) {
        t->values[i] = read_element(t->be, t->element, t->initial + offset_of(t, i));
    }
    t->device = (char *)device_alloc(t->be, whole_bytes(t)) + offset_of(t, 0);
    reset(t);
}

DeviceTensor device_tensor_of(Backend *be, Element element, int64_t count, const double *values,
                              int shift)
{
    DeviceTensor t = make(be, element, count, shift);
    for (int64_t i = 0; i < count; i++) {
        write_element(be, element, t.initial + offset_of(&t, i), values[i]);
    }
    upload(&t);
    return t;
}

DeviceTensor device_tensor_random(Backend *be, Element element, int64_t count, Rng *rng,
                                  double size, int shift)
{
    double *values = mem_alloc((size_t)count * sizeof(double));
    for (int64_t i = 0; i < count; i++) {
        values[i] = device_rounded(be, size * (2 * rng_uniform(rng) - 1));
    }
    DeviceTensor t = device_tensor_of(be, element, count, values, shift);
    free(values);
    return t;
}

DeviceTensor device_tensor_poison(Backend *be, Element element, int64_t count, int shift)
{
    DeviceTensor t = make(be, element, count, shift);
    for (int64_t i = 0; element <= ELEMENT_F32 && i < count; i++) {
        write_element(be, element, t.initial + offset_of(&t, i), (double)NAN);
    }
    upload(&t);
    return t;
}

void device_tensor_free(DeviceTensor *t)
{
    if (t->device != NULL) {
        device_free(t->be, whole_memory(t));
    }
    free(t->values);
    free(t->initial);
    *t = (DeviceTensor){0};
}

/* ---- looking at results ---------------------------------------------------------------------- */

static unsigned char *read_bytes(const DeviceTensor *t, const char *what)
{
    unsigned char *bytes = mem_alloc(whole_bytes(t));
    device_copy_out(t->be, bytes, whole_memory(t), whole_bytes(t));
    for (size_t i = 0; i < whole_bytes(t); i++) {
        bool element = i >= offset_of(t, 0) && i < offset_of(t, t->count);
        if (!element && bytes[i] != GUARD) {
            fail_msg("%s: byte %lld of a tensor with %lld elements was overwritten", what,
                     (long long)i - (long long)offset_of(t, 0), (long long)t->count);
        }
    }
    return bytes;
}

double *device_tensor_read(const DeviceTensor *t, const char *what)
{
    unsigned char *bytes = read_bytes(t, what);
    double *values = mem_alloc((size_t)t->count * sizeof(double));
    for (int64_t i = 0; i < t->count; i++) {
        values[i] = read_element(t->be, t->element, bytes + offset_of(t, i));
    }
    free(bytes);
    return values;
}

enum { MOST_OUTPUTS = 8 };

void device_call_twice(void (*call)(const void *context), const void *context,
                       const DeviceTensor *const *outputs, int count, const char *what)
{
    unsigned char *first[MOST_OUTPUTS];
    assert_in_range(count, 1, MOST_OUTPUTS);
    call(context);
    for (int i = 0; i < count; i++) {
        first[i] = read_bytes(outputs[i], what);
        reset(outputs[i]);
    }
    call(context);
    for (int i = 0; i < count; i++) {
        unsigned char *second = read_bytes(outputs[i], what);
        if (memcmp(first[i], second, whole_bytes(outputs[i])) != 0) {
            fail_msg("%s: two calls gave different bits in output %d", what, i);
        }
        free(first[i]);
        free(second);
    }
}

Tolerance device_tolerance(const Backend *be, Element element, int64_t terms, double size,
                           int roundings)
{
    Format f = format_of(be);
    double single = 0x1p-24;
    double half_unit = is_half(be, ELEMENT_ACT) ? ldexp(1, -f.fraction - 1) : single;
    double stored = is_half(be, element) ? half_unit : single;
    double smallest = ldexp(1, -f.bias - f.fraction);
    return (Tolerance){single * size * (8 + 4 * sqrt((double)terms)) +
                           half_unit * size * roundings + smallest,
                       stored};
}

void device_tensor_expect(const DeviceTensor *t, const double *expected, Tolerance tolerance,
                          const char *what)
{
    double *found = device_tensor_read(t, what);
    for (int64_t i = 0; i < t->count; i++) {
        double allowed = tolerance.absolute + tolerance.relative * fabs(expected[i]);
        /* Written so that a value that is not a number fails. */
        if (!(fabs(found[i] - expected[i]) <= allowed)) {
            fail_msg("%s: element %lld of %lld is %.9g, expected %.9g within %.3g", what,
                     (long long)i, (long long)t->count, found[i], expected[i], allowed);
        }
    }
    free(found);
}

void device_tensor_expect_untouched(const DeviceTensor *t, int64_t first, int64_t count,
                                    const char *what)
{
    unsigned char *bytes = read_bytes(t, what);
    size_t from = offset_of(t, first);
    if (count > 0 &&
        memcmp(bytes + from, t->initial + from, offset_of(t, first + count) - from) != 0) {
        fail_msg("%s: an element from %lld to %lld was written to", what, (long long)first,
                 (long long)(first + count - 1));
    }
    free(bytes);
}
