/* Time. */
#ifndef RODEO_BASE_CLOCK_H
#define RODEO_BASE_CLOCK_H

#include <time.h>

/* Seconds on a clock that never jumps; only differences mean something. */
double clock_seconds(void);

/* The time on that clock, CLOCK_MONOTONIC, so many seconds from now; < 0: now. */
struct timespec clock_from_now(double seconds);

/* Seconds since 1970, for time stamps. */
double clock_unix(void);

#endif
