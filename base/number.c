#include "base/number.h"

#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The C library's functions alone would also take blanks in front, "inf", "nan" and "0x1p3". */
static bool only_of(const char *text, const char *allowed)
{
    return text[0] != '\0' && text[strspn(text, allowed)] == '\0';
}

int number_parse_int64(const char *label, const char *text, int64_t low, int64_t high,
                       int64_t *value, Err *err)
{
    char *end = NULL;
    errno = 0;
    long long parsed = only_of(text, "+-0123456789") ? strtoll(text, &end, 10) : 0;
    if (!end || end == text || *end || errno != 0 || parsed < low || parsed > high) {
        return err_set(err,
                       "%s: '%s' is not allowed: give a whole number from %" PRId64 " to %" PRId64,
                       label, text, low, high);
    }
    *value = parsed;
    return 0;
}

int number_parse_int(const char *label, const char *text, int low, int high, int *value, Err *err)
{
    int64_t parsed = 0;
    if (number_parse_int64(label, text, low, high, &parsed, err) != 0) {
        return -1;
    }
    *value = (int)parsed;
    return 0;
}

int number_parse_uint64(const char *label, const char *text, uint64_t *value, Err *err)
{
    errno = 0;
    unsigned long long parsed = only_of(text, "0123456789") ? strtoull(text, NULL, 10) : 0;
    if (!only_of(text, "0123456789") || errno != 0) {
        return err_set(err, "%s: '%s' is not allowed: give a whole number from 0 to %" PRIu64,
                       label, text, UINT64_MAX);
    }
    *value = parsed;
    return 0;
}

static int refuse_double(const char *label, const char *text, NumberRange range, Err *err)
{
    char low[TEXT_DOUBLE_SIZE];
    char high[TEXT_DOUBLE_SIZE];
    text_double(range.low, low);
    if (isinf(range.high)) {
        return err_set(err, "%s: '%s' is not allowed: give a number of at least %s", label, text,
                       low);
    }
    return err_set(err, "%s: '%s' is not allowed: give a number from %s %s %s", label, text, low,
                   range.below_high ? "to below" : "to", text_double(range.high, high));
}

int number_parse_double(const char *label, const char *text, NumberRange range, double *value,
                        Err *err)
{
    char *end = NULL;
    double parsed = only_of(text, "+-.0123456789eE") ? strtod(text, &end) : 0;
    bool too_high = range.below_high ? parsed >= range.high : parsed > range.high;
    if (!end || end == text || *end || !isfinite(parsed) || parsed < range.low || too_high) {
        return refuse_double(label, text, range, err);
    }
    *value = parsed;
    return 0;
}
