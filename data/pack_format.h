/* The bytes of a packed file; docs/pack.md shows them as a table. Only pack*.c include this. */
#ifndef RODEO_DATA_PACK_FORMAT_H
#define RODEO_DATA_PACK_FORMAT_H

#include "data/pairs.h"

#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packs are little-endian");

#define PACK_MAGIC     "RODEOPAK"
#define PACK_VERSION   2u
#define PACK_ALIGNMENT 64 /* bytes: where pictures and the file's parts begin */

typedef struct {
    char magic[8];
    uint64_t checksum; /* XXH3-64 of the header from `version` on, table and names, in this order */
    uint32_t version;
    uint32_t resize;
    uint64_t pairs;
    uint64_t digest; /* PairStats.digest */
    uint64_t pixels_offset, pixels_bytes;
    uint64_t table_offset, table_bytes;
    uint64_t names_offset, names_bytes; /* the file ends where the names end */
    uint32_t classes;                   /* of the list: highest label + 1 */
    uint32_t skipped;                   /* pictures that could not be decoded */
    uint8_t reserved[32];               /* zero */
} PackHeader;

typedef struct {
    uint32_t width, height;
    uint64_t offset;
    uint64_t checksum; /* XXH3-64 of its width * height * 3 bytes */
} PackPicture;

typedef struct {
    int32_t label;
    uint32_t name; /* where the pair's paths begin in the names */
    PackPicture picture[MODALITIES];
} PackEntry;

_Static_assert(sizeof(PackHeader) == 128 && sizeof(PackPicture) == 24 && sizeof(PackEntry) == 56,
               "the file's layout has no padding");

static inline int64_t pack_align(int64_t bytes)
{
    return (bytes + PACK_ALIGNMENT - 1) / PACK_ALIGNMENT * PACK_ALIGNMENT;
}

static inline size_t pack_picture_bytes(const PackPicture *picture)
{
    return (size_t)picture->width * picture->height * 3;
}

/* The checksum of a header with its table and names, which follow each other in memory. */
uint64_t pack_header_checksum(const PackHeader *header, const void *table_and_names);

#endif
