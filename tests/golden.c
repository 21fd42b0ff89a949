#include "golden.h"

#include "base/mem.h"
#include "base/path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

struct Golden {
    char *file;
    char *bytes;
    char *data; /* the tensors, moved to where every element type is aligned */
    size_t data_bytes;
    json_t *header;
};

enum { LENGTH_BYTES = 8 }; /* a safetensors file begins with its header's length */

Golden *golden_open(const char *file)
{
    Golden *golden = mem_zeroed(1, sizeof(*golden));
    golden->file = path_join(RODEO_TEST_DATA "/golden", file);
    Err err;
    size_t bytes = 0;
    golden->bytes = path_read(golden->file, &bytes, &err);
    if (golden->bytes == NULL) {
        fail_msg("%s", err.text);
        return golden;
    }
    uint64_t header_bytes = 0;
    if (bytes >= LENGTH_BYTES) {
        memcpy(&header_bytes, golden->bytes, LENGTH_BYTES);
    }
    if (bytes < LENGTH_BYTES || header_bytes > bytes - LENGTH_BYTES) {
        fail_msg("%s: cut off", golden->file);
    }
    json_error_t error;
    golden->header = json_loadb(golden->bytes + LENGTH_BYTES, header_bytes, 0, &error);
    if (golden->header == NULL) {
        fail_msg("%s: %s", golden->file, error.text);
    }
    golden->data_bytes = bytes - LENGTH_BYTES - header_bytes;
    golden->data = mem_aligned(golden->data_bytes);
    memcpy(golden->data, golden->bytes + LENGTH_BYTES + header_bytes, golden->data_bytes);
    return golden;
}

static const void *golden_tensor(Golden *golden, const char *name, const char *type, int64_t bytes)
{
    const json_t *tensor = json_object_get(golden->header, name);
    const char *stored = json_string_value(json_object_get(tensor, "dtype"));
    const json_t *offsets = json_object_get(tensor, "data_offsets");
    json_int_t begin = json_integer_value(json_array_get(offsets, 0));
    json_int_t end = json_integer_value(json_array_get(offsets, 1));
    if (stored == NULL || strcmp(stored, type) != 0) {
        fail_msg("%s: no tensor %s of type %s", golden->file, name, type);
    }
    if (begin < 0 || end - begin != bytes || (size_t)end > golden->data_bytes) {
        fail_msg("%s: %s has %lld bytes, the test expects %lld", golden->file, name,
                 (long long)(end - begin), (long long)bytes);
    }
    return golden->data + begin;
}

const float *golden_f32(Golden *golden, const char *name, int64_t count)
{
    return golden_tensor(golden, name, "F32", count * (int64_t)sizeof(float));
}

const double *golden_f64(Golden *golden, const char *name, int64_t count)
{
    return golden_tensor(golden, name, "F64", count * (int64_t)sizeof(double));
}

const int32_t *golden_i32(Golden *golden, const char *name, int64_t count)
{
    return golden_tensor(golden, name, "I32", count * (int64_t)sizeof(int32_t));
}

const uint8_t *golden_u8(Golden *golden, const char *name, int64_t count)
{
    return golden_tensor(golden, name, "U8", count);
}

void golden_close(Golden *golden)
{
    if (golden == NULL) {
        return;
    }
    json_decref(golden->header);
    free(golden->data);
    free(golden->bytes);
    free(golden->file);
    free(golden);
}
