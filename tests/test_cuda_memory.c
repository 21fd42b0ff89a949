/* What the CUDA backend says when memory runs out, on the emulator, which has as much as it is
 * told.
 */
#include "base/err.h"
#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TOO_MUCH ((size_t)1 << 47)

static void ask_the_gpu(Backend *be)
{
    device_alloc(be, TOO_MUCH);
}

static void ask_the_machine(Backend *be)
{
    device_host_alloc(be, TOO_MUCH);
}

static void open_and(void (*ask)(Backend *be))
{
    Err err = {""};
    setenv("RODEO_EMULATOR_LEAKS", "0", 1); /* a program that ends so leaves things behind */
    Backend *be = device_open("cuda", &(DeviceOptions){.precision = "fp32"}, &err);
    if (be != NULL) {
        ask(be);
    }
    _exit(0);
}

/* It must end with status 2 and with one line that says what is missing. */
static void expect_end(void (*ask)(Backend *be), const char *message)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        open_and(ask);
    }
    close(ends[1]);
    char text[1024] = "";
    size_t length = 0;
    ssize_t more = 0;
    while ((more = read(ends[0], text + length, sizeof(text) - 1 - length)) > 0) {
        length += (size_t)more;
    }
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (strncmp(text, message, strlen(message)) != 0 || strchr(text, '\n') != text + length - 1) {
        fail_msg("expected one line that begins with \"%s\", not: %s", message, text);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 2);
}

static void it_is_said_whose_memory_is_missing(void **state)
{
    (void)state;
    expect_end(ask_the_gpu, "rodeo: the GPU's memory does not suffice: 134217728 MiB are needed, ");
    expect_end(ask_the_machine,
               "rodeo: this machine's memory does not suffice: 134217728 MiB are needed ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_said_whose_memory_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
