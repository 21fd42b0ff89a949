#include "data/checksum.h"

/* Inlined, so that it is compiled for the processor that this build is for. */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t checksum_xxh3(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}

uint64_t checksum_xxh3_of_two(const void *first, size_t first_bytes, const void *second,
                              size_t second_bytes)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, first, first_bytes);
    XXH3_64bits_update(&state, second, second_bytes);
    return XXH3_64bits_digest(&state);
}
