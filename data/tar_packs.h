/* The packs of a data set that is one tar file, and the record that says which packs were made from
 * which tar, so that the tar is read only once. */
#ifndef RODEO_DATA_TAR_PACKS_H
#define RODEO_DATA_TAR_PACKS_H

#include "data/pack.h"

/* Opens the packs of the sets if all of them were made from this very tar file (its size and
 * modification time) and are whole. Returns whether; packs[count] are the caller's to close. */
bool tar_find_packs(const char *path, const PairSet *sets, int count, const char *cache_dir,
                    const PackSettings *settings, Pack **packs);

/* The same, but reads the tar and builds what is missing. The packs are those that the data set
 * gives when it is unpacked, bit for bit, as long as unpacking keeps the files' times. A record in
 * cache_dir, TAR.seen, keeps size and time of the tar and the checksum of each pack. */
int tar_open_packs(const char *path, const PairSet *sets, int count, const char *cache_dir,
                   const PackSettings *settings, Pack **packs, Err *err);

#endif
