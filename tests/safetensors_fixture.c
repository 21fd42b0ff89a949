#include "safetensors_fixture.h"

#include "base/mem.h"
#include "base/path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

int place_open(void **state)
{
    Place *place = mem_zeroed(1, sizeof *place);
    *state = place;
    snprintf(place->folder, sizeof place->folder, "/tmp/test_safetensors.XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->path, sizeof place->path, "%s/x.safetensors", place->folder);
    snprintf(place->backup, sizeof place->backup, "%s/x.old", place->folder);
    return 0;
}

int place_close(void **state)
{
    Place *place = *state;
    unlink(place->path);
    unlink(place->backup);
    assert_int_equal(rmdir(place->folder), 0); /* no temporary file is left */
    free(place);
    return 0;
}

void place_put(const Place *place, const void *bytes, size_t count)
{
    /* A new file each time: some file systems write a shortened one through to the disk. */
    unlink(place->path);
    FILE *file = fopen(place->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

char *place_get(const Place *place, size_t *count)
{
    Err err;
    char *bytes = path_read(place->path, count, &err);
    assert_non_null(bytes);
    return bytes;
}

static const unsigned char some_data[96] = {1, 2, 3, 250, 251, 252, 0, 128, 7, 0, 0, 63, 255};

const SafeTensor samples[SAMPLES] = {
    {"bool", "BOOL", 1, {3}, some_data, 3},
    {"u8", "U8", 2, {2, 3}, some_data, 6},
    {"i8", "I8", 1, {5}, some_data, 5},
    {"e4m3", "F8_E4M3", 1, {2}, some_data, 2},
    {"e5m2", "F8_E5M2", 1, {2}, some_data, 2},
    {"i16", "I16", 1, {3}, some_data, 6},
    {"u16", "U16", 1, {3}, some_data, 6},
    {"f16", "F16", 3, {1, 3, 1}, some_data, 6},
    {"bf16", "BF16", 1, {3}, some_data, 6},
    {"i32", "I32", 2, {1, 3}, some_data, 12},
    {"u32", "U32", 1, {3}, some_data, 12},
    {"f32", "F32", 4, {1, 2, 1, 2}, some_data, 16},
    {"f64", "F64", 1, {3}, some_data, 24},
    {"i64", "I64", 1, {2}, some_data, 16},
    {"u64", "U64", 1, {1}, some_data, 8},
    {"c64", "C64", 1, {2}, some_data, 16},
    {"scalar", "F32", 0, {0}, some_data + 8, 4},
    {"empty", "F32", 1, {0}, some_data, 0},
    {"empty.map", "F64", 3, {4, 0, 2}, NULL, 0},
    {"many.dims", "U8", 8, {1, 2, 1, 2, 1, 2, 1, 2}, some_data, 16},
    {"naïve \"name\" \\ of\nlayer", "U8", 1, {1}, some_data, 1},
};

const SafeMetadata sample_metadata[SAMPLE_METADATA] = {
    {"format", "pt"},
    {"settings", "lr: 0.1\npath: \"C:\\x\"\n"},
    {"empty", ""},
    {"zeros", "0000000000000000"},
};

void samples_write(const Place *place)
{
    Err err = {""};
    if (safetensors_write(place->path, NULL, samples, SAMPLES, sample_metadata, SAMPLE_METADATA,
                          &err) != 0) {
        fail_msg("%s", err.text);
    }
}

bool place_is_accepted(const Place *place)
{
    Err err = {""};
    SafeFile *file = safetensors_open(place->path, &err);
    if (!file) {
        assert_non_null(strstr(err.text, place->path));
    }
    safetensors_close(file);
    return file != NULL;
}
