/* Room on disk for what comes in one order and is needed in another. It has no name: nothing is
 * left of it, in whatever way the program ends. */
#ifndef RODEO_DATA_SCRATCH_H
#define RODEO_DATA_SCRATCH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Scratch Scratch;

/* Where something lies. */
typedef struct {
    int file;
    int64_t offset; /* bytes */
    size_t bytes;
} ScratchPlace;

/* As many files as threads write: a file system lets only one thread at a time write to a file.
 * NULL and err where the folder takes no files. */
Scratch *scratch_open(const char *folder, int files, Err *err);
void scratch_close(Scratch *scratch); /* NULL is fine */

/* Keeps bytes in one of the files, from any thread; it is quick where each has a file of its own.
 * Returns 0, or -1 with errno set. */
int scratch_write(Scratch *scratch, int file, const void *data, size_t bytes, ScratchPlace *place);

/* Reads it back, from any thread. Returns 0, or -1 with errno set (0 where the file ends early). */
int scratch_read(const Scratch *scratch, ScratchPlace place, void *to);

#endif
