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

static void add(struct archive *archive, const char *root, const char *path, const char *name)
{
    Err err = {0};
    size_t bytes;
    struct stat status;
    char *from = path_join(root, path);
    assert_int_equal(stat(from, &status), 0);
    char *data = path_read(from, &bytes, &err);
    assert_non_null(data);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(archive, data, bytes), bytes);
    archive_entry_free(entry);
    free(data);
    free(from);
}

static void add_link(struct archive *archive, const char *target, const char *name)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_hardlink(entry, target);
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
        add_link(archive, target, name);
        free(target);
    } else {
        add(archive, root, path, name);
    }
    if (shape->twice) {
        add_link(archive, name, name);
    }
    free(name);
}

static bool is_list(const char *path)
{
    return text_ends_with(path, ".txt");
}

static void add_lists(struct archive *archive, const char *root, const Files *files,
                      const TarShape *shape)
{
    for (size_t i = 0; i < files->count; i++) {
        if (is_list(files->paths[i])) {
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
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
    for (size_t i = 0; i < files.count; i++) {
        free(files.paths[i]);
    }
    free(files.paths);
}
