/* Errors as values.
 *
 * A function whose input can be wrong (a file, an option, a picture) returns 0 or -1 and fills the
 * Err that its caller lends it: one sentence that says what is wrong, where, and what to do. Nobody
 * but a program's main prints it. Errors of the program itself end the process through fatal(). */
#ifndef RODEO_BASE_ERR_H
#define RODEO_BASE_ERR_H

typedef struct {
    char text[1024]; /* "" until something failed */
} Err;

/* Replaces err's text with the formatted message. err may be NULL: then nothing is kept.
 * Returns -1, so that a failing function can say `return err_set(err, ...)`. */
int err_set(Err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts the formatted message and ": " in front of err's text, as an error passes a caller that
 * knows more about where it happened. Returns -1. */
int err_context(Err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints the message to standard error and ends the process with status 2. For what no input can
 * cause: a shape that breaks an operator's contract, memory that is not there, a failing device. */
void fatal(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
