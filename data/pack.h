/* The packed file: every picture of one list, decoded once, in one file that is mapped into memory.
 *
 * Pictures are stored as 8-bit RGB at their own size, or shrunk to at most `resize` pixels a side
 * where that does not change what the network sees (the resize to resize x resize runs its
 * horizontal pass first, so a wide picture may be stored with that pass done; a tall one is stored
 * fully resized).
 *
 * Layout, little-endian; all offsets from the start of the file:
 *   header  magic "RODEOPAK", version, resize, number of pairs, the list's digest, where the other
 *           parts are, XXH3-64 of header, table and names
 *   pixels  one picture after the other, each at a multiple of 64 bytes
 *   table   per pair: label, and per modality width, height, offset, XXH3-64 of the pixels
 *   names   the list's name, the pictures' paths, and which pictures were left out, and why
 * docs/pack.md has the byte positions. The file is a cache: it is never the only copy of anything,
 * and one that is damaged, of another version or stale is simply built again. */
#ifndef RODEO_DATA_PACK_H
#define RODEO_DATA_PACK_H

#include "base/log.h"
#include "data/pairs.h"
#include "data/picture.h"

typedef struct Pack Pack;

typedef struct {
    int width, height;
    const uint8_t *pixels; /* [height, width, 3], belongs to the pack */
    int64_t offset;        /* of the pixels in the pack's pixels (pack_pixels) */
    uint64_t checksum;     /* XXH3-64 of the pixels, as stored in the table */
} PackedPicture;

/* How packs are built. */
typedef struct {
    int resize;               /* side that training resizes to */
    int skip_bad;             /* pictures of a list that may be left out, with their pairs */
    volatile const int *stop; /* building ends with an error when this becomes non-zero, or NULL */
    Pool *pool;
    Log *log; /* or NULL */
} PackSettings;

/* Where the pictures of a list are. read gives the picture of a pair, at its own size or shrunk to
 * `resize` as above already; the caller frees it. On an error that the picture is to blame for,
 * returns -1; on any other -2; either way err names the picture. Several threads call it at once.
 */
typedef struct {
    int (*read)(void *context, const PairList *list, int64_t index, int modality, Picture *picture,
                Err *err);
    void *context;
} PictureSource;

/* Pictures in the list's folder. */
extern const PictureSource pack_source_folder;

/* Shrinks a picture to what a pack of that resize stores of it. */
void pack_shrink(Picture *picture, int resize);

/* Decodes all pictures of the list with the pool's threads, shows progress, and puts the file in
 * place when it is complete. Pictures that cannot be decoded are left out with their pairs and
 * listed in the pack, up to settings->skip_bad; one more ends the build with an error that names
 * it. Nothing is left behind after an error, nor after a full disk. */
int pack_build(const PairList *list, const PairStats *stats, const PictureSource *source,
               const PackSettings *settings, const char *path, Err *err);

/* Maps a packed file and verifies its header, table and names (not the pixels). NULL and err if it
 * is not one, is truncated or damaged. */
Pack *pack_open(const char *path, Err *err);
void pack_close(Pack *pack);

/* The pack of a list: opens the one in cache_dir (created if missing) if it is current, else says
 * why and builds it from the list's folder. The file's name is pack_file_name's. */
Pack *pack_open_or_build(const PairList *list, const PackSettings *settings, const char *cache_dir,
                         Err *err);

/* The pack in cache_dir of a list with these statistics; NULL if there is none, or none that is
 * current: then a note says why. */
Pack *pack_open_current(const PairList *list, const PairStats *stats, const PackSettings *settings,
                        const char *cache_dir);

/* LIST-RESIZE.pack. A new string. */
char *pack_file_name(const char *list_name, int resize);

/* Where packs go when the user does not say: <data_root>/rodeo-cache (for a tar file: rodeo-cache
 * beside it), or ./rodeo-cache when that place is read-only or on a mounted drive (FUSE). A new
 * string. */
char *pack_default_cache_dir(const char *data_root);

/* Keeps other programs from building packs in this folder: waits for the one that does, with a
 * note. Where a folder itself takes no lock (NFS), an empty file packing.lock in it does, and
 * stays. *fd: a descriptor to close; -1 where the file system has no locks: then it is up to the
 * user not to start two programs at once. Returns -1 and err where settings->stop ends the waiting.
 */
int pack_lock_folder(const char *folder, const PackSettings *settings, int *fd, Err *err);

/* Where a pack's file cannot be read any more through its mapping, the system sends SIGBUS. For a
 * program's handler of that signal: writes the message to standard error, once from however many
 * threads, and ends the process with status 1. */
_Noreturn void pack_die_lost(const char *message);

/* What to say then; both are string literals, advice begins with a blank or is "". */
#define PACK_LOST(program, advice)                                                                 \
    "\n" program ": a packed file cannot be read any more: it has become shorter, or its disk or " \
    "drive failed." advice "\n"

int64_t pack_count(const Pack *pack);
int pack_resize(const Pack *pack);
uint64_t pack_digest(const Pack *pack);
uint64_t pack_checksum(const Pack *pack); /* of header, table and names: tells packs apart */
int32_t pack_label(const Pack *pack, int64_t index);
PackedPicture pack_picture(const Pack *pack, int64_t index, int modality);
size_t pack_largest_picture(const Pack *pack); /* bytes */
const char *pack_path(const Pack *pack);

/* The path of a picture below its data set's folder. */
const char *pack_picture_path(const Pack *pack, int64_t index, int modality);

/* All pixels, and how many bytes they are. Begins at a multiple of 64. */
const uint8_t *pack_pixels(const Pack *pack, size_t *bytes);

/* Reads a picture's pixels from the file, past the mapping, into `to`. Several threads may. */
int pack_read_picture(const Pack *pack, int64_t index, int modality, uint8_t *to, Err *err);

/* Tells the system that this part of the pixels will be read soon; returns at once. */
void pack_read_ahead(const Pack *pack, int64_t offset, int64_t bytes);

/* Pictures that were left out because they could not be decoded. */
int pack_skipped(const Pack *pack);
const char *pack_skipped_path(const Pack *pack, int i);   /* below the data set's folder */
const char *pack_skipped_reason(const Pack *pack, int i); /* what was wrong with it */

/* The pairs of the pack as a list, without those that were left out: pair i is the pack's pair i.
 * file is the pack's path, folder "". */
void pack_list(const Pack *pack, PairList *list);

/* Says that a picture does not match its checksum, and what to do. Returns -1. */
int pack_tell_damage(const Pack *pack, int64_t index, int modality, Err *err);

/* Checks the checksum of every picture, with progress; an error names the first damaged one. */
int pack_verify(const Pack *pack, Pool *pool, Log *log, Err *err);

#endif
