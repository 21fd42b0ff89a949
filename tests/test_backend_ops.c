/* Every operator of ops.h on one backend against the reference loops in double precision, in every
 * precision that the device has: odd shapes from a fixed list and fresh random ones, outputs that
 * are not a number before, guards around every tensor, each call made twice for the same bits. */
#include "base/args.h"
#include "tests/backend_ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { SKIPPED = 77 };

static int run_all(BackendOps *t)
{
    const struct CMUnitTest products[] = {
        cmocka_unit_test_prestate(test_backend_conv, t),
        cmocka_unit_test_prestate(test_backend_own_conv, t),
        cmocka_unit_test_prestate(test_backend_conv_statistics, t),
        cmocka_unit_test_prestate(test_backend_linear, t),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_backend_batchnorm, t),
        cmocka_unit_test_prestate(test_backend_stem, t),
        cmocka_unit_test_prestate(test_backend_avgpool, t),
        cmocka_unit_test_prestate(test_backend_concat, t),
        cmocka_unit_test_prestate(test_backend_dropout, t),
        cmocka_unit_test_prestate(test_backend_cast, t),
        cmocka_unit_test_prestate(test_backend_cross_entropy, t),
        cmocka_unit_test_prestate(test_backend_entropy, t),
        cmocka_unit_test_prestate(test_backend_argmax, t),
        cmocka_unit_test_prestate(test_backend_sgd, t),
        cmocka_unit_test_prestate(test_backend_augment, t),
    };
    int failed = t->no_products ? 0 : cmocka_run_group_tests_name("products", products, NULL, NULL);
    return failed + cmocka_run_group_tests_name(device_precision(t->be), tests, NULL, NULL);
}

/* Runs the tests in one precision. Returns how many failed; 1 if the device does not open. */
static int run_precision(const char *device, const char *precision, BackendOps *t)
{
    Err err = {0};
    t->be = device_open(device, &(DeviceOptions){.threads = 2, .precision = precision}, &err);
    if (t->be == NULL) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%s, %s: --seed %llu --rounds %d\n", device_description(t->be), device_precision(t->be),
           (unsigned long long)t->seed, t->rounds);
    fflush(stdout);
    int failed = run_all(t);
    device_close(t->be);
    return failed;
}

/* Whether the device opens in a precision: a GPU before Ampere has no tf32 and bf16. */
static bool has_precision(const char *device, const char *precision)
{
    Err err = {0};
    Backend *be = device_open(device, &(DeviceOptions){.threads = 1, .precision = precision}, &err);
    device_close(be);
    return be != NULL;
}

static int run_every_precision(const char *device, BackendOps *t)
{
    static const char *const precisions[] = {"fp32", "tf32", "fp16", "bf16"};
    if (!has_precision(device, "fp32")) {
        return run_precision(device, "fp32", t);
    }
    int failed = 0;
    for (size_t i = 0; i < sizeof(precisions) / sizeof(precisions[0]); i++) {
        if (has_precision(device, precisions[i])) {
            failed += run_precision(device, precisions[i], t);
        } else {
            printf("no %s on this device\n", precisions[i]);
        }
    }
    return failed;
}

int main(int argc, char **argv)
{
    const char *device = "cpu";
    const char *precision = "every";
    bool skip = false;
    BackendOps t = {.seed = (uint64_t)time(NULL), .rounds = 6};
    const ArgOption options[] = {
        arg_text("device", "DEVICE", &device, "cpu or cuda (cpu)"),
        arg_text("precision", "TYPE", &precision,
                 "fp32, tf32, fp16, bf16, or every one that the device has (every)"),
        arg_uint64("seed", "N", &t.seed, "seed of shapes and values (the time)"),
        arg_int("rounds", "N", &t.rounds, 0, 1000000, "random shapes an operator (6)"),
        arg_flag("no_products", &t.no_products,
                 "leave out convolutions and linear layers, which call cuDNN and cuBLAS"),
        arg_flag("skip_without_gpu", &skip, "end with status 77 where there is no GPU"),
        {0},
    };
    const Args args = {.program = "test_backend_ops",
                       .summary = "Every operator against the reference in double precision.",
                       .options = options};
    Err err = {0};
    if (args_parse(&args, argc, argv, &err) != 0) {
        fprintf(stderr, "test_backend_ops: %s\n", err.text);
        return EXIT_FAILURE;
    }
    if (skip && !device_gpu_is_present()) {
        puts("no GPU here");
        return getenv("RODEO_REQUIRE_GPU") != NULL ? EXIT_FAILURE : SKIPPED;
    }
    int failed = strcmp(precision, "every") == 0 ? run_every_precision(device, &t)
                                                 : run_precision(device, precision, &t);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
