/* Which engine is taken of those that cuDNN offers, on the emulator, whose engines take made-up
 * times: in half types its number 30 is always the fastest that may be used, and wants a workspace.
 */
#include "base/mem.h"
#include "base/path.h"
#include "kernels/cuda/conv_choice.h"
#include "kernels/cuda/float_conv.h"
#include "kernels/cuda/own_conv.h"
#include "kernels/device.h"
#include "kernels/ops.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SHAPES 24

typedef struct {
    int told;
    char *text;
} Told;

static void take_notice(void *user, const char *text)
{
    Told *told = user;
    told->told++;
    free(told->text);
    told->text = mem_string(text);
}

static Backend *open_gpu_in(const char *precision, char *folder, Told *told)
{
    Err err = {""};
    DeviceOptions options = {
        .precision = precision, .cache_dir = folder, .notice = take_notice, .notice_user = told};
    Backend *be = device_open("cuda", &options, &err);
    if (be == NULL) {
        fail_msg("%s", err.text);
    }
    return be;
}

static Backend *open_gpu(char *folder, Told *told)
{
    return open_gpu_in("fp16", folder, told);
}

/* Runs convolutions of different sizes on pictures of this width; device_event_record then writes
 * the choices. */
static void run_convolutions(Backend *be, int width, void *x, void *w, void *y)
{
    DeviceEvent *event = device_event_open(be);
    for (int i = 0; i < SHAPES; i++) {
        ConvShape s = {
            .N = 1, .H = 3 + i, .W = width, .C = 8, .K = 8, .R = 3, .stride = 1, .pad = 1};
        op_conv_fprop(be, &s, x, w, NULL, y);
    }
    device_event_record(be, event);
    device_event_wait(be, event);
    device_event_close(be, event);
}

/* The text of the folder's only file, which is removed with the folder. */
static char *take_choices(const char *folder)
{
    DIR *entries = opendir(folder);
    char *text = NULL;
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        if (entry->d_name[0] != '.') {
            char *path = path_join(folder, entry->d_name);
            assert_null(text);
            text = path_read(path, NULL, NULL);
            unlink(path);
            free(path);
        }
    }
    closedir(entries);
    assert_int_equal(rmdir(folder), 0);
    assert_non_null(text);
    return text;
}

static int count_of(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++) {
        count++;
    }
    return count;
}

/* Measures in a device with `left` bytes of free memory (0: all of it). */
static void measure(Backend *be, int width, size_t left)
{
    void *x = device_alloc(be, 65536);
    void *w = device_alloc(be, 65536);
    void *y = device_alloc(be, 65536);
    device_zero(be, x, 65536);
    device_zero(be, w, 65536);
    size_t free_bytes;
    size_t total_bytes;
    device_memory(be, &free_bytes, &total_bytes);
    void *ballast = left > 0 ? device_alloc(be, free_bytes - left) : NULL;
    run_convolutions(be, width, x, w, y);
    device_free(be, x);
    device_free(be, w);
    device_free(be, y);
    device_free(be, ballast);
}

static char *choices_with(size_t left)
{
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    Told told = {0};
    assert_non_null(mkdtemp(folder));
    Backend *be = open_gpu(folder, &told);
    measure(be, 3, left);
    assert_int_equal(told.told, 1);
    assert_non_null(strstr(told.text, folder));
    device_close(be);
    free(told.text);
    char *choices = take_choices(folder);
    assert_int_equal(count_of(choices, ": engine "), SHAPES);
    return choices;
}

/* Now and then cuDNN does not suggest it. */
static void the_fastest_engine_is_taken(void **state)
{
    (void)state;
    char *choices = choices_with(0);
    assert_true(count_of(choices, ": engine 30") > SHAPES / 2);
    free(choices);
}

static void engines_that_find_no_memory_are_left_out(void **state)
{
    (void)state;
    char *choices = choices_with(512);
    assert_int_equal(count_of(choices, ": engine 30"), 0);
    assert_int_equal(count_of(choices, ": engine 1 "), 0);
    free(choices);
}

/* How many engines are chosen for fprop and wgrad of a first convolution with so many filters. */
static int choices_for_pictures(int filters)
{
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    Told told = {0};
    assert_non_null(mkdtemp(folder));
    Backend *be = open_gpu(folder, &told);
    ConvShape s = {.N = 1, .H = 8, .W = 8, .C = 3, .K = filters, .R = 7, .stride = 2, .pad = 3};
    ConvShape other = {.N = 1, .H = 3, .W = 3, .C = 8, .K = 8, .R = 3, .stride = 1, .pad = 1};
    void *tensor[3];
    for (int i = 0; i < 3; i++) {
        tensor[i] = device_alloc(be, 65536);
        device_zero(be, tensor[i], 65536);
    }
    op_conv_fprop(be, &s, tensor[0], tensor[1], NULL, tensor[2]);
    op_conv_wgrad(be, &s, tensor[0], tensor[2], false, tensor[1], NULL);
    op_conv_fprop(be, &other, tensor[0], tensor[1], NULL, tensor[2]);
    device_synchronize(be);
    for (int i = 0; i < 3; i++) {
        device_free(be, tensor[i]);
    }
    device_close(be);
    free(told.text);
    char *choices = take_choices(folder);
    int count = count_of(choices, " H=8 ");
    free(choices);
    return count;
}

/* A ResNet's first convolution has own kernels; one of another width has not. */
static void pictures_need_no_engine(void **state)
{
    (void)state;
    assert_int_equal(choices_for_pictures(64), 0);
    assert_int_equal(choices_for_pictures(32), 2);
}

/* Two runs with one folder: each finds its choices again. */
static void choices_of_other_runs_stay(void **state)
{
    (void)state;
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    Told told[2] = {{0}};
    Backend *be[2];
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 2; i++) {
        be[i] = open_gpu(folder, &told[i]);
    }
    for (int i = 0; i < 2; i++) {
        measure(be[i], 3 + i, 0);
        assert_int_equal(told[i].told, 1);
        free(told[i].text);
    }
    for (int i = 0; i < 2; i++) {
        device_close(be[i]);
    }
    char *choices = take_choices(folder);
    assert_int_equal(count_of(choices, " W=3 "), SHAPES);
    assert_int_equal(count_of(choices, " W=4 "), SHAPES);
    free(choices);
}

/* The name of the folder's only file; a new string. */
static char *only_file(const char *folder)
{
    DIR *entries = opendir(folder);
    char *name = NULL;
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        if (entry->d_name[0] != '.') {
            assert_null(name);
            name = mem_string(entry->d_name);
        }
    }
    closedir(entries);
    assert_non_null(name);
    return name;
}

static char *only_path(const char *folder)
{
    char *name = only_file(folder);
    char *path = path_join(folder, name);
    free(name);
    return path;
}

/* ---- runs that begin together ------------------------------------------------------------------
 */

/* In a process of its own: a run that found no choices when it was opened, and runs convolutions
 * when `go` can be read. Ends with 0 if all that it said was that it waits for another. */
static pid_t begin_beside(char *folder, int go)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) {
        return child;
    }
    char one;
    Told told = {0};
    Backend *be = open_gpu(folder, &told);
    if (read(go, &one, 1) != 1) {
        _exit(100);
    }
    measure(be, 3, 0);
    device_close(be);
    _exit(told.told == 1 && strstr(told.text, "Waiting for another run") == told.text ? 0 : 1);
}

static void one_of_them_measures(void **state)
{
    (void)state;
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    int go[2];
    int status;
    Told told = {0};
    assert_non_null(mkdtemp(folder));
    assert_int_equal(pipe(go), 0);
    pid_t child = begin_beside(folder, go[0]);
    int measuring = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(measuring, LOCK_EX), 0);
    assert_int_equal(write(go[1], "1", 1), 1);
    usleep(200000);
    assert_int_equal(waitpid(child, &status, WNOHANG), 0); /* it waits for its turn */

    char other[] = "/tmp/rodeo-test-XXXXXX";
    assert_non_null(mkdtemp(other));
    Backend *be = open_gpu(other, &told);
    measure(be, 3, 0);
    device_close(be);
    free(told.text);
    char *name = only_file(other);
    char *from = path_join(other, name);
    char *to = path_join(folder, name);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(rmdir(other), 0);
    close(measuring);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(go[0]);
    close(go[1]);
    free(from);
    free(to);
    free(name);
    free(take_choices(folder));
}

/* A run that goes on without its choices would round differently. */
static void choices_that_cannot_be_written_are_written_later(void **state)
{
    (void)state;
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    Told told = {0};
    assert_non_null(mkdtemp(folder));
    Backend *be = open_gpu(folder, &told);
    measure(be, 3, 0);
    char *name = only_file(folder);
    char *in_the_way = mem_format("%s/%s.tmp", folder, name);
    assert_int_equal(mkdir(in_the_way, 0700), 0);
    measure(be, 4, 0);
    assert_int_equal(rmdir(in_the_way), 0);
    free(in_the_way);
    free(name);
    device_close(be);
    free(told.text);
    char *choices = take_choices(folder);
    assert_int_equal(count_of(choices, " W=3 "), SHAPES);
    assert_int_equal(count_of(choices, " W=4 "), SHAPES);
    free(choices);
}

/* ---- own kernels -------------------------------------------------------------------------------
 */

/* Runs a convolution of every pass, of so many channels, in a precision; how often it was said that
 * engines are timed. */
static int run_passes(const char *precision, char *folder, int C, int K)
{
    Told told = {0};
    Backend *be = open_gpu_in(precision, folder, &told);
    ConvShape s = {.N = 1, .H = 4, .W = 3, .C = C, .K = K, .R = 3, .stride = 1, .pad = 1};
    void *tensor[3];
    for (int i = 0; i < 3; i++) {
        tensor[i] = device_alloc(be, 65536);
        device_zero(be, tensor[i], 65536);
    }
    op_conv_fprop(be, &s, tensor[0], tensor[1], NULL, tensor[2]);
    op_conv_dgrad(be, &s, tensor[2], tensor[1], tensor[0]);
    op_conv_wgrad(be, &s, tensor[0], tensor[2], false, tensor[1], NULL);
    device_synchronize(be);
    for (int i = 0; i < 3; i++) {
        device_free(be, tensor[i]);
    }
    device_close(be);
    free(told.text);
    return told.told;
}

/* Of three passes, those that own kernels run where cuDNN is slow. */
static int own_choices(const char *precision, int C, int K)
{
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    setenv("RODEO_EMULATOR_CUDNN_SLOWER", "10000", 1);
    assert_int_equal(run_passes(precision, folder, C, K), 1);
    unsetenv("RODEO_EMULATOR_CUDNN_SLOWER");
    assert_int_equal(run_passes(precision, folder, C, K), 0); /* what is chosen is found again */
    char *choices = take_choices(folder);
    assert_int_equal(count_of(choices, ": engine "), 3);
    int count = count_of(choices, ": engine own 0=");
    free(choices);
    return count;
}

static void own_kernels_are_taken_where_they_are_the_fastest(void **state)
{
    (void)state;
    assert_int_equal(own_choices("fp32", 32, 40), 3);
    assert_int_equal(own_choices("fp32", 32, 36), 2); /* fprop, wgrad */
    assert_int_equal(own_choices("fp32", 8, 32), 2);
    assert_int_equal(own_choices("fp32", 32, 16), 1); /* dgrad */
    assert_int_equal(own_choices("fp32", 38, 40), 0);
    assert_int_equal(own_choices("fp32", 40, 38), 0);
    assert_int_equal(own_choices("tf32", 32, 40), 0);
    assert_int_equal(own_choices("fp16", 32, 40), 0);
}

/* As a file may say that was written for another version: it is measured again. */
static void own_kernels_are_not_taken_for_what_they_cannot_run(void **state)
{
    (void)state;
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_int_equal(run_passes("fp32", folder, 8, 8), 1);
    char *path = only_path(folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("fprop fp32 N=1 H=4 W=3 C=38 K=40 R=3 stride=1 pad=1: engine own 0=64\n"
          "dgrad fp32 N=1 H=4 W=3 C=38 K=40 R=3 stride=1 pad=1: engine own\n"
          "wgrad fp32 N=1 H=4 W=3 C=38 K=40 R=3 stride=1 pad=1: engine owner 0=64\n",
          file);
    assert_int_equal(fclose(file), 0);
    free(path);
    assert_int_equal(run_passes("fp32", folder, 38, 40), 1);
    char *choices = take_choices(folder);
    assert_int_equal(count_of(choices, " C=38 "), 3);
    assert_int_equal(count_of(choices, "own"), 1); /* in the first line, which tells people */
    free(choices);
}

/* What is left of its last line may name another engine, whatever that one computes. */
static void a_file_that_was_cut_off_is_completed(void **state)
{
    (void)state;
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_int_equal(run_passes("fp32", folder, 8, 8), 1);
    char *path = only_path(folder);
    char *whole = path_read(path, NULL, NULL);
    assert_int_equal(run_passes("fp32", folder, 8, 8), 0);
    assert_int_equal(truncate(path, (off_t)strlen(whole) - 1), 0);
    assert_int_equal(run_passes("fp32", folder, 8, 8), 1);
    free(path);
    char *choices = take_choices(folder);
    assert_int_equal(count_of(choices, ": engine "), 3);
    assert_int_equal(choices[strlen(choices) - 1], '\n');
    free(choices);
    free(whole);
}

static bool own_kernels_can_run(const CudaBackend *cuda, ConvPass pass, const ConvShape *s,
                                int tile)
{
    ConvProblem problem = {.pass = pass, .type = CUDNN_DATA_FLOAT, .shape = *s};
    return cuda_can_convolve_floats(cuda, &problem, tile);
}

/* Both trunks' convolutions at batch 64, four groups at once; nobody wants a picture's gradient. */
static const ConvShape resnet_shapes[] = {
    {256, 224, 224, 4, 64, 7, 2, 3},    {256, 56, 56, 64, 64, 3, 1, 1},
    {256, 56, 56, 64, 128, 3, 2, 1},    {256, 56, 56, 64, 128, 1, 2, 0},
    {256, 28, 28, 128, 128, 3, 1, 1},   {256, 28, 28, 128, 256, 3, 2, 1},
    {256, 28, 28, 128, 256, 1, 2, 0},   {256, 14, 14, 256, 256, 3, 1, 1},
    {256, 14, 14, 256, 512, 3, 2, 1},   {256, 14, 14, 256, 512, 1, 2, 0},
    {256, 7, 7, 512, 512, 3, 1, 1},     {256, 56, 56, 64, 256, 1, 1, 0},
    {256, 14, 14, 1024, 2048, 1, 2, 0}, {256, 7, 7, 2048, 512, 1, 1, 0},
};

static void own_kernels_can_run_the_trunks(void **state)
{
    (void)state;
    CudaBackend cuda = {.type = CUDA_F32, .multiprocessors = 132};
    for (size_t i = 0; i < sizeof resnet_shapes / sizeof *resnet_shapes; i++) {
        const ConvShape *s = &resnet_shapes[i];
        for (int tile = 64; tile <= 128; tile *= 2) {
            assert_int_equal(own_kernels_can_run(&cuda, CONV_FPROP, s, tile), s->K % tile == 0);
            assert_int_equal(own_kernels_can_run(&cuda, CONV_WGRAD, s, tile), s->K % tile == 0);
            assert_int_equal(own_kernels_can_run(&cuda, CONV_DGRAD, s, tile), s->C % tile == 0);
        }
        assert_false(own_kernels_can_run(&cuda, CONV_FPROP, s, 32));
    }
    ConvShape huge = {4096, 112, 112, 64, 64, 3, 1, 1}; /* more elements than an int counts */
    assert_false(own_kernels_can_run(&cuda, CONV_FPROP, &huge, 64));
    ConvShape leaping = {4, 28, 28, 64, 64, 3, 3, 1};
    assert_true(own_kernels_can_run(&cuda, CONV_FPROP, &leaping, 64));
    assert_false(own_kernels_can_run(&cuda, CONV_DGRAD, &leaping, 64));
}

/* Whatever tile can run a convolution that suits all of them is offered, and nothing else. */
static void every_tile_is_a_candidate(void **state)
{
    (void)state;
    CudaBackend cuda = {.type = CUDA_F32, .multiprocessors = 132};
    ConvProblem problem = {CONV_FPROP, CUDNN_DATA_FLOAT, resnet_shapes[4]};
    int64_t tiles[OWN_CONV_TILES];
    int count = own_conv_tiles(&problem, tiles);
    for (int tile = 1; tile <= 1024; tile++) {
        int listed = 0;
        for (int i = 0; i < count; i++) {
            listed += tiles[i] == tile;
        }
        assert_int_equal(listed, own_conv_can_run(&cuda, &problem, tile));
    }
}

/* Enough to keep an H100 and a P100 busy, short enough to round little, and little memory. */
static void a_wgrad_is_summed_in_parts(void **state)
{
    (void)state;
    static const int multiprocessors[] = {132, 56};
    for (size_t i = 0; i < sizeof resnet_shapes / sizeof *resnet_shapes; i++) {
        const ConvShape *s = &resnet_shapes[i];
        int64_t outputs = (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
                          conv_out(s->W, s->R, s->stride, s->pad);
        int64_t terms = (int64_t)s->R * s->R * s->C;
        for (int tile = 64; tile <= 128 && tile <= s->K; tile *= 2) {
            for (int gpu = 0; gpu < 2; gpu++) {
                CudaBackend cuda = {.type = CUDA_F32, .multiprocessors = multiprocessors[gpu]};
                ConvProblem problem = {CONV_WGRAD, CUDNN_DATA_FLOAT, *s};
                int64_t parts = cuda_float_wgrad_parts(&cuda, s, tile);
                int64_t at_once = (int64_t)cuda.multiprocessors * (tile == 64 ? 3 : 2);
                int64_t blocks = parts * ((terms + 127) / 128) * (s->K / tile);
                int64_t rounds = (blocks + at_once - 1) / at_once;
                assert_true(parts <= outputs && outputs <= parts * 8192);
                assert_true(blocks * 10 >= rounds * at_once * 9);
                assert_true(cuda_float_conv_workspace(&cuda, &problem, tile) <=
                            conv_workspace_bytes(CUDA_F32, (size_t)16 << 30));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_engine_is_taken),
        cmocka_unit_test(engines_that_find_no_memory_are_left_out),
        cmocka_unit_test(pictures_need_no_engine),
        cmocka_unit_test(choices_of_other_runs_stay),
        cmocka_unit_test(one_of_them_measures),
        cmocka_unit_test(choices_that_cannot_be_written_are_written_later),
        cmocka_unit_test(own_kernels_are_taken_where_they_are_the_fastest),
        cmocka_unit_test(own_kernels_are_not_taken_for_what_they_cannot_run),
        cmocka_unit_test(a_file_that_was_cut_off_is_completed),
        cmocka_unit_test(own_kernels_can_run_the_trunks),
        cmocka_unit_test(every_tile_is_a_candidate),
        cmocka_unit_test(a_wgrad_is_summed_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
