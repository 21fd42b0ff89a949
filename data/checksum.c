#include "data/checksum.h"

/* Inlined, so that it is compiled for the processor that this build is for. */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t checksum_xxh3(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}
