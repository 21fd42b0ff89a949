/* Packs on drives that are not like a sound disk: a file becomes shorter while a program reads it,
 * and shared mappings are refused. */
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "data/pack.h"
#include "data_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* As on a FUSE drive with direct_io. */
static bool refuse_shared;

void *__real_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (refuse_shared && (flags & MAP_SHARED)) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    return __real_mmap64(address, bytes, protection, flags, fd, offset);
}

static void no_shared_mapping_is_needed(void **state)
{
    (void)state;
    Err err = {0};
    char *root = fixture_create_folder();
    fixture_write_synrod(root, 5);
    refuse_shared = true;
    Pack *pack = fixture_pack(root, 32);
    Pool *pool = pool_open(2);
    assert_int_equal(pack_verify(pack, pool, NULL, &err), 0);
    refuse_shared = false;
    pool_close(pool);
    pack_close(pack);
    fixture_remove_folder(root);
}

static void on_bus_error(int number)
{
    (void)number;
    pack_die_lost(PACK_LOST("test", " Advice."));
}

/* Shortens the pack's file and reads all of it. Ends with 1 where that is told, and does not
 * return. */
static void read_lost_pack(const char *root, int notes)
{
    Err err = {0};
    dup2(notes, STDERR_FILENO);
    Pack *pack = fixture_pack(root, 32);
    Pool *pool = pool_open(2);
    sigaction(SIGBUS, &(struct sigaction){.sa_handler = on_bus_error}, NULL);
    if (truncate(pack_path(pack), 128) != 0) {
        _exit(9);
    }
    _exit(pack_verify(pack, pool, NULL, &err) == 0 ? 8 : 7);
}

static void a_lost_file_is_told(void **state)
{
    (void)state;
    static const char expected[] = "\ntest: a packed file cannot be read any more: ";
    int notes[2];
    int status;
    char text[400] = "";
    char *root = fixture_create_folder();
    fixture_write_synrod(root, 40);
    assert_int_equal(pipe(notes), 0);
    pid_t child = fork();
    if (child == 0) {
        read_lost_pack(root, notes[1]);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_true(read(notes[0], text, sizeof text - 1) > 0);
    assert_true(text_starts_with(text, expected));
    assert_true(text_ends_with(text, " Advice.\n"));
    close(notes[0]);
    close(notes[1]);
    fixture_remove_folder(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_file_is_told),
        cmocka_unit_test(no_shared_mapping_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
