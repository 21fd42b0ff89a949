/* The cache of packs: where they lie, and whether one is still current. */
#include "base/mem.h"
#include "base/path.h"
#include "data/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define FUSE_MAGIC 0x65735546 /* FUSE_SUPER_MAGIC of linux/magic.h */

char *pack_file_name(const char *list_name, int resize)
{
    return mem_format("%s-%d.pack", list_name, resize);
}

/* The folder that a file lies in, as a new string. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) {
        return mem_string(".");
    }
    return slash == path ? mem_string("/") : mem_format("%.*s", (int)(slash - path), path);
}

char *pack_default_cache_dir(const char *data_root)
{
    char *folder = path_is_file(data_root) ? folder_of(data_root) : mem_string(data_root);
    char *beside = path_join(folder, "rodeo-cache");
    const char *probe = path_is_folder(beside) ? beside : folder;
    struct statfs system;
    bool usable =
        statfs(probe, &system) == 0 && system.f_type != FUSE_MAGIC && access(probe, W_OK) == 0;
    free(folder);
    if (usable) {
        return beside;
    }
    free(beside);
    return mem_string("./rodeo-cache");
}

/* Why a pack is not the one that is wanted; NULL if it is. */
static const char *why_stale(const Pack *pack, const PairStats *stats, const PackSettings *settings)
{
    if (pack_resize(pack) != settings->resize) {
        return "it was built for another size";
    }
    if (pack_digest(pack) != stats->digest) {
        return "the list or its pictures have changed since";
    }
    if (pack_skipped(pack) > settings->skip_bad) {
        return "it lacks more pictures than --skip_bad allows";
    }
    return NULL;
}

static Pack *open_current(const char *list_name, const PairStats *stats,
                          const PackSettings *settings, const char *path)
{
    if (access(path, F_OK) != 0) {
        return NULL;
    }
    Err problem = {0};
    Pack *pack = pack_open(path, &problem);
    const char *stale = pack ? why_stale(pack, stats, settings) : NULL;
    if (!pack || stale) {
        if (settings->log) {
            log_note(settings->log, "%s: building the pack again: %s%s%s", list_name,
                     pack ? path : "", pack ? ": " : "", pack ? stale : problem.text);
        }
        pack_close(pack);
        return NULL;
    }
    return pack;
}

Pack *pack_open_current(const PairList *list, const PairStats *stats, const PackSettings *settings,
                        const char *cache_dir)
{
    char *name = pack_file_name(list->name, settings->resize);
    char *path = path_join(cache_dir, name);
    Pack *pack = open_current(list->name, stats, settings, path);
    free(path);
    free(name);
    return pack;
}

/* NFS locks for writing only what is open for writing, and a folder cannot be. */
static int open_lock_file(const char *folder)
{
    char *path = path_join(folder, "packing.lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    free(path);
    return fd;
}

int pack_lock_folder(const char *folder, const PackSettings *settings, int *fd, Err *err)
{
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    bool told = false;
    bool in_file = false;
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (*fd >= 0 && flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        bool busy = errno == EWOULDBLOCK;
        if (errno == EBADF && !in_file) {
            close(*fd);
            *fd = open_lock_file(folder);
            in_file = true;
            continue;
        }
        bool stopped = settings->stop && *settings->stop;
        if (!busy || stopped) {
            close(*fd);
            *fd = -1;
            return busy ? err_set(err,
                                  "%s: interrupted while waiting for another program that builds "
                                  "a pack here: the same command starts again",
                                  folder)
                        : 0;
        }
        if (!told && settings->log) {
            log_note(settings->log, "%s: another program is building a pack here, waiting for it",
                     folder);
        }
        told = true;
        nanosleep(&pause, NULL);
    }
    return 0;
}

Pack *pack_open_or_build(const PairList *list, const PackSettings *settings, const char *cache_dir,
                         Err *err)
{
    PairStats stats;
    if (pairs_stat(list, settings->pool, settings->log, &stats, err) != 0 ||
        path_make_folders(cache_dir, err) != 0) {
        return NULL;
    }
    int lock;
    if (pack_lock_folder(cache_dir, settings, &lock, err) != 0) {
        return NULL;
    }
    char *name = pack_file_name(list->name, settings->resize);
    char *path = path_join(cache_dir, name);
    Pack *pack = open_current(list->name, &stats, settings, path);
    if (!pack && pack_build(list, &stats, &pack_source_folder, settings, path, err) == 0) {
        pack = pack_open(path, err);
    }
    if (lock >= 0) {
        close(lock);
    }
    free(path);
    free(name);
    return pack;
}
