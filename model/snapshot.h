/* A network's state in host memory: what a checkpoint is made from while training goes on. */
#ifndef RODEO_MODEL_SNAPSHOT_H
#define RODEO_MODEL_SNAPSHOT_H

#include "model/net.h"

#include <stdbool.h>

typedef struct {
    Backend *be;
    const Params *params; /* the tables that say what lies where; borrowed from the net */
    /* Host memory, laid out as the arenas of the same names in Params. */
    float *w, *running, *v;
    int64_t *batches; /* [params->norms] */
} NetSnapshot;

/* Reserves the memory, from which copies are fastest; the net must outlive the snapshot. */
void snapshot_open(NetSnapshot *snapshot, const Net *net);

/* Writes to all of the memory once, so that the first snapshot does not wait for the kernel to find
 * it. Any thread may do it, before the first snapshot_take. */
void snapshot_touch(NetSnapshot *snapshot);

/* Copies the network's state of this moment. Waits for the copies, and for what is enqueued before
 * them. */
void snapshot_take(NetSnapshot *snapshot);

/* Whether every weight, running statistic and momentum is a finite number. */
bool snapshot_is_finite(const NetSnapshot *snapshot);

/* Safe on a snapshot that is {0}. */
void snapshot_close(NetSnapshot *snapshot);

#endif
