/* The lock file, on file systems that lock and on some that do not. */
#include "base/lock.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Whether flock works. */
static bool locks;

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
    errno = EOPNOTSUPP;
    return locks ? __real_flock(fd, operation) : -1;
}

/* Whether the file can be read. */
static bool reads;

ssize_t __real_pread64(int fd, void *data, size_t bytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *data, size_t bytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *data, size_t bytes, off_t offset)
{
    errno = EIO;
    return reads ? __real_pread64(fd, data, bytes, offset) : -1;
}

static const LockTimes quick = {.beat = 0.05, .patience = 0.4, .stale = 600};

typedef struct {
    char folder[64];
    char path[80];
} Place;

static int set_up(void **state)
{
    Place *place = mem_zeroed(1, sizeof *place);
    snprintf(place->folder, sizeof place->folder, "/tmp/rodeo-lock-XXXXXX");
    *state = place;
    locks = true;
    reads = true;
    if (!mkdtemp(place->folder)) {
        return -1;
    }
    snprintf(place->path, sizeof place->path, "%s/run.lock", place->folder);
    return 0;
}

static int tear_down(void **state)
{
    Place *place = *state;
    unlink(place->path);
    int rc = rmdir(place->folder);
    free(place);
    return rc;
}

static Lock *take(const Place *place, Err *err)
{
    return lock_take(place->path, &quick, NULL, err);
}

/* A process of its own that holds the lock until it is killed; returns when it has it. */
static pid_t start_holder(const Place *place)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        Err err;
        Lock *lock = take(place, &err);
        if (!lock || write(ready[1], "x", 1) != 1) {
            _exit(1);
        }
        pause();
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

static void end_holder(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* The same on both kinds of file systems: refused while it lives, and a stale one is recognised. */
static void check_two_processes(const Place *place)
{
    Err err = {""};
    pid_t child = start_holder(place);
    char *expected = mem_format("%s is held by process %d on ", place->path, (int)child);
    assert_null(take(place, &err));
    assert_int_equal(strncmp(err.text, expected, strlen(expected)), 0);
    free(expected);
    end_holder(child);
    Lock *lock = take(place, &err);
    assert_non_null(lock);
    lock_release(lock);
    lock = take(place, &err);
    assert_non_null(lock);
    lock_release(lock);
}

static void one_process_holds_it(void **state)
{
    check_two_processes(*state);
}

static void without_file_locks_the_process_decides(void **state)
{
    locks = false;
    check_two_processes(*state);
}

static void write_holder(const Place *place, const char *text)
{
    FILE *file = fopen(place->path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

#define ELSEWHERE "pid 7 host another-machine boot b started 5 beat "

/* A number that now belongs to another process. */
static void a_used_process_number_is_recognised(void **state)
{
    const Place *place = *state;
    Err err = {""};
    char host[65] = "";
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    locks = false;
    char *text = mem_format("pid 1 host %s boot - started 99999999999 beat 0000000000\n", host);
    write_holder(place, text);
    free(text);
    Lock *lock = take(place, &err);
    assert_non_null(lock);
    lock_release(lock);
}

static void a_silent_holder_elsewhere_is_gone(void **state)
{
    const Place *place = *state;
    Err err = {""};
    locks = false;
    write_holder(place, ELSEWHERE "0000000003\n");
    struct timespec before;
    struct timespec after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    Lock *lock = take(place, &err);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_non_null(lock);
    assert_true((double)(after.tv_sec - before.tv_sec) +
                    (double)(after.tv_nsec - before.tv_nsec) / 1e9 >=
                quick.patience);
    lock_release(lock);
}

/* On a drive that fails: whoever holds it may be alive. */
static void a_file_that_cannot_be_read_is_not_taken(void **state)
{
    const Place *place = *state;
    Err err = {""};
    locks = false;
    write_holder(place, ELSEWHERE "0000000003\n");
    reads = false;
    assert_null(take(place, &err));
    assert_non_null(strstr(err.text, "run.lock: cannot read who holds it: Input/output error"));
}

/* An old file is not waited for. */
static void an_old_file_is_taken_at_once(void **state)
{
    const Place *place = *state;
    Err err = {""};
    locks = false;
    write_holder(place, ELSEWHERE "0000000003\n");
    struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, place->path, old, 0), 0);
    const LockTimes patient = {.beat = 1, .patience = 3600, .stale = 600};
    Lock *lock = lock_take(place->path, &patient, NULL, &err);
    assert_non_null(lock);
    lock_release(lock);
}

static void a_living_holder_elsewhere_is_respected(void **state)
{
    const Place *place = *state;
    Err err = {""};
    locks = false;
    write_holder(place, ELSEWHERE "0000000003\n");
    pid_t child = fork();
    if (child == 0) {
        usleep(150000);
        FILE *file = fopen(place->path, "w");
        _exit(!file || fputs(ELSEWHERE "0000000004\n", file) < 0 || fclose(file) != 0);
    }
    assert_null(take(place, &err));
    assert_non_null(strstr(err.text, "is held by process 7 on another-machine"));
    int status = 1;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

/* Copies of one machine often have one name: it does not tell that the holder is gone. */
static void a_machine_of_the_same_name_is_another(void **state)
{
    const Place *place = *state;
    Err err = {""};
    char host[65] = "";
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    static const char line[] = "pid 7 host %s boot another started 5 beat %010d\n";
    char *before = mem_format(line, host, 3);
    char *after = mem_format(line, host, 4);
    for (int i = 0; i < 2; i++) {
        locks = false;
        write_holder(place, before);
        pid_t child = fork();
        if (child == 0) {
            usleep(150000);
            write_holder(place, i == 0 ? after : before);
            _exit(0);
        }
        Lock *lock = take(place, &err);
        assert_int_equal(lock == NULL, i == 0);
        lock_release(lock);
        waitpid(child, NULL, 0);
    }
    free(before);
    free(after);
}

/* By itself: the program may be busy with one long write, or with packing. */
static void a_holder_shows_that_it_lives(void **state)
{
    const Place *place = *state;
    Err err = {""};
    for (int i = 0; i < 2; i++) {
        locks = i == 1;
        Lock *lock = take(place, &err);
        char before[256] = "";
        char after[256] = "";
        assert_non_null(lock);
        int fd = open(place->path, O_RDONLY | O_CLOEXEC);
        assert_true(pread(fd, before, sizeof before - 1, 0) > 0);
        usleep(300000);
        assert_true(pread(fd, after, sizeof after - 1, 0) > 0);
        close(fd);
        /* Where the file system locks, there is no need to. */
        assert_int_equal(strcmp(before, after) != 0, !locks);
        lock_release(lock);
    }
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    (void)state;
    Err err = {""};
    assert_null(lock_take("/no/such/folder/run.lock", &quick, NULL, &err));
    assert_string_equal(err.text,
                        "/no/such/folder/run.lock: cannot create: No such file or directory");
    lock_release(NULL);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PLACE(one_process_holds_it),
        IN_PLACE(without_file_locks_the_process_decides),
        IN_PLACE(a_used_process_number_is_recognised),
        IN_PLACE(a_silent_holder_elsewhere_is_gone),
        IN_PLACE(a_file_that_cannot_be_read_is_not_taken),
        IN_PLACE(an_old_file_is_taken_at_once),
        IN_PLACE(a_living_holder_elsewhere_is_respected),
        IN_PLACE(a_machine_of_the_same_name_is_another),
        IN_PLACE(a_holder_shows_that_it_lives),
        cmocka_unit_test(a_folder_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
