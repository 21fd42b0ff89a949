#include "data/scratch.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    int fd;
    atomic_int_fast64_t end;
} ScratchFile;

struct Scratch {
    int files;
    ScratchFile *file;
};

static int open_nameless(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) { /* not every file system can */
        char *path = mem_format("%s/scratch-XXXXXX", folder);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
        }
        free(path);
    }
    return fd;
}

Scratch *scratch_open(const char *folder, int files, Err *err)
{
    Scratch *scratch = mem_zeroed(1, sizeof *scratch);
    scratch->file = mem_zeroed((size_t)files, sizeof *scratch->file);
    for (; scratch->files < files; scratch->files++) {
        int fd = open_nameless(folder);
        if (fd < 0) {
            err_set(err, "%s: cannot create a file in this folder: %s", folder, strerror(errno));
            scratch_close(scratch);
            return NULL;
        }
        scratch->file[scratch->files].fd = fd;
    }
    return scratch;
}

void scratch_close(Scratch *scratch)
{
    for (int i = 0; scratch && i < scratch->files; i++) {
        close(scratch->file[i].fd); /* what is in it is not needed any more */
    }
    if (scratch) {
        free(scratch->file);
    }
    free(scratch);
}

int scratch_write(Scratch *scratch, int file, const void *data, size_t bytes, ScratchPlace *place)
{
    ScratchFile *to = &scratch->file[file];
    int64_t offset = atomic_fetch_add(&to->end, (int64_t)bytes);
    *place = (ScratchPlace){.file = file, .offset = offset, .bytes = bytes};
    for (size_t done = 0; done < bytes;) {
        ssize_t put = pwrite(to->fd, (const char *)data + done, bytes - done,
                             (off_t)place->offset + (off_t)done);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return -1;
        }
        done += (size_t)put;
    }
    return 0;
}

int scratch_read(const Scratch *scratch, ScratchPlace place, void *to)
{
    for (size_t done = 0; done < place.bytes;) {
        ssize_t got = pread(scratch->file[place.file].fd, (char *)to + done, place.bytes - done,
                            (off_t)place.offset + (off_t)done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            errno = got == 0 ? 0 : errno;
            return -1;
        }
        done += (size_t)got;
    }
    return 0;
}
