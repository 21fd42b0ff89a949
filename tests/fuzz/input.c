#include "input.h"

#include "base/err.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void write_all(int fd, const void *data, size_t bytes, const char *path)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t put = write(fd, (const char *)data + done, bytes - done);
        if (put <= 0) {
            fatal("%s: cannot be written", path);
        }
        done += (size_t)put;
    }
}

const char *input_file(const void *data, size_t bytes)
{
    static int fd = -1;
    static char path[32];
    if (fd < 0) {
        fd = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        fatal("a file in memory cannot be made");
    }
    write_all(fd, data, bytes, path);
    return path;
}

void input_write(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) {
        fatal("%s: cannot be opened", path);
    }
    write_all(fd, data, bytes, path);
    close(fd);
}

char *input_copy(const void *data, size_t bytes)
{
    char *copy = mem_alloc(bytes);
    memcpy(copy, data, bytes);
    return copy;
}

void input_touch(const void *data, size_t bytes)
{
    const volatile unsigned char *byte = data;
    for (size_t i = 0; i < bytes; i++) {
        (void)byte[i];
    }
}
