/* What the CUDA backend says when memory runs out, on the emulator, which has as much as it is
 * told.
 */
#include "base/err.h"
#include "child.h"
#include "kernels/device.h"
#include "train/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

/* ---- merged or group by group ------------------------------------------------------------------
 */

enum { BATCH = 16, CROP = 224, RESIZE = 256 };

#define MERGED   "merged, MiB left:"
#define SEPARATE "group by group, MiB left:"

/* In a device with so many MiB opens a narrow network, whose input is large against it. Ends with
 * status 2 and with how it goes and what is left, or with what is missing. */
static void open_a_step(void *context)
{
    const int *mib = context;
    char bytes[32];
    Err err = {""};
    snprintf(bytes, sizeof bytes, "%lld", (long long)*mib << 20);
    setenv("RODEO_EMULATOR_MEMORY", bytes, 1);
    setenv("RODEO_EMULATOR_LEAKS", "0", 1);
    Backend *be = device_open("cuda", &(DeviceOptions){.precision = "fp32"}, &err);
    NetConfig config = {.trunk = {.depth = 18, .width = 1, .crop = CROP}, .classes = 5};
    NetStep groups = step_groups(BATCH, 0.1, 1.0);
    groups.passes = NET_AUTO;
    Net *net = be != NULL ? net_open(be, &config, &groups, 1, &err) : NULL;
    if (net == NULL) {
        fatal("%s", err.text);
    }
    Input input;
    input_open(&input, be, net_samples(net), RESIZE, CROP);
    size_t free_bytes;
    size_t total_bytes;
    device_memory(be, &free_bytes, &total_bytes);
    fatal("%s %lld", net_passes(net) == 1 ? MERGED : SEPARATE, (long long)(free_bytes >> 20));
}

/* Whether it is merged there, or -1 where it cannot be opened. */
static int is_merged(int mib)
{
    char text[CHILD_TEXT];
    assert_int_equal(child_run(open_a_step, &mib, text), 2);
    const char *merged = strstr(text, MERGED);
    if (merged != NULL && strtol(merged + strlen(MERGED), NULL, 10) < mib / 8) {
        fail_msg("of %d MiB an eighth must be left to pictures and libraries: %s", mib, text);
    }
    if (merged == NULL && strstr(text, SEPARATE) == NULL) {
        assert_non_null(strstr(text, "memory does not suffice"));
        return -1;
    }
    return merged != NULL;
}

static void a_step_is_merged_where_it_leaves_an_eighth(void **state)
{
    (void)state;
    int last = -1;
    for (int mib = 160; mib <= 320; mib += 4) {
        int merged = is_merged(mib);
        assert_true(merged >= last);
        assert_true(merged <= last + 1); /* with less memory it goes group by group first */
        last = merged;
    }
    assert_int_equal(last, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_said_whose_memory_is_missing),
        cmocka_unit_test(a_step_is_merged_where_it_leaves_an_eighth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
