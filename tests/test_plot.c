/* Plots: the pictures have the right size and show what they were given; errors are named. */
#include "base/mem.h"
#include "train/plot.h"

#include <cairo.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char path[] = "/tmp/rodeo-plot-test.png";

typedef struct {
    int width, height;
    uint32_t *pixels; /* 0xRRGGBB */
} Picture;

static Picture read_picture(void)
{
    cairo_surface_t *surface = cairo_image_surface_create_from_png(path);
    assert_int_equal(cairo_surface_status(surface), CAIRO_STATUS_SUCCESS);
    Picture picture = {.width = cairo_image_surface_get_width(surface),
                       .height = cairo_image_surface_get_height(surface)};
    size_t row = (size_t)picture.width * sizeof *picture.pixels;
    picture.pixels = mem_alloc(row * (size_t)picture.height);
    for (int y = 0; y < picture.height; y++) {
        memcpy(picture.pixels + (ptrdiff_t)y * picture.width,
               cairo_image_surface_get_data(surface) +
                   (ptrdiff_t)y * cairo_image_surface_get_stride(surface),
               row);
    }
    for (int i = 0; i < picture.width * picture.height; i++) {
        picture.pixels[i] &= 0xFFFFFF;
    }
    cairo_surface_destroy(surface);
    unlink(path);
    return picture;
}

static int count_colour(const Picture *picture, uint32_t colour)
{
    int count = 0;
    for (int i = 0; i < picture->width * picture->height; i++) {
        count += picture->pixels[i] == colour;
    }
    return count;
}

enum { BLUE = 0x0072B2, ORANGE = 0xD55E00, WHITE = 0xFFFFFF };

static Picture draw_lines(const PlotSeries *series, int count)
{
    Err err = {0};
    int rc = plot_lines(path, "title", "epoch", "accuracy", 0, 1, series, count, &err);
    assert_string_equal(rc == 0 ? "" : err.text, "");
    return read_picture();
}

static void lines_are_drawn_in_their_colours(void **state)
{
    (void)state;
    const double rising[] = {0.1, 0.4, NAN, 0.6, 0.9};
    const double outside[] = {1.03, 1.04, 1.05, 1.04, 1.03};
    const PlotSeries series[] = {{.label = "a", .y = rising, .count = 5},
                                 {.label = "b", .y = outside, .count = 5, .dashed = true},
                                 {.label = "c", .y = rising, .count = 3}};
    Picture one = draw_lines(series, 1);
    assert_int_equal(one.width, 1000);
    assert_int_equal(one.height, 624);
    assert_true(count_colour(&one, WHITE) > one.width * one.height / 2);
    int blue = count_colour(&one, BLUE);
    assert_true(blue > 200);
    assert_int_equal(count_colour(&one, ORANGE), 0);
    /* What lies above the axes is cut: the second series adds its entry in the legend only. */
    Picture two = draw_lines(series, 2);
    assert_true(count_colour(&two, BLUE) > blue && count_colour(&two, BLUE) < blue + 100);
    assert_int_equal(count_colour(&two, ORANGE), 0);
    Picture three = draw_lines(series, 3);
    assert_true(count_colour(&three, ORANGE) > 100);
    assert_int_equal(three.height, 624); /* three short labels share a row */
    free(one.pixels);
    free(two.pixels);
    free(three.pixels);
}

static void a_point_between_gaps_is_seen(void **state)
{
    (void)state;
    double gaps[100];
    for (int i = 0; i < 100; i++) {
        gaps[i] = i == 50 ? 0.5 : NAN;
    }
    const PlotSeries empty = {.label = "a", .y = gaps, .count = 50};
    const PlotSeries point = {.label = "a", .y = gaps, .count = 100};
    Picture without = draw_lines(&empty, 1);
    Picture with = draw_lines(&point, 1);
    assert_true(count_colour(&with, BLUE) > count_colour(&without, BLUE) + 15);
    free(without.pixels);
    free(with.pixels);
}

static void long_labels_are_cut_to_the_page(void **state)
{
    (void)state;
    char label[400];
    memset(label, 'W', sizeof label - 1);
    label[sizeof label - 1] = '\0';
    const double y[] = {0.5};
    const PlotSeries series[] = {{.label = label, .y = y, .count = 1},
                                 {.label = "short", .y = y, .count = 1}};
    Picture picture = draw_lines(series, 2);
    assert_int_equal(picture.height, 648); /* a row each */
    for (int i = 0; i < picture.height; i++) {
        assert_int_equal(picture.pixels[(ptrdiff_t)i * picture.width + picture.width - 10], WHITE);
    }
    free(picture.pixels);
}

static void assert_same_pictures(const Picture *one, const Picture *two)
{
    assert_int_equal(one->width, two->width);
    assert_int_equal(one->height, two->height);
    assert_memory_equal(one->pixels, two->pixels,
                        (size_t)one->width * (size_t)one->height * sizeof *one->pixels);
}

/* Of halves of as many bytes the first has three times as many characters. What lies behind the
 * label's end must not be seen. */
static void labels_are_cut_within_their_ends(void **state)
{
    (void)state;
    enum { HALF = 300 };
    Picture pictures[2];
    for (int p = 0; p < 2; p++) {
        char *label = mem_alloc(3 * HALF + 1);
        memset(label, 'W', HALF);
        for (int i = 0; i < HALF; i += 3) {
            memcpy(label + HALF + i, "\xE4\xB8\xAD", 3);
        }
        memset(label + 2 * HALF, p == 0 ? '0' : '1', HALF);
        label[2 * HALF] = label[3 * HALF] = '\0';
        const double y[] = {0.5};
        const PlotSeries series = {.label = label, .y = y, .count = 1};
        pictures[p] = draw_lines(&series, 1);
        free(label);
    }
    assert_same_pictures(&pictures[0], &pictures[1]);
    free(pictures[0].pixels);
    free(pictures[1].pixels);
}

static void any_bytes_can_be_drawn(void **state)
{
    (void)state;
    const double y[] = {0.5};
    const PlotSeries odd[] = {{.label = "caf\xE9 \xEF\xBF\xBE", .y = y, .count = 1},
                              {.label = "cut \xE4\xB8", .y = y, .count = 1}};
    const PlotSeries plain[] = {{.label = "caf? ?", .y = y, .count = 1},
                                {.label = "cut ??", .y = y, .count = 1}};
    Picture drawn = draw_lines(odd, 2);
    Picture expected = draw_lines(plain, 2);
    assert_same_pictures(&drawn, &expected);
    free(drawn.pixels);
    free(expected.pixels);

    char name[] = "\xFC";
    char *names[] = {name};
    const int64_t counts[] = {1};
    Err err = {0};
    int rc = plot_confusion(path, "\xFF", 1, names, counts, &err);
    assert_string_equal(rc == 0 ? "" : err.text, "");
    free(read_picture().pixels);
}

static void confusions_show_shares(void **state)
{
    (void)state;
    for (int classes = 1; classes <= 47; classes += 23) {
        size_t cells = (size_t)classes * (size_t)classes;
        int64_t *counts = mem_zeroed(cells, sizeof *counts);
        char **names = mem_zeroed((size_t)classes, sizeof *names);
        for (int i = 0; i < classes; i++) {
            names[i] = mem_format("class %d", i);
            counts[(ptrdiff_t)i * classes + i] = 1000;
        }
        Err err = {0};
        int rc = plot_confusion(path, "title", classes, names, counts, &err);
        assert_string_equal(rc == 0 ? "" : err.text, "");
        Picture picture = read_picture();
        /* The darkest blue fills one cell a class, the first at the upper left. */
        int cell = classes == 1 ? 64 : classes == 24 ? 30 : 18;
        int dark = count_colour(&picture, 0x07306B);
        assert_true(dark > classes * cell * cell * 6 / 10);
        assert_true(dark < classes * cell * cell + 400);
        assert_true(picture.width > classes * cell && picture.height > classes * cell);
        for (int i = 0; i < classes; i++) {
            free(names[i]);
        }
        free((void *)names);
        free(counts);
        free(picture.pixels);
    }
}

static void errors_are_named(void **state)
{
    (void)state;
    const double y[] = {0.5};
    const PlotSeries series = {.label = "a", .y = y, .count = 1};
    char name[] = "apple";
    char *names[] = {name};
    const int64_t counts[] = {1};
    Err err;
    assert_int_equal(plot_lines("/proc/x.png", "t", "x", "y", 0, 1, &series, 1, &err), -1);
    assert_string_equal(err.text, "/proc/x.png.tmp: cannot create: No such file or directory");
    assert_int_equal(plot_confusion("/proc/x.png", "t", 1, names, counts, &err), -1);
    assert_string_equal(err.text, "/proc/x.png.tmp: cannot create: No such file or directory");
    assert_int_equal(plot_lines(path, "t", "x", "y", 1, 1, &series, 1, &err), -1);
    assert_non_null(strstr(err.text, "the vertical axis would run from 1 to 1"));
    assert_int_equal(plot_confusion(path, "t", 0, names, counts, &err), -1);
    assert_non_null(strstr(err.text, "there are no classes"));
    /* A page of more pixels than cairo draws. */
    enum { MANY = 2000 };
    char **many = mem_alloc(MANY * sizeof *many);
    int64_t *zeros = mem_zeroed((size_t)MANY * MANY, sizeof *zeros);
    for (int i = 0; i < MANY; i++) {
        many[i] = name;
    }
    assert_int_equal(plot_confusion(path, "t", MANY, many, zeros, &err), -1);
    assert_non_null(strstr(err.text, "cannot draw: "));
    free((void *)many);
    free(zeros);
    assert_int_not_equal(access(path, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_drawn_in_their_colours),
        cmocka_unit_test(a_point_between_gaps_is_seen),
        cmocka_unit_test(long_labels_are_cut_to_the_page),
        cmocka_unit_test(labels_are_cut_within_their_ends),
        cmocka_unit_test(any_bytes_can_be_drawn),
        cmocka_unit_test(confusions_show_shares),
        cmocka_unit_test(errors_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
