/* safetensors files that are not sound are refused by name, and damage to a file of our own never
 * goes unnoticed. */
#include "base/mem.h"
#include "base/rng.h"
#include "safetensors_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH_BYTES sizeof(uint64_t) /* in front of the header */
#define BIT_FLIPS    1000
#define MUTATIONS    4000

/* ---- files that are not sound
 * --------------------------------------------------------------------- */

static void expect_refused(const Place *place, const char *what)
{
    Err err = {""};
    SafeFile *file = safetensors_open(place->path, &err);
    if (file) {
        fail_msg("accepted, not refused with \"%s\"", what);
    }
    if (!strstr(err.text, place->path) || !strstr(err.text, what)) {
        fail_msg("\"%s\" does not name the file and say \"%s\"", err.text, what);
    }
}

/* Writes a file with this header and data_bytes zeros behind it. */
static void put_file(const Place *place, const char *header, size_t data_bytes)
{
    uint64_t header_bytes = strlen(header);
    size_t bytes = sizeof header_bytes + (size_t)header_bytes + data_bytes;
    char *content = mem_zeroed(bytes, 1);
    memcpy(content, &header_bytes, sizeof header_bytes);
    memcpy(content + sizeof header_bytes, header, (size_t)header_bytes);
    place_put(place, content, bytes);
    free(content);
}

typedef struct {
    const char *header;
    size_t data_bytes;
    const char *what; /* the message says */
} Unsound;

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"
#define FLAWED  "tensor x has no sound dtype, shape and data_offsets"
#define OUTSIDE "tensor x lies outside the file or does not fit its shape"
#define TILING  "overlaps another's or leaves a hole"

static const Unsound unsound[] = {
    {"", 0, "header is not JSON"},
    {"{", 0, "header is not JSON"},
    {"{}}", 0, "header is not JSON"},
    {"[]", 0, "not an object"},
    {"{\"x\":1.}", 0, "header is not JSON"},
    {"{" TENSOR("x", "U8", "[1]", "0", "1") "," TENSOR("x", "U8", "[1]", "1", "2") "}", 2,
     "header is not JSON: duplicate object key"},
    {"{\"x\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
     "duplicate object key"},
    {"{\"\\ud800\":{}}", 0, "header is not JSON"},
    {"{\"\xff\":{}}", 0, "header is not JSON"},
    {"{\"x\":1}", 0, FLAWED},
    {"{\"x\":[]}", 0, FLAWED},
    {"{\"x\":{}}", 0, FLAWED},
    {"{\"x\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, FLAWED},
    {"{\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, FLAWED},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, FLAWED},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, FLAWED},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 1, FLAWED},
    {"{" TENSOR("x", "U8", "1", "0", "1") "}", 1, FLAWED},
    {"{" TENSOR("x", "U8", "[1.0]", "0", "1") "}", 1, FLAWED},
    {"{" TENSOR("x", "U8", "[-1]", "0", "1") "}", 1, FLAWED},
    {"{" TENSOR("x", "U8", "[-1,-1]", "0", "1") "}", 1, FLAWED},
    {"{" TENSOR("x", "U8", "[1,1,1,1,1,1,1,1,1]", "0", "1") "}", 1, FLAWED},
    {"{" TENSOR("x", "U8", "[4294967296,4294967296]", "0", "0") "}", 0, FLAWED},
    {"{" TENSOR("x", "U8", "[9223372036854775808]", "0", "0") "}", 0, "header is not JSON"},
    {"{" TENSOR("x", "U8", "[1]", "0.5", "1") "}", 1, FLAWED},
    {"{" TENSOR("x", "U8", "[1]", "\\\"0\\\"", "1") "}", 1, "header is not JSON"},
    {"{" TENSOR("x", "U7", "[1]", "0", "1") "}", 1, "tensor x has the unknown dtype U7"},
    {"{" TENSOR("x", "f32", "[1]", "0", "4") "}", 4, "tensor x has the unknown dtype f32"},
    {"{" TENSOR("x", "F64", "[2305843009213693952]", "0", "0") "}", 0, OUTSIDE},
    {"{" TENSOR("x", "U8", "[9223372036854775807]", "0", "9223372036854775807") "}", 8, OUTSIDE},
    {"{" TENSOR("x", "U8", "[2]", "0", "2") "}", 1, OUTSIDE},
    {"{" TENSOR("x", "U8", "[1]", "0", "2") "}", 2, OUTSIDE},
    {"{" TENSOR("x", "F32", "[1]", "0", "3") "}", 3, OUTSIDE},
    {"{" TENSOR("x", "F32", "[2]", "0", "4") "}", 4, OUTSIDE},
    {"{" TENSOR("x", "F32", "[]", "0", "0") "}", 0, OUTSIDE},
    {"{" TENSOR("x", "U8", "[1]", "1", "0") "}", 1, OUTSIDE},
    /* As many elements as 0 - 1 bytes: 2^64 - 1. */
    {"{" TENSOR("x", "U8", "[3,5,17,257,641,65537,6700417]", "1", "0") "}", 1, OUTSIDE},
    {"{" TENSOR("x", "U8", "[1]", "-1", "0") "}", 1, OUTSIDE},
    {"{" TENSOR("x", "U8", "[0]", "2", "2") "}", 1, OUTSIDE},
    {"{" TENSOR("x", "U8", "[1]", "1", "2") "}", 2, TILING},
    {"{" TENSOR("x", "U8", "[2]", "0", "2") "," TENSOR("y", "U8", "[2]", "1", "3") "}", 3, TILING},
    {"{" TENSOR("x", "U8", "[2]", "0", "2") "," TENSOR("y", "U8", "[2]", "0", "2") "}", 2, TILING},
    {"{" TENSOR("x", "U8", "[1]", "0", "1") "," TENSOR("y", "U8", "[1]", "2", "3") "}", 3, TILING},
    {"{" TENSOR("x", "U8", "[4]", "0", "4") "," TENSOR("y", "U8", "[0]", "2", "2") "}", 4, TILING},
    {"{" TENSOR("x", "U8", "[1]", "0", "1") "}", 2, "the file is longer than its tensors"},
    {"{}", 1, "the file is longer than its tensors"},
    {"{\"__metadata__\":[]}", 0, "metadata is not a map"},
    {"{\"__metadata__\":\"a\"}", 0, "metadata is not a map"},
    {"{\"__metadata__\":{\"epoch\":3}}", 0, "metadata entry epoch is not a string"},
    {"{\"__metadata__\":{\"a\":\"b\",\"c\":null}}", 0, "metadata entry c is not a string"},
    {"{\"__metadata__\":{\"rodeo.checksum\":\"\"}}", 0, "checksum is not readable"},
    {"{\"__metadata__\":{\"rodeo.checksum\":\"0123456789abcdef\"}}", 0, "checksum is not readable"},
    {"{\"__metadata__\":{\"rodeo.checksum\":\"rodeo-xxh3:\"}}", 0, "checksum is not readable"},
    {"{\"__metadata__\":{\"rodeo.checksum\":\"rodeo-xxh3:0123456789abcdef\"}}", 0,
     "checksum does not match its content"},
    {"{\"__metadata__\":{\"other\":\"rodeo-xxh3:0123456789abcdef\"}}", 0,
     "checksum does not match its content"},
};

static void unsound_headers_are_refused(void **state)
{
    for (size_t i = 0; i < sizeof unsound / sizeof *unsound; i++) {
        put_file(*state, unsound[i].header, unsound[i].data_bytes);
        expect_refused(*state, unsound[i].what);
    }
}

static void unusual_headers_are_accepted(void **state)
{
    static const Unsound sound[] = {
        {"{}", 0, ""},
        {"{\"__metadata__\":{}}", 0, ""},
        {" { } \n\t", 0, ""},
        {"{" TENSOR("", "U8", "[]", "0", "1") "}", 1, ""},
        {"{" TENSOR("b", "U8", "[1]", "1", "2") "," TENSOR("a", "U8", "[1]", "0", "1") "}", 2, ""},
        {"{" TENSOR("a", "U8", "[1]", "0", "1") "," TENSOR("e", "F32", "[0]", "1", "1") "}", 1, ""},
        {"{" TENSOR("e", "F32", "[0,9]", "0", "0") "," TENSOR("a", "U8", "[1]", "0", "1") "}", 1,
         ""},
    };
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++) {
        Err err = {""};
        put_file(*state, sound[i].header, sound[i].data_bytes);
        SafeFile *file = safetensors_open(((Place *)*state)->path, &err);
        if (!file) {
            fail_msg("%s: %s", sound[i].header, err.text);
        }
        safetensors_close(file);
    }
}

static void files_without_a_whole_header_are_refused(void **state)
{
    static const char half_length[4] = "\x10\0\0";
    place_put(*state, half_length, 0);
    expect_refused(*state, "too short for a safetensors file");
    place_put(*state, half_length, sizeof half_length);
    expect_refused(*state, "too short for a safetensors file");
    uint64_t lengths[] = {3, 100000001, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char content[LENGTH_BYTES + 2] = "........{}";
        memcpy(content, &lengths[i], sizeof lengths[i]);
        place_put(*state, content, sizeof content);
        expect_refused(*state, "header is cut off, or it is not a safetensors file");
    }
}

static void deep_nesting_is_refused(void **state)
{
    enum { DEPTH = 100000 };
    char *header = mem_zeroed(DEPTH + 1, 1);
    memset(header, '[', DEPTH);
    put_file(*state, header, 0);
    expect_refused(*state, "header is not JSON");
    free(header);
}

static void an_absent_file_is_refused(void **state)
{
    expect_refused(*state, "No such file or directory");
}

/* ---- damage to files of our own
 * ------------------------------------------------------------------- */

static void flip_bit(char *content, uint64_t bit)
{
    content[bit / 8] = (char)(content[bit / 8] ^ 1 << bit % 8);
}

static void expect_flip_detected(const Place *place, char *content, size_t bytes, uint64_t bit)
{
    flip_bit(content, bit);
    place_put(place, content, bytes);
    if (place_is_accepted(place)) {
        fail_msg("bit %d of byte %d flipped, and accepted", (int)(bit % 8), (int)(bit / 8));
    }
    flip_bit(content, bit);
}

static void a_flipped_bit_is_always_detected(void **state)
{
    size_t bytes;
    samples_write(*state);
    char *content = place_get(*state, &bytes);
    Rng rng = rng_at(1, RNG_DEMO, 0, 0, 0);
    for (int i = 0; i < BIT_FLIPS; i++) {
        expect_flip_detected(*state, content, bytes, rng_below(&rng, (uint32_t)bytes * 8));
    }
    free(content);
}

/* The checksum itself, and the words by which a reader finds it, are the weak place. */
static void a_flipped_bit_near_the_checksum_is_always_detected(void **state)
{
    size_t bytes;
    samples_write(*state);
    char *content = place_get(*state, &bytes);
    const uint64_t end = LENGTH_BYTES + strlen("{\"__metadata__\":{\"rodeo.checksum\":"
                                               "\"rodeo-xxh3:0123456789abcdef\",");
    for (uint64_t bit = 0; bit < end * 8; bit++) {
        expect_flip_detected(*state, content, bytes, bit);
    }
    free(content);
}

static void a_truncated_file_is_refused_at_every_length(void **state)
{
    const Place *place = *state;
    Err err = {""};
    size_t bytes;
    assert_int_equal(safetensors_write(place->path, NULL, samples, 6, sample_metadata, 1, &err), 0);
    char *content = place_get(place, &bytes);
    for (size_t length = 0; length < bytes; length++) {
        place_put(place, content, length);
        assert_false(place_is_accepted(place));
    }
    place_put(place, content, bytes);
    assert_true(place_is_accepted(place));
    free(content);
}

/* Every byte of every tensor must be there: a sanitizer build notices where it is not. */
static void read_all(const SafeFile *file)
{
    unsigned sum = 0;
    for (int i = 0; i < safetensors_count(file); i++) {
        const SafeTensor *tensor = safetensors_at(file, i);
        for (size_t byte = 0; byte < tensor->bytes; byte++) {
            sum += ((const unsigned char *)tensor->data)[byte];
        }
        sum += (unsigned)strlen(tensor->name) + (unsigned)strlen(tensor->dtype);
    }
    assert_true(sum < UINT32_MAX);
}

/* Replaces, repeats or exchanges a few bytes, mostly such as mean something in JSON. */
static void mutate(char *content, size_t bytes, Rng *rng)
{
    static const char telling[] = "{}[]\",:\\0123456789-eEU";
    int changes = 1 + (int)rng_below(rng, 4);
    for (int i = 0; i < changes; i++) {
        size_t at = rng_below(rng, (uint32_t)bytes);
        size_t from = rng_below(rng, (uint32_t)bytes);
        switch (rng_below(rng, 3)) {
        case 0:
            content[at] = telling[rng_below(rng, sizeof telling - 1)];
            break;
        case 1:
            content[at] = (char)rng_below(rng, 256);
            break;
        default:
            content[at] = content[from];
        }
    }
}

/* Files without a checksum, so that what is behind it is put to the test. */
static void mutated_files_do_no_harm(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"a\":\"b\"}," TENSOR("x", "U8", "[2,3]", "0", "6") "," TENSOR(
            "y", "F32", "[2]", "6", "14") "," TENSOR("e", "I64", "[0]", "14", "14") "}";
    const Place *place = *state;
    size_t bytes;
    put_file(place, header, 14);
    char *content = place_get(place, &bytes);
    char *mutant = mem_alloc(bytes);
    Rng rng = rng_at(2, RNG_DEMO, 0, 0, 0);
    int accepted = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        Err err = {""};
        memcpy(mutant, content, bytes);
        mutate(mutant, bytes, &rng);
        place_put(place, mutant, bytes);
        SafeFile *file = safetensors_open(place->path, &err);
        if (file) {
            read_all(file);
            accepted++;
        }
        safetensors_close(file);
    }
    assert_true(accepted > 0 && accepted < MUTATIONS);
    free(mutant);
    free(content);
}

#define UNIT_TEST(test) cmocka_unit_test_setup_teardown(test, place_open, place_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(unsound_headers_are_refused),
        UNIT_TEST(unusual_headers_are_accepted),
        UNIT_TEST(files_without_a_whole_header_are_refused),
        UNIT_TEST(deep_nesting_is_refused),
        UNIT_TEST(an_absent_file_is_refused),
        UNIT_TEST(a_flipped_bit_is_always_detected),
        UNIT_TEST(a_flipped_bit_near_the_checksum_is_always_detected),
        UNIT_TEST(a_truncated_file_is_refused_at_every_length),
        UNIT_TEST(mutated_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
