/* Small helpers for text that people or other programs read. */
#ifndef RODEO_BASE_TEXT_H
#define RODEO_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_DOUBLE_SIZE   32
#define TEXT_DURATION_SIZE 32

/* The shortest decimal that reads back as the same double, spelled as Python's repr() spells it:
 * "0.05", "1.0", "1e-05", "3e+16", "nan", "-inf". Writes into text and returns it. */
char *text_double(double value, char text[static TEXT_DOUBLE_SIZE]);

/* A duration as a progress bar shows it: "00:07", "03:12", "2:05:09". Negative or not a number:
 * "?". Writes into text and returns it. */
char *text_duration(double seconds, char text[static TEXT_DURATION_SIZE]);

/* Reads the first character of a text that is not "" as UTF-8 (RFC 3629: no overlong forms, no
 * surrogates, nothing above U+10FFFF) into *point. Returns its bytes, 0 if it is not well-formed.
 */
int text_first_character(const char *text, uint32_t *point);

bool text_starts_with(const char *text, const char *prefix);
bool text_ends_with(const char *text, const char *suffix);

#endif
