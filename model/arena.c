#include "model/arena.h"

void *arena_take(Arena *arena, size_t bytes)
{
    void *piece = arena->base ? arena->base + arena->used : NULL;
    arena->used += (bytes + 255) / 256 * 256;
    return piece;
}

void arena_allocate(Arena *arena, Backend *be)
{
    arena->base = device_alloc(be, arena->used);
    arena->used = 0;
}

void arena_free(Arena *arena, Backend *be)
{
    if (arena->base) {
        device_free(be, arena->base);
    }
    *arena = (Arena){0};
}
