/* The plan: which pairs a step uses, and how each is cropped, flipped and turned.
 *
 * Every choice is a pure function of (seed, epoch, loader, position): no state to save, any step
 * can be recomputed on its own, and a Python script can replay it (rng.h). order    pass p of an
 * epoch visits the pairs in the order of a Fisher-Yates shuffle: for i from n-1 down to 1, swap i
 * with rng_below(i + 1), drawing from rng_at(seed, RNG_SHUFFLE, loader, epoch, p) augment  the pair
 * at position q of pass p, counted through all passes as p n + q, draws from rng_at(seed,
 * RNG_AUGMENT, loader, epoch, p n + q), in this order: top = below(m + 1), left = below(m + 1),
 * flip = below(2), and in rotation loaders rgb turns = below(4), depth turns = below(4), with m =
 * resize - crop. Without augmentation top = left = m/2, no flip. */
#ifndef RODEO_DATA_PLAN_H
#define RODEO_DATA_PLAN_H

#include "data/pack.h"

/* The loaders of the experiment; the numbers are part of every draw's address. */
typedef enum {
    LOADER_SOURCE = 0,
    LOADER_TARGET = 1,
    LOADER_SOURCE_ROTATION = 2,
    LOADER_TARGET_ROTATION = 3,
    LOADER_SOURCE_TEST = 4,
    LOADER_SOURCE_ROTATION_TEST = 5,
    LOADER_TARGET_ROTATION_TEST = 6,
    LOADER_TARGET_TEST = 7,
} LoaderId;

typedef struct {
    int64_t index;                     /* of the pair in its pack */
    int32_t label;                     /* class, or in rotation loaders (k_rgb - k_depth) mod 4 */
    int32_t top, left, flip;           /* shared by both modalities */
    int32_t quarter_turns[MODALITIES]; /* 0..3 counter-clockwise */
} PairPlan;

typedef struct {
    const Pack *pack; /* borrowed */
    uint64_t seed;
    uint32_t epoch; /* 0 for the tests: the same draw at every epoch */
    LoaderId loader;
    int batch; /* pairs */
    int crop;  /* pixels; resize is the pack's */
    bool augment, rotate;
    bool drop_last; /* whether a last partial batch is left out */
} PlanSettings;

typedef struct Plan Plan;

/* err if the list has fewer pairs than one batch needs (with drop_last). */
Plan *plan_open(const PlanSettings *settings, Err *err);
void plan_close(Plan *plan);

/* Batches of one pass over the list. */
int64_t plan_batches(const Plan *plan);

/* Plans batch number b (from 0; the passes follow one another) into pairs[0..batch). Returns how
 * many pairs it has; less than batch only for the last one of a pass. Keeps the order of the pass
 * it was asked for last, so consecutive batches are cheap. Not safe from several threads. */
int plan_batch(Plan *plan, int64_t b, PairPlan *pairs);

#endif
