/* exchange_safetensors write FILE: writes one tensor of each type that NumPy has, with metadata.
 * exchange_safetensors list FILE: prints what a file holds: "metadata KEY VALUE" of the keys that
 * check_safetensors.py uses, and a line "NAME DTYPE [DIM,...] BYTES-IN-HEX" for each tensor.
 * check_safetensors.py compares both with the Python package safetensors. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int write_file(const char *path, Err *err)
{
    static const bool bools[] = {true, false, true};
    static const uint8_t u8[] = {0, 1, 255};
    static const int8_t i8[] = {-128, 0, 127};
    static const int16_t i16[] = {-32768, 5};
    static const uint16_t u16[] = {65535, 6};
    static const uint16_t f16[] = {0x3C00, 0xC100}; /* 1, -2.5 */
    static const int32_t i32[] = {INT32_MIN, 7};
    static const uint32_t u32[] = {UINT32_MAX, 8};
    static const float f32[] = {1.5f, -2.25f, 3e38f, 0.0f, 1e-45f, 6.0f};
    static const double f64[] = {0.1, -1e308};
    static const int64_t i64[] = {INT64_MIN, 9};
    static const uint64_t u64[] = {UINT64_MAX, 10};
    static const float scalar[] = {42.0f};
    const SafeTensor tensors[] = {
        {"bool", "BOOL", 1, {3}, bools, sizeof bools},
        {"u8", "U8", 1, {3}, u8, sizeof u8},
        {"i8", "I8", 1, {3}, i8, sizeof i8},
        {"i16", "I16", 1, {2}, i16, sizeof i16},
        {"u16", "U16", 1, {2}, u16, sizeof u16},
        {"f16", "F16", 1, {2}, f16, sizeof f16},
        {"i32", "I32", 1, {2}, i32, sizeof i32},
        {"u32", "U32", 1, {2}, u32, sizeof u32},
        {"f32", "F32", 2, {2, 3}, f32, sizeof f32},
        {"f64", "F64", 1, {2}, f64, sizeof f64},
        {"i64", "I64", 1, {2}, i64, sizeof i64},
        {"u64", "U64", 1, {2}, u64, sizeof u64},
        {"scalar", "F32", 0, {0}, scalar, sizeof scalar},
        {"empty", "F32", 2, {0, 3}, NULL, 0},
        {"na\xC3\xAFve \"name\"", "U8", 1, {3}, u8, sizeof u8},
    };
    const SafeMetadata metadata[] = {{"format", "pt"}, {"text", "a \"b\"\n\xC3\xA9"}};
    return safetensors_write(path, NULL, tensors, sizeof tensors / sizeof *tensors, metadata,
                             sizeof metadata / sizeof *metadata, err);
}

static void print_tensor(const SafeTensor *tensor)
{
    printf("%s %s [", tensor->name, tensor->dtype);
    for (int i = 0; i < tensor->ndim; i++) {
        printf("%s%" PRId64, i == 0 ? "" : ",", tensor->shape[i]);
    }
    printf("] ");
    for (size_t i = 0; i < tensor->bytes; i++) {
        printf("%02x", ((const unsigned char *)tensor->data)[i]);
    }
    printf("\n");
}

static int list_file(const char *path, Err *err)
{
    SafeFile *file = safetensors_open(path, err);
    if (!file) {
        return -1;
    }
    const char *value = safetensors_metadata(file, "key");
    printf("metadata key %s\n", value ? value : "absent");
    for (int i = 0; i < safetensors_count(file); i++) {
        print_tensor(safetensors_at(file, i));
    }
    safetensors_close(file);
    return 0;
}

int main(int argc, char **argv)
{
    Err err = {""};
    bool writes = argc == 3 && strcmp(argv[1], "write") == 0;
    bool lists = argc == 3 && strcmp(argv[1], "list") == 0;
    if (!writes && !lists) {
        fprintf(stderr, "usage: exchange_safetensors write|list FILE\n");
        return 2;
    }
    if ((writes ? write_file(argv[2], &err) : list_file(argv[2], &err)) != 0) {
        fprintf(stderr, "exchange_safetensors: %s\n", err.text);
        return 1;
    }
    return 0;
}
