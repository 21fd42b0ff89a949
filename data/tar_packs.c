#include "data/tar_packs.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "data/checksum.h"
#include "data/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_MAGIC "rodeo tar record 1\n"

/* What the functions below are about. */
typedef struct {
    const char *path;
    const PairSet *sets;
    int count;
    const char *cache_dir;
    const PackSettings *settings;
    char *record; /* the record's path */
} Job;

static char *record_path(const char *path, const char *cache_dir)
{
    const char *slash = strrchr(path, '/');
    char *name = mem_format("%s.seen", slash ? slash + 1 : path);
    char *record = path_join(cache_dir, name);
    free(name);
    return record;
}

/* ---- the record ----------------------------------------------------------------------------- */

/* "tar SIZE SECONDS.NANOSECONDS", as it stands in the record. A new string; NULL and err. */
static char *describe_tar(const char *path, Err *err)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        err_set(err, "%s: cannot be looked at: %s", path, strerror(errno));
        return NULL;
    }
    return mem_format("tar %lld %lld.%09ld\n", (long long)status.st_size,
                      (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

static char *pack_line(const char *name, uint64_t checksum)
{
    return mem_format("pack %016" PRIx64 " %s\n", checksum, name);
}

/* The record's lines behind the magic, if its checksum is right; else NULL. A new string. */
static char *read_record(const char *record)
{
    size_t bytes = 0;
    char *text = access(record, R_OK) == 0 ? path_read(record, &bytes, NULL) : NULL;
    char *end = text && text_starts_with(text, RECORD_MAGIC) ? strstr(text, "\nend ") : NULL;
    char *lines = NULL;
    if (end) {
        char *expected =
            mem_format("end %016" PRIx64 "\n", checksum_xxh3(text, (size_t)(end + 1 - text)));
        if (strcmp(end + 1, expected) == 0) {
            end[1] = '\0';
            lines = mem_string(text + strlen(RECORD_MAGIC));
        }
        free(expected);
    }
    free(text);
    return lines;
}

/* The lines of the record that another pack of the same tar has, as a new string. */
static char *other_lines(const Job *job, const char *tar_line, char *const *names)
{
    char *lines = read_record(job->record);
    char *kept = mem_string("");
    char *line = lines && text_starts_with(lines, tar_line) ? lines + strlen(tar_line) : NULL;
    while (line && *line) {
        char *next = strchr(line, '\n') + 1;
        size_t bytes = (size_t)(next - line);
        bool replaced = false;
        for (int i = 0; i < job->count; i++) {
            char *ending = mem_format(" %s\n", names[i]);
            replaced = replaced || (bytes > strlen(ending) &&
                                    memcmp(next - strlen(ending), ending, strlen(ending)) == 0);
            free(ending);
        }
        if (!replaced) {
            char *longer = mem_format("%s%.*s", kept, (int)bytes, line);
            free(kept);
            kept = longer;
        }
        line = next;
    }
    free(lines);
    return kept;
}

static int write_record(const Job *job, const char *tar_line, char *const *names,
                        Pack *const *packs, Err *err)
{
    char *others = other_lines(job, tar_line, names);
    char *text = mem_format("%s%s%s", RECORD_MAGIC, tar_line, others);
    for (int i = 0; i < job->count; i++) {
        char *line = pack_line(names[i], pack_checksum(packs[i]));
        if (!strstr(text, line)) {
            char *longer = mem_format("%s%s", text, line);
            free(text);
            text = longer;
        }
        free(line);
    }
    char *whole = mem_format("%send %016" PRIx64 "\n", text, checksum_xxh3(text, strlen(text)));
    int rc = atomic_file_replace(job->record, whole, strlen(whole), err);
    free(whole);
    free(text);
    free(others);
    return rc;
}

/* ---- finding -------------------------------------------------------------------------------- */

static void close_packs(Pack **packs, int count)
{
    for (int i = 0; i < count; i++) {
        pack_close(packs[i]);
        packs[i] = NULL;
    }
}

/* The name of a set's pack; NULL where there is no such set. */
static char *pack_name(const PairSet *set, int resize)
{
    char *list = pairs_list_name(set, NULL);
    char *name = list ? pack_file_name(list, resize) : NULL;
    free(list);
    return name;
}

/* The pack if the record's lines have it as it is. */
static Pack *find_pack(const Job *job, const char *lines, const char *name)
{
    Err problem = {0};
    char *path = path_join(job->cache_dir, name);
    Pack *pack = access(path, F_OK) == 0 ? pack_open(path, &problem) : NULL;
    free(path);
    if (!pack) {
        return NULL;
    }
    char *line = pack_line(name, pack_checksum(pack));
    bool current = strstr(lines, line) && pack_resize(pack) == job->settings->resize &&
                   pack_skipped(pack) <= job->settings->skip_bad;
    free(line);
    if (!current) {
        pack_close(pack);
        return NULL;
    }
    return pack;
}

static bool find_packs(const Job *job, Pack **packs)
{
    char *tar_line = describe_tar(job->path, NULL);
    char *lines = tar_line ? read_record(job->record) : NULL;
    bool found = lines && text_starts_with(lines, tar_line);
    for (int i = 0; i < job->count; i++) {
        packs[i] = NULL;
    }
    for (int i = 0; found && i < job->count; i++) {
        char *name = pack_name(&job->sets[i], job->settings->resize);
        packs[i] = name ? find_pack(job, lines, name) : NULL;
        found = packs[i] != NULL;
        free(name);
    }
    if (!found) {
        close_packs(packs, job->count);
    }
    free(lines);
    free(tar_line);
    return found;
}

bool tar_find_packs(const char *path, const PairSet *sets, int count, const char *cache_dir,
                    const PackSettings *settings, Pack **packs)
{
    Job job = {.path = path,
               .sets = sets,
               .count = count,
               .cache_dir = cache_dir,
               .settings = settings,
               .record = record_path(path, cache_dir)};
    bool found = find_packs(&job, packs);
    free(job.record);
    return found;
}

/* ---- building ------------------------------------------------------------------------------- */

/* A pack that is current by its pictures' sizes and times may still hold other pixels: archivers
 * can be told to give every file one fixed time. With the tar read, its pixels are known. */
static Pack *open_same(const Job *job, const Tar *tar, const PairList *list, const PairStats *stats)
{
    Pack *pack = pack_open_current(list, stats, job->settings, job->cache_dir);
    if (!pack || tar_agrees(tar, list, pack)) {
        return pack;
    }
    if (job->settings->log) {
        log_note(job->settings->log, "%s: building the pack again: %s: the pictures have changed",
                 list->name, pack_path(pack));
    }
    pack_close(pack);
    return NULL;
}

static Pack *build_pack(const Job *job, const Tar *tar, const PairSet *set, Err *err)
{
    RootFiles files = tar_files(tar);
    PictureSource pictures = tar_pictures(tar);
    PairStats stats;
    PairList list;
    Pack *pack = NULL;
    if (pairs_read_from(&list, &files, job->path, set, err) != 0) {
        return NULL;
    }
    if (pairs_stat_from(&list, &files, job->settings->pool, NULL, &stats, err) == 0) {
        pack = open_same(job, tar, &list, &stats);
        char *name = pack_file_name(list.name, job->settings->resize);
        char *path = path_join(job->cache_dir, name);
        if (!pack && pack_build(&list, &stats, &pictures, job->settings, path, err) == 0) {
            pack = pack_open(path, err);
        }
        free(path);
        free(name);
    }
    pairs_free(&list);
    return pack;
}

/* The tar is described before it is read: where it changes meanwhile, the record does not fit. */
static int build_packs(const Job *job, Pack **packs, Err *err)
{
    char *names[PAIR_SETS_MAX] = {NULL};
    char *tar_line = describe_tar(job->path, err);
    Tar *tar = tar_line
                   ? tar_read(job->path, job->sets, job->count, job->cache_dir, job->settings, err)
                   : NULL;
    int rc = tar ? 0 : -1;
    for (int i = 0; i < job->count && rc == 0; i++) {
        packs[i] = build_pack(job, tar, &job->sets[i], err);
        names[i] = pack_name(&job->sets[i], job->settings->resize);
        rc = packs[i] ? 0 : -1;
    }
    if (rc == 0) {
        rc = write_record(job, tar_line, names, packs, err);
    }
    if (rc != 0) {
        close_packs(packs, job->count);
    }
    for (int i = 0; i < job->count; i++) {
        free(names[i]);
    }
    tar_close(tar);
    free(tar_line);
    return rc;
}

int tar_open_packs(const char *path, const PairSet *sets, int count, const char *cache_dir,
                   const PackSettings *settings, Pack **packs, Err *err)
{
    if (path_make_folders(cache_dir, err) != 0) {
        return -1;
    }
    Job job = {.path = path,
               .sets = sets,
               .count = count,
               .cache_dir = cache_dir,
               .settings = settings,
               .record = record_path(path, cache_dir)};
    int lock = -1;
    int rc = pack_lock_folder(cache_dir, settings, &lock, err);
    if (rc == 0 && !find_packs(&job, packs)) {
        rc = build_packs(&job, packs, err);
    }
    if (lock >= 0) {
        close(lock);
    }
    free(job.record);
    return rc;
}
