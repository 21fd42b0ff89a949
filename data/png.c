/* PNG through libpng, with the conversion to RGB that Pillow does: whatever png_fast.c leaves.
 *
 * libpng reports an error by a longjmp. Everything that it can jump out of runs inside
 * png_guarded(), which has no variable that such a jump could spoil; what is allocated on the way
 * is kept in a Png struct that the caller releases in any case. */
#include "base/atomic_file.h"
#include "base/mem.h"
#include "data/picture_formats.h"

#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    png_structp png;
    png_infop info;
    char message[128]; /* libpng's, "" until it failed */
    /* input */
    const uint8_t *data;
    size_t bytes, used;
    /* output */
    uint8_t *file;
    size_t file_bytes, file_capacity;
    /* pixels on either way */
    uint8_t *raw;    /* rows in libpng's form */
    png_bytep *rows; /* pointers into raw or the picture */
    Picture *picture;
} Png;

static void on_error(png_structp png, png_const_charp message)
{
    Png *state = png_get_error_ptr(png);
    snprintf(state->message, sizeof state->message, "%s", message);
    png_longjmp(png, 1);
}

/* Warnings are about side information (text, colour profiles) that is not used. */
static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* Runs body and returns 0, or -1 if libpng jumped out of it. */
static int png_guarded(Png *state, void (*body)(Png *state))
{
    if (setjmp(png_jmpbuf(state->png)) != 0) { /* NOLINT(cert-err52-cpp): libpng's interface */
        return -1;
    }
    body(state);
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------- */

static void take_bytes(png_structp png, png_bytep out, size_t bytes)
{
    Png *state = png_get_io_ptr(png);
    if (bytes > state->bytes - state->used) {
        png_error(png, "the file ends too early");
    }
    memcpy(out, state->data + state->used, bytes);
    state->used += bytes;
}

static void read_header(Png *state)
{
    png_set_read_fn(state->png, state, take_bytes);
    png_set_user_limits(state->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* checked here instead */
    png_read_info(state->png, state->info);
}

static bool is_palette(const Png *state)
{
    return png_get_color_type(state->png, state->info) == PNG_COLOR_TYPE_PALETTE;
}

static bool is_grey16(const Png *state)
{
    return png_get_color_type(state->png, state->info) == PNG_COLOR_TYPE_GRAY &&
           png_get_bit_depth(state->png, state->info) == 16;
}

/* libpng converts to RGB, except palettes (Pillow has grey behind the last entry of a short one)
 * and 16-bit grey (which Pillow clamps). */
static void ask_for_rgb(Png *state)
{
    png_structp png = state->png;
    if (is_palette(state)) {
        png_set_packing(png);
    } else if (!is_grey16(state)) {
        png_set_expand_gray_1_2_4_to_8(png);
        png_set_strip_16(png);
        png_set_strip_alpha(png);
        png_set_gray_to_rgb(png);
    }
    png_set_interlace_handling(png);
    png_read_update_info(png, state->info);
}

static void read_pixels(Png *state)
{
    ask_for_rgb(state);
    size_t height = (size_t)state->picture->height;
    size_t row_bytes = png_get_rowbytes(state->png, state->info);
    state->rows = mem_zeroed(height, sizeof *state->rows);
    if (is_palette(state) || is_grey16(state)) {
        state->raw = mem_alloc(height * row_bytes);
    } else if (row_bytes != (size_t)state->picture->width * 3) {
        png_error(state->png, "unexpected size of a row");
    }
    for (size_t y = 0; y < height; y++) {
        state->rows[y] = (state->raw ? state->raw : state->picture->pixels) + y * row_bytes;
    }
    png_read_image(state->png, state->rows);
    png_read_end(state->png, NULL);
}

static void expand_palette(const Png *state)
{
    png_colorp palette = NULL;
    int entries = 0;
    png_get_PLTE(state->png, state->info, &palette, &entries);
    uint8_t colour[256][3];
    for (int i = 0; i < 256; i++) {
        bool known = i < entries;
        colour[i][0] = known ? palette[i].red : (uint8_t)i;
        colour[i][1] = known ? palette[i].green : (uint8_t)i;
        colour[i][2] = known ? palette[i].blue : (uint8_t)i;
    }
    size_t count = (size_t)state->picture->width * (size_t)state->picture->height;
    for (size_t i = 0; i < count; i++) {
        memcpy(state->picture->pixels + 3 * i, colour[state->raw[i]], 3);
    }
}

static void clamp_grey16(const Png *state)
{
    size_t count = (size_t)state->picture->width * (size_t)state->picture->height;
    for (size_t i = 0; i < count; i++) {
        uint8_t grey = state->raw[2 * i] > 0 ? 255 : state->raw[2 * i + 1];
        memset(state->picture->pixels + 3 * i, grey, 3);
    }
}

/* Refuses sides that are too large, and a size that so few bytes cannot hold: a damaged header must
 * not cost gigabytes. */
static int create_picture(Png *state, Err *err)
{
    png_uint_32 width = png_get_image_width(state->png, state->info);
    png_uint_32 height = png_get_image_height(state->png, state->info);
    if (width <= PICTURE_MAX_SIDE && height <= PICTURE_MAX_SIDE) {
        size_t raw_bytes = png_get_rowbytes(state->png, state->info) * height;
        if (raw_bytes / PNG_DEFLATE_BEST_RATIO > state->bytes) {
            return err_set(err, "is truncated: %zu bytes cannot hold %u x %u pixels", state->bytes,
                           width, height);
        }
    }
    return picture_create(state->picture, width, height, err);
}

int png_decode_libpng(Picture *picture, const void *data, size_t bytes, Err *err)
{
    int rc = -1;
    Png state = {.data = data, .bytes = bytes, .picture = picture};
    state.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state, on_error, on_warning);
    state.info = state.png ? png_create_info_struct(state.png) : NULL;
    if (!state.info) {
        fatal("libpng cannot start: out of memory, or a libpng unlike %s", PNG_LIBPNG_VER_STRING);
    }
    if (png_guarded(&state, read_header) != 0) {
        err_set(err, "is truncated or damaged: %s", state.message);
        goto done;
    }
    if (create_picture(&state, err) != 0) {
        goto done;
    }
    if (png_guarded(&state, read_pixels) != 0) {
        err_set(err, "is truncated or damaged: %s", state.message);
        goto done;
    }
    if (is_palette(&state)) {
        expand_palette(&state);
    } else if (is_grey16(&state)) {
        clamp_grey16(&state);
    }
    rc = 0;
done:
    free(state.rows);
    free(state.raw);
    png_destroy_read_struct(&state.png, &state.info, NULL);
    return rc;
}

int png_decode(Picture *picture, const void *data, size_t bytes, Err *err)
{
    return png_decode_fast(picture, data, bytes) ? 0 : png_decode_libpng(picture, data, bytes, err);
}

/* ---- writing -------------------------------------------------------------------------------- */

static void give_bytes(png_structp png, png_bytep data, size_t bytes)
{
    Png *state = png_get_io_ptr(png);
    if (bytes > state->file_capacity - state->file_bytes) {
        state->file_capacity = 2 * state->file_capacity + bytes;
        state->file = mem_resize(state->file, state->file_capacity);
    }
    memcpy(state->file + state->file_bytes, data, bytes);
    state->file_bytes += bytes;
}

static void write_picture(Png *state)
{
    const Picture *picture = state->picture;
    png_set_write_fn(state->png, state, give_bytes, NULL);
    png_set_IHDR(state->png, state->info, (png_uint_32)picture->width, (png_uint_32)picture->height,
                 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(state->png, state->info);
    png_write_image(state->png, state->rows);
    png_write_end(state->png, NULL);
}

int picture_write_png(const Picture *picture, const char *path, Err *err)
{
    int rc = -1;
    Picture borrowed = *picture;
    Png state = {.picture = &borrowed};
    state.rows = mem_zeroed((size_t)picture->height, sizeof *state.rows);
    for (size_t y = 0; y < (size_t)picture->height; y++) {
        state.rows[y] = picture->pixels + y * (size_t)picture->width * 3;
    }
    state.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &state, on_error, on_warning);
    state.info = state.png ? png_create_info_struct(state.png) : NULL;
    if (!state.info) {
        fatal("libpng cannot start: out of memory, or a libpng unlike %s", PNG_LIBPNG_VER_STRING);
    }
    if (png_guarded(&state, write_picture) != 0) {
        err_set(err, "%s: cannot be written as a PNG: %s", path, state.message);
    } else {
        rc = atomic_file_replace(path, state.file, state.file_bytes, err);
    }
    png_destroy_write_struct(&state.png, &state.info);
    free(state.rows);
    free(state.file);
    return rc;
}
