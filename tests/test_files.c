/* Paths, and atomic replacement of files. The system calls that atomic_file.c makes are wrapped
 * (see base.cmake): each of them in turn is made to fail, and each in turn is the last one before
 * the process dies. At every such point the old file or the new one must be there, whole. */
#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define OLD_TEXT "old content"
#define NEW_TEXT "new content, which is longer"

/* ---- faults ---------------------------------------------------------------------------------- */

typedef enum { FAULT_NONE, FAULT_ERROR, FAULT_INTERRUPT, FAULT_DEATH } FaultKind;

typedef struct {
    FaultKind kind;
    int at;    /* which wrapped call, counted from 0 */
    int calls; /* so far */
    int error; /* errno for FAULT_ERROR */
    /* What fsync has not seen yet, whatever the fault: a write or a rename; and whether something
     * was renamed in that state. */
    int unsynced, renamed_unsynced;
} Fault;

static Fault fault;

static void fault_set(FaultKind kind, int at, int error)
{
    fault = (Fault){.kind = kind, .at = at, .error = error};
}

/* Whether this call is to fail; sets errno then. */
static int fault_strikes(void)
{
    if (fault.kind == FAULT_NONE || fault.calls++ != fault.at) {
        return 0;
    }
    if (fault.kind == FAULT_DEATH) {
        _exit(9);
    }
    errno = fault.kind == FAULT_INTERRUPT ? EINTR : fault.error;
    return 1;
}

/* The linker's --wrap option calls __wrap_X in place of X; __real_X is X itself. */
int __real_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode)
{
    return fault_strikes() ? -1 : __real_open64(path, flags, mode);
}

ssize_t __real_write(int fd, const void *data, size_t bytes);
ssize_t __wrap_write(int fd, const void *data, size_t bytes);
/* Half of what was asked for at most: a write may always be short. */
ssize_t __wrap_write(int fd, const void *data, size_t bytes)
{
    fault.unsynced = 1;
    return fault_strikes() ? -1 : __real_write(fd, data, bytes > 1 ? bytes / 2 : bytes);
}

ssize_t __real_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset)
{
    fault.unsynced = 1;
    return fault_strikes() ? -1 : __real_pwrite64(fd, data, bytes > 1 ? bytes / 2 : bytes, offset);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    fault.unsynced = 0;
    return fault_strikes() ? -1 : __real_fsync(fd);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    int strikes = fault_strikes();
    int error = errno;
    int rc = __real_close(fd); /* the descriptor is gone even where close reports an error */
    errno = error;
    return strikes ? -1 : rc;
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    fault.renamed_unsynced |= fault.unsynced;
    fault.unsynced = 1;
    return fault_strikes() ? -1 : __real_rename(from, to);
}

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode)
{
    return fault_strikes() ? -1 : __real_mkdir(path, mode);
}

/* ---- a folder of its own for each test ---------------------------------------------------------
 */

typedef struct {
    char folder[64];
    char *path, *temporary, *backup;
} Place;

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int place_set_up(void **state)
{
    Place *place = mem_zeroed(1, sizeof *place);
    snprintf(place->folder, sizeof place->folder, "/tmp/rodeo-test-XXXXXX");
    if (!mkdtemp(place->folder)) {
        return -1;
    }
    place->path = path_join(place->folder, "file");
    place->temporary = path_join(place->folder, "file.tmp");
    place->backup = path_join(place->folder, "file.old");
    *state = place;
    return 0;
}

static void place_reset(const Place *place)
{
    unlink(place->path);
    unlink(place->temporary);
    unlink(place->backup);
    write_text(place->path, OLD_TEXT);
}

static int place_tear_down(void **state)
{
    Place *place = *state;
    unlink(place->path);
    unlink(place->temporary);
    unlink(place->backup);
    int rc = rmdir(place->folder);
    free(place->path);
    free(place->temporary);
    free(place->backup);
    free(place);
    return rc;
}

static void assert_content(const char *path, const char *expected)
{
    Err err = {0};
    size_t bytes;
    char *content = path_read(path, &bytes, &err);
    assert_non_null(content);
    assert_int_equal(bytes, strlen(expected));
    assert_string_equal(content, expected);
    free(content);
}

static int content_is(const char *path, const char *expected)
{
    char *content = path_is_file(path) ? path_read(path, NULL, NULL) : NULL;
    int same = content && strcmp(content, expected) == 0;
    free(content);
    return same;
}

/* ---- atomic files ------------------------------------------------------------------------------
 */

static int replace_keeping(const Place *place, Err *err)
{
    AtomicFile file;
    if (atomic_file_open(&file, place->path, err) != 0 ||
        atomic_file_write(&file, NEW_TEXT, strlen(NEW_TEXT), err) != 0) {
        return -1;
    }
    return atomic_file_commit_keeping(&file, place->backup, err);
}

static int replace_plainly(const Place *place, Err *err)
{
    return atomic_file_replace(place->path, NEW_TEXT, strlen(NEW_TEXT), err);
}

typedef int Replace(const Place *place, Err *err);

static void replacing_works(void **state)
{
    const Place *place = *state;
    Err err = {0};
    unlink(place->path);
    assert_int_equal(replace_keeping(place, &err), 0);
    assert_content(place->path, NEW_TEXT);
    assert_false(path_is_file(place->backup));

    place_reset(place);
    write_text(place->temporary, "left by an earlier crash, and longer than what is written now");
    assert_int_equal(replace_keeping(place, &err), 0);
    assert_content(place->path, NEW_TEXT);
    assert_content(place->backup, OLD_TEXT);
    assert_false(path_is_file(place->temporary));

    place_reset(place);
    assert_int_equal(replace_plainly(place, &err), 0);
    assert_content(place->path, NEW_TEXT);
    assert_false(path_is_file(place->backup));
    assert_string_equal(err.text, "");
}

static void aborting_leaves_the_old_file(void **state)
{
    const Place *place = *state;
    place_reset(place);
    Err err = {0};
    AtomicFile file;
    assert_int_equal(atomic_file_open(&file, place->path, &err), 0);
    assert_int_equal(atomic_file_write(&file, NEW_TEXT, 3, &err), 0);
    assert_int_equal(file.bytes, 3);
    atomic_file_abort(&file);
    atomic_file_abort(&file);
    assert_content(place->path, OLD_TEXT);
    assert_false(path_is_file(place->temporary));
}

static void what_is_no_file_is_not_replaced(void **state)
{
    const Place *place = *state;
    struct stat status;
    Err err = {0};
    unlink(place->path);
    assert_int_equal(mkfifo(place->path, 0600), 0);
    assert_int_equal(replace_plainly(place, &err), -1);
    assert_non_null(strstr(err.text, place->path));
    assert_int_equal(stat(place->path, &status), 0);
    assert_true(S_ISFIFO(status.st_mode));
    assert_int_equal(unlink(place->path), 0);

    assert_int_equal(mkdir(place->path, 0700), 0);
    assert_int_equal(replace_keeping(place, &err), -1);
    assert_true(path_is_folder(place->path));
    assert_false(path_is_file(place->temporary));
    assert_int_equal(rmdir(place->path), 0);

    AtomicFile file;
    assert_int_equal(atomic_file_open(&file, "", &err), -1);
    assert_string_equal(err.text, "an empty file name was given");
    atomic_file_abort(&file);
}

/* The data must be on the disk before it gets its name, and the name before success is reported. */
static void success_means_durable(void **state)
{
    const Place *place = *state;
    place_reset(place);
    fault_set(FAULT_NONE, 0, 0);
    assert_int_equal(replace_plainly(place, NULL), 0);
    assert_false(fault.renamed_unsynced);
    assert_false(fault.unsynced);
}

static int calls_of(Replace *replace, const Place *place)
{
    place_reset(place);
    fault_set(FAULT_ERROR, -1, 0);
    assert_int_equal(replace(place, NULL), 0);
    int calls = fault.calls;
    fault_set(FAULT_NONE, 0, 0);
    return calls;
}

/* After a reported error: nothing temporary stays, and the place holds the old file. Only the last
 * two steps, which make the folder durable, come after the new file is in place. */
static void fail_at(Replace *replace, const Place *place, int at, int error)
{
    place_reset(place);
    Err err = {0};
    fault_set(FAULT_ERROR, at, error);
    int rc = replace(place, &err);
    fault_set(FAULT_NONE, 0, 0);
    assert_false(path_is_file(place->temporary));
    if (rc == 0) {
        assert_string_equal(err.text, "");
        assert_content(place->path, NEW_TEXT);
        return;
    }
    assert_non_null(strstr(err.text, place->path));
    assert_non_null(strstr(err.text, strerror(error)));
    if (strstr(err.text, "folder through")) {
        assert_content(place->path, NEW_TEXT);
    } else {
        assert_content(place->path, OLD_TEXT);
    }
}

static void every_error_is_reported(void **state)
{
    const Place *place = *state;
    Replace *const replaces[] = {replace_plainly, replace_keeping};
    for (size_t i = 0; i < sizeof replaces / sizeof replaces[0]; i++) {
        int calls = calls_of(replaces[i], place);
        assert_true(calls >= 7);
        for (int at = 0; at < calls; at++) {
            fail_at(replaces[i], place, at, EIO);
            fail_at(replaces[i], place, at, ENOSPC);
        }
    }
}

/* The last call of all, closing the folder's descriptor, is the only one whose error means nothing.
 */
static void only_closing_the_folder_may_fail_silently(void **state)
{
    const Place *place = *state;
    int calls = calls_of(replace_plainly, place);
    int silent = 0;
    for (int at = 0; at < calls; at++) {
        place_reset(place);
        fault_set(FAULT_ERROR, at, EIO);
        silent += replace_plainly(place, NULL) == 0;
        fault_set(FAULT_NONE, 0, 0);
    }
    assert_int_equal(silent, 1);
}

static void full_disk_says_what_to_do(void **state)
{
    const Place *place = *state;
    place_reset(place);
    Err err = {0};
    fault_set(FAULT_ERROR, 1, ENOSPC);
    assert_int_equal(replace_plainly(place, &err), -1);
    fault_set(FAULT_NONE, 0, 0);
    assert_non_null(strstr(err.text, "make room"));
}

static void interrupted_write_goes_on(void **state)
{
    const Place *place = *state;
    place_reset(place);
    Err err = {0};
    fault_set(FAULT_INTERRUPT, 2, 0);
    assert_int_equal(replace_plainly(place, &err), 0);
    fault_set(FAULT_NONE, 0, 0);
    assert_content(place->path, NEW_TEXT);
}

/* Filesystems that cannot fsync a folder say so with these errors; the file is safe there. */
static void folder_without_fsync_is_fine(void **state)
{
    const Place *place = *state;
    int fsync_of_folder = calls_of(replace_plainly, place) - 2;
    const int errors[] = {EINVAL, ENOTSUP, EROFS};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        place_reset(place);
        fault_set(FAULT_ERROR, fsync_of_folder, errors[i]);
        assert_int_equal(replace_plainly(place, NULL), 0);
        fault_set(FAULT_NONE, 0, 0);
    }
}

static void die_at(Replace *replace, const Place *place, int at)
{
    place_reset(place);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fault_set(FAULT_DEATH, at, 0);
        replace(place, NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 9);
}

static void every_death_leaves_a_whole_file(void **state)
{
    const Place *place = *state;
    int calls = calls_of(replace_plainly, place);
    for (int at = 0; at < calls; at++) {
        die_at(replace_plainly, place, at);
        assert_true(content_is(place->path, OLD_TEXT) || content_is(place->path, NEW_TEXT));
    }
    calls = calls_of(replace_keeping, place);
    for (int at = 0; at < calls; at++) {
        die_at(replace_keeping, place, at);
        int whole = content_is(place->path, OLD_TEXT) || content_is(place->path, NEW_TEXT);
        assert_true(whole || (!path_is_file(place->path) && content_is(place->backup, OLD_TEXT)));
    }
}

static int replace_out_of_order(const Place *place, Err *err)
{
    const size_t half = strlen(NEW_TEXT) / 2;
    AtomicFile file;
    if (atomic_file_open(&file, place->path, err) != 0) {
        return -1;
    }
    if (atomic_file_write_at(&file, (int64_t)half, &NEW_TEXT[half], strlen(NEW_TEXT) - half, err) !=
            0 ||
        atomic_file_write_at(&file, 0, NEW_TEXT, half, err) != 0) {
        atomic_file_abort(&file);
        return -1;
    }
    return atomic_file_commit(&file, err);
}

static void writing_at_an_offset(void **state)
{
    const Place *place = *state;
    place_reset(place);
    assert_int_equal(replace_out_of_order(place, NULL), 0);
    assert_content(place->path, NEW_TEXT);

    place_reset(place);
    fault_set(FAULT_INTERRUPT, 2, 0);
    assert_int_equal(replace_out_of_order(place, NULL), 0);
    fault_set(FAULT_NONE, 0, 0);
    assert_content(place->path, NEW_TEXT);

    int calls = calls_of(replace_out_of_order, place);
    for (int at = 0; at < calls; at++) {
        fail_at(replace_out_of_order, place, at, EIO);
    }
}

/* ---- paths -------------------------------------------------------------------------------------
 */

static void joining_puts_one_slash(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"},        {"/", "b", "/b"},
        {"", "b", "b"},    {"a/b", "c/d", "a/b/c/d"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *joined = path_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
}

static void folders_are_made_with_what_is_above(void **state)
{
    const Place *place = *state;
    Err err = {0};
    char *deep = path_join(place->folder, "a//b/c/");
    assert_int_equal(path_make_folders(deep, &err), 0);
    assert_int_equal(path_make_folders(deep, &err), 0);
    assert_true(path_is_folder(deep));
    assert_false(path_is_file(deep));
    free(deep);
    static const char *const made[] = {"a/b/c", "a/b", "a"};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        char *folder = path_join(place->folder, made[i]);
        assert_int_equal(rmdir(folder), 0);
        free(folder);
    }
    assert_int_equal(path_make_folders("/", &err), 0);
    assert_int_equal(path_make_folders("", &err), -1);
}

static void folder_errors_name_the_reason(void **state)
{
    const Place *place = *state;
    place_reset(place);
    Err err = {0};
    char *under_file = path_join(place->path, "below");
    assert_int_equal(path_make_folders(under_file, &err), -1);
    assert_non_null(strstr(err.text, place->path));
    assert_non_null(strstr(err.text, strerror(EEXIST)));
    free(under_file);
    /* The reason is the one that mkdir gave, not that of a later look at the folder. */
    fault_set(FAULT_ERROR, 0, EACCES);
    assert_int_equal(path_make_folders("rodeo-missing", &err), -1);
    fault_set(FAULT_NONE, 0, 0);
    char *reason = mem_format("rodeo-missing: cannot create this folder: %s", strerror(EACCES));
    assert_string_equal(err.text, reason);
    free(reason);
}

static void only_what_is_surely_not_there_is_free(void **state)
{
    const Place *place = *state;
    place_reset(place);
    assert_false(path_is_free(place->path));
    assert_false(path_is_free(place->folder));
    assert_true(path_is_free(place->backup));
    char *below = path_join(place->path, "below");
    assert_true(path_is_free(below));
    assert_int_equal(symlink(below, place->backup), 0);
    assert_false(path_is_file(place->backup));
    assert_false(path_is_free(place->backup));
    assert_int_equal(unlink(place->backup), 0);
    /* Not that there is none, but that it cannot be looked for. */
    char name[NAME_MAX + 2];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    char *too_long = path_join(place->folder, name);
    assert_false(path_is_free(too_long));
    free(too_long);
    free(below);
}

static void reading_reports_what_is_wrong(void **state)
{
    const Place *place = *state;
    Err err = {0};
    assert_null(path_read(place->backup, NULL, &err));
    assert_non_null(strstr(err.text, place->backup));
    assert_non_null(strstr(err.text, strerror(ENOENT)));
    assert_null(path_read(place->folder, NULL, &err));
    assert_non_null(strstr(err.text, "is not a file"));

    write_text(place->path, "");
    assert_content(place->path, "");
    write_text(place->path, "two\nlines\n");
    assert_content(place->path, "two\nlines\n");
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, place_set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(replacing_works),
        IN_FOLDER(aborting_leaves_the_old_file),
        IN_FOLDER(what_is_no_file_is_not_replaced),
        IN_FOLDER(success_means_durable),
        IN_FOLDER(every_error_is_reported),
        IN_FOLDER(only_closing_the_folder_may_fail_silently),
        IN_FOLDER(full_disk_says_what_to_do),
        IN_FOLDER(interrupted_write_goes_on),
        IN_FOLDER(folder_without_fsync_is_fine),
        IN_FOLDER(writing_at_an_offset),
        IN_FOLDER(every_death_leaves_a_whole_file),
        cmocka_unit_test(joining_puts_one_slash),
        IN_FOLDER(folders_are_made_with_what_is_above),
        IN_FOLDER(folder_errors_name_the_reason),
        IN_FOLDER(only_what_is_surely_not_there_is_free),
        IN_FOLDER(reading_reports_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
