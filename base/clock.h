/* Time. */
#ifndef RODEO_BASE_CLOCK_H
#define RODEO_BASE_CLOCK_H

/* Seconds on a clock that never jumps; only differences mean something. */
double clock_seconds(void);

/* Seconds since 1970, for time stamps. */
double clock_unix(void);

#endif
