/* The CUDA backend's own float32 convolutions against the reference. Whether they are taken is a
 * matter of time elsewhere; here the file of choices says so, for every shape. */
#include "base/mem.h"
#include "base/path.h"
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
static Backend *open_with_choices(char *folder, int *told)
{
    Err err = {""};
    DeviceOptions options = {
        .precision = "fp32", .cache_dir = folder, .notice = count_notice, .notice_user = told};
    Backend *be = device_open("cuda", &options, &err);
    if (be == NULL) {
        fail_msg("%s", err.text);
    }
    return be;
}

/* Has a convolution measured, which leaves a file of choices; its path, a new string. */
static char *make_choices(char *folder)
{
    int told = 0;
    Rng rng = rng_at(1, RNG_SHUFFLE, 1, 0, 0);
    Backend *be = open_with_choices(folder, &told);
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

static void write_choices(const char *path, int tile, const ConvShape *shapes, int count,
                          int channels)
{
    static const char *const passes[] = {"fprop", "dgrad", "wgrad"};
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < count; i++) {
        const ConvShape *s = &shapes[i];
        for (int pass = 0; pass < 3; pass++) {
            fprintf(file,
                    "%s fp32 N=%d H=%d W=%d C=%d K=%d R=%d stride=%d pad=%d: engine own 0=%d\n",
                    passes[pass], s->N, s->H, s->W, s->C == 3 ? channels : s->C, s->K, s->R,
                    s->stride, s->pad, tile);
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

/* ---- shapes ---------------------------------------------------------------------------------- */

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

/* ---- the test -------------------------------------------------------------------------------- */

/* What own kernels could not run would have been measured, and the file would say so. */
static void check_with_tile(const BackendOps *t, int tile, const ConvShape *fixed, int fixed_count)
{
    char folder[] = "/tmp/rodeo-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = make_choices(folder);
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
    write_choices(path, tile, shapes, count, device_picture_channels(t->be));
    int told = 0;
    Backend *be = open_with_choices(folder, &told);
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

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

void test_backend_own_conv(void **state)
{
    const BackendOps *t = *state;
    if (strcmp(device_kind(t->be), "cuda") == 0 && strcmp(device_precision(t->be), "fp32") == 0) {
        check_with_tile(t, NARROW, shapes_narrow, COUNT(shapes_narrow));
        check_with_tile(t, WIDE, shapes_wide, COUNT(shapes_wide));
    }
}
