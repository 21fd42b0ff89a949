/* Files of torch.save, made by golden/make_pth.py: sound ones give their tensors, others are
 * refused with the reason, and no damage gets past the reader's bounds. */
#include "base/mem.h"
#include "base/path.h"
#include "model/pth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER RODEO_TEST_DATA "/golden/pth/"

static char *read_golden(const char *name, size_t *bytes)
{
    char *path = mem_format(FOLDER "%s", name);
    Err err = {""};
    char *content = path_read(path, bytes, &err);
    if (!content) {
        fail_msg("%s", err.text);
    }
    free(path);
    return content;
}

/* The state dict of a file's content, which is copied. Returns NULL and err where it is refused. */
static PthFile *open_copy(const char *content, size_t bytes, TensorList *list, Err *err)
{
    char *copy = mem_alloc(bytes);
    memcpy(copy, content, bytes);
    PthFile *file = pth_open_content("FILE", copy, bytes, err);
    if (file && pth_state_dict(file, pth_root(file), list, err) != 0) {
        pth_close(file);
        file = NULL;
    }
    return file;
}

/* ---- sound files ----------------------------------------------------------------------------- */

static void expect_same(const SafeTensor *found, const SafeTensor *expected)
{
    assert_string_equal(found->dtype, expected->dtype);
    assert_int_equal(found->ndim, expected->ndim);
    for (int i = 0; i < expected->ndim; i++) {
        assert_int_equal(found->shape[i], expected->shape[i]);
    }
    assert_int_equal(found->bytes, expected->bytes);
    assert_memory_equal(found->data, expected->data, expected->bytes);
}

static void expect_tensors(const char *name)
{
    Err err = {""};
    size_t bytes;
    char *content = read_golden(name, &bytes);
    assert_true(pth_is_content(content, bytes));
    SafeFile *expected = safetensors_open(FOLDER "expected.safetensors", &err);
    assert_non_null(expected);
    TensorList list;
    PthFile *file = open_copy(content, bytes, &list, &err);
    if (!file) {
        fail_msg("%s: %s", name, err.text);
        return;
    }
    assert_int_equal(list.count, safetensors_count(expected));
    for (int i = 0; i < list.count; i++) {
        const SafeTensor *same = safetensors_find(expected, list.tensor[i].name);
        if (!same) {
            fail_msg("%s: tensor %s was not saved", name, list.tensor[i].name);
            return;
        }
        expect_same(&list.tensor[i], same);
    }
    pth_close(file);
    safetensors_close(expected);
    free(content);
}

static void the_zip_format_is_read(void **state)
{
    (void)state;
    expect_tensors("zip.pth");
}

static void the_members_of_newer_versions_are_known(void **state)
{
    (void)state;
    expect_tensors("newer.pth");
}

static void the_legacy_format_is_read(void **state)
{
    (void)state;
    expect_tensors("legacy.pth");
}

static void a_safetensors_file_is_none(void **state)
{
    (void)state;
    size_t bytes;
    char *content = read_golden("expected.safetensors", &bytes);
    assert_false(pth_is_content(content, bytes));
    /* Its header's length may begin with the byte that pickles begin with. */
    const char header[] = "\x80\2\0\0\0\0\0\0{";
    assert_false(pth_is_content(header, sizeof header));
    free(content);
}

/* ---- files that are refused ------------------------------------------------------------------ */

static void what_is_no_state_dict_is_refused(void **state)
{
    static const struct {
        const char *name, *reason;
    } cases[] = {
        {"bad_command.pth", "posix.system"},
        {"bad_numpy.pth", "numpy.core.multiarray.scalar"},
        {"bad_module.pth", "torch.nn.modules.linear.Linear"},
        {"bad_not_only_tensors.pth", "its entry epoch is no tensor"},
        {"bad_protocol.pth", "protocol 4"},
        {"bad_stack.pth", "mark is missing"},
        {"bad_memo.pth", "not stored"},
        {"bad_twice.pth", "tensor a comes twice"},
        {"bad_plain_pickle.pth", "torch.save did not write it"},
        {"bad_tar.pth", "tar archive"},
        {"bad_compressed.pth", "compressed"},
        {"bad_big_endian.pth", "big-endian"},
        {"bad_short_storage.pth", "storage 0 is missing, or not as long as it says"},
        {"bad_missing_storage.pth", "archive/data/0 of the zip archive is missing"},
        {"bad_shape.pth", "a tensor does not fit its storage 0 of 24 elements"},
        {"bad_no_pickle.pth", "without data.pkl"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t bytes;
        Err err = {""};
        TensorList list;
        char *content = read_golden(cases[i].name, &bytes);
        PthFile *file = open_copy(content, bytes, &list, &err);
        if (file) {
            fail_msg("%s was accepted", cases[i].name);
        }
        if (!strstr(err.text, cases[i].reason) || strncmp(err.text, "FILE: ", 6) != 0) {
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].name, err.text, cases[i].reason);
        }
        free(content);
    }
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void expect_truncations_refused(const char *name)
{
    size_t bytes;
    char *content = read_golden(name, &bytes);
    for (size_t length = 0; length < bytes; length++) {
        Err err = {""};
        TensorList list;
        PthFile *file = open_copy(content, length, &list, &err);
        if (file) {
            fail_msg("%s cut to %zu of %zu bytes was accepted", name, length, bytes);
        }
        assert_true(err.text[0] != '\0');
    }
    free(content);
}

static void a_file_that_is_cut_off_is_refused(void **state)
{
    (void)state;
    expect_truncations_refused("legacy.pth");
    expect_truncations_refused("zip.pth");
}

/* Elements may change, names may; what must not happen is a read or write outside of memory, which
 * the sanitizers see, or an error without words. */
static void expect_damage_survived(const char *name)
{
    size_t bytes;
    char *content = read_golden(name, &bytes);
    for (size_t at = 0; at < bytes; at++) {
        char before = content[at];
        for (int bit = 0; bit < 8; bit++) {
            Err err = {""};
            TensorList list;
            content[at] = (char)(before ^ (1 << bit));
            PthFile *file = open_copy(content, bytes, &list, &err);
            assert_true(file || err.text[0] != '\0');
            pth_close(file);
        }
        content[at] = before;
    }
    free(content);
}

static void damaged_bytes_do_no_harm(void **state)
{
    (void)state;
    expect_damage_survived("legacy.pth");
    expect_damage_survived("zip.pth");
}

static void damaged_elements_in_a_zip_are_refused(void **state)
{
    (void)state;
    size_t bytes;
    char *content = read_golden("zip.pth", &bytes);
    /* 23/7, the last element of the first storage. */
    const float last = 23.0f / 7.0f;
    char *place = memmem(content, bytes, &last, sizeof last);
    assert_non_null(place);
    place[1] ^= 1;
    Err err = {""};
    TensorList list;
    assert_null(open_copy(content, bytes, &list, &err));
    assert_non_null(strstr(err.text, "CRC"));
    free(content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_zip_format_is_read),
        cmocka_unit_test(the_members_of_newer_versions_are_known),
        cmocka_unit_test(the_legacy_format_is_read),
        cmocka_unit_test(a_safetensors_file_is_none),
        cmocka_unit_test(what_is_no_state_dict_is_refused),
        cmocka_unit_test(a_file_that_is_cut_off_is_refused),
        cmocka_unit_test(damaged_bytes_do_no_harm),
        cmocka_unit_test(damaged_elements_in_a_zip_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
