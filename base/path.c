#include "base/path.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *path_join(const char *folder, const char *name)
{
    const char *slash = folder[0] == '\0' || text_ends_with(folder, "/") ? "" : "/";
    return mem_format("%s%s%s", folder, slash, name);
}

bool path_is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

bool path_is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool path_is_free(const char *path)
{
    struct stat status;
    return lstat(path, &status) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

int path_make_folders(const char *path, Err *err)
{
    if (path[0] == '\0') {
        return err_set(err, "an empty folder name was given");
    }
    char *partial = mem_string(path);
    int rc = 0;
    for (char *slash = partial; rc == 0 && slash;) {
        slash = strchr(slash + 1, '/');
        if (slash) {
            *slash = '\0';
        }
        int error = mkdir(partial, 0777) == 0 ? 0 : errno;
        if (error != 0 && !path_is_folder(partial)) {
            rc = err_set(err, "%s: cannot create this folder: %s", partial, strerror(error));
        }
        if (slash) {
            *slash = '/';
        }
    }
    free(partial);
    return rc;
}

static int read_fully(int fd, char *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = read(fd, data + done, bytes - done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            errno = got == 0 ? EIO : errno;
            return -1;
        }
        done += (size_t)got;
    }
    return 0;
}

char *path_read(const char *path, size_t *bytes, Err *err)
{
    char *data = NULL;
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        err_set(err, "%s: cannot open: %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(status.st_mode)) {
        err_set(err, "%s: is not a file", path);
        goto done;
    }
    size_t size = (size_t)status.st_size;
    data = mem_alloc(size + 1);
    if (read_fully(fd, data, size) != 0) {
        err_set(err, "%s: cannot read: %s", path, strerror(errno));
        free(data);
        data = NULL;
        goto done;
    }
    data[size] = '\0';
    if (bytes) {
        *bytes = size;
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    return data;
}
