/* A small data root in a temporary folder, for the tests of the data room. What fails here fails
 * the test that asked. */
#ifndef RODEO_TESTS_DATA_FIXTURE_H
#define RODEO_TESTS_DATA_FIXTURE_H

#include "data/pack.h"
#include "data/picture.h"

/* A new empty folder in /dev/shm or /tmp. */
char *fixture_create_folder(void);

/* Removes a folder with everything in it and frees its name. */
void fixture_remove_folder(char *folder);

/* Writes text to folder/name, creating the folders on the way. */
void fixture_write(const char *folder, const char *name, const char *text);

/* Writes a PNG of noise that depends on `seed` to folder/name. */
void fixture_write_picture(const char *folder, const char *name, int width, int height,
                           unsigned seed);

/* A data root of synROD with `pairs` training pairs of sizes from 1 to 59 pixels a side, labels i
 * mod 7, and no test list. */
void fixture_write_synrod(const char *root, int pairs);

/* Builds a pack of the synROD training list below root in root/cache and opens it. */
Pack *fixture_pack(const char *root, int resize);

#endif
