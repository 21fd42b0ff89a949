#include "data/demo/dataset.h"

#include "base/atomic_file.h"
#include "base/path.h"
#include "base/progress.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>

#define TOP_FOLDER "ROD-synROD"

typedef struct {
    AtomicFile file;
    struct archive *archive;
    const char *folder;
    Err *err;
} TarWriting;

static la_ssize_t pass_on(struct archive *archive, void *context, const void *data, size_t bytes)
{
    TarWriting *tar = context;
    if (atomic_file_write(&tar->file, data, bytes, tar->err) != 0) {
        archive_set_error(archive, EIO, "%s", tar->err->text);
        return -1;
    }
    return (la_ssize_t)bytes;
}

/* Owner, mode and time are fixed, so that the same data set gives the same archive. */
static struct archive_entry *entry_of(const char *path, size_t bytes)
{
    struct archive_entry *entry = archive_entry_new();
    char *name = path_join(TOP_FOLDER, path);
    archive_entry_copy_pathname(entry, name);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 0, 0);
    free(name);
    return entry;
}

static int add_file(TarWriting *tar, const char *path)
{
    size_t bytes;
    char *from = path_join(tar->folder, path);
    char *data = path_read(from, &bytes, tar->err);
    free(from);
    if (!data) {
        return -1;
    }
    struct archive_entry *entry = entry_of(path, bytes);
    int rc = 0;
    if (archive_write_header(tar->archive, entry) != ARCHIVE_OK ||
        archive_write_data(tar->archive, data, bytes) != (la_ssize_t)bytes) {
        rc = err_set(tar->err, "%s", archive_error_string(tar->archive));
    }
    archive_entry_free(entry);
    free(data);
    return rc;
}

static int add_all(TarWriting *tar, const DemoSet *set, Progress *progress)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < DEMO_TEXTS; i++) {
        rc = add_file(tar, set->texts[i].path);
    }
    for (int split = 0; split < DEMO_SPLITS; split++) {
        for (int k = 0; rc == 0 && k < set->count[split] * DEMO_PICTURES; k++) {
            const DemoPair *pair = &set->pairs[split][k / DEMO_PICTURES];
            rc = add_file(tar, pair->path[k % DEMO_PICTURES]);
            progress_advance(progress, 1, NULL);
        }
    }
    return rc;
}

int demo_write_tar(const DemoSet *set, const char *folder, const char *path, Log *log, Err *err)
{
    TarWriting tar = {.folder = folder, .err = err};
    if (atomic_file_open(&tar.file, path, err) != 0) {
        return -1;
    }
    int64_t pictures = 0;
    for (int split = 0; split < DEMO_SPLITS; split++) {
        pictures += (int64_t)set->count[split] * DEMO_PICTURES;
    }
    Progress *progress = progress_open(log, "Packing: ", "pictures", pictures);
    tar.archive = archive_write_new();
    int rc = 0;
    if (!tar.archive || archive_write_set_format_ustar(tar.archive) != ARCHIVE_OK ||
        archive_write_open(tar.archive, &tar, NULL, pass_on, NULL) != ARCHIVE_OK) {
        rc = err_set(err, "%s: libarchive cannot write a tar file", path);
    }
    if (rc == 0) {
        rc = add_all(&tar, set, progress);
    }
    if (rc == 0 && archive_write_close(tar.archive) != ARCHIVE_OK) {
        rc = err_set(err, "%s: %s", path, archive_error_string(tar.archive));
    }
    if (rc != 0) {
        /* Nothing more may reach the file when the archive is freed. */
        archive_write_fail(tar.archive);
    }
    archive_write_free(tar.archive);
    progress_close(progress);
    if (rc == 0) {
        return atomic_file_commit(&tar.file, err);
    }
    atomic_file_abort(&tar.file);
    return -1;
}
