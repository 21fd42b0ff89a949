/* What a program tells its user.
 *
 * Result lines go to standard output, line by line even into a pipe. Notes and warnings go to
 * standard error. All of them also go to a log file once one is open, except passing notes. A
 * status is a line that changes (a progress bar): on a terminal it is redrawn in place under
 * everything else, elsewhere it is not shown. Safe to call from several threads. */
#ifndef RODEO_BASE_LOG_H
#define RODEO_BASE_LOG_H

#include "base/err.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct Log Log;

/* A log over two open streams (borrowed), usually stdout and stderr. */
Log *log_open(FILE *results, FILE *notes);

/* From now on every line is also appended to this file, after ending a line that is torn. Its write
 * errors are told once, as a warning, and never stop the program. */
int log_tee(Log *log, const char *path, Err *err);

void log_result(Log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_note(Log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* log_note of a text, for those who tell texts through a function and a pointer of the caller's;
 * `log` is the Log. */
void log_note_text(void *log, const char *text);

/* As a note, but not kept in the log file: for what matters only while it happens. */
void log_passing(Log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As a note, with "warning: " in front. */
void log_warning(Log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether notes go to a terminal, where a status can be redrawn. */
bool log_has_terminal(const Log *log);

/* Shows text as the status; NULL or "" removes it. Does nothing where there is no terminal. */
void log_status(Log *log, const char *text);

/* Removes the status and closes the log file; the streams stay open. log may be NULL. */
void log_close(Log *log);

#endif
