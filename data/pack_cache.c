/* The cache of packs: where they lie, and whether one is still current. */
#include "base/mem.h"
#include "base/path.h"
#include "data/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FUSE_MAGIC 0x65735546 /* FUSE_SUPER_MAGIC of linux/magic.h */

char *pack_default_cache_dir(const char *data_root)
{
    char *beside = path_join(data_root, "rodeo-cache");
    const char *probe = path_is_folder(beside) ? beside : data_root;
    struct statfs system;
    if (statfs(probe, &system) == 0 && system.f_type != FUSE_MAGIC && access(probe, W_OK) == 0) {
        return beside;
    }
    free(beside);
    return mem_string("./rodeo-cache");
}

/* Why a pack is not the one of this list and resize; NULL if it is. */
static const char *why_stale(const Pack *pack, const PairList *list, const PairStats *stats,
                             int resize)
{
    if (pack_resize(pack) != resize) {
        return "it was built for another size";
    }
    if (pack_count(pack) != list->count || pack_digest(pack) != stats->digest) {
        return "the list or its pictures have changed since";
    }
    return NULL;
}

/* The pack at path if it is current; else NULL, with a note that says why not. */
static Pack *open_current(const PairList *list, const PairStats *stats, int resize,
                          const char *path, Log *log)
{
    if (access(path, F_OK) != 0) {
        return NULL;
    }
    Err problem = {0};
    Pack *pack = pack_open(path, &problem);
    const char *stale = pack ? why_stale(pack, list, stats, resize) : NULL;
    if (!pack || stale) {
        if (log) {
            log_note(log, "%s: building the pack again: %s%s%s", list->name, pack ? path : "",
                     pack ? ": " : "", pack ? stale : problem.text);
        }
        pack_close(pack);
        return NULL;
    }
    return pack;
}

/* Keeps a second program from building the same pack meanwhile: it waits here and then finds it.
 * Returns a descriptor to close; -1 where the file system has no locks, then it is up to the user
 * not to start two programs at once. */
static int lock_folder(const char *folder, Log *log)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return fd;
    }
    bool busy = errno == EWOULDBLOCK;
    if (busy && log) {
        log_note(log, "%s: another program is building a pack here, waiting for it", folder);
    }
    if (!busy || flock(fd, LOCK_EX) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

Pack *pack_open_or_build(const PairList *list, int resize, const char *cache_dir, Pool *pool,
                         Log *log, Err *err)
{
    PairStats stats;
    if (pairs_stat(list, pool, &stats, err) != 0 || path_make_folders(cache_dir, err) != 0) {
        return NULL;
    }
    char *name = mem_format("%s-%d.pack", list->name, resize);
    char *path = path_join(cache_dir, name);
    int lock = lock_folder(cache_dir, log);
    Pack *pack = open_current(list, &stats, resize, path, log);
    if (!pack && pack_build(list, &stats, resize, path, pool, log, err) == 0) {
        pack = pack_open(path, err);
    }
    if (lock >= 0) {
        close(lock);
    }
    free(path);
    free(name);
    return pack;
}
