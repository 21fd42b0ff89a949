/* Building a pack. Workers take blocks of pairs, decode them, and queue only for the moment in
 * which a block gets its place in the file: places follow the list's order, so that the file does
 * not depend on the threads, while decoding and writing go on at once. Each worker holds one block
 * in memory, whatever the list's length. */
#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/progress.h"
#include "data/checksum.h"
#include "data/pack.h"
#include "data/pack_format.h"
#include "data/picture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES     (4 << 20) /* of pixels a worker holds, about */
#define BLOCK_PAIRS_MAX 16

typedef struct {
    const PairList *list;
    int resize;
    int64_t block_pairs;
    PackHeader *header; /* with the table behind it, as in the file */
    PackEntry *table;
    AtomicFile file;
    Progress *progress;
    pthread_mutex_t lock;
    pthread_cond_t turned;
    int64_t turn; /* the block that gets the next place */
    int64_t end;  /* of what has a place in the file */
    bool failed;
    Err *err;
} Build;

/* Decoded pictures of consecutive pairs, each at a multiple of PACK_ALIGNMENT. */
typedef struct {
    uint8_t *bytes;
    int64_t used, capacity;
} Block;

static uint8_t *block_reserve(Block *block, int64_t bytes)
{
    int64_t start = block->used;
    block->used += pack_align(bytes);
    if (!block->bytes || block->used > block->capacity) {
        block->capacity = 2 * block->used;
        block->bytes = mem_resize(block->bytes, (size_t)block->capacity);
    }
    memset(block->bytes + start + bytes, 0, (size_t)(block->used - start - bytes));
    return block->bytes + start;
}

/* Shrinks where the network's input stays the same (pack.h). */
static void shrink(Picture *picture, int resize)
{
    if (picture->width <= resize && picture->height <= resize) {
        return;
    }
    int height = picture->height > resize ? resize : picture->height;
    Picture small = picture_resize(picture, resize, height);
    picture_free(picture);
    *picture = small;
}

static int add_picture(const Build *build, Block *block, int64_t index, int modality, Err *err)
{
    PackPicture *entry = &build->table[index].picture[modality];
    char *path = path_join(build->list->folder, build->list->pairs[index].path[modality]);
    Picture picture;
    int rc = picture_read(&picture, path, err);
    free(path);
    if (rc != 0) {
        return -1;
    }
    shrink(&picture, build->resize);
    entry->width = (uint32_t)picture.width;
    entry->height = (uint32_t)picture.height;
    entry->offset = (uint64_t)block->used; /* until the block has its place */
    size_t bytes = pack_picture_bytes(entry);
    entry->checksum = checksum_xxh3(picture.pixels, bytes);
    memcpy(block_reserve(block, (int64_t)bytes), picture.pixels, bytes);
    picture_free(&picture);
    return 0;
}

static int decode_block(const Build *build, Block *block, int64_t first, int64_t last, Err *err)
{
    for (int64_t i = first; i < last; i++) {
        build->table[i].label = build->list->pairs[i].label;
        for (int m = 0; m < MODALITIES; m++) {
            if (add_picture(build, block, i, m, err) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* Waits until all earlier blocks have their place, then takes the next one. Returns its offset, or
 * -1 if this block or an earlier one failed; the earliest failure is the one that is told. */
static int64_t take_turn(Build *build, int64_t number, const Block *block, bool failed,
                         const Err *err)
{
    pthread_mutex_lock(&build->lock);
    while (build->turn != number) {
        pthread_cond_wait(&build->turned, &build->lock);
    }
    if (failed && !build->failed) {
        build->failed = true;
        *build->err = *err;
    }
    int64_t offset = build->failed ? -1 : build->end;
    build->end += block->used;
    build->turn++;
    pthread_cond_broadcast(&build->turned);
    pthread_mutex_unlock(&build->lock);
    return offset;
}

static bool has_failed(Build *build)
{
    pthread_mutex_lock(&build->lock);
    bool failed = build->failed;
    pthread_mutex_unlock(&build->lock);
    return failed;
}

static void write_block(Build *build, const Block *block, int64_t offset)
{
    Err err;
    if (atomic_file_write_at(&build->file, offset, block->bytes, (size_t)block->used, &err) != 0) {
        pthread_mutex_lock(&build->lock);
        if (!build->failed) {
            build->failed = true;
            *build->err = err;
        }
        pthread_mutex_unlock(&build->lock);
    }
}

static void pack_block(void *context, int64_t number)
{
    Build *build = context;
    int64_t first = number * build->block_pairs;
    int64_t last = first + build->block_pairs;
    last = last < build->list->count ? last : build->list->count;
    Block block = {0};
    Err err = {0};
    bool failed = has_failed(build) || decode_block(build, &block, first, last, &err) != 0;
    int64_t offset = take_turn(build, number, &block, failed, &err);
    if (offset >= 0) {
        for (int64_t i = first; i < last; i++) {
            for (int m = 0; m < MODALITIES; m++) {
                build->table[i].picture[m].offset += (uint64_t)offset;
            }
        }
        write_block(build, &block, offset);
        progress_advance(build->progress, (last - first) * MODALITIES, NULL);
    }
    free(block.bytes);
}

static void start_header(Build *build, uint64_t digest)
{
    uint64_t table_bytes = (uint64_t)build->list->count * sizeof(PackEntry);
    build->header = mem_zeroed(1, sizeof(PackHeader) + table_bytes);
    build->table = (PackEntry *)(build->header + 1);
    *build->header = (PackHeader){.magic = PACK_MAGIC,
                                  .version = PACK_VERSION,
                                  .resize = (uint32_t)build->resize,
                                  .pairs = (uint64_t)build->list->count,
                                  .digest = digest,
                                  .table_offset = sizeof(PackHeader),
                                  .table_bytes = table_bytes};
    build->end = pack_align((int64_t)(sizeof(PackHeader) + table_bytes));
    build->header->pixels_offset = (uint64_t)build->end;
}

/* The header goes in last; until the file has its final name nobody looks at it anyway. */
static int finish(Build *build, Err *err)
{
    PackHeader *header = build->header;
    header->pixels_bytes = (uint64_t)build->end - header->pixels_offset;
    header->checksum = pack_header_checksum(header);
    if (atomic_file_write_at(&build->file, 0, header, sizeof *header + header->table_bytes, err) !=
        0) {
        atomic_file_abort(&build->file);
        return -1;
    }
    return atomic_file_commit(&build->file, err);
}

static void note_result(const Build *build, int64_t pictures, double seconds, const char *path,
                        Log *log)
{
    if (log) {
        log_note(log, "%s: packed %lld pictures, %.1f MB, in %.1f s (%.0f pictures/s): %s",
                 build->list->name, (long long)pictures, (double)build->end / 1e6, seconds,
                 (double)pictures / (seconds > 0 ? seconds : 1e-9), path);
    }
}

static int64_t choose_block_pairs(int resize)
{
    int64_t pairs = BLOCK_BYTES / ((int64_t)resize * resize * 3 * MODALITIES);
    return pairs < 1 ? 1 : pairs > BLOCK_PAIRS_MAX ? BLOCK_PAIRS_MAX : pairs;
}

int pack_build(const PairList *list, const PairStats *stats, int resize, const char *path,
               Pool *pool, Log *log, Err *err)
{
    int rc = -1;
    Err first_error = {0};
    Build build = {.list = list,
                   .resize = resize,
                   .block_pairs = choose_block_pairs(resize),
                   .err = &first_error};
    if (atomic_file_open(&build.file, path, err) != 0) {
        return -1;
    }
    double start = clock_seconds();
    char *label = mem_format("Packing %s: ", list->name);
    pthread_mutex_init(&build.lock, NULL);
    pthread_cond_init(&build.turned, NULL);
    start_header(&build, stats->digest);
    build.progress = progress_open(log, label, "pictures", stats->pictures);
    int64_t blocks = (list->count + build.block_pairs - 1) / build.block_pairs;
    pool_run(pool, blocks, pack_block, &build);
    progress_close(build.progress);
    if (build.failed) {
        atomic_file_abort(&build.file);
        err_set(err, "%s", first_error.text);
    } else if (finish(&build, err) == 0) {
        note_result(&build, stats->pictures, clock_seconds() - start, path, log);
        rc = 0;
    }
    pthread_cond_destroy(&build.turned);
    pthread_mutex_destroy(&build.lock);
    free(build.header);
    free(label);
    return rc;
}
