/* How much memory this process may use: the machine's, or less where a control group (a container,
 * a batch job) allows less. */
#ifndef RODEO_BASE_MEMORY_LIMIT_H
#define RODEO_BASE_MEMORY_LIMIT_H

#include <stddef.h>

/* Bytes that can still be used before something has to go, and bytes in all. What the file cache
 * holds counts as free, as far as the system would give it up. */
void memory_limit(size_t *free_bytes, size_t *total_bytes);

/* The same of a system whose /proc and /sys are below `root`, for tests. */
void memory_limit_below(const char *root, size_t *free_bytes, size_t *total_bytes);

#endif
