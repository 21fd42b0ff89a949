/* The packed file: every picture of one list, decoded once, in one file that is mapped into memory.
 *
 * Pictures are stored as 8-bit RGB at their own size, or shrunk to at most `resize` pixels a side
 * where that does not change what the network sees (the resize to resize x resize runs its
 * horizontal pass first, so a wide picture may be stored with that pass done; a tall one is stored
 * fully resized).
 *
 * Layout, little-endian; all offsets from the start of the file:
 *   header  magic "RODEOPAK", version, resize, number of pairs, the list's digest, offset and size
 * of the table and of the pixels, XXH3-64 of header and table table   per pair: label, and per
 * modality width, height, offset, XXH3-64 of the pixels pixels  one picture after the other, each
 * at a multiple of 64 bytes docs/pack.md has the byte positions. The file is a cache: it is never
 * the only copy of anything, and one that is damaged, of another version or stale is simply built
 * again. */
#ifndef RODEO_DATA_PACK_H
#define RODEO_DATA_PACK_H

#include "base/log.h"
#include "data/pairs.h"

typedef struct Pack Pack;

typedef struct {
    int width, height;
    const uint8_t *pixels; /* [height, width, 3], belongs to the pack */
    uint64_t checksum;     /* XXH3-64 of the pixels, as stored in the table */
} PackedPicture;

/* Decodes all pictures of the list with the pool's threads, shows progress, and puts the file in
 * place when it is complete. The first picture that cannot be decoded ends it with an error that
 * names the file; nothing is left behind then, nor after a full disk. */
int pack_build(const PairList *list, const PairStats *stats, int resize, const char *path,
               Pool *pool, Log *log, Err *err);

/* Maps a packed file and verifies its header and table (not the pixels). NULL and err if it is not
 * one, is truncated or damaged. */
Pack *pack_open(const char *path, Err *err);
void pack_close(Pack *pack);

/* The pack of a list for the given resize: opens the one in cache_dir (created if missing) if it is
 * current, else says why and builds it. The file's name holds the list's name and resize. */
Pack *pack_open_or_build(const PairList *list, int resize, const char *cache_dir, Pool *pool,
                         Log *log, Err *err);

/* Where packs go when the user does not say: <data_root>/rodeo-cache, or ./rodeo-cache when the
 * data root is read-only or on a mounted drive (FUSE). A new string. */
char *pack_default_cache_dir(const char *data_root);

int64_t pack_count(const Pack *pack);
int pack_resize(const Pack *pack);
uint64_t pack_digest(const Pack *pack);
int32_t pack_label(const Pack *pack, int64_t index);
PackedPicture pack_picture(const Pack *pack, int64_t index, int modality);
size_t pack_largest_picture(const Pack *pack); /* bytes */
const char *pack_path(const Pack *pack);

/* Checks the checksum of every picture, with progress; an error names the first damaged one. */
int pack_verify(const Pack *pack, Pool *pool, Log *log, Err *err);

#endif
