/* A pack whose file becomes shorter while a program reads it, as where its disk fails. */
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "data/pack.h"
#include "data_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Shortens the pack's file and reads all of it. Ends with 1 where that is told, and does not
 * return. */
static void read_lost_pack(const char *root, int notes)
{
    Err err = {0};
    dup2(notes, STDERR_FILENO);
    Pack *pack = fixture_pack(root, 32);
    Pool *pool = pool_open(2);
    pack_tell_bus_errors("test", " Advice.");
    if (truncate(pack_path(pack), 128) != 0) {
        _exit(9);
    }
    _exit(pack_verify(pack, pool, NULL, &err) == 0 ? 8 : 7);
}

static void it_is_told(void **state)
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
        cmocka_unit_test(it_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
