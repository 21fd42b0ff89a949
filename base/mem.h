/* Memory on the host. Allocation never returns NULL: a process without memory cannot go on, so it
 * ends through fatal() with the size it asked for. Everything is released with free(). */
#ifndef RODEO_BASE_MEM_H
#define RODEO_BASE_MEM_H

#include <stddef.h>

#define RODEO_ALIGNMENT 64 /* bytes: a cache line, and the widest vector register */

/* bytes of uninitialised memory (at least 1). */
void *mem_alloc(size_t bytes) __attribute__((returns_nonnull));

/* count elements of `size` bytes each, all zero. */
void *mem_zeroed(size_t count, size_t size) __attribute__((returns_nonnull));

/* Resizes a block from this header; old may be NULL. */
void *mem_resize(void *old, size_t bytes) __attribute__((returns_nonnull));

/* bytes of uninitialised memory, aligned to RODEO_ALIGNMENT. */
void *mem_aligned(size_t bytes) __attribute__((returns_nonnull));

/* A copy of a string. */
char *mem_string(const char *text) __attribute__((returns_nonnull));

/* A new string, formatted as printf does it. */
char *mem_format(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

#endif
