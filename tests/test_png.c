/* The quick PNG decoder against libpng: every kind that it takes, with every filter, cut and
 * damaged ones too; and what it must leave to libpng. */
#include "base/mem.h"
#include "base/rng.h"
#include "data/picture_formats.h"

#include <libdeflate.h>
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    int width, height, colour, depth, filters, interlace;
    int chunk_bytes; /* of compressed data in a chunk */
} Kind;

typedef struct {
    uint8_t *bytes;
    size_t used, capacity;
} File;

static void take(png_structp png, png_bytep data, size_t bytes)
{
    File *file = png_get_io_ptr(png);
    assert_true(bytes <= file->capacity - file->used);
    memcpy(file->bytes + file->used, data, bytes);
    file->used += bytes;
}

/* Smooth colours with some noise, so that filters matter. */
static void draw_row(Rng *rng, int y, uint8_t *row, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        row[i] = (uint8_t)(3 * y + (int)i + (int)rng_below(rng, 40) +
                           (rng_below(rng, 50) == 0 ? 128 : 0));
    }
}

static File write_png(const Kind *kind, unsigned seed)
{
    File file = {.capacity = 1 << 20};
    file.bytes = mem_alloc(file.capacity);
    Rng rng = rng_at(seed, RNG_DEMO, 0, 0, 0);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &file, take, NULL);
    png_set_IHDR(png, info, (png_uint_32)kind->width, (png_uint_32)kind->height, kind->depth,
                 kind->colour, kind->interlace, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_color palette[256];
    memset(palette, 7, sizeof palette);
    if (kind->colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 256);
    }
    png_set_filter(png, PNG_FILTER_TYPE_BASE, kind->filters);
    png_set_compression_buffer_size(png, (size_t)kind->chunk_bytes);
    png_write_info(png, info);
    size_t row_bytes = png_get_rowbytes(png, info);
    png_bytep *rows = mem_zeroed((size_t)kind->height, sizeof *rows);
    for (int y = 0; y < kind->height; y++) {
        rows[y] = mem_alloc(row_bytes);
        draw_row(&rng, y, rows[y], row_bytes);
    }
    png_write_image(png, rows);
    png_write_end(png, NULL);
    for (int y = 0; y < kind->height; y++) {
        free(rows[y]);
    }
    free(rows);
    png_destroy_write_struct(&png, &info);
    return file;
}

static void assert_same(const Picture *a, const Picture *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->pixels, b->pixels, (size_t)a->width * (size_t)a->height * 3);
}

static const int colours[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_GRAY_ALPHA,
                              PNG_COLOR_TYPE_RGB_ALPHA};

static void every_filter_gives_libpngs_pixels(void **state)
{
    (void)state;
    static const int filters[] = {PNG_FILTER_NONE, PNG_FILTER_SUB,   PNG_FILTER_UP,
                                  PNG_FILTER_AVG,  PNG_FILTER_PAETH, PNG_ALL_FILTERS};
    static const int sizes[][2] = {{1, 1}, {2, 3}, {5, 1}, {1, 9}, {33, 17}, {64, 40}};
    for (size_t c = 0; c < 4; c++) {
        for (size_t f = 0; f < 6; f++) {
            for (size_t s = 0; s < 6; s++) {
                Kind kind = {.width = sizes[s][0],
                             .height = sizes[s][1],
                             .colour = colours[c],
                             .depth = 8,
                             .filters = filters[f],
                             .chunk_bytes = s % 2 == 0 ? 100 : 100000};
                File file = write_png(&kind, (unsigned)(100 * c + 10 * f + s));
                /* Exact, so that a sanitizer sees a read behind the end. */
                uint8_t *exact = mem_alloc(file.used);
                memcpy(exact, file.bytes, file.used);
                Err err = {0};
                Picture fast;
                Picture expected;
                assert_true(png_decode_fast(&fast, exact, file.used));
                assert_int_equal(png_decode_libpng(&expected, exact, file.used, &err), 0);
                assert_same(&fast, &expected);
                picture_free(&fast);
                picture_free(&expected);
                free(exact);
                free(file.bytes);
            }
        }
    }
}

static void the_rest_is_left_to_libpng(void **state)
{
    (void)state;
    static const Kind kinds[] = {
        {9, 9, PNG_COLOR_TYPE_RGB, 16, PNG_ALL_FILTERS, PNG_INTERLACE_NONE, 999},
        {9, 9, PNG_COLOR_TYPE_GRAY, 4, PNG_ALL_FILTERS, PNG_INTERLACE_NONE, 999},
        {9, 9, PNG_COLOR_TYPE_PALETTE, 8, PNG_ALL_FILTERS, PNG_INTERLACE_NONE, 999},
        {9, 9, PNG_COLOR_TYPE_RGB, 8, PNG_ALL_FILTERS, PNG_INTERLACE_ADAM7, 999},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        File file = write_png(&kinds[i], (unsigned)i);
        Err err = {0};
        Picture picture = {0};
        assert_false(png_decode_fast(&picture, file.bytes, file.used));
        assert_null(picture.pixels);
        assert_int_equal(png_decode(&picture, file.bytes, file.used, &err), 0);
        picture_free(&picture);
        free(file.bytes);
    }
}

/* A cut file, or one with a bit flipped, is never decoded to something that libpng would not give.
 */
static void damage_is_never_taken(void **state)
{
    (void)state;
    for (size_t c = 0; c < 4; c++) {
        Kind kind = {19, 13, colours[c], 8, PNG_ALL_FILTERS, PNG_INTERLACE_NONE, 200};
        File file = write_png(&kind, (unsigned)c);
        for (size_t i = 0; i < file.used; i++) {
            uint8_t *copy = mem_alloc(file.used);
            memcpy(copy, file.bytes, file.used);
            Picture picture = {0};
            assert_false(png_decode_fast(&picture, copy, i));
            copy[i] ^= (uint8_t)(1 << i % 8);
            if (i >= 8 && png_decode_fast(&picture, copy, file.used)) {
                fail_msg("colour %d, byte %zu flipped: decoded", colours[c], i);
            }
            free(copy);
        }
        free(file.bytes);
    }
}

/* The same file with another height in its header. */
static void set_height(File *file, uint32_t height)
{
    uint8_t *header = file->bytes + 8 + 4; /* type and content, behind signature and length */
    for (int i = 0; i < 4; i++) {
        header[8 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
    uint32_t sum = libdeflate_crc32(0, header, 4 + 13);
    for (int i = 0; i < 4; i++) {
        header[17 + i] = (uint8_t)(sum >> (24 - 8 * i));
    }
}

/* Memory of a picture decoded just before holds sound rows: what is missing would not be noticed by
 * its look. */
static void too_few_or_too_many_rows_are_never_taken(void **state)
{
    (void)state;
    for (int height = 11; height <= 15; height++) {
        Kind kind = {19, 13, PNG_COLOR_TYPE_RGB, 8, PNG_FILTER_SUB, PNG_INTERLACE_NONE, 999};
        Kind claimed = kind;
        claimed.height = height;
        File file = write_png(&kind, 1);
        File sound = write_png(&claimed, 2);
        set_height(&file, (uint32_t)height);
        Picture picture = {0};
        assert_true(png_decode_fast(&picture, sound.bytes, sound.used));
        picture_free(&picture);
        assert_int_equal(png_decode_fast(&picture, file.bytes, file.used), height == 13);
        picture_free(&picture);
        free(sound.bytes);
        free(file.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_filter_gives_libpngs_pixels),
        cmocka_unit_test(the_rest_is_left_to_libpng),
        cmocka_unit_test(damage_is_never_taken),
        cmocka_unit_test(too_few_or_too_many_rows_are_never_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
