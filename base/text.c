#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The fewest significant digits that round-trip, as the digit string and the decimal exponent of
 * its first digit. */
static void shortest_digits(double value, char digits[static 20], int *exponent)
{
    for (int precision = 0; precision <= 16; precision++) {
        char scientific[TEXT_DOUBLE_SIZE];
        snprintf(scientific, sizeof scientific, "%.*e", precision, value);
        if (strtod(scientific, NULL) != value && precision < 16) {
            continue;
        }
        char *mark = strchr(scientific, 'e');
        *exponent = (int)strtol(mark + 1, NULL, 10);
        size_t count = 0;
        for (const char *c = scientific; c < mark; c++) {
            if (*c != '.') {
                digits[count++] = *c;
            }
        }
        while (count > 1 && digits[count - 1] == '0') {
            count--;
        }
        digits[count] = '\0';
        return;
    }
}

char *text_double(double value, char text[static TEXT_DOUBLE_SIZE])
{
    const size_t size = TEXT_DOUBLE_SIZE;
    if (isnan(value)) {
        snprintf(text, size, "nan");
        return text;
    }
    const char *sign = signbit(value) ? "-" : "";
    if (isinf(value)) {
        snprintf(text, size, "%sinf", sign);
        return text;
    }
    char digits[20];
    int exponent;
    shortest_digits(fabs(value), digits, &exponent);
    int count = (int)strlen(digits);
    if (exponent < -4 || exponent >= 16) {
        snprintf(text, size, "%s%.1s%s%se%c%02d", sign, digits, count > 1 ? "." : "", digits + 1,
                 exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        snprintf(text, size, "%s0.%.*s%s", sign, -exponent - 1, "000", digits);
    } else if (count <= exponent + 1) {
        snprintf(text, size, "%s%s%.*s.0", sign, digits, exponent + 1 - count, "0000000000000000");
    } else {
        snprintf(text, size, "%s%.*s.%s", sign, exponent + 1, digits, digits + exponent + 1);
    }
    return text;
}

char *text_duration(double seconds, char text[static TEXT_DURATION_SIZE])
{
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(text, TEXT_DURATION_SIZE, "?");
        return text;
    }
    long whole = lround(seconds);
    if (whole >= 3600) {
        snprintf(text, TEXT_DURATION_SIZE, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60,
                 whole % 60);
    } else {
        snprintf(text, TEXT_DURATION_SIZE, "%02ld:%02ld", whole / 60, whole % 60);
    }
    return text;
}

bool text_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_ends_with(const char *text, const char *suffix)
{
    size_t length = strlen(text);
    size_t tail = strlen(suffix);
    return length >= tail && strcmp(text + length - tail, suffix) == 0;
}
