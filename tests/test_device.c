/* Opening the device, its memory, and operators refusing shapes that break their rules. */
#include "base/mem.h"
#include "child.h"
#include "kernels/device.h"
#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static Backend *open_cpu(int threads)
{
    Err err = {""};
    Backend *be = device_open("cpu", &(DeviceOptions){.threads = threads}, &err);
    if (be == NULL) {
        fail_msg("%s", err.text);
    }
    return be;
}

static void test_names_what_it_opened(void **state)
{
    (void)state;
    Err err = {""};
    Backend *be = device_open("auto", &(DeviceOptions){0}, &err);
    assert_non_null(be);
    bool gpu = RODEO_TEST_CUDA && device_gpu_is_present();
    assert_string_equal(device_kind(be), gpu ? "cuda" : "cpu");
    device_close(be);

    be = open_cpu(1);
    char *description = mem_format("%s, 1 thread", device_name(be));
    assert_string_equal(device_description(be), description);
    free(description);
    device_close(be);
    be = open_cpu(3);
    assert_non_null(strstr(device_description(be), ", 3 threads"));
    device_close(be);
    device_close(NULL);
}

static void expect_refusal(const char *device, int threads, const char *message)
{
    Err err = {""};
    assert_null(device_open(device, &(DeviceOptions){.threads = threads}, &err));
    assert_string_equal(err.text, message);
}

/* What is said depends on how this was built and on the machine: every case names what to do. */
static void test_refuses_a_gpu_that_is_not_there(void **state)
{
    (void)state;
    Err err = {""};
    assert_null(device_open("cuda", &(DeviceOptions){.gpu = 1000}, &err));
    if (!RODEO_TEST_CUDA) {
        assert_string_equal(err.text,
                            "device cuda: this build has only the CPU backend, because CMake found "
                            "no CUDA compiler or no cuDNN; install both and configure again with "
                            "-DRODEO_CUDA=ON, which says what is missing, or give --device cpu");
    } else if (!device_gpu_is_present()) {
        assert_non_null(strstr(err.text, "device cuda: no GPU can be used ("));
        assert_non_null(strstr(err.text, "; check nvidia-smi, or give --device cpu"));
    } else {
        assert_non_null(strstr(err.text, "--gpu 1000: this machine has "));
    }
}

static void test_refuses_what_it_cannot_open(void **state)
{
    (void)state;
    expect_refusal("tpu", 0, "device \"tpu\" is not known; --device takes auto, cuda or cpu");
    expect_refusal("cpu", -1,
                   "-1 CPU threads cannot be used; give 1 to 1024, or 0 for one per core");
    expect_refusal("auto", 5000,
                   "5000 CPU threads cannot be used; give 1 to 1024, or 0 for one per core");
}

static void test_memory(void **state)
{
    (void)state;
    enum { BYTES = 1000 };
    Backend *be = open_cpu(1);
    for (size_t bytes = 0; bytes < 3 * BYTES; bytes += BYTES - 1) {
        void *memory = device_alloc(be, bytes);
        assert_int_equal((uintptr_t)memory % 256, 0);
        device_free(be, memory);
    }
    unsigned char *host = device_host_alloc(be, BYTES);
    void *memory = device_alloc(be, BYTES);
    memset(host, 7, BYTES);
    device_copy_in(be, memory, host, BYTES);
    device_zero(be, memory, BYTES - 1);
    memset(host, 1, BYTES);
    device_synchronize(be);
    device_copy_out(be, host, memory, BYTES);
    for (int i = 0; i < BYTES - 1; i++) {
        assert_int_equal(host[i], 0);
    }
    assert_int_equal(host[BYTES - 1], 7);
    device_free(be, memory);
    device_host_free(be, host);
    device_close(be);
}

typedef void Misuse(Backend *be, void *memory);

static void conv_without_room(Backend *be, void *memory)
{
    op_conv_fprop(be, &(ConvShape){1, 4, 5, 3, 2, 7, 1, 1}, memory, memory, NULL, memory);
}

static void conv_pads_a_whole_kernel(Backend *be, void *memory)
{
    op_conv_dgrad(be, &(ConvShape){1, 4, 4, 1, 1, 3, 1, 3}, memory, memory, memory);
}

static void conv_without_output(Backend *be, void *memory)
{
    op_conv_wgrad(be, &(ConvShape){1, 4, 4, 1, 1, 1, 1, 0}, memory, memory, false, NULL, memory);
}

static void linear_without_rows(Backend *be, void *memory)
{
    op_linear_fprop(be, &(LinearShape){0, 3, 2, false}, memory, memory, NULL, memory);
}

static void batchnorm_of_one_row(Backend *be, void *memory)
{
    float *f = memory;
    op_batchnorm_train(be, &(BatchNormShape){2, 1, 3, 1e-5f, 0.1f, true}, memory, NULL, f, f, f, f,
                       f, f, memory, NULL);
}

static void batchnorm_without_mask(Backend *be, void *memory)
{
    float *f = memory;
    op_batchnorm_train(be, &(BatchNormShape){1, 2, 3, 1e-5f, 0.1f, true}, memory, memory, f, f, f,
                       f, f, f, memory, NULL);
}

static void batchnorm_with_idle_mask(Backend *be, void *memory)
{
    float *f = memory;
    op_batchnorm_bprop(be, &(BatchNormShape){1, 2, 3, 1e-5f, 0.1f, true}, memory, memory, memory,
                       NULL, f, f, f, f, false, memory, NULL, f, f);
}

static void dropout_of_everything(Backend *be, void *memory)
{
    op_dropout(be, &(DropoutShape){.count = 4, .p = 1.0f}, memory, memory, memory);
}

static void crop_larger_than_picture(Backend *be, void *memory)
{
    op_augment(be, &(AugmentShape){1, 8, 9}, memory, memory, memory);
}

static void sgd_from_an_odd_offset(Backend *be, void *memory)
{
    SgdShape s = {.ranges = 1, .range = {{8, 16, 0.1f}}};
    op_sgd(be, &s, NULL, memory, memory, memory, NULL);
}

static void misuse_cpu(void *context)
{
    _Alignas(64) static float memory[256];
    Misuse *const *misuse = context;
    (*misuse)(open_cpu(1), memory);
}

/* It must end the program, with status 2 and `message` on standard error. */
static void expect_fatal(Misuse *misuse, const char *message)
{
    char text[CHILD_TEXT];
    assert_int_equal(child_run(misuse_cpu, &misuse, text), 2);
    if (strstr(text, message) == NULL) {
        fail_msg("expected \"%s\" in: %s", message, text);
    }
}

static void test_operators_refuse_broken_shapes(void **state)
{
    (void)state;
    expect_fatal(conv_without_room, "op_conv_fprop: N 1, H 4, W 5, C 3, K 2, R 7, stride 1, pad 1");
    expect_fatal(conv_pads_a_whole_kernel, "op_conv_dgrad: N 1, H 4, W 4");
    expect_fatal(conv_without_output, "op_conv_wgrad: pointer 3 of the 3 that it needs is NULL");
    expect_fatal(linear_without_rows, "op_linear_fprop: N 0, C 3, K 2");
    expect_fatal(batchnorm_of_one_row, "op_batchnorm_train: groups 2, rows 1, C 3");
    expect_fatal(batchnorm_without_mask,
                 "op_batchnorm_train: no mask, though there are a residual and a ReLU");
    expect_fatal(batchnorm_with_idle_mask,
                 "op_batchnorm_bprop: a mask, though there are not both a residual and a ReLU");
    expect_fatal(dropout_of_everything, "op_dropout: count 4, first 0, layer 0, p 1");
    expect_fatal(crop_larger_than_picture, "op_augment: N 1, resize 8, crop 9");
    expect_fatal(sgd_from_an_odd_offset, "op_sgd: range 0: offset 8, count 16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_what_it_opened),
        cmocka_unit_test(test_refuses_a_gpu_that_is_not_there),
        cmocka_unit_test(test_refuses_what_it_cannot_open),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_operators_refuse_broken_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
