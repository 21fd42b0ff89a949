/* Who may build packs in a folder, on file systems that lock folders, files alone, and nothing. */
#include "base/path.h"
#include "data/pack.h"
#include "data_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmocka.h>

static enum { FOLDERS, FILES, NOTHING } lockable;

/* The linker puts these in flock's place (data.cmake). FILES is what NFS does: see flock(2). */
int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
    bool writable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
    if (lockable == FOLDERS || (lockable == FILES && writable)) {
        return __real_flock(fd, operation);
    }
    errno = lockable == FILES ? EBADF : ENOLCK;
    return -1;
}

static int set_up(void **state)
{
    *state = fixture_create_folder();
    return 0;
}

static int tear_down(void **state)
{
    fixture_remove_folder(*state);
    return 0;
}

/* Whether another program's lock would be waited for. */
static bool waits(const char *folder)
{
    int stop = 1;
    int fd = -1;
    Err err = {0};
    PackSettings settings = {.stop = &stop};
    int rc = pack_lock_folder(folder, &settings, &fd, &err);
    if (fd >= 0) {
        close(fd);
    }
    assert_true(rc == 0 || strstr(err.text, "interrupted while waiting for another program"));
    return rc != 0;
}

static bool has_lock_file(const char *folder)
{
    char *path = path_join(folder, "packing.lock");
    bool there = path_is_file(path);
    free(path);
    return there;
}

static void one_program_at_a_time(void **state)
{
    Err err = {0};
    PackSettings settings = {0};
    for (lockable = FOLDERS; lockable <= FILES; lockable++) {
        int fd = -1;
        assert_int_equal(pack_lock_folder(*state, &settings, &fd, &err), 0);
        assert_true(fd >= 0);
        assert_true(waits(*state));
        close(fd);
        assert_false(waits(*state));
        assert_int_equal(has_lock_file(*state), lockable == FILES);
    }
}

static void without_locks_nobody_waits(void **state)
{
    Err err = {0};
    PackSettings settings = {0};
    int fd = 0;
    lockable = NOTHING;
    assert_int_equal(pack_lock_folder(*state, &settings, &fd, &err), 0);
    assert_int_equal(fd, -1);
    assert_false(waits(*state));
    assert_false(has_lock_file(*state));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_program_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_locks_nobody_waits, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
