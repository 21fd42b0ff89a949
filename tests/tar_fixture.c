#include "tar_fixture.h"

#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"

#include <archive.h>
#include <archive_entry.h>
#include <fts.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

typedef struct {
    char **paths; /* below the root */
    size_t count;
} Files;

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static Files list_files(const char *root)
{
    Files files = {0};
    char *roots[] = {(char *)root, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    assert_non_null(walk);
    for (FTSENT *entry; (entry = fts_read(walk)) != NULL;) {
        if (entry->fts_info == FTS_D && strcmp(entry->fts_name, "cache") == 0) {
            fts_set(walk, entry, FTS_SKIP);
        } else if (entry->fts_info == FTS_F) {
            files.paths = mem_resize(files.paths, (files.count + 1) * sizeof *files.paths);
            files.paths[files.count++] = mem_string(entry->fts_path + strlen(root) + 1);
        }
    }
    fts_close(walk);
    return files;
}

static void add_text(struct archive *archive, const char *data, size_t bytes,
                     const struct timespec *time, const char *name)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, time->tv_sec, time->tv_nsec);
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(archive, data, bytes), bytes);
    archive_entry_free(entry);
}

static void add(struct archive *archive, const char *root, const char *path, const char *name)
{
    Err err = {0};
    size_t bytes;
    struct stat status;
    char *from = path_join(root, path);
    assert_int_equal(stat(from, &status), 0);
    char *data = path_read(from, &bytes, &err);
    assert_non_null(data);
    add_text(archive, data, bytes, &status.st_mtim, name);
    free(data);
    free(from);
}

static void add_link(struct archive *archive, const char *target, bool soft, const char *name)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    if (soft) {
        archive_entry_set_filetype(entry, AE_IFLNK);
        archive_entry_set_symlink(entry, target);
    } else {
        archive_entry_set_hardlink(entry, target);
    }
    archive_entry_set_perm(entry, 0644);
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    archive_entry_free(entry);
}

static void add_as_shaped(struct archive *archive, const char *root, const char *path,
                          const TarShape *shape)
{
    char *name = mem_format("%s%s", shape->top, path);
    if (shape->omit && strcmp(path, shape->omit) == 0) {
        free(name);
        return;
    }
    if (shape->link && strcmp(path, shape->link) == 0) {
        char *target = mem_format("%s.copy.png", name);
        add(archive, root, path, target);
        add_link(archive, target, false, name);
        free(target);
    } else if (shape->soft && strcmp(path, shape->soft) == 0) {
        char *target = mem_format("%spool/copy.png", shape->top);
        add(archive, root, path, target);
        add_link(archive, "../../../pool/copy.png", true, name);
        free(target);
    } else {
        add(archive, root, path, name);
    }
    if (shape->twice) {
        add_link(archive, name, false, name);
    }
    free(name);
}

static bool is_list(const char *path)
{
    return text_ends_with(path, ".txt");
}

#define TRAINING_LIST "synROD/synARID_50k-split_sync_train1.txt"

static void add_lists(struct archive *archive, const char *root, const Files *files,
                      const TarShape *shape)
{
    for (size_t i = 0; i < files->count; i++) {
        if (shape->before && strcmp(files->paths[i], TRAINING_LIST) == 0) {
            const struct timespec time = {.tv_sec = 1};
            char *name = mem_format("%s%s", shape->top, TRAINING_LIST);
            add_text(archive, shape->before, strlen(shape->before), &time, name);
            free(name);
        } else if (is_list(files->paths[i])) {
            add_as_shaped(archive, root, files->paths[i], shape);
        }
    }
}

void fixture_write_tar(const char *root, const char *path, const TarShape *shape)
{
    Files files = list_files(root);
    struct archive *archive = archive_write_new();
    assert_int_equal(archive_write_set_format_pax(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_add_filter(archive, shape->filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(archive, path), ARCHIVE_OK);
    for (size_t i = 0; i < files.count; i++) {
        bool now = shape->lists == LISTS_FIRST
                       ? i == 0
                       : shape->lists == LISTS_BETWEEN && i == files.count / 2;
        if (now) {
            add_lists(archive, root, &files, shape);
        }
        if (!is_list(files.paths[i])) {
            add_as_shaped(archive, root, files.paths[i], shape);
        }
    }
    if (shape->lists == LISTS_LAST) {
        add_lists(archive, root, &files, shape);
    }
    if (shape->before) {
        add_as_shaped(archive, root, TRAINING_LIST, shape);
    }
    if (shape->replaced) {
        char *copy = mem_format("%s%s.copy.png", shape->top, shape->link);
        add(archive, root, "synROD/thing0/rgb/p0.png", copy);
        free(copy);
    }
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
    for (size_t i = 0; i < files.count; i++) {
        free(files.paths[i]);
    }
    free(files.paths);
}

/* The header of a file in a tar of `bytes`: 512 bytes with the name first and the type at 156. */
static unsigned char *find_header(char *tar, size_t bytes, const char *name)
{
    for (size_t at = 0; at + 512 <= bytes; at += 512) {
        if (strcmp(tar + at, name) == 0 && tar[at + 156] == '0') {
            return (unsigned char *)tar + at;
        }
    }
    fail_msg("%s has no header", name);
    return NULL;
}

/* Makes a file a sparse one in GNU's old form, which has the real size at 483, in base 256 with the
 * highest bit set: -2, which libarchive hands on. */
static void make_negative(unsigned char *header)
{
    unsigned sum = 0;
    header[156] = 'S';
    memcpy(header + 257, "ustar  ", 8);
    memset(header + 345, 0, 512 - 345);
    memset(header + 483, 0xff, 12);
    header[494] = 0xfe;
    memset(header + 148, ' ', 8);
    for (int i = 0; i < 512; i++) {
        sum += header[i];
    }
    snprintf((char *)header + 148, 8, "%06o", sum);
}

void fixture_make_negative(const char *path, const char *name)
{
    Err err = {0};
    size_t bytes;
    char *tar = path_read(path, &bytes, &err);
    assert_non_null(tar);
    make_negative(find_header(tar, bytes, name));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(tar, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    free(tar);
}
