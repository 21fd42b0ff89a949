/* Reading ahead of a loader, where the file cache has no room for the packs: a thread that knows
 * the plan tells the system which parts of the packs are needed soon, many steps at a time, in the
 * order in which they lie on the disk and with neighbours merged into one request. */
#ifndef RODEO_DATA_READ_AHEAD_H
#define RODEO_DATA_READ_AHEAD_H

#include "data/loader.h"

typedef struct ReadAhead ReadAhead;

/* end: behind the last step. The settings, which name a store, are borrowed until read_ahead_close.
 * NULL and err where a
 * plan cannot be opened. */
ReadAhead *read_ahead_open(const LoaderSettings *settings, int64_t end, Err *err);

/* The loader has come to this step. */
void read_ahead_advance(ReadAhead *ahead, int64_t step);

void read_ahead_close(ReadAhead *ahead);

#endif
