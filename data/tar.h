/* A data set in one tar file (plain, or compressed with gzip, zstd or whatever else libarchive
 * undoes), read once from front to back.
 *
 * The split lists may stand anywhere in it, also behind the pictures, and below any top folder. So
 * every picture that may turn out to be needed is decoded as it comes by, shrunk to what a pack
 * stores of it, and kept in scratch files (data/scratch.h); what is not in the lists is left out as
 * soon as all lists have been seen. Where a later link leads to such a picture, or a later list
 * names it, the tar is read once more and nothing is left out. A few megabytes a thread are in
 * memory at a time, and a record of some hundred bytes a picture. */
#ifndef RODEO_DATA_TAR_H
#define RODEO_DATA_TAR_H

#include "data/pack.h"

typedef struct Tar Tar;

/* Reads the tar at path. sets: the lists that are wanted. The pool's threads take turns at reading
 * and decode in between; progress is shown in MB of the tar file. The scratch files lie in
 * scratch_folder and go when the Tar is closed, or the program ends in whatever way.
 *
 * Errors: no tar file, a truncated or damaged one, a list that is not in it or stands there below
 * two folders, a full disk, settings->stop. A picture that cannot be decoded is no error yet. */
Tar *tar_read(const char *path, const PairSet *sets, int count, const char *scratch_folder,
              const PackSettings *settings, Err *err);
void tar_close(Tar *tar);

/* The tar's files as a data root, which is then named by the tar's path. Valid until tar_close. */
RootFiles tar_files(const Tar *tar);

/* The decoded pictures. Valid until tar_close. */
PictureSource tar_pictures(const Tar *tar);

/* Whether a pack of this list holds the very pixels that the tar's pictures have, and lacks what
 * cannot be decoded. */
bool tar_agrees(const Tar *tar, const PairList *list, const Pack *pack);

/* Whether the file begins like a tar that can be read: 0, or -1 and err, which says what a data
 * root may be. */
int tar_check(const char *path, Err *err);

#endif
