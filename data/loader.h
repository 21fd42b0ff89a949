/* The loader: turns plans into batches in device memory, ahead of the step that needs them.
 *
 * Worker threads gather the stored pixels of a step's pictures from the packs into staging memory,
 * verifying each picture's checksum on the way; a few steps are always under way. Of pictures that
 * the store has on the device already, only what is to be done with them is prepared. */
#ifndef RODEO_DATA_LOADER_H
#define RODEO_DATA_LOADER_H

#include "data/plan.h"
#include "data/store.h"
#include "kernels/device.h"

#define LOADER_MAX_GROUPS 8

typedef struct {
    int groups;                   /* groups of this loader, each of `batch` slots */
    int batch;                    /* slots of one group */
    int pairs[LOADER_MAX_GROUPS]; /* of them valid, from the first; the others repeat a valid pair
                                   */
    const PairPlan *plan;         /* [groups * batch], host */
    /* Device memory. Items and labels: [groups * batch]. */
    const uint8_t *pixels; /* what the items' offsets count from: this step's, or all */
    const AugmentItem *items[MODALITIES];
    const int32_t *labels;
} Batch;

typedef struct {
    Backend *be;
    Store *store; /* with the packs of all sources, for as long as the loader is open; NULL: the
                     loader has one of its own, in the tier ram */
    int sources;  /* 1..LOADER_MAX_GROUPS */
    PlanSettings source[LOADER_MAX_GROUPS]; /* same batch in all */
    int consecutive; /* batches taken from each source for one step: 1 in training; evaluation
                        merges several. groups = sources * consecutive, source by source */
    int64_t first_step, steps; /* delivers steps first_step .. steps - 1; step t has the batches
                                  t * consecutive ... of every source. In evaluation, groups beyond
                                  the last batch have pairs = 0 */
    int64_t batches;           /* stop behind this many batches of a source; 0: no limit */
    int workers;               /* threads, at least 1 */
} LoaderSettings;

typedef struct Loader Loader;

Loader *loader_open(const LoaderSettings *settings, Err *err);

/* The next step's batch: 1 with *batch filled (valid until the next call), 0 behind the last step,
 * -1 and err where a picture cannot be read or does not match its checksum (it is named, and the
 * way to rebuild the pack). The device addresses in it are the same for every step, and for every
 * loader of the same shape that the store serves. */
int loader_next(Loader *loader, Batch *batch, Err *err);

/* Stops the workers, at whatever step. loader may be NULL. */
void loader_close(Loader *loader);

#endif
