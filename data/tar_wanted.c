#include "data/tar_wanted.h"

#include "base/mem.h"
#include "data/checksum.h"

#include <stdlib.h>
#include <string.h>

int tar_wanted_open(TarWanted *wanted, const PairSet *sets, int count, Err *err)
{
    if (count > PAIR_SETS_MAX) {
        fatal("a tar was asked for %d lists, at most %d are possible", count, PAIR_SETS_MAX);
    }
    *wanted = (TarWanted){.sets = sets, .count = count};
    for (int i = 0; i < count; i++) {
        wanted->list_path[i] = pairs_list_path(&sets[i], err);
        if (!wanted->list_path[i]) {
            return -1;
        }
    }
    return 0;
}

void tar_wanted_close(TarWanted *wanted)
{
    for (int i = 0; i < wanted->count; i++) {
        free(wanted->list_path[i]);
    }
    free(wanted->listed);
}

/* Which set's list this is, or -1. */
static int list_of(const TarWanted *wanted, const char *path)
{
    for (int i = 0; i < wanted->count; i++) {
        if (tar_match_list(path, wanted->list_path[i]) >= 0) {
            return i;
        }
    }
    return -1;
}

bool tar_wants_list(const TarWanted *wanted, const char *path)
{
    return list_of(wanted, path) >= 0;
}

/* Whether the path goes through a folder of this name. */
static bool goes_through(const char *path, const char *folder)
{
    size_t bytes = strlen(folder);
    for (const char *at = path; (at = strstr(at, folder)) != NULL; at++) {
        if ((at == path || at[-1] == '/') && at[bytes] == '/') {
            return true;
        }
    }
    return false;
}

static bool is_listed(const TarWanted *wanted, const char *path)
{
    uint64_t hash = checksum_xxh3(path, strlen(path));
    size_t low = 0;
    size_t high = wanted->listed_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (wanted->listed[middle] < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < wanted->listed_count && wanted->listed[low] == hash;
}

/* Whether it is a picture in the folder of one of the data sets. */
static bool is_of_data_sets(const TarWanted *wanted, const char *path)
{
    for (int i = 0; i < wanted->count; i++) {
        if (goes_through(path, pairs_folder(wanted->sets[i].dataset))) {
            return pairs_is_picture(path);
        }
    }
    return false;
}

bool tar_wants_picture(const TarWanted *wanted, const char *path)
{
    return wanted->everything ? pairs_is_picture(path)
           : wanted->listed   ? is_listed(wanted, path)
                              : is_of_data_sets(wanted, path);
}

/* A list's text, as a data root in which every folder exists, or none: a list's paths depend on
 * that, and either may turn out to be the right one. */
typedef struct {
    const TarEntry *entry;
    bool folders;
} ListRoot;

static bool any_folder(void *context, const char *path)
{
    const ListRoot *root = context;
    /* The data set's own folder is there: its list was found in it. */
    return root->folders || strchr(path + 2, '/') == NULL;
}

static char *list_text(void *context, const char *path, size_t *bytes, Err *err)
{
    (void)path;
    (void)err;
    const ListRoot *root = context;
    char *text = mem_alloc((size_t)root->entry->bytes + 1);
    memcpy(text, root->entry->text, (size_t)root->entry->bytes + 1);
    *bytes = (size_t)root->entry->bytes;
    return text;
}

static void want_pictures(TarWanted *wanted, const TarEntry *entry, int set, bool folders)
{
    ListRoot root = {.entry = entry, .folders = folders};
    RootFiles files = {.has_folder = any_folder, .read = list_text, .context = &root};
    PairList list;
    int front = tar_match_list(entry->path, wanted->list_path[set]);
    if (pairs_read_from(&list, &files, ".", &wanted->sets[set], NULL) != 0) {
        return; /* told when the lists are read for good */
    }
    size_t more = (size_t)list.count * MODALITIES;
    wanted->listed =
        mem_resize(wanted->listed, (wanted->listed_count + more) * sizeof *wanted->listed);
    for (size_t i = 0; i < more; i++) {
        char *path =
            mem_format("%.*s%s/%s", front, entry->path, pairs_folder(wanted->sets[set].dataset),
                       list.pairs[i / MODALITIES].path[i % MODALITIES]);
        char *normal = tar_normal_path(path); /* as files are named in the tar's entries */
        if (normal) {
            wanted->listed[wanted->listed_count++] = checksum_xxh3(normal, strlen(normal));
        }
        free(normal);
        free(path);
    }
    pairs_free(&list);
}

static int by_value(const void *a, const void *b)
{
    uint64_t first = *(const uint64_t *)a;
    uint64_t second = *(const uint64_t *)b;
    return (first > second) - (first < second);
}

bool tar_wanted_left_out(const TarWanted *wanted, const char *path)
{
    return pairs_is_picture(path) && !tar_wants_picture(wanted, path);
}

void tar_wanted_narrow(TarWanted *wanted, const Tar *tar)
{
    const TarEntry *seen[PAIR_SETS_MAX] = {NULL};
    int found = 0;
    for (int64_t i = 0; i < tar->count && !wanted->everything; i++) {
        const TarEntry *entry = tar->entries[i];
        int set = entry->kind == TAR_LIST ? list_of(wanted, entry->path) : -1;
        if (entry->kind == TAR_LINK) {
            return;
        }
        for (; set >= 0 && set < wanted->count; set++) {
            if (tar_match_list(entry->path, wanted->list_path[set]) >= 0) {
                found += seen[set] == NULL;
                seen[set] = entry;
            }
        }
    }
    for (int set = 0; found == wanted->count && set < wanted->count; set++) {
        want_pictures(wanted, seen[set], set, true);
        want_pictures(wanted, seen[set], set, false);
    }
    if (wanted->listed) {
        qsort(wanted->listed, wanted->listed_count, sizeof *wanted->listed, by_value);
    }
}
