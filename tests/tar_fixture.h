/* Tar files for tests. What fails here fails the test that asked. */
#ifndef RODEO_TESTS_TAR_FIXTURE_H
#define RODEO_TESTS_TAR_FIXTURE_H

#include "data/pack.h"

typedef enum { LISTS_FIRST, LISTS_LAST, LISTS_BETWEEN } ListPlace;

typedef struct {
    const char *top; /* in front of every path, "" or "./a/" */
    ListPlace lists;
    int filter;       /* ARCHIVE_FILTER_... */
    const char *omit; /* a file that is left out, below the root; or NULL */
    const char
        *link; /* a file that stands in the tar as a hard link to a copy beside it; or NULL */
    const char *soft; /* the same as a symbolic link to a copy in pool, beside synROD; or NULL */
    bool replaced; /* at the end that copy is replaced by another picture; the link keeps its own */
    bool twice;    /* every file is followed by a hard link to itself, as GNU tar does it */
    const char *before; /* what stands in the place of the training list, which itself comes last,
                           as "tar -u" leaves it; or NULL */
} TarShape;

/* Puts every file below root (but none in "cache") into a tar, with its modification time. */
void fixture_write_tar(const char *root, const char *path, const TarShape *shape);

/* Makes a file in an uncompressed tar a sparse one that claims to have -2 bytes. */
void fixture_make_negative(const char *path, const char *name);

#endif
