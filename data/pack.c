#include "data/pack.h"

#include "base/mem.h"
#include "base/progress.h"
#include "data/checksum.h"
#include "data/pack_format.h"
#include "data/picture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct Pack {
    char *path;
    const uint8_t *bytes; /* the mapped file */
    size_t size;
    const PackHeader *header;
    const PackEntry *table;
    size_t largest;
};

uint64_t pack_header_checksum(const PackHeader *header_and_table)
{
    const uint8_t *first = (const uint8_t *)&header_and_table->version;
    size_t bytes = sizeof *header_and_table - offsetof(PackHeader, version);
    return checksum_xxh3(first, bytes + header_and_table->table_bytes);
}

/* Maps the whole file; a file too short for a header is refused. */
static int map_file(Pack *pack, Err *err)
{
    struct stat status;
    int rc = -1;
    int fd = open(pack->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        err_set(err, "%s: cannot open: %s", pack->path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(status.st_mode) || (size_t)status.st_size < sizeof(PackHeader)) {
        err_set(err, "%s: is not a pack, or is truncated", pack->path);
        goto done;
    }
    pack->size = (size_t)status.st_size;
    void *bytes = mmap(NULL, pack->size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) {
        err_set(err, "%s: cannot be mapped into memory: %s", pack->path, strerror(errno));
        goto done;
    }
    pack->bytes = bytes;
    rc = 0;
done:
    if (fd >= 0) {
        close(fd);
    }
    return rc;
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
    uint64_t room = pack->size - sizeof *header;
    bool sound = header->pairs >= 1 && header->pairs <= UINT32_MAX &&
                 header->table_offset == sizeof *header &&
                 header->table_bytes == header->pairs * sizeof(PackEntry);
    if (sound && header->table_bytes <= room) {
        sound = header->checksum == pack_header_checksum(header);
    } else if (sound) {
        return err_set(err, "%s: is truncated inside its table", pack->path);
    }
    if (!sound) {
        return err_set(err, "%s: its header or table is damaged", pack->path);
    }
    if (header->pixels_offset > pack->size ||
        header->pixels_bytes != pack->size - header->pixels_offset) {
        return err_set(err, "%s: has %zu bytes, %llu expected: it is truncated", pack->path,
                       pack->size,
                       (unsigned long long)(header->pixels_offset + header->pixels_bytes));
    }
    pack->header = header;
    pack->table = (const PackEntry *)(header + 1);
    return 0;
}

static bool entry_is_sound(const Pack *pack, const PackPicture *picture)
{
    const PackHeader *header = pack->header;
    return picture->width >= 1 && picture->width <= header->resize && picture->height >= 1 &&
           picture->height <= header->resize && picture->offset % PACK_ALIGNMENT == 0 &&
           picture->offset >= header->pixels_offset && picture->offset <= pack->size &&
           pack_picture_bytes(picture) <= pack->size - picture->offset;
}

/* A table that is whole but wrong could only come from another program: still never read outside
 * the file. */
static int check_table(Pack *pack, Err *err)
{
    if (pack->header->resize < 1 || pack->header->resize > PICTURE_MAX_SIDE) {
        return err_set(err, "%s: its resize of %u is out of range", pack->path,
                       pack->header->resize);
    }
    for (uint64_t i = 0; i < pack->header->pairs; i++) {
        for (int m = 0; m < MODALITIES; m++) {
            const PackPicture *picture = &pack->table[i].picture[m];
            if (pack->table[i].label < 0 || !entry_is_sound(pack, picture)) {
                return err_set(err, "%s: its table is wrong at pair %llu", pack->path,
                               (unsigned long long)i);
            }
            size_t bytes = pack_picture_bytes(picture);
            pack->largest = bytes > pack->largest ? bytes : pack->largest;
        }
    }
    return 0;
}

Pack *pack_open(const char *path, Err *err)
{
    Pack *pack = mem_zeroed(1, sizeof *pack);
    pack->path = mem_string(path);
    if (map_file(pack, err) != 0 || check_header(pack, err) != 0 || check_table(pack, err) != 0) {
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
    free(pack->path);
    free(pack);
}

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

/* ---- verifying every picture ---------------------------------------------------------------- */

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
    return err_set(err,
                   "%s: the %s picture of pair %lld is damaged: remove the file, it is built again",
                   pack->path, verify.damaged % MODALITIES == RGB ? "RGB" : "depth",
                   (long long)(verify.damaged / MODALITIES));
}
