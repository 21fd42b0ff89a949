/* Which files of a tar matter to the wanted lists. Only tar*.c include this. */
#ifndef RODEO_DATA_TAR_WANTED_H
#define RODEO_DATA_TAR_WANTED_H

#include "data/tar_entries.h"

typedef struct {
    const PairSet *sets; /* [count], borrowed */
    int count;
    char *list_path[PAIR_SETS_MAX];
    uint64_t *listed; /* sorted hashes of the paths that the lists name; NULL: not known yet */
    size_t listed_count;
    bool everything; /* all pictures, wherever they are and whatever the lists name */
} TarWanted;

/* The lists of these sets. Close it whatever it returns. */
int tar_wanted_open(TarWanted *wanted, const PairSet *sets, int count, Err *err);
void tar_wanted_close(TarWanted *wanted);

/* Whether this is the path of one of the lists, below whatever folder. */
bool tar_wants_list(const TarWanted *wanted, const char *path);

/* Whether a list may name this path as a picture: a picture in a data set's folder, and, once that
 * is known, one that a list does name. */
bool tar_wants_picture(const TarWanted *wanted, const char *path);

/* Once every list is among the tar's entries, only what they name is wanted from then on. Links
 * make a picture's name unlike its file's: with any so far, everything goes on being wanted. */
void tar_wanted_narrow(TarWanted *wanted, const Tar *tar);

/* Whether a picture of this path may have stood in the tar already and have been left out, because
 * no list names it or it is in none of the data sets' folders. */
bool tar_wanted_left_out(const TarWanted *wanted, const char *path);

#endif
