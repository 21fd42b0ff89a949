/* A small pool of worker threads for the host's own work: decoding, packing, gathering, rendering.
 * Operators do not use it (the CPU backend runs on OpenMP, as oneDNN does). */
#ifndef RODEO_BASE_POOL_H
#define RODEO_BASE_POOL_H

#include <stdint.h>

typedef struct Pool Pool;

/* One item of a parallel loop: index in [0, count). Runs on any worker, in no particular order. */
typedef void PoolTask(void *context, int64_t index);

/* threads 0 means one per core that this process may use. */
Pool *pool_open(int threads);

int pool_threads(const Pool *pool);

/* Calls task(context, i) for every i in [0, count) and returns when all have ended. The caller
 * works too. One loop at a time in a pool: a second one, also from within a task, ends the program.
 */
void pool_run(Pool *pool, int64_t count, PoolTask *task, void *context);

void pool_close(Pool *pool);

/* Cores that this process may use (its affinity mask), at least 1. */
int pool_cores(void);

#endif
