/* safetensors files: what is written can be read, and a failed write does no harm. */
#include "base/mem.h"
#include "base/path.h"
#include "safetensors_fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static void expect_tensor(const SafeFile *file, const SafeTensor *expected)
{
    const SafeTensor *actual = safetensors_find(file, expected->name);
    if (!actual) {
        fail_msg("no tensor %s", expected->name);
        return;
    }
    assert_string_equal(actual->dtype, expected->dtype);
    assert_int_equal(actual->ndim, expected->ndim);
    assert_memory_equal(actual->shape, expected->shape, sizeof actual->shape);
    assert_int_equal(actual->bytes, expected->bytes);
    if (expected->bytes > 0) {
        assert_memory_equal(actual->data, expected->data, expected->bytes);
    }
}

static void every_type_and_shape_comes_back(void **state)
{
    Err err = {""};
    samples_write(*state);
    SafeFile *file = safetensors_open(((Place *)*state)->path, &err);
    assert_non_null(file);
    assert_int_equal(safetensors_count(file), SAMPLES);
    for (int i = 0; i < SAMPLES; i++) {
        expect_tensor(file, &samples[i]);
    }
    assert_null(safetensors_find(file, "f3"));
    assert_null(safetensors_find(file, "__metadata__"));
    safetensors_close(file);
}

static void metadata_comes_back(void **state)
{
    Err err = {""};
    samples_write(*state);
    SafeFile *file = safetensors_open(((Place *)*state)->path, &err);
    assert_non_null(file);
    for (int i = 0; i < SAMPLE_METADATA; i++) {
        assert_string_equal(safetensors_metadata(file, sample_metadata[i].key),
                            sample_metadata[i].value);
    }
    assert_null(safetensors_metadata(file, "absent"));
    safetensors_close(file);
}

static void a_file_without_tensors_comes_back(void **state)
{
    Err err = {""};
    const Place *place = *state;
    assert_int_equal(safetensors_write(place->path, NULL, NULL, 0, NULL, 0, &err), 0);
    SafeFile *file = safetensors_open(place->path, &err);
    assert_non_null(file);
    assert_int_equal(safetensors_count(file), 0);
    safetensors_close(file);
}

static void data_starts_where_doubles_may(void **state)
{
    size_t bytes;
    samples_write(*state);
    char *content = place_get(*state, &bytes);
    uint64_t header_bytes;
    memcpy(&header_bytes, content, sizeof header_bytes);
    assert_int_equal(header_bytes % 8, 0);
    free(content);
}

/* ---- writing
 * -------------------------------------------------------------------------------------- */

static void the_file_before_is_kept_as_backup(void **state)
{
    const Place *place = *state;
    Err err = {""};
    samples_write(place);
    assert_int_equal(safetensors_write(place->path, place->backup, samples, 1, NULL, 0, &err), 0);
    SafeFile *newest = safetensors_open(place->path, &err);
    SafeFile *old = safetensors_open(place->backup, &err);
    assert_non_null(newest);
    assert_non_null(old);
    assert_int_equal(safetensors_count(newest), 1);
    assert_int_equal(safetensors_count(old), SAMPLES);
    safetensors_close(newest);
    safetensors_close(old);
}

/* Writes a file while no file may grow beyond `limit` bytes. */
static int write_limited(const Place *place, rlim_t limit, const SafeTensor *tensor, Err *err)
{
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = limit, .rlim_max = before.rlim_max}),
        0);
    int rc = safetensors_write(place->path, place->backup, tensor, 1, NULL, 0, err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    return rc;
}

static void a_failed_write_leaves_the_old_file(void **state)
{
    const Place *place = *state;
    char *data = mem_zeroed(100000, 1);
    SafeTensor large = {"large", "U8", 1, {100000}, data, 100000};
    samples_write(place);
    for (rlim_t limit = 0; limit < 100000; limit += 20000) {
        Err err = {""};
        assert_int_equal(write_limited(place, limit, &large, &err), -1);
        assert_non_null(strstr(err.text, place->path));
        SafeFile *file = safetensors_open(place->path, &err);
        assert_non_null(file);
        assert_int_equal(safetensors_count(file), SAMPLES);
        safetensors_close(file);
        assert_false(path_is_file(place->backup));
    }
    free(data);
}

static void metadata_must_be_utf8(void **state)
{
    const Place *place = *state;
    Err err = {""};
    SafeMetadata metadata = {"folder", "caf\xe9"};
    samples_write(place);
    assert_int_equal(safetensors_write(place->path, NULL, samples, 1, &metadata, 1, &err), -1);
    assert_non_null(strstr(err.text, place->path));
    assert_non_null(strstr(err.text, "metadata entry folder is not UTF-8"));
    assert_true(place_is_accepted(place));
}

/* What no reader takes must not push out the file before. */
static void a_header_is_no_longer_than_readers_take(void **state)
{
    enum { MOST = 100000000 };
    const Place *place = *state;
    char *value = mem_alloc(MOST + 1);
    memset(value, 'x', MOST);
    value[MOST] = '\0';
    SafeMetadata metadata = {"metrics", value};
    samples_write(place);
    Err err = {""};
    assert_int_equal(safetensors_write(place->path, place->backup, NULL, 0, &metadata, 1, &err),
                     -1);
    assert_non_null(strstr(err.text, place->path));
    assert_non_null(strstr(err.text, "and readers take no more than 100000000"));
    assert_true(place_is_accepted(place));
    assert_false(path_is_file(place->backup));

    value[MOST - 100] = '\0';
    assert_int_equal(safetensors_write(place->path, NULL, NULL, 0, &metadata, 1, &err), 0);
    assert_true(place_is_accepted(place));
    free(value);
}

#define UNIT_TEST(test) cmocka_unit_test_setup_teardown(test, place_open, place_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(every_type_and_shape_comes_back),
        UNIT_TEST(metadata_comes_back),
        UNIT_TEST(a_file_without_tensors_comes_back),
        UNIT_TEST(data_starts_where_doubles_may),
        UNIT_TEST(the_file_before_is_kept_as_backup),
        UNIT_TEST(a_failed_write_leaves_the_old_file),
        UNIT_TEST(metadata_must_be_utf8),
        UNIT_TEST(a_header_is_no_longer_than_readers_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
