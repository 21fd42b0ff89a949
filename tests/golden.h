/* Values that PyTorch or Pillow computed, for tests to compare with: safetensors files in
 * tests/golden/, checked in beside the Python scripts that made them. Whatever is wrong with a file
 * or a name fails the test that asked. */
#ifndef RODEO_TESTS_GOLDEN_H
#define RODEO_TESTS_GOLDEN_H

#include <stdint.h>

typedef struct Golden Golden;

/* Opens tests/golden/FILE. */
Golden *golden_open(const char *file);

/* The elements of a tensor of exactly `count` elements, in the file's order (row-major in the shape
 * that the script wrote). The memory belongs to the Golden. The test fails where the tensor is
 * missing or has another type or size. */
const float *golden_f32(Golden *golden, const char *name, int64_t count);
const double *golden_f64(Golden *golden, const char *name, int64_t count);
const int32_t *golden_i32(Golden *golden, const char *name, int64_t count);
const uint8_t *golden_u8(Golden *golden, const char *name, int64_t count);

/* golden may be NULL. */
void golden_close(Golden *golden);

#endif
