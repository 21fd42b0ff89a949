/* Progress of something that takes a while: a bar with share, counts, elapsed and remaining time
 * and rate, as users of tqdm know it. On a terminal it is redrawn in place at most ten times a
 * second; elsewhere (a pipe, a file) a plain line comes every few seconds, and none at all for what
 * is over sooner. Safe to advance from several threads. */
#ifndef RODEO_BASE_PROGRESS_H
#define RODEO_BASE_PROGRESS_H

#include "base/log.h"

#include <stdint.h>

typedef struct Progress Progress;

/* label stands in front ("Training: "), unit behind the rate ("pairs/s" for "pairs"). total is in
 * the same unit, at least 1. log and the texts are borrowed until progress_close; log may be NULL,
 * then nothing is shown. */
Progress *progress_open(Log *log, const char *label, const char *unit, int64_t total);

/* `more` further units are done; extra ("loss 1.23", or NULL) is shown behind the rate. */
void progress_advance(Progress *progress, int64_t more, const char *extra);

/* Units a second since progress_open; 0 before anything is done. */
double progress_rate(const Progress *progress);

/* Removes the bar. A long one leaves its last state as a line where there is no terminal. */
void progress_close(Progress *progress);

#endif
