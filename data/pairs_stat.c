/* Looking at the picture files of a list without opening them. */
#include "base/mem.h"
#include "base/path.h"
#include "base/progress.h"
#include "data/checksum.h"
#include "data/pairs.h"

#include <stdlib.h>
#include <string.h>

#define MISSING_NAMED 5

/* What goes into the digest, one record a picture. Only whole 64-bit words: no padding. */
typedef struct {
    uint64_t path_hash;
    int64_t label;
    int64_t bytes; /* -1: the file cannot be looked at */
    int64_t seconds, nanoseconds;
} Record;

typedef struct {
    const PairList *list;
    const RootFiles *files;
    Record *records;
    int *errors; /* errno where bytes is -1 */
    Progress *progress;
} StatWork;

static void stat_picture(void *context, int64_t index)
{
    StatWork *work = context;
    const Pair *pair = &work->list->pairs[index / MODALITIES];
    const char *relative = pair->path[index % MODALITIES];
    char *path = path_join(work->list->folder, relative);
    FileStamp stamp;
    Record *record = &work->records[index];
    *record = (Record){
        .path_hash = checksum_xxh3(relative, strlen(relative)), .label = pair->label, .bytes = -1};
    work->errors[index] = work->files->stamp(work->files->context, path, &stamp);
    if (work->errors[index] == 0) {
        record->bytes = stamp.bytes;
        record->seconds = stamp.seconds;
        record->nanoseconds = stamp.nanoseconds;
    }
    free(path);
    progress_advance(work->progress, 1, NULL);
}

static int name_missing(const StatWork *work, int64_t missing, int64_t pictures, Err *err)
{
    char *names = mem_string("");
    int named = 0;
    int first_error = 0;
    for (int64_t i = 0; i < pictures && named < MISSING_NAMED; i++) {
        if (work->records[i].bytes >= 0) {
            continue;
        }
        first_error = named == 0 ? work->errors[i] : first_error;
        const char *path = work->list->pairs[i / MODALITIES].path[i % MODALITIES];
        char *longer = mem_format("%s%s%s", names, named > 0 ? ", " : "", path);
        free(names);
        names = longer;
        named++;
    }
    err_set(err, "%s: %lld of the %lld pictures in this list are missing in %s (%s): %s%s; %s",
            work->list->file, (long long)missing, (long long)pictures, work->list->folder,
            strerror(first_error), names, missing > named ? ", ..." : "", work->files->advice);
    free(names);
    return -1;
}

int pairs_stat_from(const PairList *list, const RootFiles *files, Pool *pool, Log *log,
                    PairStats *stats, Err *err)
{
    int64_t pictures = list->count * MODALITIES;
    StatWork work = {.list = list,
                     .files = files,
                     .records = mem_zeroed((size_t)pictures, sizeof(Record)),
                     .errors = mem_zeroed((size_t)pictures, sizeof(int))};
    char *label = mem_format("Looking at the files of %s: ", list->name);
    work.progress = progress_open(log, label, "files", pictures);
    pool_run(pool, pictures, stat_picture, &work);
    progress_close(work.progress);
    free(label);
    int64_t missing = 0;
    *stats = (PairStats){.pictures = pictures};
    for (int64_t i = 0; i < pictures; i++) {
        missing += work.records[i].bytes < 0;
        stats->bytes += work.records[i].bytes < 0 ? 0 : work.records[i].bytes;
    }
    stats->digest = checksum_xxh3(work.records, (size_t)pictures * sizeof(Record));
    int rc = missing > 0 ? name_missing(&work, missing, pictures, err) : 0;
    free(work.records);
    free(work.errors);
    return rc;
}

int pairs_stat(const PairList *list, Pool *pool, Log *log, PairStats *stats, Err *err)
{
    return pairs_stat_from(list, &root_files_on_disk, pool, log, stats, err);
}
