/* The files of a tar by name, and the tar as a data root. */
#include "data/tar_entries.h"

#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "data/checksum.h"
#include "data/tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LINKS 8 /* followed from one to the next */

/* Goes back to in front of the last folder of a path that begins at start and ends at end. NULL if
 * it has none. */
static char *without_last(char *start, char *end)
{
    if (end == start) {
        return NULL;
    }
    while (end > start && *--end != '/') {
    }
    return end;
}

char *tar_normal_path(const char *path)
{
    char *normal = mem_alloc(strlen(path) + 1);
    char *out = normal;
    while (*path && out) {
        size_t bytes = strcspn(path, "/");
        bool here = bytes == 0 || (bytes == 1 && path[0] == '.');
        if (bytes == 2 && path[0] == '.' && path[1] == '.') {
            out = without_last(normal, out);
        } else if (!here) {
            if (out != normal) {
                *out++ = '/';
            }
            memcpy(out, path, bytes);
            out += bytes;
        }
        path += bytes + (path[bytes] == '/');
    }
    if (!out || out == normal) {
        free(normal);
        return NULL;
    }
    *out = '\0';
    return normal;
}

TarEntry *tar_add_entry(Tar *tar, TarKind kind, char *path)
{
    if (tar->count == tar->capacity) {
        tar->capacity = tar->capacity > 0 ? 2 * tar->capacity : 1024;
        tar->entries = mem_resize(tar->entries, (size_t)tar->capacity * sizeof(TarEntry *));
    }
    TarEntry *entry = mem_zeroed(1, sizeof *entry);
    entry->path = path;
    entry->number = tar->count;
    entry->kind = kind;
    tar->entries[tar->count++] = entry;
    return entry;
}

static void free_entry(TarEntry *entry)
{
    free(entry->path);
    free(entry->text);
    free(entry);
}

void tar_forget(Tar *tar)
{
    for (int64_t i = 0; i < tar->count; i++) {
        free_entry(tar->entries[i]);
    }
    tar->count = 0;
    scratch_close(tar->scratch);
    tar->scratch = NULL;
}

void tar_close(Tar *tar)
{
    if (!tar) {
        return;
    }
    tar_forget(tar);
    free(tar->entries);
    free(tar->root);
    free(tar->path);
    free(tar);
}

static int by_path(const void *a, const void *b)
{
    const TarEntry *first = *(TarEntry *const *)a;
    const TarEntry *second = *(TarEntry *const *)b;
    int order = strcmp(first->path, second->path);
    return order != 0 ? order : (first->number > second->number) - (first->number < second->number);
}

/* The first entry whose path is not before `path`. */
static int64_t lower_bound(const Tar *tar, const char *path)
{
    int64_t low = 0;
    int64_t high = tar->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (strcmp(tar->entries[middle]->path, path) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Of the entries of a path, the last one before `number`; NULL if there is none. */
static const TarEntry *find_before(const Tar *tar, const char *path, int64_t number)
{
    const TarEntry *found = NULL;
    for (int64_t i = lower_bound(tar, path); i < tar->count && tar->entries[i]->number < number &&
                                             strcmp(tar->entries[i]->path, path) == 0;
         i++) {
        found = tar->entries[i];
    }
    return found;
}

/* Makes a link the picture that it leads to, under its own name. */
static void become(TarEntry *link, const TarEntry *picture)
{
    char *path = link->path;
    int64_t number = link->number;
    free(link->text);
    *link = *picture;
    link->path = path;
    link->number = number;
    link->text = picture->text ? mem_string(picture->text) : NULL;
}

static int by_number(const void *a, const void *b)
{
    int64_t first = (*(TarEntry *const *)a)->number;
    int64_t second = (*(TarEntry *const *)b)->number;
    return (first > second) - (first < second);
}

/* In the order of the archive, so that what a link leads to is no hard link itself. One to a file
 * that comes later stays a link to its name. */
static void resolve_hard_links(Tar *tar)
{
    TarEntry **links = mem_alloc((size_t)tar->count * sizeof(TarEntry *));
    size_t count = 0;
    for (int64_t i = 0; i < tar->count; i++) {
        if (tar->entries[i]->kind == TAR_LINK && tar->entries[i]->hard) {
            links[count++] = tar->entries[i];
        }
    }
    qsort(links, count, sizeof(TarEntry *), by_number);
    for (size_t i = 0; i < count; i++) {
        const TarEntry *file = find_before(tar, links[i]->text, links[i]->number);
        if (file && file->kind == TAR_PICTURE) {
            become(links[i], file);
        }
    }
    free(links);
}

void tar_sort_entries(Tar *tar)
{
    if (tar->count == 0) {
        return;
    }
    qsort(tar->entries, (size_t)tar->count, sizeof(void *), by_path);
    resolve_hard_links(tar);
    int64_t kept = 0;
    for (int64_t i = 1; i < tar->count; i++) {
        if (strcmp(tar->entries[i]->path, tar->entries[kept]->path) == 0) {
            free_entry(tar->entries[kept]);
        } else {
            kept++;
        }
        tar->entries[kept] = tar->entries[i];
    }
    tar->count = kept + 1;
}

static const TarEntry *find_exact(const Tar *tar, const char *path)
{
    int64_t i = lower_bound(tar, path);
    return i < tar->count && strcmp(tar->entries[i]->path, path) == 0 ? tar->entries[i] : NULL;
}

const TarEntry *tar_find(const Tar *tar, const char *path)
{
    const TarEntry *entry = find_exact(tar, path);
    for (int i = 0; i < MOST_LINKS && entry && entry->kind == TAR_LINK; i++) {
        entry = find_exact(tar, entry->text);
    }
    return entry && entry->kind != TAR_LINK ? entry : NULL;
}

/* ---- the data sets' place ------------------------------------------------------------------- */

int tar_match_list(const char *path, const char *list_path)
{
    size_t front = strlen(path) - strlen(list_path);
    if (!text_ends_with(path, list_path) || (front > 0 && path[front - 1] != '/')) {
        return -1;
    }
    return (int)front;
}

/* Takes the folder in front of one list, or checks that it is the one that is known already. */
static int take_root(Tar *tar, const char *list_path, Err *err)
{
    bool found = false;
    for (int64_t i = 0; i < tar->count; i++) {
        const char *path = tar->entries[i]->path;
        int front = tar_match_list(path, list_path);
        if (front < 0) {
            continue;
        }
        found = true;
        if (!tar->root) {
            tar->root = mem_format("%.*s", front, path);
        } else if ((size_t)front != strlen(tar->root) ||
                   memcmp(tar->root, path, (size_t)front) != 0) {
            return err_set(err,
                           "%s: holds data sets in two places, below '%s' and at '%s': make a tar "
                           "of one of them",
                           tar->path, tar->root, path);
        }
    }
    if (!found) {
        return err_set(err,
                       "%s: there is no %s in it, in whatever folder: it is another data set's "
                       "archive, or not whole",
                       tar->path, list_path);
    }
    return 0;
}

int tar_find_root(Tar *tar, const PairSet *sets, int count, Err *err)
{
    for (int i = 0; i < count; i++) {
        char *list_path = pairs_list_path(&sets[i], err);
        int rc = list_path ? take_root(tar, list_path, err) : -1;
        free(list_path);
        if (rc != 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- as a data root ------------------------------------------------------------------------- */

/* A path that begins with the tar's own, as it is in the archive. A new string. */
static char *inner_path(const Tar *tar, const char *path)
{
    size_t outer = strlen(tar->path);
    if (strncmp(path, tar->path, outer) != 0 || path[outer] != '/') {
        return mem_string("");
    }
    char *joined = mem_format("%s%s", tar->root, path + outer + 1);
    char *normal = tar_normal_path(joined);
    free(joined);
    return normal ? normal : mem_string("");
}

static bool has_folder(void *context, const char *path)
{
    const Tar *tar = context;
    char *inner = inner_path(tar, path);
    char *prefix = mem_format("%s/", inner);
    int64_t i = lower_bound(tar, prefix);
    bool found = i < tar->count && text_starts_with(tar->entries[i]->path, prefix);
    free(prefix);
    free(inner);
    return found;
}

static const TarEntry *find_outer(const Tar *tar, const char *path)
{
    char *inner = inner_path(tar, path);
    const TarEntry *entry = tar_find(tar, inner);
    free(inner);
    return entry;
}

static char *read_list(void *context, const char *path, size_t *bytes, Err *err)
{
    const TarEntry *entry = find_outer(context, path);
    if (!entry || entry->kind != TAR_LIST) {
        err_set(err, "%s: is a link to another file: put the list itself into the archive", path);
        return NULL;
    }
    char *text = mem_alloc((size_t)entry->bytes + 1);
    memcpy(text, entry->text, (size_t)entry->bytes + 1);
    *bytes = (size_t)entry->bytes;
    return text;
}

static int stamp_picture(void *context, const char *path, FileStamp *stamp)
{
    const TarEntry *entry = find_outer(context, path);
    if (!entry) {
        return ENOENT;
    }
    *stamp = entry->stamp;
    return 0;
}

RootFiles tar_files(const Tar *tar)
{
    return (RootFiles){.has_folder = has_folder,
                       .read = read_list,
                       .stamp = stamp_picture,
                       .advice = "the archive is not whole, or its lists are another one's",
                       .context = (void *)tar};
}

/* ---- pictures ------------------------------------------------------------------------------- */

static int read_back(const Tar *tar, const TarEntry *entry, uint8_t *to, Err *err)
{
    if (scratch_read(tar->scratch, entry->place, to) != 0) {
        err_set(err, "%s: %s: cannot be read back from the scratch file: %s", tar->path,
                entry->path, errno == 0 ? "it is too short" : strerror(errno));
        return -2;
    }
    if (checksum_xxh3(to, entry->place.bytes) != entry->checksum) {
        err_set(err,
                "%s: %s: the scratch file does not hold what was written to it: the disk or "
                "the memory of this machine is at fault",
                tar->path, entry->path);
        return -2;
    }
    return 0;
}

static int read_picture(void *context, const PairList *list, int64_t index, int modality,
                        Picture *picture, Err *err)
{
    const Tar *tar = context;
    *picture = (Picture){0};
    char *path = path_join(list->folder, list->pairs[index].path[modality]);
    const TarEntry *entry = find_outer(tar, path);
    free(path);
    if (!entry || entry->kind != TAR_PICTURE) {
        err_set(err, "%s: %s: is not in the archive", tar->path, list->pairs[index].path[modality]);
        return -2;
    }
    if (entry->text) {
        return err_set(err, "%s", entry->text);
    }
    *picture = (Picture){
        .width = entry->width, .height = entry->height, .pixels = mem_alloc(entry->place.bytes)};
    int rc = read_back(tar, entry, picture->pixels, err);
    if (rc != 0) {
        picture_free(picture);
    }
    return rc;
}

/* The entry of a picture that a pack names. */
static const TarEntry *find_packed(const Tar *tar, const PairList *list, const char *picture)
{
    char *path = path_join(list->folder, picture);
    const TarEntry *entry = find_outer(tar, path);
    free(path);
    return entry;
}

bool tar_agrees(const Tar *tar, const PairList *list, const Pack *pack)
{
    bool same = true;
    for (int64_t i = 0; i < pack_count(pack) * MODALITIES && same; i++) {
        int64_t pair = i / MODALITIES;
        int m = (int)(i % MODALITIES);
        PackedPicture packed = pack_picture(pack, pair, m);
        const TarEntry *entry = find_packed(tar, list, pack_picture_path(pack, pair, m));
        same = entry && !entry->text && entry->width == packed.width &&
               entry->height == packed.height && entry->checksum == packed.checksum;
    }
    for (int i = 0; i < pack_skipped(pack) && same; i++) {
        const TarEntry *entry = find_packed(tar, list, pack_skipped_path(pack, i));
        same = entry && entry->text;
    }
    return same;
}

PictureSource tar_pictures(const Tar *tar)
{
    return (PictureSource){.read = read_picture, .context = (void *)tar};
}
