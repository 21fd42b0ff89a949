/* What is known of the files in a tar. Only tar*.c include this. */
#ifndef RODEO_DATA_TAR_ENTRIES_H
#define RODEO_DATA_TAR_ENTRIES_H

#include "data/scratch.h"
#include "data/tar.h"

typedef enum { TAR_LIST, TAR_PICTURE, TAR_LINK } TarKind;

typedef struct {
    char *path;     /* without "./" in front */
    int64_t number; /* in the order of the archive: of two with one name the later one counts */
    TarKind kind;
    bool hard; /* a link to the file that had the name by then, rather than to the name */
    FileStamp stamp;
    char *text; /* a list's content; where a link leads; why a picture cannot be decoded, or NULL */
    int64_t bytes;      /* of a list's content */
    int width, height;  /* of the decoded picture as it is kept */
    ScratchPlace place; /* of its pixels */
    uint64_t checksum;
} TarEntry;

struct Tar {
    char *path;
    char *root; /* what stands in front of the data sets' folders: "", or "ROD-synROD/" */
    TarEntry **entries;
    int64_t count, capacity;
    Scratch *scratch;
};

/* A path without "./", "folder/../", double and leading slashes. NULL if it leads above where it
 * begins, or is empty. A new string. */
char *tar_normal_path(const char *path);

/* A new entry at the end; takes over the path. */
TarEntry *tar_add_entry(Tar *tar, TarKind kind, char *path);

/* Forgets all entries and what they have in the scratch files. */
void tar_forget(Tar *tar);

/* Sorts the entries by path, makes hard links what they lead to, and drops what a later entry
 * replaces. From then on they can be looked up. */
void tar_sort_entries(Tar *tar);

/* The entry of a path, through links; NULL if there is none. */
const TarEntry *tar_find(const Tar *tar, const char *path);

/* Finds the folder in front of the data sets' folders; err if a list is missing or ambiguous. */
int tar_find_root(Tar *tar, const PairSet *sets, int count, Err *err);

/* If path is list_path, or ends in it below some folder, the length of what is in front; else -1.
 */
int tar_match_list(const char *path, const char *list_path);

#endif
