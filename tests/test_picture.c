/* Decoding and resizing against Pillow's results (golden/make_pictures.py), and damaged files. */
#include "base/mem.h"
#include "base/path.h"
#include "base/rng.h"
#include "base/text.h"
#include "data/picture.h"
#include "data_fixture.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PICTURES RODEO_TEST_DATA "/golden/pictures"

/* Reads what Pillow wrote, "P6 W H 255", without the code under test. */
static Picture read_expected(const char *path)
{
    Picture picture;
    Err err = {0};
    size_t bytes = 0;
    char *data = path_read(path, &bytes, &err);
    if (!data || !text_starts_with(data, "P6\n")) {
        fail_msg("%s: %s", path, err.text);
        abort(); /* fail_msg does not come back */
    }
    char *next = data + 3;
    picture.width = (int)strtol(next, &next, 10);
    picture.height = (int)strtol(next, &next, 10);
    assert_int_equal(strtol(next, &next, 10), 255);
    size_t pixels_at = (size_t)(next - data) + 1;
    size_t pixel_bytes = (size_t)picture.width * (size_t)picture.height * 3;
    assert_int_equal(bytes, pixels_at + pixel_bytes);
    picture.pixels = mem_alloc(pixel_bytes);
    memcpy(picture.pixels, data + pixels_at, pixel_bytes);
    free(data);
    return picture;
}

static int largest_difference(const Picture *a, const Picture *b)
{
    int largest = 0;
    for (size_t i = 0; i < (size_t)a->width * (size_t)a->height * 3; i++) {
        int difference = abs(a->pixels[i] - b->pixels[i]);
        largest = difference > largest ? difference : largest;
    }
    return largest;
}

static void compare_with_pillow(const char *name)
{
    Err err = {0};
    Picture picture;
    char *path = path_join(PICTURES, name);
    char *expected_path = mem_format("%s.rgb.ppm", path);
    if (picture_read(&picture, path, &err) != 0) {
        fail_msg("%s", err.text);
    }
    Picture expected = read_expected(expected_path);
    assert_int_equal(picture.width, expected.width);
    assert_int_equal(picture.height, expected.height);
    int difference = largest_difference(&picture, &expected);
    if (difference > 0) {
        fail_msg("%s: differs by %d", name, difference);
    }
    picture_free(&picture);
    picture_free(&expected);
    free(expected_path);
    free(path);
}

/* Calls visit for every input of make_pictures.py and returns how many there are. */
static int for_each_picture(void (*visit)(const char *name))
{
    int count = 0;
    DIR *folder = opendir(PICTURES);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        const char *name = entry->d_name;
        if (name[0] != '.' && !text_ends_with(name, ".rgb.ppm") &&
            !text_starts_with(name, "resize_")) {
            visit(name);
            count++;
        }
    }
    closedir(folder);
    return count;
}

static void pictures_are_read_as_pillow_reads_them(void **state)
{
    (void)state;
    assert_true(for_each_picture(compare_with_pillow) >= 50);
}

static void resizing_is_pillows(void **state)
{
    (void)state;
    static const int cases[][4] = {{61, 47, 32, 32}, {20, 47, 32, 32}, {47, 20, 32, 32},
                                   {32, 50, 32, 32}, {50, 32, 32, 32}, {9, 7, 32, 32},
                                   {333, 5, 17, 3},  {1, 1, 5, 4},     {64, 64, 32, 32}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int *c = cases[i];
        char *path = mem_format("%s/resize_%dx%d.ppm", PICTURES, c[0], c[1]);
        char *result = mem_format("%s.to_%dx%d.ppm", path, c[2], c[3]);
        Picture picture = read_expected(path);
        Picture expected = read_expected(result);
        Picture resized = picture_resize(&picture, c[2], c[3]);
        assert_int_equal(resized.width, c[2]);
        assert_int_equal(resized.height, c[3]);
        assert_int_equal(largest_difference(&resized, &expected), 0);
        picture_free(&picture);
        picture_free(&expected);
        picture_free(&resized);
        free(result);
        free(path);
    }
}

static void a_written_png_reads_back(void **state)
{
    (void)state;
    char *folder = fixture_create_folder();
    char *path = path_join(folder, "x.png");
    Picture picture = read_expected(PICTURES "/resize_333x5.ppm");
    Picture back;
    Err err = {0};
    assert_int_equal(picture_write_png(&picture, path, &err), 0);
    assert_int_equal(picture_read(&back, path, &err), 0);
    assert_int_equal(back.width, 333);
    assert_int_equal(largest_difference(&picture, &back), 0);
    picture_free(&back);
    free(path);
    path = path_join(folder, "nowhere/x.png");
    assert_int_equal(picture_write_png(&picture, path, &err), -1);
    assert_non_null(strstr(err.text, "nowhere/x.png"));
    picture_free(&picture);
    free(path);
    fixture_remove_folder(folder);
}

/* Every beginning of the file is an error with the file's name in front, and nothing else. */
static void cut_everywhere(const char *name)
{
    Err err;
    size_t bytes = 0;
    char *path = path_join(PICTURES, name);
    char *data = path_read(path, &bytes, &err);
    assert_non_null(data);
    for (size_t cut = 0; cut < bytes; cut++) {
        Picture picture;
        char *copy = mem_alloc(cut); /* exact, so that a sanitizer sees reads behind the end */
        memcpy(copy, data, cut);
        err.text[0] = '\0';
        if (picture_decode(&picture, copy, cut, "cut.file", &err) == 0) {
            fail_msg("%s cut to %zu of %zu bytes was read", name, cut, bytes);
        }
        assert_true(text_starts_with(err.text, "cut.file: is "));
        picture_free(&picture);
        free(copy);
    }
    free(data);
    free(path);
}

static void truncated_pictures_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb8.png",       "palette4_trns_interlaced.png",
                                        "grey16.png",     "rgb24.bmp",
                                        "bits1.bmp",      "colour16.ppm",
                                        "grey.ppm",       "colour_420.jpg",
                                        "progressive.jpg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cut_everywhere(names[i]);
    }
}

/* Flips bits anywhere: reading gives a picture or an error, and the sanitizers nothing to say. */
static void flip_bits(const char *name)
{
    Err err;
    size_t bytes = 0;
    char *path = path_join(PICTURES, name);
    char *data = path_read(path, &bytes, &err);
    assert_non_null(data);
    Rng rng = rng_at(1, RNG_DEMO, 1, (uint32_t)bytes, 0);
    int rounds = text_ends_with(name, ".jpg") ? 1000 : 40; /* a JPEG has no checksum */
    for (int round = 0; round < rounds; round++) {
        Picture picture;
        char *copy = mem_alloc(bytes);
        memcpy(copy, data, bytes);
        for (uint32_t flips = 1 + rng_below(&rng, 4); flips > 0; flips--) {
            copy[rng_below(&rng, (uint32_t)bytes)] ^= (char)(1 << rng_below(&rng, 8));
        }
        err.text[0] = '\0';
        int rc = picture_decode(&picture, copy, bytes, "flipped", &err);
        assert_true(rc == 0 || text_starts_with(err.text, "flipped: "));
        assert_true(rc != 0 || (picture.width >= 1 && picture.height >= 1));
        picture_free(&picture);
        free(copy);
    }
    free(data);
    free(path);
}

static void flipped_bits_never_crash(void **state)
{
    (void)state;
    for_each_picture(flip_bits);
}

/* libpng must notice: the pixels of a PNG are under a checksum. */
static void a_damaged_png_is_refused(void **state)
{
    (void)state;
    Err err;
    size_t bytes = 0;
    char *data = path_read(PICTURES "/rgb8.png", &bytes, &err);
    assert_non_null(data);
    data[bytes / 2] ^= 1;
    Picture picture;
    assert_int_equal(picture_decode(&picture, data, bytes, "x.png", &err), -1);
    assert_non_null(strstr(err.text, "x.png: is truncated or damaged: "));
    free(data);
}

static void refuse(const void *data, size_t bytes, const char *message)
{
    Err err = {0};
    Picture picture;
    assert_int_equal(picture_decode(&picture, data, bytes, "f", &err), -1);
    if (!strstr(err.text, message)) {
        fail_msg("'%s' does not say '%s'", err.text, message);
    }
    assert_null(picture.pixels);
}

/* A BMP whose header has another number at this place. */
static void refuse_bmp(const char *name, size_t at, char number, const char *message)
{
    Err err;
    size_t bytes = 0;
    char *path = path_join(PICTURES, name);
    char *data = path_read(path, &bytes, &err);
    assert_non_null(data);
    data[at] = number;
    refuse(data, bytes, message);
    free(data);
    free(path);
}

static void odd_bmps_are_refused(void **state)
{
    (void)state;
    refuse_bmp("palette8.bmp", 30, 1,
               "f: is a compressed BMP (kind 1): save it without compression");
    refuse_bmp("palette8.bmp", 30, 3, "f: is a compressed BMP (kind 3)");
    refuse_bmp("palette8.bmp", 11, 0, "f: is damaged: its pixels begin in its header");
    refuse_bmp("palette8.bmp", 28, 2, "f: is damaged: a BMP of 2 bits a pixel");
    refuse_bmp("rgb24.bmp", 14, 16,
               "f: is damaged, or a BMP of an unknown kind: a header of 16 bytes");
    refuse_bmp("rgb24.bmp", 21, 1, "f: is 16777235 x 13 pixels; a side must have 1 to 16384");
}

static void what_is_no_picture_is_refused(void **state)
{
    (void)state;
    refuse("", 0, "f: is empty");
    refuse("<html>quota exceeded</html>", 27, "f: is not a picture");
    refuse("\xFF\xD8\xFF\xD9", 4, "f: is damaged or truncated: there is no picture in it");
    refuse("P6 20000 1 255\n", 15, "f: is 20000 x 1 pixels; a side must have 1 to 16384");
    refuse("P6 0 1 255\n", 11, "f: is 0 x 1 pixels");
    refuse("P6 4 4 0\n", 9, "f: is damaged: its header is not 'P6 WIDTH HEIGHT MAXIMUM'");
    Err err = {0};
    Picture picture;
    assert_int_equal(picture_read(&picture, "/nonexistent/x.png", &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent/x.png: cannot open: No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_read_as_pillow_reads_them),
        cmocka_unit_test(resizing_is_pillows),
        cmocka_unit_test(a_written_png_reads_back),
        cmocka_unit_test(truncated_pictures_are_refused),
        cmocka_unit_test(flipped_bits_never_crash),
        cmocka_unit_test(a_damaged_png_is_refused),
        cmocka_unit_test(odd_bmps_are_refused),
        cmocka_unit_test(what_is_no_picture_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
