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

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES     (4 << 20) /* of pixels a worker holds, about */
#define BLOCK_PAIRS_MAX 16

/* Texts, each behind the zero byte of the one before. */
typedef struct {
    char *bytes;
    size_t used, capacity;
} Names;

typedef struct {
    const PairList *list;
    const PictureSource *source;
    const PackSettings *settings;
    int64_t block_pairs;
    PackHeader header;
    PackEntry *table; /* [list->count]; label -1: a pair that is left out */
    AtomicFile file;
    Progress *progress;
    pthread_mutex_t lock;
    pthread_cond_t turned;
    int64_t turn; /* the block that gets the next place */
    int64_t end;  /* of what has a place in the file */
    Names skipped;
    int bad;       /* pictures in it */
    Err first_bad; /* what is wrong with the first of them */
    bool failed;
    Err *err;
} Build;

/* Decoded pictures of consecutive pairs, each at a multiple of PACK_ALIGNMENT. */
typedef struct {
    uint8_t *bytes;
    int64_t used, capacity;
    Names skipped; /* path and reason of every picture that cannot be decoded */
    int bad;
    bool failed; /* for another reason than a bad picture */
    Err err;     /* of the failure, else of the first bad picture */
} Block;

static void names_append(Names *names, const char *text, size_t bytes)
{
    if (names->used + bytes > names->capacity) {
        names->capacity = 2 * (names->used + bytes);
        names->bytes = mem_resize(names->bytes, names->capacity);
    }
    memcpy(names->bytes + names->used, text, bytes);
    names->used += bytes;
}

static void names_add(Names *names, const char *text)
{
    names_append(names, text, strlen(text) + 1);
}

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

/* ---- one block ------------------------------------------------------------------------------ */

static int read_from_folder(void *context, const PairList *list, int64_t index, int modality,
                            Picture *picture, Err *err)
{
    (void)context;
    char *path = path_join(list->folder, list->pairs[index].path[modality]);
    size_t bytes = 0;
    char *data = path_read(path, &bytes, err);
    int rc = data ? picture_decode(picture, data, bytes, path, err) : -2;
    free(data);
    free(path);
    return rc;
}

const PictureSource pack_source_folder = {.read = read_from_folder};

void pack_shrink(Picture *picture, int resize)
{
    if (picture->width <= resize && picture->height <= resize) {
        return;
    }
    int height = picture->height > resize ? resize : picture->height;
    Picture small = picture_resize(picture, resize, height);
    picture_free(picture);
    *picture = small;
}

static void add_picture(const Build *build, Block *block, PackPicture *entry, Picture *picture)
{
    pack_shrink(picture, build->settings->resize);
    entry->width = (uint32_t)picture->width;
    entry->height = (uint32_t)picture->height;
    entry->offset = (uint64_t)block->used; /* until the block has its place */
    size_t bytes = pack_picture_bytes(entry);
    entry->checksum = checksum_xxh3(picture->pixels, bytes);
    memcpy(block_reserve(block, (int64_t)bytes), picture->pixels, bytes);
}

/* The reason without the place where the data lies: the pack does not depend on that. */
static void note_bad_picture(Block *block, const char *path, const Err *err)
{
    const char *named = strstr(err->text, path);
    const char *reason = named ? named + strlen(path) : err->text;
    if (block->bad++ == 0) {
        block->err = *err;
    }
    names_add(&block->skipped, path);
    names_add(&block->skipped, reason + strspn(reason, ": "));
}

/* Decodes both pictures of a pair; where one cannot be, the pair has no part in the pack. Returns
 * -1 where the build cannot go on. */
static int add_pair(const Build *build, Block *block, int64_t index)
{
    const Pair *pair = &build->list->pairs[index];
    PackEntry *entry = &build->table[index];
    Picture picture[MODALITIES] = {{0}};
    int bad_before = block->bad;
    for (int m = 0; m < MODALITIES && !block->failed; m++) {
        Err err = {0};
        int rc =
            build->source->read(build->source->context, build->list, index, m, &picture[m], &err);
        if (rc == -1) {
            note_bad_picture(block, pair->path[m], &err);
        } else if (rc != 0) {
            block->failed = true;
            block->err = err;
        }
    }
    bool whole = !block->failed && block->bad == bad_before;
    entry->label = whole ? pair->label : -1;
    for (int m = 0; m < MODALITIES; m++) {
        if (whole) {
            add_picture(build, block, &entry->picture[m], &picture[m]);
        }
        picture_free(&picture[m]);
    }
    return block->failed ? -1 : 0;
}

static bool has_failed(Build *build)
{
    pthread_mutex_lock(&build->lock);
    bool failed = build->failed;
    pthread_mutex_unlock(&build->lock);
    return failed;
}

static void fill_block(Build *build, Block *block, int64_t first, int64_t last)
{
    const volatile int *stop = build->settings->stop;
    if (has_failed(build)) {
        block->failed = true; /* the reason is told by whoever failed */
    } else if (stop && *stop) {
        block->failed = true;
        err_set(&block->err,
                "interrupted while packing %s: nothing of it is kept, the same command "
                "starts again",
                build->list->name);
    }
    for (int64_t i = first; i < last && !block->failed; i++) {
        add_pair(build, block, i);
    }
}

/* ---- its place in the file ------------------------------------------------------------------ */

/* Counts a block's bad pictures. Returns whether they are too many by now; then err says so. */
static bool too_many_bad(Build *build, const Block *block, Err *err)
{
    int allowed = build->settings->skip_bad;
    if (block->bad > 0) {
        build->first_bad = build->bad == 0 ? block->err : build->first_bad;
        build->bad += block->bad;
        names_append(&build->skipped, block->skipped.bytes, block->skipped.used);
    }
    if (build->bad <= allowed) {
        return false;
    }
    *err = build->first_bad;
    if (allowed == 0) {
        char reason[sizeof err->text];
        memcpy(reason, err->text, sizeof reason);
        err_set(err, "%s (--skip_bad N leaves out up to N such pictures of a list)", reason);
    } else {
        err_context(err, "%s: more than %d pictures (--skip_bad) cannot be decoded, the first",
                    build->list->name, allowed);
    }
    return true;
}

/* Waits until all earlier blocks have their place, then takes the next one. Returns its offset, or
 * -1 if this block or an earlier one failed; the earliest failure is the one that is told. */
static int64_t take_turn(Build *build, int64_t number, Block *block)
{
    pthread_mutex_lock(&build->lock);
    while (build->turn != number) {
        pthread_cond_wait(&build->turned, &build->lock);
    }
    if (!build->failed && block->failed) {
        build->failed = true;
        *build->err = block->err;
    } else if (!build->failed) {
        build->failed = too_many_bad(build, block, build->err);
    }
    int64_t offset = build->failed ? -1 : build->end;
    build->end += block->used;
    build->turn++;
    pthread_cond_broadcast(&build->turned);
    pthread_mutex_unlock(&build->lock);
    return offset;
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
    atomic_file_start_writing(&build->file, offset, (size_t)block->used);
}

static void pack_block(void *context, int64_t number)
{
    Build *build = context;
    int64_t first = number * build->block_pairs;
    int64_t last = first + build->block_pairs;
    last = last < build->list->count ? last : build->list->count;
    Block block = {0};
    fill_block(build, &block, first, last);
    int64_t offset = take_turn(build, number, &block);
    if (offset >= 0) {
        for (int64_t i = first; i < last; i++) {
            for (int m = 0; m < MODALITIES; m++) {
                build->table[i].picture[m].offset += (uint64_t)offset;
            }
        }
        write_block(build, &block, offset);
        progress_advance(build->progress, (last - first) * MODALITIES, NULL);
    }
    free(block.skipped.bytes);
    free(block.bytes);
}

/* ---- the whole file ------------------------------------------------------------------------- */

static void start_header(Build *build, uint64_t digest)
{
    build->table = mem_zeroed((size_t)build->list->count, sizeof *build->table);
    build->header = (PackHeader){.magic = PACK_MAGIC,
                                 .version = PACK_VERSION,
                                 .resize = (uint32_t)build->settings->resize,
                                 .digest = digest,
                                 .pixels_offset = sizeof build->header,
                                 .classes = (uint32_t)build->list->classes};
    build->end = sizeof build->header;
}

/* Moves the entries of the pairs that are in the pack together, and names their pictures. Paths
 * longer than 4 GB together cannot be told apart; no list comes near that. */
static int close_table(Build *build, Names *names, Err *err)
{
    uint64_t pairs = 0;
    names_add(names, build->list->name);
    for (int64_t i = 0; i < build->list->count; i++) {
        if (build->table[i].label < 0) {
            continue;
        }
        build->table[pairs] = build->table[i];
        build->table[pairs].name = (uint32_t)names->used;
        for (int m = 0; m < MODALITIES; m++) {
            names_add(names, build->list->pairs[i].path[m]);
        }
        pairs++;
    }
    if (build->skipped.used > 0) {
        names_append(names, build->skipped.bytes, build->skipped.used);
    }
    if (pairs == 0) {
        return err_set(err, "%s: no pair is left: %d pictures cannot be decoded", build->list->file,
                       build->bad);
    }
    if (names->used > UINT32_MAX) {
        return err_set(err, "%s: its paths are longer than 4 GB together", build->list->file);
    }
    build->header.pairs = pairs;
    build->header.skipped = (uint32_t)build->bad;
    return 0;
}

static int write_ending(Build *build, const Names *names, Err *err)
{
    PackHeader *header = &build->header;
    header->pixels_bytes = (uint64_t)build->end - header->pixels_offset;
    header->table_offset = (uint64_t)build->end;
    header->table_bytes = header->pairs * sizeof *build->table;
    header->names_offset = header->table_offset + header->table_bytes;
    header->names_bytes = names->used;
    uint8_t *ending = mem_alloc(header->table_bytes + header->names_bytes);
    memcpy(ending, build->table, header->table_bytes);
    memcpy(ending + header->table_bytes, names->bytes, header->names_bytes);
    header->checksum = pack_header_checksum(header, ending);
    int rc = atomic_file_write_at(&build->file, (int64_t)header->table_offset, ending,
                                  header->table_bytes + header->names_bytes, err);
    if (rc == 0) {
        rc = atomic_file_write_at(&build->file, 0, header, sizeof *header, err);
    }
    free(ending);
    return rc;
}

/* The header goes in last; until the file has its final name nobody looks at it anyway. */
static int finish(Build *build, Err *err)
{
    Names names = {0};
    int rc = close_table(build, &names, err);
    if (rc == 0) {
        rc = write_ending(build, &names, err);
    }
    free(names.bytes);
    if (rc != 0) {
        atomic_file_abort(&build->file);
        return -1;
    }
    return atomic_file_commit(&build->file, err);
}

static void note_result(const Build *build, double seconds, const char *path)
{
    Log *log = build->settings->log;
    if (!log) {
        return;
    }
    int64_t pictures = build->list->count * MODALITIES;
    log_note(log, "%s: packed %lld pictures, %.1f MB, in %.1f s (%.0f pictures/s): %s",
             build->list->name, (long long)pictures, (double)build->end / 1e6, seconds,
             (double)pictures / (seconds > 0 ? seconds : 1e-9), path);
    if (build->bad > 0) {
        log_warning(log,
                    "%s: %d pictures cannot be decoded: %lld of the %lld pairs are left out (pack "
                    "--info %s lists them)",
                    build->list->name, build->bad,
                    (long long)(build->list->count - (int64_t)build->header.pairs),
                    (long long)build->list->count, path);
    }
}

static int64_t choose_block_pairs(int resize)
{
    int64_t pairs = BLOCK_BYTES / ((int64_t)resize * resize * 3 * MODALITIES);
    return pairs < 1 ? 1 : pairs > BLOCK_PAIRS_MAX ? BLOCK_PAIRS_MAX : pairs;
}

int pack_build(const PairList *list, const PairStats *stats, const PictureSource *source,
               const PackSettings *settings, const char *path, Err *err)
{
    int rc = -1;
    Err first_error = {0};
    Build build = {.list = list,
                   .source = source,
                   .settings = settings,
                   .block_pairs = choose_block_pairs(settings->resize),
                   .err = &first_error};
    if (atomic_file_open(&build.file, path, err) != 0) {
        return -1;
    }
    double start = clock_seconds();
    char *label = mem_format("Packing %s: ", list->name);
    pthread_mutex_init(&build.lock, NULL);
    pthread_cond_init(&build.turned, NULL);
    start_header(&build, stats->digest);
    build.progress = progress_open(settings->log, label, "pictures", stats->pictures);
    int64_t blocks = (list->count + build.block_pairs - 1) / build.block_pairs;
    pool_run(settings->pool, blocks, pack_block, &build);
    progress_close(build.progress);
    if (build.failed) {
        atomic_file_abort(&build.file);
        err_set(err, "%s", first_error.text);
    } else if (finish(&build, err) == 0) {
        note_result(&build, clock_seconds() - start, path);
        rc = 0;
    }
    pthread_cond_destroy(&build.turned);
    pthread_mutex_destroy(&build.lock);
    free(build.skipped.bytes);
    free(build.table);
    free(label);
    return rc;
}
