/* Shared by the plots: a white page to draw on, text, and writing the page as PNG. */
#ifndef RODEO_TRAIN_PLOT_DRAW_H
#define RODEO_TRAIN_PLOT_DRAW_H

#include "base/err.h"

#include <cairo.h>

typedef struct {
    double r, g, b; /* 0..1 */
} Colour;

/* Where a text's anchor point lies in it; the height is always centred on the point. */
typedef enum { ALIGN_LEFT, ALIGN_CENTRE, ALIGN_RIGHT } Align;

/* A white page of width x height pixels, drawn in a sans-serif font; release it through
 * plot_finish_page. */
cairo_t *plot_open_page(int width, int height);

/* Writes the page to path atomically (unless that is NULL) and releases it. */
int plot_finish_page(cairo_t *page, const char *path, Err *err);

void plot_set_colour(cairo_t *page, Colour colour);

/* A text may be any bytes: what is no UTF-8 is drawn as question marks. */

double plot_text_width(cairo_t *page, double size, const char *text);

/* Draws text, of this font size, turned by angle (radians, clockwise) around (x, y). */
void plot_text(cairo_t *page, double x, double y, double size, Align align, double angle,
               const char *text);

/* The title at the top of the page: bold, centred on x, and made smaller until it fits width. */
void plot_title(cairo_t *page, double x, double y, double width, const char *text);

#endif
