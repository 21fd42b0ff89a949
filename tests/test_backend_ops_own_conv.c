/* The CUDA backend's own convolutions against the reference. Whether they are taken is a matter of
 * time elsewhere; here the file of choices says so, for every shape. */
#include "base/mem.h"
#include "base/path.h"
#if RODEO_TEST_HOPPER /* such code is built */
#include "kernels/cuda/cuda.h"
#endif
#include "tests/backend_ops.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void count_notice(void *user, const char *text)
{
    (void)text;
    ++*(int *)user;
}

/* Opens the GPU with the choices in the folder; *told counts that something was measured. */
static Backend *open_with_choices(const char *precision, char *folder, int *told)
{
    Err err = {""};
    DeviceOptions options = {
        .precision = precision, .cache_dir = folder, .notice = count_notice, .notice_user = told};
    Backend *be = device_open("cuda", &options, &err);
    if (be == NULL) {
        fail_msg("%s", err.text);
    }
    return be;
}

/* Has a convolution measured, which leaves a file of choices; its path, a new string. */
static char *make_choices(const char *precision, char *folder)
{
    int told = 0;
    Rng rng = rng_at(1, RNG_SHUFFLE, 1, 0, 0);
    Backend *be = open_with_choices(precision, folder, &told);
    check_backend_conv(be, &(ConvShape){1, 1, 1, 1, 1, 1, 1, 0}, false, false, &rng);
    device_close(be);
    assert_int_equal(told, 1);
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    char *path = NULL;
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        if (entry->d_name[0] != '.') {
            assert_null(path);
            path = path_join(folder, entry->d_name);
        }
    }
    closedir(entries);
    assert_non_null(path);
    return path;
}

/* Tiles of the two widths that there are; channels that none is half empty with. */
enum { NARROW = 64, WIDE = 128 };

static bool fits(int tile, int columns)
{
    return columns >= 32 && (tile == NARROW || (columns + 63) / 64 % 2 == 0);
}

/* fprop and wgrad have K columns, dgrad C. */
static int own_passes(int tile, const ConvShape *s)
{
    return 2 * fits(tile, s->K) + fits(tile, s->C);
}

/* Has own kernels with such a tile run the first `passes` of fprop, dgrad and wgrad. */
static void write_choices(const char *path, const char *precision, int passes, int tile,
                          const ConvShape *shapes, int count, int channels)
{
    static const char *const names[] = {"fprop", "dgrad", "wgrad"};
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < count; i++) {
        const ConvShape *s = &shapes[i];
        for (int pass = 0; pass < passes; pass++) {
            fprintf(file, "%s %s N=%d H=%d W=%d C=%d K=%d R=%d stride=%d pad=%d: engine own 0=%d\n",
                    names[pass], precision, s->N, s->H, s->W, s->C == 3 ? channels : s->C, s->K,
                    s->R, s->stride, s->pad, tile);
        }
    }
    assert_int_equal(fclose(file), 0);
}

static int count_own(const char *path, int tile)
{
    char *engine = mem_format(": engine own 0=%d\n", tile);
    char *text = path_read(path, NULL, NULL);
    assert_non_null(text);
    int count = 0;
    for (const char *at = text; (at = strstr(at, engine)) != NULL; at++) {
        count++;
    }
    free(engine);
    free(text);
    return count;
}

/* ---- float32 ----------------------------------------------------------------------------------
 */

static const ConvShape shapes_narrow[] = {
    {1, 1, 1, 32, 32, 1, 1, 0},    {2, 7, 7, 48, 40, 3, 1, 1},
    {1, 12, 13, 136, 32, 1, 1, 0}, /* three tiles of a dgrad's columns */
    {2, 9, 12, 64, 64, 3, 2, 1},   /* ResNet-18's kinds */
    {1, 8, 7, 64, 136, 1, 2, 0},   /* most inputs have no tap */
    {2, 6, 6, 36, 32, 5, 2, 2},    /* terms of fprop that end within a step */
    {2, 4, 6, 32, 32, 3, 2, 0},    /* a row and a column of inputs that no filter meets */
    {300, 3, 3, 8, 32, 3, 2, 0},   /* one output a picture */
    {150, 4, 3, 4, 32, 3, 1, 1},   {2, 30, 31, 20, 32, 3, 1, 1}, /* parts of a wgrad */
    {2, 15, 13, 3, 48, 7, 2, 3},                                 /* pictures */
    {1, 40, 34, 3, 64, 7, 2, 3},
};

static const ConvShape shapes_wide[] = {
    {1, 1, 1, 68, 72, 1, 1, 0},
    {3, 9, 5, 32, 72, 3, 2, 1},
    {1, 7, 13, 256, 72, 1, 1, 0},
    {1, 14, 14, 128, 128, 3, 1, 1}, /* whole tiles of columns and terms */
    {2, 9, 7, 100, 256, 3, 2, 1},
    {1, 8, 7, 128, 128, 1, 2, 0},
    {2, 23, 25, 12, 104, 3, 1, 1}, /* parts of a wgrad */
    {90, 2, 3, 4, 200, 3, 1, 1},
};

/* Sizes that are no multiples of a tile's, one tile and several of them. */
static ConvShape random_shape(int tile, Rng *rng)
{
    static const int kernels[] = {1, 1, 3, 3, 3, 5};
    ConvShape s = {.R = kernels[draw(rng, 0, 5)], .stride = draw(rng, 1, 2)};
    s.pad = draw(rng, 0, s.R / 2);
    s.N = draw(rng, 1, 5);
    s.H = draw(rng, s.R, s.R + 12);
    s.W = draw(rng, s.R, s.R + 12);
    do {
        s.C = 4 * draw(rng, 1, draw(rng, 0, 2) == 0 ? 60 : 12);
        s.K = 8 * draw(rng, 4, draw(rng, 0, 2) == 0 ? 30 : 16);
    } while (own_passes(tile, &s) == 0);
    return s;
}

static bool is_among(const ConvShape *s, const ConvShape *shapes, int count)
{
    for (int i = 0; i < count; i++) {
        if (memcmp(s, &shapes[i], sizeof *s) == 0) {
            return true;
        }
    }
    return false;
}

/* What own kernels could not run would have been measured, and the file would say so. */
static void check_with_tile(const BackendOps *t, int tile, const ConvShape *fixed, int fixed_count)
{
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = make_choices("fp32", folder);
    Rng rng = backend_ops_rng(t, 30 + (uint32_t)tile);
    int count = fixed_count + t->rounds;
    ConvShape *shapes = mem_zeroed((size_t)count, sizeof *shapes);
    int own = 0;
    for (int i = 0; i < count; i++) {
        do {
            shapes[i] = i < fixed_count ? fixed[i] : random_shape(tile, &rng);
        } while (is_among(&shapes[i], shapes, i));
        own += own_passes(tile, &shapes[i]);
    }
    write_choices(path, "fp32", 3, tile, shapes, count, device_picture_channels(t->be));
    int told = 0;
    Backend *be = open_with_choices("fp32", folder, &told);
    for (int i = 0; i < count; i++) {
        check_backend_conv(be, &shapes[i], i % 2 == 1, i % 3 == 0, &rng);
    }
    device_close(be);
    assert_int_equal(count_own(path, tile), own);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    free(path);
    free(shapes);
}

/* ---- Hopper ------------------------------------------------------------------------------------
 */

/* Whether this build and this GPU must have those kernels. */
static bool has_hopper(Backend *be)
{
#if RODEO_TEST_HOPPER
    return cuda_backend(be)->sm == 90;
#else
    (void)be;
    return false;
#endif
}

enum { HOPPER_TILE = 256 }; /* the one that there is */

#define PICTURE_ELEMENTS (56 * 56 * 64)
#define BATCH            130 /* pictures, of which each block has several tiles */
#define PART             5   /* a block has one of them at most */

static const ConvShape hopper_shapes[] = {
    {1, 56, 56, 64, 64, 3, 1, 1},
    {3, 56, 56, 64, 64, 3, 1, 1},
    {PART, 56, 56, 64, 64, 3, 1, 1},
    {BATCH, 56, 56, 64, 64, 3, 1, 1}, /* the last: too large for the reference */
};

#define HOPPER_SHAPES ((int)(sizeof hopper_shapes / sizeof *hopper_shapes))

static void *random_pictures(Backend *be, Rng *rng)
{
    size_t bytes = (size_t)PART * PICTURE_ELEMENTS * device_activation_bytes(be);
    char *batch = device_alloc(be, BATCH / PART * bytes);
    char *host = mem_zeroed(1, bytes);
    for (int i = 0; i < BATCH / PART; i++) {
        DeviceTensor part =
            device_tensor_random(be, ELEMENT_ACT, (int64_t)PART * PICTURE_ELEMENTS, rng, 1, 0);
        device_copy_out(be, host, part.device, bytes);
        device_copy_in(be, batch + i * bytes, host, bytes);
        device_tensor_free(&part);
    }
    free(host);
    return batch;
}

static void convolve(Backend *be, bool dgrad, int pictures, const void *from, const void *w,
                     void *to)
{
    ConvShape s = hopper_shapes[0];
    s.N = pictures;
    if (dgrad) {
        op_conv_dgrad(be, &s, from, w, to);
    } else {
        op_conv_fprop(be, &s, from, w, NULL, to);
    }
}

/* Parts of a batch, which were compared with the reference, come out as the whole does. */
static void check_hopper_batch(Backend *be, Rng *rng)
{
    size_t bytes = (size_t)PART * PICTURE_ELEMENTS * device_activation_bytes(be);
    char *from = random_pictures(be, rng);
    DeviceTensor w = device_tensor_random(be, ELEMENT_ACT, 64 * 9 * 64, rng, 0.05, 0);
    char *to = device_alloc(be, BATCH / PART * bytes);
    void *to_part = device_alloc(be, bytes);
    char *host = mem_zeroed(2, bytes);
    for (int dgrad = 0; dgrad < 2; dgrad++) {
        device_zero(be, to, BATCH / PART * bytes);
        convolve(be, dgrad, BATCH, from, w.device, to);
        for (int i = 0; i < BATCH / PART; i++) {
            convolve(be, dgrad, PART, from + i * bytes, w.device, to_part);
            device_copy_out(be, host, to + i * bytes, bytes);
            device_copy_out(be, host + bytes, to_part, bytes);
            assert_memory_equal(host, host + bytes, bytes);
        }
    }
    free(host);
    device_tensor_free(&w);
    device_free(be, from);
    device_free(be, to);
    device_free(be, to_part);
}

/* cuDNN's wgrad is measured, so the file is written anew, with what really ran: a choice that could
 * not run would have been measured as well, and replaced. Where there are no such kernels, that is
 * what must happen. */
static void check_hopper_convolutions(const BackendOps *t)
{
    const char *precision = device_precision(t->be);
    bool runs = has_hopper(t->be);
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = make_choices(precision, folder);
    write_choices(path, precision, 2, HOPPER_TILE, hopper_shapes, runs ? HOPPER_SHAPES : 1, 0);
    Rng rng = backend_ops_rng(t, 31);
    int told = 0;
    Backend *be = open_with_choices(precision, folder, &told);
    for (int i = 0; i < (runs ? HOPPER_SHAPES - 1 : 1); i++) {
        check_backend_conv(be, &hopper_shapes[i], i % 2 == 1, i % 2 == 0, &rng);
    }
    if (runs) {
        check_hopper_batch(be, &rng);
    }
    device_close(be);
    assert_int_equal(told, 1);
    assert_int_equal(count_own(path, HOPPER_TILE), runs ? 2 * HOPPER_SHAPES : 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    free(path);
}

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

void test_backend_own_conv(void **state)
{
    const BackendOps *t = *state;
    const char *precision = device_precision(t->be);
    if (strcmp(device_kind(t->be), "cuda") != 0) {
        return;
    }
    if (strcmp(precision, "fp32") == 0) {
        check_with_tile(t, NARROW, shapes_narrow, COUNT(shapes_narrow));
        check_with_tile(t, WIDE, shapes_wide, COUNT(shapes_wide));
    } else if (strcmp(precision, "tf32") != 0) {
        print_message("own convolutions for Hopper: %s\n",
                      has_hopper(t->be) ? "run here" : "not for this GPU or not in this build");
        check_hopper_convolutions(t);
    }
}
