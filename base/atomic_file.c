#include "base/atomic_file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20 };

static int explain(const AtomicFile *file, const char *doing, Err *err)
{
    return err_set(err, "%s: cannot %s: %s%s", file->path, doing, strerror(errno),
                   errno == ENOSPC || errno == EDQUOT
                       ? " (make room; the file that was there before is untouched)"
                       : "");
}

static int fail(AtomicFile *file, const char *doing, Err *err)
{
    explain(file, doing, err);
    atomic_file_abort(file);
    return -1;
}

/* A device (/dev/null, /dev/stdout), a pipe or a folder: the rename would put a file in its place,
 * or fail in the end. */
static bool is_no_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && !S_ISREG(status.st_mode);
}

int atomic_file_open(AtomicFile *file, const char *path, Err *err)
{
    *file = (AtomicFile){.fd = -1};
    if (path[0] == '\0') {
        return err_set(err, "an empty file name was given");
    }
    if (is_no_file(path)) {
        return err_set(err, "%s: is a folder or a device, not a file: name a file", path);
    }
    *file =
        (AtomicFile){.fd = -1, .path = mem_string(path), .temporary = mem_format("%s.tmp", path)};
    file->fd = open(file->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file->fd < 0) {
        err_set(err, "%s: cannot create: %s", file->temporary, strerror(errno));
        atomic_file_abort(file);
        return -1;
    }
    return 0;
}

/* Writes all of it. Returns -1 with errno set. */
static int write_fully(int fd, const char *next, size_t left)
{
    while (left > 0) {
        ssize_t written = write(fd, next, left);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return -1;
        }
        next += written;
        left -= (size_t)written;
    }
    return 0;
}

static int write_buffered(AtomicFile *file)
{
    size_t bytes = file->buffered;
    file->buffered = 0;
    return write_fully(file->fd, file->buffer, bytes);
}

int atomic_file_write(AtomicFile *file, const void *data, size_t bytes, Err *err)
{
    int rc = 0;
    if (file->buffered + bytes > BUFFER_BYTES) {
        rc = write_buffered(file);
    }
    if (rc == 0 && bytes >= BUFFER_BYTES) {
        rc = write_fully(file->fd, data, bytes);
    } else if (rc == 0 && bytes > 0) {
        if (!file->buffer) {
            file->buffer = mem_alloc(BUFFER_BYTES);
        }
        memcpy(file->buffer + file->buffered, data, bytes);
        file->buffered += bytes;
    }
    if (rc != 0) {
        return fail(file, "write", err);
    }
    file->bytes += (int64_t)bytes;
    return 0;
}

int atomic_file_write_at(const AtomicFile *file, int64_t offset, const void *data, size_t bytes,
                         Err *err)
{
    const char *next = data;
    size_t left = bytes;
    while (left > 0) {
        ssize_t written = pwrite(file->fd, next, left, offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return explain(file, "write", err);
        }
        next += written;
        offset += written;
        left -= (size_t)written;
    }
    return 0;
}

void atomic_file_start_writing(const AtomicFile *file, int64_t offset, size_t bytes)
{
    (void)sync_file_range(file->fd, offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
}

/* A rename is durable only once its folder is. Some mounted drives refuse to fsync a folder; the
 * file itself is safe there, so only a real input/output error counts. */
static int sync_folder_of(const char *path)
{
    char *folder = mem_string(path);
    char *slash = strrchr(folder, '/');
    if (slash == folder) {
        slash[1] = '\0';
    } else if (slash) {
        *slash = '\0';
    }
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0) {
        return -1;
    }
    int error = fsync(fd) == 0 ? 0 : errno;
    close(fd); /* nothing was written through it */
    errno = error;
    return error == 0 || error == EINVAL || error == ENOTSUP || error == EROFS ? 0 : -1;
}

int atomic_file_commit_keeping(AtomicFile *file, const char *backup, Err *err)
{
    if (write_buffered(file) != 0) {
        return fail(file, "write", err);
    }
    if (fsync(file->fd) != 0) {
        return fail(file, "write it through to the disk", err);
    }
    int fd = file->fd;
    file->fd = -1;
    if (close(fd) != 0) {
        return fail(file, "close", err);
    }
    bool kept = backup && rename(file->path, backup) == 0;
    if (backup && !kept && errno != ENOENT) {
        return fail(file, "keep the old file", err);
    }
    if (rename(file->temporary, file->path) != 0) {
        int error = errno;
        bool moved_away = kept && rename(backup, file->path) != 0;
        errno = error;
        return fail(file,
                    moved_away ? "put the new file in place (the old one now has the backup's name)"
                               : "put the new file in place",
                    err);
    }
    if (sync_folder_of(file->path) != 0) {
        return fail(file, "write its folder through to the disk", err);
    }
    atomic_file_abort(file);
    return 0;
}

int atomic_file_commit(AtomicFile *file, Err *err)
{
    return atomic_file_commit_keeping(file, NULL, err);
}

void atomic_file_abort(AtomicFile *file)
{
    if (file->fd >= 0) {
        close(file->fd);
    }
    if (file->temporary) {
        unlink(file->temporary); /* after a commit there is nothing under this name any more */
    }
    free(file->buffer);
    free(file->temporary);
    free(file->path);
    *file = (AtomicFile){.fd = -1};
}

int atomic_file_replace(const char *path, const void *data, size_t bytes, Err *err)
{
    AtomicFile file;
    if (atomic_file_open(&file, path, err) != 0 ||
        atomic_file_write(&file, data, bytes, err) != 0) {
        return -1;
    }
    return atomic_file_commit(&file, err);
}
