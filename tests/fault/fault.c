/* Makes one call to the file system fail: a library for LD_PRELOAD.
 *
 *     RODEO_FAULT_FOLDERS   only calls on files below one of these folders count (colon-separated)
 *     RODEO_FAULT_AT        which of them fails, from 1; 0: none
 *     RODEO_FAULT_ERROR     ENOSPC, EIO, EROFS; or SHORT: a write writes half of what it was given,
 *                           and the one after it fails with ENOSPC
 *     RODEO_FAULT_LASTING   1: all later calls fail too, as on a disk that is full or gone
 *     RODEO_FAULT_REPORT    file that the names of all calls are appended to, one a line
 *
 * Opening for reading does not count, nor does removing a file: neither can lose anything. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long calls;

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) {
        abort();
    }
    return function;
}

static bool path_counts(const char *path)
{
    const char *folder = setting("RODEO_FAULT_FOLDERS");
    while (*folder) {
        size_t length = strcspn(folder, ":");
        if (length > 0 && strncmp(path, folder, length) == 0) {
            return true;
        }
        folder += length + (folder[length] == ':');
    }
    return false;
}

static bool descriptor_counts(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = '\0';
    return length > 0 && path_counts(path);
}

static int wanted_error(void)
{
    const char *name = setting("RODEO_FAULT_ERROR");
    return strcmp(name, "EIO") == 0 ? EIO : strcmp(name, "EROFS") == 0 ? EROFS : ENOSPC;
}

static void report(const char *call, const char *path)
{
    const char *file = setting("RODEO_FAULT_REPORT");
    int (*real_open)(const char *, int, ...) = real("open");
    ssize_t (*real_write)(int, const void *, size_t) = real("write");
    int (*real_close)(int) = real("close");
    int fd = file[0] ? real_open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    char line[PATH_MAX + 32];
    int bytes = snprintf(line, sizeof line, "%s %s\n", call, path);
    if (fd >= 0 && (real_write(fd, line, (size_t)bytes) != bytes || real_close(fd) != 0)) {
        abort();
    }
}

/* Counts a call. 0: it goes through; 1: it fails, errno is set; 2: it is short. */
static int strikes(const char *call, const char *path, bool writes)
{
    pthread_mutex_lock(&lock);
    report(call, path);
    long at = strtol(setting("RODEO_FAULT_AT"), NULL, 10);
    long number = ++calls;
    bool is_short = strcmp(setting("RODEO_FAULT_ERROR"), "SHORT") == 0;
    pthread_mutex_unlock(&lock);
    if (at <= 0 || number < at) {
        return 0;
    }
    if (number == at && is_short) {
        return writes ? 2 : 0;
    }
    if (number == at || (is_short && number == at + 1) ||
        strcmp(setting("RODEO_FAULT_LASTING"), "1") == 0) {
        errno = wanted_error();
        return 1;
    }
    return 0;
}

#define STRIKES_DESCRIPTOR(call, fd, writes)                                                       \
    (descriptor_counts(fd, path) ? strikes(call, path, writes) : 0)

static int open_counted(const char *name, const char *path, int flags, mode_t mode)
{
    int (*real_open)(const char *, int, ...) = real(name);
    if ((flags & O_ACCMODE) != O_RDONLY && path_counts(path) && strikes("open", path, false)) {
        return -1;
    }
    return real_open(path, flags, mode);
}

/* glibc's own parameter names are reserved words. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...);                                                    \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;                             \
        va_end(arguments);                                                                         \
        return open_counted(#name, path, flags, mode);                                             \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t bytes)
{
    ssize_t (*real_write)(int, const void *, size_t) = real("write");
    char path[PATH_MAX];
    int kind = STRIKES_DESCRIPTOR("write", fd, true);
    return kind == 1 ? -1 : real_write(fd, data, kind == 2 && bytes > 1 ? bytes / 2 : bytes);
}

#define PWRITE(name, offset_type)                                                                  \
    ssize_t name(int fd, const void *data, size_t bytes, offset_type offset);                      \
    ssize_t name(int fd, const void *data, size_t bytes, offset_type offset)                       \
    {                                                                                              \
        ssize_t (*real_pwrite)(int, const void *, size_t, offset_type) = real(#name);              \
        char path[PATH_MAX];                                                                       \
        int kind = STRIKES_DESCRIPTOR("pwrite", fd, true);                                         \
        return kind == 1                                                                           \
                   ? -1                                                                            \
                   : real_pwrite(fd, data, kind == 2 && bytes > 1 ? bytes / 2 : bytes, offset);    \
    }
#undef pwrite
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

int fsync(int fd)
{
    int (*real_fsync)(int) = real("fsync");
    char path[PATH_MAX];
    return STRIKES_DESCRIPTOR("fsync", fd, false) ? -1 : real_fsync(fd);
}

int fdatasync(int fd)
{
    int (*real_fdatasync)(int) = real("fdatasync");
    char path[PATH_MAX];
    return STRIKES_DESCRIPTOR("fdatasync", fd, false) ? -1 : real_fdatasync(fd);
}

int ftruncate(int fd, off_t length)
{
    int (*real_ftruncate)(int, off_t) = real("ftruncate");
    char path[PATH_MAX];
    return STRIKES_DESCRIPTOR("ftruncate", fd, false) ? -1 : real_ftruncate(fd, length);
}

/* The descriptor is gone even where close reports an error. */
int close(int fd)
{
    int (*real_close)(int) = real("close");
    char path[PATH_MAX];
    int kind = 0;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY) {
        kind = STRIKES_DESCRIPTOR("close", fd, false);
    }
    int error = errno;
    int rc = real_close(fd);
    if (kind) {
        errno = error;
    }
    return kind ? -1 : rc;
}

int rename(const char *from, const char *to)
{
    int (*real_rename)(const char *, const char *) = real("rename");
    return path_counts(to) && strikes("rename", to, false) ? -1 : real_rename(from, to);
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
