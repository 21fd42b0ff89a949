/* The one pass over a tar. Every thread takes its turn at the archive, reads a handful of files
 * into memory, gives the turn on and decodes what it has: reading and decoding overlap without a
 * queue, and no more than a handful of files a thread is in memory. */
#include "data/tar.h"

#include "base/mem.h"
#include "base/progress.h"
#include "data/checksum.h"
#include "data/tar_entries.h"
#include "data/tar_wanted.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES  (1 << 20)  /* that libarchive reads at once */
#define TAKE_BYTES  (1 << 20)  /* of files that a thread takes in a turn, about */
#define TAKE_FILES  16         /* at most in a turn */
#define MOST_BYTES  (64 << 20) /* of a picture's file; a larger one is refused */
#define PROGRESS_MB 1000000

/* A picture's file that is read and not decoded yet. */
typedef struct {
    TarEntry *entry;
    uint8_t *data;
    size_t bytes;
} Raw;

typedef struct {
    Tar *tar;
    const PackSettings *settings;
    Progress *progress;
    pthread_mutex_t lock; /* the turn at the archive, and everything below */
    struct archive *archive;
    int64_t shown; /* MB that progress knows of */
    bool ended, failed;
    bool missed; /* a picture that was left out turns out to be needed, or may do so */
    TarWanted wanted;
    Err *err;
} Pass;

/* ---- opening -------------------------------------------------------------------------------- */

static int tell_no_tar(const char *path, struct archive *archive, Err *err)
{
    if (access(path, R_OK) != 0) {
        return err_set(err, "%s: cannot open: %s", path, strerror(errno));
    }
    return err_set(err, "%s: is neither a folder nor a sound tar file (plain, .gz or .zst): %s",
                   path, archive_error_string(archive));
}

static struct archive *open_archive(const char *path, Err *err)
{
    struct archive *archive = archive_read_new();
    if (!archive || archive_read_support_filter_all(archive) < ARCHIVE_WARN ||
        archive_read_support_format_tar(archive) != ARCHIVE_OK) {
        fatal("libarchive cannot start: out of memory, or built without tar");
    }
    if (archive_read_open_filename(archive, path, READ_BYTES) != ARCHIVE_OK) {
        tell_no_tar(path, archive, err);
        archive_read_free(archive);
        return NULL;
    }
    return archive;
}

int tar_check(const char *path, Err *err)
{
    struct archive *archive = open_archive(path, err);
    if (!archive) {
        return -1;
    }
    struct archive_entry *entry;
    int status = archive_read_next_header(archive, &entry);
    int rc = 0;
    if (status == ARCHIVE_EOF) {
        rc = err_set(err, "%s: is an empty archive", path);
    } else if (status < ARCHIVE_WARN) {
        rc = tell_no_tar(path, archive, err);
    }
    archive_read_free(archive);
    return rc;
}

/* ---- reading, with the turn ----------------------------------------------------------------- */

static int fail(Pass *pass, const char *path, Err *err)
{
    const char *why = archive_error_string(pass->archive);
    return err_set(err, "%s: is truncated or damaged%s%s: %s", pass->tar->path, path ? " at " : "",
                   path ? path : "", why ? why : "unknown error");
}

/* The content of the current file: exactly `bytes`, and a zero byte behind. NULL and err. */
static uint8_t *read_content(Pass *pass, const char *path, size_t bytes, Err *err)
{
    uint8_t *data = mem_alloc(bytes + 1);
    size_t done = 0;
    while (done < bytes) {
        la_ssize_t got = archive_read_data(pass->archive, data + done, bytes - done);
        if (got == ARCHIVE_RETRY) {
            continue;
        }
        if (got <= 0) {
            fail(pass, path, err);
            free(data);
            return NULL;
        }
        done += (size_t)got;
    }
    data[bytes] = '\0';
    return data;
}

static const char *entry_path(struct archive_entry *file)
{
    const char *path = archive_entry_pathname(file);
    return path ? path : archive_entry_pathname_utf8(file);
}

/* A hard link leads to a path in the archive, a symbolic one to a place seen from its folder. GNU
 * tar writes a file that it is given twice as a link to itself the second time: that changes
 * nothing. */
static void add_link(Pass *pass, struct archive_entry *file, const char *path)
{
    const char *hard = archive_entry_hardlink(file);
    const char *soft = archive_entry_symlink(file);
    const char *slash = strrchr(path, '/');
    char *target = NULL;
    if (hard) {
        target = tar_normal_path(hard);
    } else if (soft && soft[0] != '/') {
        char *joined = mem_format("%.*s%s", slash ? (int)(slash - path) + 1 : 0, path, soft);
        target = tar_normal_path(joined);
        free(joined);
    }
    if (target && strcmp(target, path) == 0) {
        free(target);
    } else if (target) {
        pass->missed = pass->missed || tar_wanted_left_out(&pass->wanted, target);
        TarEntry *entry = tar_add_entry(pass->tar, TAR_LINK, mem_string(path));
        entry->text = target;
        entry->hard = hard != NULL;
    }
}

/* Size of the current file, or -1 and err. A header of a sparse file may claim to be negative. */
static int64_t file_bytes(const Pass *pass, struct archive_entry *file, const char *path, Err *err)
{
    int64_t bytes = archive_entry_size(file);
    return bytes >= 0 ? bytes
                      : err_set(err, "%s: is damaged at %s: a file of %lld bytes", pass->tar->path,
                                path, (long long)bytes);
}

static int add_list(Pass *pass, struct archive_entry *file, const char *path, Err *err)
{
    int64_t bytes = file_bytes(pass, file, path, err);
    if (bytes < 0) {
        return -1;
    }
    if (bytes > MOST_BYTES) {
        return err_set(err, "%s: %s: is too large for a list: %lld bytes", pass->tar->path, path,
                       (long long)bytes);
    }
    uint8_t *text = read_content(pass, path, (size_t)bytes, err);
    if (!text) {
        return -1;
    }
    /* With all lists known this one replaces one of them, as "tar -u" does it. */
    pass->missed = pass->missed || pass->wanted.listed;
    TarEntry *entry = tar_add_entry(pass->tar, TAR_LIST, mem_string(path));
    entry->text = (char *)text;
    entry->bytes = bytes;
    tar_wanted_narrow(&pass->wanted, pass->tar);
    return 0;
}

static int add_picture(Pass *pass, struct archive_entry *file, const char *path, Raw *raw, Err *err)
{
    int64_t bytes = file_bytes(pass, file, path, err);
    *raw = (Raw){0};
    if (bytes < 0) {
        return -1;
    }
    if (bytes <= MOST_BYTES) {
        raw->bytes = (size_t)bytes;
        raw->data = read_content(pass, path, raw->bytes, err);
        if (!raw->data) {
            return -1;
        }
    }
    raw->entry = tar_add_entry(pass->tar, TAR_PICTURE, mem_string(path));
    raw->entry->stamp = (FileStamp){.bytes = bytes,
                                    .seconds = archive_entry_mtime(file),
                                    .nanoseconds = archive_entry_mtime_nsec(file)};
    return 0;
}

/* Takes the current file if it matters. *taken: raw holds a picture. */
static int take_file(Pass *pass, struct archive_entry *file, Raw *raw, bool *taken, Err *err)
{
    *taken = false;
    const char *given = entry_path(file);
    char *path = given ? tar_normal_path(given) : NULL;
    int rc = 0;
    if (!path) {
        return 0; /* nothing that a list could name */
    }
    bool link = archive_entry_hardlink(file) || archive_entry_filetype(file) == AE_IFLNK;
    bool list = tar_wants_list(&pass->wanted, path);
    if (link && (list || tar_wants_picture(&pass->wanted, path))) {
        add_link(pass, file, path);
    } else if (archive_entry_filetype(file) == AE_IFREG && list) {
        rc = add_list(pass, file, path, err);
    } else if (archive_entry_filetype(file) == AE_IFREG && tar_wants_picture(&pass->wanted, path)) {
        rc = add_picture(pass, file, path, raw, err);
        *taken = rc == 0;
    }
    free(path);
    return rc;
}

static void show_progress(Pass *pass)
{
    int64_t now = archive_filter_bytes(pass->archive, -1) / PROGRESS_MB;
    if (now > pass->shown) {
        progress_advance(pass->progress, now - pass->shown, NULL);
        pass->shown = now;
    }
}

/* Reads some files. Returns how many pictures, 0 at the end, -1 and err. */
static int take_files(Pass *pass, Raw *raw, Err *err)
{
    size_t bytes = 0;
    int taken = 0;
    while (taken < TAKE_FILES && bytes < TAKE_BYTES && !pass->missed) {
        struct archive_entry *file;
        if (pass->settings->stop && *pass->settings->stop) {
            err_set(err,
                    "interrupted while reading %s: nothing of it is kept, the same command "
                    "starts again",
                    pass->tar->path);
            goto failed;
        }
        int status = archive_read_next_header(pass->archive, &file);
        if (status == ARCHIVE_EOF) {
            pass->ended = true;
            break;
        }
        if (status == ARCHIVE_RETRY) {
            continue;
        }
        if (status < ARCHIVE_WARN) {
            fail(pass, NULL, err);
            goto failed;
        }
        bool picture;
        if (take_file(pass, file, &raw[taken], &picture, err) != 0) {
            goto failed;
        }
        bytes += picture ? raw[taken].bytes : 0;
        taken += picture;
    }
    pass->ended = pass->ended || pass->missed;
    show_progress(pass);
    return taken;
failed:
    for (int i = 0; i < taken; i++) {
        free(raw[i].data);
    }
    return -1;
}

/* ---- decoding, without it ------------------------------------------------------------------- */

static int keep(const Pass *pass, int thread, TarEntry *entry, const Picture *picture, Err *err)
{
    size_t bytes = (size_t)picture->width * (size_t)picture->height * 3;
    entry->width = picture->width;
    entry->height = picture->height;
    entry->checksum = checksum_xxh3(picture->pixels, bytes);
    if (scratch_write(pass->tar->scratch, thread, picture->pixels, bytes, &entry->place) == 0) {
        return 0;
    }
    return err_set(err, "%s: cannot keep its decoded pictures: %s%s", pass->tar->path,
                   strerror(errno),
                   errno == ENOSPC || errno == EDQUOT
                       ? " (the folder for packs needs twice the room of the packs; name "
                         "another with --cache_dir; nothing is left behind)"
                       : "");
}

static int decode(const Pass *pass, int thread, const Raw *raw, Err *err)
{
    TarEntry *entry = raw->entry;
    char *name = mem_format("%s: %s", pass->tar->path, entry->path);
    Picture picture = {0};
    Err problem = {0};
    int rc = 0;
    if (!raw->data) {
        err_set(&problem, "%s: is larger than %d MB", name, MOST_BYTES >> 20);
        entry->text = mem_string(problem.text);
    } else if (picture_decode(&picture, raw->data, raw->bytes, name, &problem) != 0) {
        entry->text = mem_string(problem.text);
    } else {
        pack_shrink(&picture, pass->settings->resize);
        rc = keep(pass, thread, entry, &picture, err);
    }
    picture_free(&picture);
    free(name);
    return rc;
}

static void work(void *context, int64_t thread)
{
    Pass *pass = context;
    for (bool more = true; more;) {
        Raw raw[TAKE_FILES];
        Err err = {0};
        pthread_mutex_lock(&pass->lock);
        more = !pass->ended && !pass->failed;
        int taken = more ? take_files(pass, raw, &err) : 0;
        pthread_mutex_unlock(&pass->lock);
        int rc = taken < 0 ? -1 : 0;
        for (int i = 0; i < taken; i++) {
            rc = rc == 0 ? decode(pass, (int)thread, &raw[i], &err) : rc;
            free(raw[i].data);
        }
        if (rc != 0) {
            pthread_mutex_lock(&pass->lock);
            if (!pass->failed) {
                pass->failed = true;
                *pass->err = err;
            }
            pthread_mutex_unlock(&pass->lock);
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int run_pass(Pass *pass)
{
    struct stat status;
    Tar *tar = pass->tar;
    pass->archive = open_archive(tar->path, pass->err);
    if (!pass->archive) {
        return -1;
    }
    int64_t bytes = stat(tar->path, &status) == 0 ? status.st_size : 0;
    pass->progress =
        progress_open(pass->settings->log, "Reading the tar file: ", "MB", bytes / PROGRESS_MB);
    pool_run(pass->settings->pool, pool_threads(pass->settings->pool), work, pass);
    progress_close(pass->progress);
    archive_read_free(pass->archive);
    return pass->failed ? -1 : 0;
}

/* Reads the tar. everything: keeps also the pictures that the lists do not name. Returns 0; 1 where
 * one of these may be needed, which only the rest of the tar told; -1 and err. */
static int read_whole(Tar *tar, const PairSet *sets, int count, const char *scratch_folder,
                      const PackSettings *settings, bool everything, Err *err)
{
    Pass pass = {.tar = tar, .settings = settings, .err = err};
    tar->scratch = scratch_open(scratch_folder, pool_threads(settings->pool), err);
    pthread_mutex_init(&pass.lock, NULL);
    int rc = !tar->scratch ? -1 : tar_wanted_open(&pass.wanted, sets, count, err);
    if (rc == 0) {
        pass.wanted.everything = everything;
        rc = run_pass(&pass);
    }
    pthread_mutex_destroy(&pass.lock);
    tar_wanted_close(&pass.wanted);
    return rc == 0 && pass.missed ? 1 : rc;
}

Tar *tar_read(const char *path, const PairSet *sets, int count, const char *scratch_folder,
              const PackSettings *settings, Err *err)
{
    Tar *tar = mem_zeroed(1, sizeof *tar);
    tar->path = mem_string(path);
    int rc = read_whole(tar, sets, count, scratch_folder, settings, false, err);
    if (rc == 1) {
        if (settings->log) {
            log_note(settings->log,
                     "%s: a link or a list in it asks for pictures that may have been passed over: "
                     "reading it "
                     "again",
                     path);
        }
        tar_forget(tar);
        rc = read_whole(tar, sets, count, scratch_folder, settings, true, err);
    }
    if (rc == 0) {
        tar_sort_entries(tar);
        rc = tar_find_root(tar, sets, count, err);
    }
    if (rc != 0) {
        tar_close(tar);
        return NULL;
    }
    return tar;
}
