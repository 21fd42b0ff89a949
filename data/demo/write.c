#include "data/demo/dataset.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/progress.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int write_text(const char *folder, const DemoText *text, Err *err)
{
    char *path = path_join(folder, text->path);
    char *parent = mem_string(path);
    *strrchr(parent, '/') = '\0';
    int rc = path_make_folders(parent, err);
    if (rc == 0) {
        rc = atomic_file_replace(path, text->text, strlen(text->text), err);
    }
    free(parent);
    free(path);
    return rc;
}

/* 1 if the folder has nothing in it, 0 if it has, -1 if it cannot be read. */
static int is_empty(const char *folder, Err *err)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        return err_set(err, "%s: cannot open this folder: %s", folder, strerror(errno));
    }
    int empty = 1;
    for (const struct dirent *entry; empty && (entry = readdir(dir));) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    }
    closedir(dir);
    return empty;
}

/* Makes the folder ours, or finds that it is; anything else in it is left alone. */
static int claim_folder(const DemoSet *set, const char *folder, Err *err)
{
    const DemoText *marker = &set->texts[0];
    if (path_make_folders(folder, err) != 0) {
        return -1;
    }
    int empty = is_empty(folder, err);
    if (empty != 0) {
        return empty < 0 ? -1 : write_text(folder, marker, err);
    }
    char *path = path_join(folder, marker->path);
    bool known = path_is_file(path);
    char *text = known ? path_read(path, NULL, err) : NULL;
    int rc = 0;
    if (!known) {
        rc = err_set(err,
                     "%s: is not empty, and what it holds is not a demo data set: choose another "
                     "folder",
                     folder);
    } else if (!text) {
        rc = -1;
    } else if (strcmp(text, marker->text) != 0) {
        rc = err_set(err,
                     "%s: holds a demo data set of other settings (see %s): remove it, or choose "
                     "another folder",
                     folder, path);
    }
    free(text);
    free(path);
    return rc;
}

typedef struct {
    const DemoSet *set;
    const char *folder;
    const DemoPair **missing;
    int64_t count;
    Progress *progress;
    atomic_bool failed; /* the others need not go on */
    pthread_mutex_t lock;
    Err *err; /* of the first that failed; under the lock */
} Writing;

static int write_pair(const char *folder, const DemoPair *pair, Err *err)
{
    Picture picture[DEMO_PICTURES];
    demo_render(&pair->address, 0, picture);
    int rc = 0;
    for (int i = 0; i < DEMO_PICTURES; i++) {
        char *path = path_join(folder, pair->path[i]);
        if (rc == 0) {
            rc = picture_write_png(&picture[i], path, err);
        }
        free(path);
        picture_free(&picture[i]);
    }
    return rc;
}

static void write_missing(void *context, int64_t index)
{
    Writing *writing = context;
    if (atomic_load(&writing->failed)) {
        return;
    }
    Err err = {0};
    if (write_pair(writing->folder, writing->missing[index], &err) == 0) {
        progress_advance(writing->progress, 1, NULL);
        return;
    }
    pthread_mutex_lock(&writing->lock);
    if (!atomic_exchange(&writing->failed, true)) {
        err_set(writing->err, "%s", err.text);
    }
    pthread_mutex_unlock(&writing->lock);
}

static bool is_written(const char *folder, const DemoPair *pair)
{
    bool both = true;
    for (int i = 0; both && i < DEMO_PICTURES; i++) {
        char *path = path_join(folder, pair->path[i]);
        both = path_is_file(path);
        free(path);
    }
    return both;
}

static void find_missing(Writing *writing)
{
    const DemoSet *set = writing->set;
    int64_t all = 0;
    for (int split = 0; split < DEMO_SPLITS; split++) {
        all += set->count[split];
    }
    writing->missing = mem_zeroed((size_t)all, sizeof(DemoPair *));
    for (int split = 0; split < DEMO_SPLITS; split++) {
        for (int i = 0; i < set->count[split]; i++) {
            if (!is_written(writing->folder, &set->pairs[split][i])) {
                writing->missing[writing->count++] = &set->pairs[split][i];
            }
        }
    }
}

/* The folders of the missing pictures. */
static int make_folders(const Writing *writing, Err *err)
{
    int rc = 0;
    for (int64_t k = 0; rc == 0 && k < writing->count * DEMO_PICTURES; k++) {
        const DemoPair *pair = writing->missing[k / DEMO_PICTURES];
        char *path = path_join(writing->folder, pair->path[k % DEMO_PICTURES]);
        *strrchr(path, '/') = '\0';
        rc = path_is_folder(path) ? 0 : path_make_folders(path, err);
        free(path);
    }
    return rc;
}

static int write_pictures(Writing *writing, Pool *pool, Log *log, Err *err)
{
    if (writing->count == 0) {
        return 0;
    }
    if (make_folders(writing, err) != 0) {
        return -1;
    }
    pthread_mutex_init(&writing->lock, NULL);
    writing->err = err;
    writing->progress = progress_open(log, "Rendering: ", "pairs", writing->count);
    pool_run(pool, writing->count, write_missing, writing);
    progress_close(writing->progress);
    pthread_mutex_destroy(&writing->lock);
    return atomic_load(&writing->failed) ? -1 : 0;
}

int demo_write(const DemoSet *set, const char *folder, Pool *pool, Log *log, int64_t *added,
               Err *err)
{
    Writing writing = {.set = set, .folder = folder};
    *added = 0;
    if (claim_folder(set, folder, err) != 0) {
        return -1;
    }
    find_missing(&writing);
    int rc = write_pictures(&writing, pool, log, err);
    /* The lists come last: a folder that has them is complete. */
    for (int i = 1; rc == 0 && i < DEMO_TEXTS; i++) {
        rc = write_text(folder, &set->texts[i], err);
    }
    *added = rc == 0 ? writing.count : 0;
    free(writing.missing);
    return rc;
}
