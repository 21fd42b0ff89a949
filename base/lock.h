/* A lock file: one process at a time may hold it. */
#ifndef RODEO_BASE_LOCK_H
#define RODEO_BASE_LOCK_H

#include "base/log.h"

#include <stdbool.h>

typedef struct Lock Lock;

/* How a lock that another machine left behind is told from one that is still held, where the file
 * system cannot tell (lock_take). */
typedef struct {
    double beat;     /* seconds between two signs of life of a holder */
    double patience; /* seconds without one after which a holder counts as gone; > beat */
    double stale;    /* age of the file in seconds from which nobody is waited for */
} LockTimes;

#define LOCK_TIMES_USUAL ((LockTimes){.beat = 10, .patience = 25, .stale = 600})

/* Takes the lock at path, creating the file. Where the file system locks files for all machines
 * that see it (flock), that decides, and a lock dies with its process. Where it does not lock, or
 * only within this machine (FUSE, as a mounted Drive is), what the holder wrote into the file
 * decides: a process of this machine holds the lock if it lives; one of another machine if it shows
 * a sign of life within times->patience, which is waited for (told to log, which may be NULL).
 * The signs come from a thread of their own, whatever the holder is busy with.
 * NULL and err if the lock is held (the holder is named) or the file cannot be written. */
Lock *lock_take(const char *path, const LockTimes *times, Log *log, Err *err);

/* Gives the lock back. The file stays, empty. lock may be NULL. */
void lock_release(Lock *lock);

#endif
