#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds one unit in the last digit of "d.ddde-xx". All nines stay as they are: that sum has fewer
 * digits and was tried before. */
static void next_decimal(char *scientific)
{
    for (char *c = strchr(scientific, 'e') - 1; c >= scientific; c--) {
        if (*c == '.') {
            continue;
        }
        if (*c != '9') {
            (*c)++;
            return;
        }
        *c = '0';
    }
    scientific[0] = '9';
}

/* Writes value with precision + 1 significant digits so that it reads back as the same double.
 * Returns false if no such decimal does. Beside the nearest decimal the next one above counts:
 * below a power of two doubles lie closer than above, so it may read back where the nearest does
 * not. */
static bool decimal_round_trips(double value, int precision, char text[static TEXT_DOUBLE_SIZE])
{
    snprintf(text, TEXT_DOUBLE_SIZE, "%.*e", precision, value);
    if (strtod(text, NULL) == value) {
        return true;
    }
    next_decimal(text);
    return strtod(text, NULL) == value;
}

/* The fewest significant digits that round-trip, as the digit string and the decimal exponent of
 * its first digit. */
static void shortest_digits(double value, char digits[static 20], int *exponent)
{
    char scientific[TEXT_DOUBLE_SIZE];
    int precision = 0;
    while (!decimal_round_trips(value, precision, scientific) && precision < 16) {
        precision++; /* 17 digits always do */
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

int text_first_character(const char *text, uint32_t *point)
{
    /* By the number of bytes: what the lead byte holds, and the least that needs so many. */
    static const struct {
        unsigned char mask;
        uint32_t least;
    } forms[] = {{0}, {0x7F, 0}, {0x1F, 0x80}, {0x0F, 0x800}, {0x07, 0x10000}};
    const unsigned char *c = (const unsigned char *)text;
    int bytes = c[0] < 0x80 ? 1 : c[0] < 0xC0 ? 0 : c[0] < 0xE0 ? 2 : c[0] < 0xF0 ? 3 : 4;
    if (bytes == 0 || c[0] >= 0xF8) {
        return 0;
    }
    uint32_t value = c[0] & forms[bytes].mask;
    for (int i = 1; i < bytes; i++) {
        if ((c[i] & 0xC0) != 0x80) {
            return 0;
        }
        value = value << 6 | (c[i] & 0x3F);
    }
    bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (value < forms[bytes].least || value > 0x10FFFF || surrogate) {
        return 0;
    }
    *point = value;
    return bytes;
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
