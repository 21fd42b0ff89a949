/* Replacing a file so that it is, at every instant and after every crash, either the old one or the
 * new one, whole.
 *
 *     AtomicFile file;
 *     if (atomic_file_open(&file, path, err) != 0) return -1;
 *     ... atomic_file_write(&file, data, bytes, err) ...
 *     return atomic_file_commit(&file, err);
 *
 * What is written goes to "PATH.tmp" beside the final place. Commit flushes, fsyncs, renames it
 * over PATH and fsyncs the folder. On any failure the temporary file is removed and PATH is
 * untouched; only where the folder itself cannot be made durable, PATH may be the new file already.
 */
#ifndef RODEO_BASE_ATOMIC_FILE_H
#define RODEO_BASE_ATOMIC_FILE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int fd; /* -1 once committed or aborted */
    char *path;
    char *temporary;
    int64_t bytes; /* written so far through atomic_file_write */
    char *buffer;  /* small pieces on their way to the file */
    size_t buffered;
} AtomicFile;

/* Creates PATH.tmp (replacing one that an earlier crash left). What stands at PATH and is no file,
 * such as a device, is refused, and so is an empty PATH. */
int atomic_file_open(AtomicFile *file, const char *path, Err *err);

/* Appends bytes. Small pieces are gathered first, so that a file of many of them is not a call to
 * the file system for each; they are in the file after commit. After a failure the file is aborted:
 * the caller just returns. */
int atomic_file_write(AtomicFile *file, const void *data, size_t bytes, Err *err);

/* Writes bytes at an offset, whatever the order; not counted in `bytes`. Safe from several threads
 * at once, and therefore without the abort: after a failure the caller aborts the file itself, once
 * no thread writes any more. */
int atomic_file_write_at(const AtomicFile *file, int64_t offset, const void *data, size_t bytes,
                         Err *err);

/* Lets the disk begin with what was written there, so that commit has less to wait for. A hint:
 * what goes wrong, commit tells. Safe from several threads at once. */
void atomic_file_start_writing(const AtomicFile *file, int64_t offset, size_t bytes);

/* Makes the new content durable under its final name. After a failure the file is aborted. */
int atomic_file_commit(AtomicFile *file, Err *err);

/* As commit, but a file that stands at the final place is kept under `backup`, replacing what was
 * there. At every instant PATH or backup is a whole file. */
int atomic_file_commit_keeping(AtomicFile *file, const char *backup, Err *err);

/* Gives up: removes the temporary file. Safe on one that is committed, aborted or {0} with fd -1.
 */
void atomic_file_abort(AtomicFile *file);

/* Writes a whole small file in one go, by the steps above. */
int atomic_file_replace(const char *path, const void *data, size_t bytes, Err *err);

#endif
