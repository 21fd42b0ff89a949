#include "data/pack.h"

#include "base/mem.h"
#include "base/progress.h"
#include "data/checksum.h"
#include "data/pack_format.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct Pack {
    char *path;
    int fd;
    const uint8_t *bytes; /* the mapped file */
    size_t size;
    const PackHeader *header;
    const PackEntry *table;
    const char *names;
    const char **skipped; /* [2 * header->skipped]: path, reason, ... */
    size_t largest;
};

uint64_t pack_header_checksum(const PackHeader *header, const void *table_and_names)
{
    return checksum_xxh3_of_two(&header->version, sizeof *header - offsetof(PackHeader, version),
                                table_and_names, header->table_bytes + header->names_bytes);
}

/* Maps the whole file; a file too short for a header is refused. */
static int map_file(Pack *pack, Err *err)
{
    struct stat status;
    pack->fd = open(pack->path, O_RDONLY | O_CLOEXEC);
    if (pack->fd < 0 || fstat(pack->fd, &status) != 0) {
        return err_set(err, "%s: cannot open: %s", pack->path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode) || (size_t)status.st_size < sizeof(PackHeader)) {
        return err_set(err, "%s: is not a pack, or is truncated", pack->path);
    }
    pack->size = (size_t)status.st_size;
    /* Mounted drives may refuse shared mappings (FUSE with direct_io); nothing is written to this
     * one. */
    void *bytes = mmap(NULL, pack->size, PROT_READ, MAP_PRIVATE, pack->fd, 0);
    if (bytes == MAP_FAILED) {
        return err_set(err, "%s: cannot be mapped into memory: %s", pack->path, strerror(errno));
    }
    pack->bytes = bytes;
    return 0;
}

/* Whether header, pixels, table and names follow each other as they should; false also where the
 * sums would not fit into 64 bits. */
static bool parts_fit(const PackHeader *header)
{
    return header->pairs >= 1 && header->pairs <= UINT32_MAX && header->pairs <= SIZE_MAX / 1024 &&
           header->pixels_offset == sizeof *header && header->pixels_bytes <= INT64_MAX / 4 &&
           header->names_bytes <= UINT32_MAX &&
           header->table_bytes == header->pairs * sizeof(PackEntry) &&
           header->table_offset == header->pixels_offset + header->pixels_bytes &&
           header->table_offset % PACK_ALIGNMENT == 0 &&
           header->names_offset == header->table_offset + header->table_bytes;
}

/* Sizes first, so that the checksum is taken over bytes that are there. */
static int check_header(Pack *pack, Err *err)
{
    const PackHeader *header = (const PackHeader *)pack->bytes;
    if (memcmp(header->magic, PACK_MAGIC, sizeof header->magic) != 0) {
        return err_set(err, "%s: is not a pack", pack->path);
    }
    if (header->version != PACK_VERSION) {
        return err_set(err, "%s: has version %u, this program reads %u", pack->path,
                       header->version, PACK_VERSION);
    }
    if (!parts_fit(header)) {
        return err_set(err, "%s: its header or table is damaged", pack->path);
    }
    uint64_t expected = header->names_offset + header->names_bytes;
    if (expected != pack->size) {
        return err_set(err, "%s: has %zu bytes, %llu expected: it is truncated or damaged",
                       pack->path, pack->size, (unsigned long long)expected);
    }
    if (header->checksum != pack_header_checksum(header, pack->bytes + header->table_offset)) {
        return err_set(err, "%s: its header or table is damaged", pack->path);
    }
    pack->header = header;
    pack->table = (const PackEntry *)(const void *)(pack->bytes + header->table_offset);
    pack->names = (const char *)pack->bytes + header->names_offset;
    return 0;
}

static bool picture_is_sound(const Pack *pack, const PackPicture *picture)
{
    const PackHeader *header = pack->header;
    return picture->width >= 1 && picture->width <= header->resize && picture->height >= 1 &&
           picture->height <= header->resize && picture->offset % PACK_ALIGNMENT == 0 &&
           picture->offset >= header->pixels_offset && picture->offset <= header->table_offset &&
           pack_picture_bytes(picture) <= header->table_offset - picture->offset;
}

/* The text behind the one at `text`; NULL if the names end before it. */
static const char *next_name(const Pack *pack, const char *text)
{
    const char *end = pack->names + pack->header->names_bytes;
    const char *next = text + strlen(text) + 1;
    return next < end ? next : NULL;
}

/* A table that is whole but wrong could only come from another program: still never read outside
 * the file. */
static int check_table(Pack *pack, Err *err)
{
    const PackHeader *header = pack->header;
    if (header->resize < 1 || header->resize > PICTURE_MAX_SIDE) {
        return err_set(err, "%s: its resize of %u is out of range", pack->path, header->resize);
    }
    for (uint64_t i = 0; i < header->pairs; i++) {
        const PackEntry *entry = &pack->table[i];
        bool sound = entry->label >= 0 && (uint32_t)entry->label < header->classes &&
                     entry->name < header->names_bytes &&
                     next_name(pack, pack->names + entry->name);
        for (int m = 0; m < MODALITIES; m++) {
            sound = sound && picture_is_sound(pack, &entry->picture[m]);
            size_t bytes = pack_picture_bytes(&entry->picture[m]);
            pack->largest = bytes > pack->largest ? bytes : pack->largest;
        }
        if (!sound) {
            return err_set(err, "%s: its table is wrong at pair %llu", pack->path,
                           (unsigned long long)i);
        }
    }
    return 0;
}

/* Names end with a zero byte, and behind those of the pairs come those that were left out. */
static int check_names(Pack *pack, Err *err)
{
    const PackHeader *header = pack->header;
    if (header->names_bytes < 1 || pack->names[header->names_bytes - 1] != '\0' ||
        header->skipped > header->names_bytes) {
        return err_set(err, "%s: its names are wrong", pack->path);
    }
    return 0;
}

static int find_skipped(Pack *pack, Err *err)
{
    const PackHeader *header = pack->header;
    const char *text = pack->names + pack->table[header->pairs - 1].name;
    text = next_name(pack, next_name(pack, text));
    pack->skipped = mem_zeroed(2 * (size_t)header->skipped, sizeof *pack->skipped);
    for (uint32_t i = 0; i < 2 * header->skipped; i++) {
        if (!text) {
            return err_set(err, "%s: its names are wrong", pack->path);
        }
        pack->skipped[i] = text;
        text = next_name(pack, text);
    }
    return 0;
}

Pack *pack_open(const char *path, Err *err)
{
    Pack *pack = mem_zeroed(1, sizeof *pack);
    pack->path = mem_string(path);
    if (map_file(pack, err) != 0 || check_header(pack, err) != 0 || check_names(pack, err) != 0 ||
        check_table(pack, err) != 0 || find_skipped(pack, err) != 0) {
        pack_close(pack);
        return NULL;
    }
    return pack;
}

void pack_close(Pack *pack)
{
    if (!pack) {
        return;
    }
    if (pack->bytes) {
        munmap((void *)pack->bytes, pack->size);
    }
    if (pack->fd >= 0) {
        close(pack->fd);
    }
    free(pack->skipped);
    free(pack->path);
    free(pack);
}

/* ---- a disk that fails ---------------------------------------------------------------------- */

/* Calls only what a signal handler may. Several threads may read where nothing is any more: one
 * tells, the others wait for the end. */
void pack_die_lost(const char *message)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&told)) {
        pause();
    }
    (void)!write(STDERR_FILENO, message, strlen(message));
    _exit(1);
}

/* ---- what is in it -------------------------------------------------------------------------- */

int64_t pack_count(const Pack *pack)
{
    return (int64_t)pack->header->pairs;
}

int pack_resize(const Pack *pack)
{
    return (int)pack->header->resize;
}

uint64_t pack_digest(const Pack *pack)
{
    return pack->header->digest;
}

uint64_t pack_checksum(const Pack *pack)
{
    return pack->header->checksum;
}

int32_t pack_label(const Pack *pack, int64_t index)
{
    return pack->table[index].label;
}

PackedPicture pack_picture(const Pack *pack, int64_t index, int modality)
{
    const PackPicture *picture = &pack->table[index].picture[modality];
    return (PackedPicture){.width = (int)picture->width,
                           .height = (int)picture->height,
                           .pixels = pack->bytes + picture->offset,
                           .offset = (int64_t)(picture->offset - pack->header->pixels_offset),
                           .checksum = picture->checksum};
}

size_t pack_largest_picture(const Pack *pack)
{
    return pack->largest;
}

const char *pack_path(const Pack *pack)
{
    return pack->path;
}

const char *pack_picture_path(const Pack *pack, int64_t index, int modality)
{
    const char *text = pack->names + pack->table[index].name;
    return modality == RGB ? text : next_name(pack, text);
}

const uint8_t *pack_pixels(const Pack *pack, size_t *bytes)
{
    *bytes = pack->header->pixels_bytes;
    return pack->bytes + pack->header->pixels_offset;
}

int pack_read_picture(const Pack *pack, int64_t index, int modality, uint8_t *to, Err *err)
{
    const PackPicture *picture = &pack->table[index].picture[modality];
    size_t bytes = pack_picture_bytes(picture);
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(pack->fd, to + done, bytes - done, (off_t)(picture->offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return err_set(err, "%s: cannot read %s: %s", pack->path,
                           pack_picture_path(pack, index, modality),
                           got == 0 ? "the file has become shorter" : strerror(errno));
        }
        done += (size_t)got;
    }
    return 0;
}

void pack_read_ahead(const Pack *pack, int64_t offset, int64_t bytes)
{
    /* The system caps what it reads ahead for one call at a device's limit. */
    const int64_t call_bytes = 128 << 10;
    offset += (int64_t)pack->header->pixels_offset;
    for (int64_t done = 0; done < bytes; done += call_bytes) {
        int64_t part = bytes - done < call_bytes ? bytes - done : call_bytes;
        posix_fadvise(pack->fd, offset + done, part, POSIX_FADV_WILLNEED); /* only a hint */
    }
}

int pack_skipped(const Pack *pack)
{
    return (int)pack->header->skipped;
}

const char *pack_skipped_path(const Pack *pack, int i)
{
    return pack->skipped[2 * i];
}

const char *pack_skipped_reason(const Pack *pack, int i)
{
    return pack->skipped[2 * i + 1];
}

void pack_list(const Pack *pack, PairList *list)
{
    int64_t count = pack_count(pack);
    *list = (PairList){.name = mem_string(pack->names),
                       .file = mem_string(pack->path),
                       .folder = mem_string(""),
                       .count = count,
                       .pairs = mem_zeroed((size_t)count, sizeof *list->pairs),
                       .classes = (int)pack->header->classes};
    for (int64_t i = 0; i < count; i++) {
        list->pairs[i].label = pack_label(pack, i);
        for (int m = 0; m < MODALITIES; m++) {
            list->pairs[i].path[m] = mem_string(pack_picture_path(pack, i, m));
        }
    }
}

/* ---- verifying every picture ---------------------------------------------------------------- */

int pack_tell_damage(const Pack *pack, int64_t index, int modality, Err *err)
{
    return err_set(err,
                   "%s: the %s picture of pair %lld, %s, does not match its checksum: the file is "
                   "damaged; remove it and run again, it is built anew",
                   pack->path, modality == RGB ? "RGB" : "depth", (long long)index,
                   pack_picture_path(pack, index, modality));
}

typedef struct {
    const Pack *pack;
    Progress *progress;
    pthread_mutex_t lock;
    int64_t damaged; /* lowest number of a damaged picture; INT64_MAX: none */
} Verify;

static void verify_picture(void *context, int64_t number)
{
    Verify *verify = context;
    const PackPicture *picture =
        &verify->pack->table[number / MODALITIES].picture[number % MODALITIES];
    uint64_t found =
        checksum_xxh3(verify->pack->bytes + picture->offset, pack_picture_bytes(picture));
    if (found != picture->checksum) {
        pthread_mutex_lock(&verify->lock);
        verify->damaged = number < verify->damaged ? number : verify->damaged;
        pthread_mutex_unlock(&verify->lock);
    }
    progress_advance(verify->progress, 1, NULL);
}

int pack_verify(const Pack *pack, Pool *pool, Log *log, Err *err)
{
    Verify verify = {.pack = pack, .damaged = INT64_MAX};
    int64_t pictures = pack_count(pack) * MODALITIES;
    pthread_mutex_init(&verify.lock, NULL);
    verify.progress = progress_open(log, "Verifying: ", "pictures", pictures);
    pool_run(pool, pictures, verify_picture, &verify);
    progress_close(verify.progress);
    pthread_mutex_destroy(&verify.lock);
    if (verify.damaged == INT64_MAX) {
        return 0;
    }
    return pack_tell_damage(pack, verify.damaged / MODALITIES, (int)(verify.damaged % MODALITIES),
                            err);
}
