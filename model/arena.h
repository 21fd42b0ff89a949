/* One block of device memory, planned once and handed out piece by piece.
 *
 * A plan runs twice over the same code: first with no memory (arena_take only counts), then, after
 * arena_allocate, for real. */
#ifndef RODEO_MODEL_ARENA_H
#define RODEO_MODEL_ARENA_H

#include "kernels/device.h"

typedef struct {
    char *base; /* device memory; NULL while counting */
    size_t used;
} Arena;

/* `bytes` more, aligned to 256 bytes. NULL while counting. */
void *arena_take(Arena *arena, size_t bytes);

/* Allocates what has been counted and starts over at its beginning. */
void arena_allocate(Arena *arena, Backend *be);

void arena_free(Arena *arena, Backend *be);

#endif
