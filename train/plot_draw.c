#include "train/plot_draw.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char font[] = "DejaVu Sans"; /* fontconfig takes another one where it is missing */

#ifdef __SANITIZE_ADDRESS__
/* fontconfig keeps what it loaded until the process ends: no leak of ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}
#endif

cairo_t *plot_open_page(int width, int height)
{
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
    cairo_t *page = cairo_create(surface);
    cairo_surface_destroy(surface); /* the page holds it now */
    cairo_set_source_rgb(page, 1, 1, 1);
    cairo_paint(page);
    cairo_select_font_face(page, font, CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    return page;
}

typedef struct {
    AtomicFile file;
    Err *err;
} Sink;

static cairo_status_t take_bytes(void *context, const unsigned char *data, unsigned bytes)
{
    Sink *sink = context;
    return atomic_file_write(&sink->file, data, bytes, sink->err) == 0 ? CAIRO_STATUS_SUCCESS
                                                                       : CAIRO_STATUS_WRITE_ERROR;
}

static int write_page(cairo_t *page, const char *path, Err *err)
{
    cairo_status_t status = cairo_status(page);
    if (status != CAIRO_STATUS_SUCCESS) {
        return err_set(err, "%s: cannot draw: %s", path, cairo_status_to_string(status));
    }
    Sink sink = {.err = err};
    if (atomic_file_open(&sink.file, path, err) != 0) {
        return -1;
    }
    status = cairo_surface_write_to_png_stream(cairo_get_target(page), take_bytes, &sink);
    if (status == CAIRO_STATUS_WRITE_ERROR) {
        return -1; /* take_bytes has said why */
    }
    if (status != CAIRO_STATUS_SUCCESS) {
        atomic_file_abort(&sink.file);
        return err_set(err, "%s: cannot encode: %s", path, cairo_status_to_string(status));
    }
    return atomic_file_commit(&sink.file, err);
}

int plot_finish_page(cairo_t *page, const char *path, Err *err)
{
    int rc = path ? write_page(page, path, err) : 0;
    cairo_destroy(page);
    return rc;
}

void plot_set_colour(cairo_t *page, Colour colour)
{
    cairo_set_source_rgb(page, colour.r, colour.g, colour.b);
}

/* Where a byte is no UTF-8, or a character is one that Unicode keeps out of texts, cairo would draw
 * nothing on the page any more: a question mark stands there instead. A new string. */
static char *drawable(const char *text)
{
    char *copy = mem_string(text);
    char *to = copy;
    for (int bytes; *text; text += bytes) {
        uint32_t point = 0;
        bytes = text_first_character(text, &point);
        bool kept = bytes > 0 && (point & 0xFFFE) != 0xFFFE && (point < 0xFDD0 || point > 0xFDEF);
        bytes = bytes > 0 ? bytes : 1;
        memcpy(to, kept ? text : "?", kept ? (size_t)bytes : 1);
        to += kept ? bytes : 1;
    }
    *to = '\0';
    return copy;
}

double plot_text_width(cairo_t *page, double size, const char *text)
{
    cairo_text_extents_t extents;
    char *drawn = drawable(text);
    cairo_set_font_size(page, size);
    cairo_text_extents(page, drawn, &extents);
    free(drawn);
    return extents.x_advance;
}

void plot_text(cairo_t *page, double x, double y, double size, Align align, double angle,
               const char *text)
{
    double width = plot_text_width(page, size, text);
    cairo_save(page);
    cairo_translate(page, x, y);
    cairo_rotate(page, angle);
    /* A third of the size lifts the baseline so that digits and capitals are centred. */
    cairo_move_to(page,
                  align == ALIGN_LEFT     ? 0
                  : align == ALIGN_CENTRE ? -width / 2
                                          : -width,
                  size * 0.36);
    char *drawn = drawable(text);
    cairo_show_text(page, drawn);
    free(drawn);
    cairo_restore(page);
}

void plot_title(cairo_t *page, double x, double y, double width, const char *text)
{
    double size = 17;
    cairo_select_font_face(page, font, CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
    double needed = plot_text_width(page, size, text);
    if (needed > width) {
        size *= width / needed;
    }
    plot_text(page, x, y, size, ALIGN_CENTRE, 0, text);
    cairo_select_font_face(page, font, CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
}
