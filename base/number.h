/* Numbers that people type: decimal, nothing before or behind, within a range.
 *
 * label is how the error names the value's place ("--lr", "lr"); the error repeats the text and
 * says what is allowed. All return 0, or -1 and leave *value as it was. */
#ifndef RODEO_BASE_NUMBER_H
#define RODEO_BASE_NUMBER_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* A whole number from low to high; a sign may stand in front. */
int number_parse_int64(const char *label, const char *text, int64_t low, int64_t high,
                       int64_t *value, Err *err);

/* As number_parse_int64. */
int number_parse_int(const char *label, const char *text, int low, int high, int *value, Err *err);

/* A whole number from 0 to UINT64_MAX, without a sign. */
int number_parse_uint64(const char *label, const char *text, uint64_t *value, Err *err);

typedef struct {
    double low, high; /* high may be INFINITY: any finite number from low on */
    bool below_high;  /* high itself is not allowed */
} NumberRange;

/* A finite decimal number such as "0.1", ".5" or "1e-4" within range. */
int number_parse_double(const char *label, const char *text, NumberRange range, double *value,
                        Err *err);

#endif
