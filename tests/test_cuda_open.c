/* Which GPU the CUDA backend opens and which it refuses, on the emulator, which has those that it
 * is told. */
#include "base/err.h"
#include "child.h"
#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    const char *device;
    const char *variable[2][2]; /* of the environment, with their values */
} Kind;

/* Ends with status 2 and with one line: the device's kind, or why it was refused. */
static void open_and_tell(void *context)
{
    const Kind *kind = context;
    Err err = {""};
    for (int i = 0; i < 2 && kind->variable[i][0] != NULL; i++) {
        setenv(kind->variable[i][0], kind->variable[i][1], 1);
    }
    Backend *be = device_open(kind->device, &(DeviceOptions){.threads = 1}, &err);
    const char *opened = be != NULL ? device_kind(be) : NULL;
    device_close(be);
    fatal("%s", opened != NULL ? opened : err.text);
}

static void expect(Kind kind, const char *line)
{
    char text[CHILD_TEXT];
    assert_int_equal(child_run(open_and_tell, &kind, text), 2);
    assert_non_null(strchr(text, '\n'));
    *strchr(text, '\n') = '\0';
    assert_string_equal(text, line);
}

/* As under the Windows Subsystem for Linux. */
static void a_gpu_without_signs_is_found(void **state)
{
    (void)state;
    expect((Kind){"auto", {{NULL}}}, "rodeo: cuda");
    if (access("/dev/nvidia0", F_OK) != 0 && access("/proc/driver/nvidia/gpus", F_OK) != 0) {
        expect((Kind){"auto", {{"RODEO_EMULATOR_GPUS", "0"}}}, "rodeo: cpu");
    }
}

#define SM      "RODEO_EMULATOR_SM"
#define VERSION "RODEO_EMULATOR_CUDNN_VERSION"

static void a_gpu_that_cudnn_has_no_code_for_is_refused(void **state)
{
    (void)state;
    expect((Kind){"cuda", {{SM, "7.0"}, {VERSION, "91100"}}},
           "rodeo: emulated GPU: cuDNN 9.11 has no code for its compute capability 7.0, 9.10 is "
           "the last that has: install that, configure again and build, or give --device cpu");
    expect((Kind){"cuda", {{SM, "7.0"}, {VERSION, "91002"}}}, "rodeo: cuda");
    expect((Kind){"cuda", {{SM, "6.0"}, {VERSION, "90800"}}}, "rodeo: cuda");
    expect((Kind){"cuda", {{SM, "7.5"}, {VERSION, "91100"}}}, "rodeo: cuda");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_without_signs_is_found),
        cmocka_unit_test(a_gpu_that_cudnn_has_no_code_for_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
