/* XXH3-64, the checksum of everything in a pack. Xxhash by Yann Collet, version 0.8's stable form.
 */
#ifndef RODEO_DATA_CHECKSUM_H
#define RODEO_DATA_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 with seed 0 of `bytes` bytes. */
uint64_t checksum_xxh3(const void *data, size_t bytes);

/* The same of two pieces as if they followed each other. */
uint64_t checksum_xxh3_of_two(const void *first, size_t first_bytes, const void *second,
                              size_t second_bytes);

#endif
