/* Files and folders by name. */
#ifndef RODEO_BASE_PATH_H
#define RODEO_BASE_PATH_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* "folder/name" as a new string (free it). No second slash where folder ends in one. */
char *path_join(const char *folder, const char *name);

bool path_is_file(const char *path);
bool path_is_folder(const char *path);

/* Whether nothing stands there. A link that leads nowhere is something, and so is what cannot be
 * looked at, as on a drive that fails: nobody may take its place for free. */
bool path_is_free(const char *path);

/* Creates a folder and what is missing above it. A folder that is there already is fine. */
int path_make_folders(const char *path, Err *err);

/* Reads a whole file into new memory (free it), with a '\0' behind the last byte that is not
 * counted in *bytes. bytes may be NULL. Returns NULL and fills err if the file cannot be read. */
char *path_read(const char *path, size_t *bytes, Err *err);

#endif
