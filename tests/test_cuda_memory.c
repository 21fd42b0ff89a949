/* What the CUDA backend says when memory runs out, on the emulator, which has as much as it is
 * told.
 */
#include "base/err.h"
#include "child.h"
#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

typedef void Ask(Backend *be);

static void open_and_ask(void *context)
{
    Err err = {""};
    Ask *const *ask = context;
    setenv("RODEO_EMULATOR_LEAKS", "0", 1); /* a program that ends so leaves things behind */
    Backend *be = device_open("cuda", &(DeviceOptions){.precision = "fp32"}, &err);
    if (be != NULL) {
        (*ask)(be);
    }
}

/* It must end with status 2 and with one line that says what is missing. */
static void expect_end(Ask *ask, const char *message)
{
    char text[CHILD_TEXT];
    assert_int_equal(child_run(open_and_ask, &ask, text), 2);
    if (strncmp(text, message, strlen(message)) != 0 ||
        strchr(text, '\n') != text + strlen(text) - 1) {
        fail_msg("expected one line that begins with \"%s\", not: %s", message, text);
    }
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
