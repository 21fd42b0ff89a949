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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_are_spelled_as_python_does),
        cmocka_unit_test(durations_read_well),
        cmocka_unit_test(prefixes_and_suffixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
