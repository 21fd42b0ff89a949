/* Text helpers: numbers against Python's repr(), durations, prefixes and suffixes. */
#include "base/text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double double_of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* golden/doubles.txt: 64 bits in hexadecimal and the spelling, one value a line. */
static void doubles_are_spelled_as_python_does(void **state)
{
    (void)state;
    FILE *file = fopen(RODEO_TEST_DATA "/golden/doubles.txt", "r");
    assert_non_null(file);
    char line[128];
    int compared = 0;
    while (fgets(line, sizeof line, file)) {
        char *spelling;
        uint64_t bits = strtoull(line, &spelling, 16);
        spelling++;
        spelling[strcspn(spelling, "\n")] = '\0';
        char text[TEXT_DOUBLE_SIZE];
        assert_string_equal(text_double(double_of_bits(bits), text), spelling);
        compared++;
    }
    assert_int_equal(fclose(file), 0);
    assert_true(compared > 400);
}

static void durations_read_well(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {
        {0, "00:00"},      {7.4, "00:07"},      {59.6, "01:00"},   {192, "03:12"},
        {3599.4, "59:59"}, {3599.6, "1:00:00"}, {7509, "2:05:09"}, {360000, "100:00:00"},
        {-1, "?"},         {NAN, "?"},          {INFINITY, "?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[TEXT_DURATION_SIZE];
        assert_string_equal(text_duration(cases[i].seconds, text), cases[i].text);
    }
}

static void prefixes_and_suffixes(void **state)
{
    (void)state;
    assert_true(text_starts_with("rgb.conv1.weight", "rgb."));
    assert_true(text_starts_with("rgb", ""));
    assert_false(text_starts_with("rg", "rgb"));
    assert_true(text_ends_with("apple.png", ".png"));
    assert_true(text_ends_with("apple.png", ""));
    assert_false(text_ends_with("png", ".png"));
    assert_false(text_ends_with("apple.png ", ".png"));
}

static void characters_are_read_as_utf8(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int bytes;
        uint32_t point;
    } cases[] = {
        {"ab", 1, 'a'},
        {"\x7F", 1, 0x7F},
        {"\xC2\x80", 2, 0x80},
        {"\xDF\xBF!", 2, 0x7FF},
        {"\xE0\xA0\x80", 3, 0x800},
        {"\xED\x9F\xBF", 3, 0xD7FF},
        {"\xEE\x80\x80", 3, 0xE000},
        {"\xEF\xBF\xBF", 3, 0xFFFF},
        {"\xF0\x90\x80\x80", 4, 0x10000},
        {"\xF4\x8F\xBF\xBF", 4, 0x10FFFF},
        /* Lone, cut off, overlong, a surrogate, too large, and bytes that never begin one. */
        {"\x80", 0, 0},
        {"\xC3", 0, 0},
        {"\xE4\xB8", 0, 0},
        {"\xE4\xB8z", 0, 0},
        {"\xF0\x9F\x98", 0, 0},
        {"\xC0\x80", 0, 0},
        {"\xC1\xBF", 0, 0},
        {"\xE0\x9F\xBF", 0, 0},
        {"\xF0\x8F\xBF\xBF", 0, 0},
        {"\xED\xA0\x80", 0, 0},
        {"\xED\xBF\xBF", 0, 0},
        {"\xF4\x90\x80\x80", 0, 0},
        {"\xF8\x88\x80\x80\x80", 0, 0},
        {"\xFF", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t point = 0;
        assert_int_equal(text_first_character(cases[i].text, &point), cases[i].bytes);
        assert_int_equal(point, cases[i].point);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_are_spelled_as_python_does),
        cmocka_unit_test(durations_read_well),
        cmocka_unit_test(prefixes_and_suffixes),
        cmocka_unit_test(characters_are_read_as_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
