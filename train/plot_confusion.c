#include "train/plot.h"
#include "train/plot_draw.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#define NAME_SIZE  12.0 /* pixels, as all below */
#define TITLE_ROOM 48.0
#define MARGIN     24.0
#define AXIS_ROOM  30.0 /* "true class", "predicted class" */
#define BAR_GAP    24.0
#define BAR_WIDTH  16.0
#define BAR_ROOM   70.0 /* the bar with its labels */

static const Colour black = {0.1, 0.1, 0.1};
static const Colour white = {1, 1, 1};

typedef struct {
    int classes;
    double cell;
    double left, top; /* of the matrix */
    double side;      /* of the whole matrix */
    double width, height;
} Layout;

static double longest_name(cairo_t *page, int classes, char *const *names)
{
    double longest = 0;
    for (int i = 0; i < classes; i++) {
        longest = fmax(longest, plot_text_width(page, NAME_SIZE, names[i]));
    }
    return longest;
}

static Layout lay_out(int classes, char *const *names)
{
    cairo_t *probe = plot_open_page(1, 1);
    double names_room = longest_name(probe, classes, names) + 10;
    plot_finish_page(probe, NULL, NULL);
    /* Large cells for few classes, but never smaller than a name's line. */
    double cell = fmin(64, fmax(NAME_SIZE + 6, floor(720.0 / classes)));
    Layout layout = {.classes = classes, .cell = cell, .side = cell * classes};
    layout.left = floor(MARGIN + AXIS_ROOM + names_room);
    layout.top = TITLE_ROOM;
    layout.width = ceil(layout.left + layout.side + BAR_GAP + BAR_ROOM);
    layout.height = ceil(layout.top + layout.side + names_room + AXIS_ROOM + MARGIN);
    return layout;
}

/* White for 0 through light blue to a dark blue for 1. */
static Colour shade(double share)
{
    /* The square root lifts small shares, the errors that one looks for, off the white. */
    double t = sqrt(share);
    return (Colour){1 - 0.97 * t, 1 - 0.81 * t, 1 - 0.58 * t * t};
}

static int64_t row_sum(const int64_t *row, int classes)
{
    int64_t sum = 0;
    for (int j = 0; j < classes; j++) {
        sum += row[j];
    }
    return sum;
}

/* The font size at which the largest count still fits a cell, 0 if it would not be readable. */
static double number_size(cairo_t *page, const Layout *layout, const int64_t *counts)
{
    int64_t largest = 0;
    for (int64_t i = 0; i < (int64_t)layout->classes * layout->classes; i++) {
        largest = counts[i] > largest ? counts[i] : largest;
    }
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, largest);
    double size = 13;
    size = fmin(size, size * (layout->cell - 6) / plot_text_width(page, size, text));
    return size >= 8.5 ? size : 0;
}

static void draw_cell(cairo_t *page, const Layout *layout, int i, int j, double share)
{
    cairo_rectangle(page, layout->left + j * layout->cell, layout->top + i * layout->cell,
                    layout->cell, layout->cell);
    plot_set_colour(page, shade(share));
    cairo_fill(page);
}

static void draw_row(cairo_t *page, const Layout *layout, int i, const int64_t *row, double size)
{
    int64_t sum = row_sum(row, layout->classes);
    for (int j = 0; j < layout->classes; j++) {
        if (row[j] <= 0) {
            continue;
        }
        double share = (double)row[j] / (double)sum;
        draw_cell(page, layout, i, j, share);
        if (size > 0) {
            char text[32];
            snprintf(text, sizeof text, "%" PRId64, row[j]);
            plot_set_colour(page, share > 0.25 ? white : black);
            plot_text(page, layout->left + (j + 0.5) * layout->cell,
                      layout->top + (i + 0.5) * layout->cell, size, ALIGN_CENTRE, 0, text);
        }
    }
}

/* Thin lines between the cells: the eye can follow a row to its name. */
static void draw_grid(cairo_t *page, const Layout *layout)
{
    for (int i = 0; i <= layout->classes; i++) {
        double at = floor(i * layout->cell) + 0.5;
        bool rim = i == 0 || i == layout->classes;
        plot_set_colour(page, rim ? black : (Colour){0.88, 0.88, 0.88});
        cairo_set_line_width(page, 1);
        cairo_move_to(page, layout->left + at, layout->top);
        cairo_rel_line_to(page, 0, layout->side);
        cairo_move_to(page, layout->left, layout->top + at);
        cairo_rel_line_to(page, layout->side, 0);
        cairo_stroke(page);
    }
}

static void draw_names(cairo_t *page, const Layout *layout, char *const *names)
{
    const double quarter_turn = acos(0);
    const double bottom = layout->top + layout->side;
    plot_set_colour(page, black);
    for (int i = 0; i < layout->classes; i++) {
        double middle = (i + 0.5) * layout->cell;
        plot_text(page, layout->left - 6, layout->top + middle, NAME_SIZE, ALIGN_RIGHT, 0,
                  names[i]);
        plot_text(page, layout->left + middle, bottom + 6, NAME_SIZE, ALIGN_RIGHT, -quarter_turn,
                  names[i]);
    }
    plot_text(page, MARGIN, layout->top + layout->side / 2, NAME_SIZE + 2, ALIGN_CENTRE,
              -quarter_turn, "true class");
    plot_text(page, layout->left + layout->side / 2, layout->height - MARGIN, NAME_SIZE + 2,
              ALIGN_CENTRE, 0, "predicted class");
}

/* What a colour means: share of the true class's pictures. */
static void draw_bar(cairo_t *page, const Layout *layout)
{
    const double x = layout->left + layout->side + BAR_GAP;
    const double height = fmin(layout->side, 320);
    for (int y = 0; y < (int)height; y++) {
        plot_set_colour(page, shade(1 - y / height));
        cairo_rectangle(page, x, layout->top + y, BAR_WIDTH, 1);
        cairo_fill(page);
    }
    plot_set_colour(page, black);
    cairo_set_line_width(page, 1);
    cairo_rectangle(page, x + 0.5, layout->top + 0.5, BAR_WIDTH - 1, floor(height) - 1);
    cairo_stroke(page);
    for (int percent = 0; percent <= 100; percent += 25) {
        char text[16];
        snprintf(text, sizeof text, "%d %%", percent);
        plot_text(page, x + BAR_WIDTH + 6, layout->top + height * (100 - percent) / 100.0,
                  NAME_SIZE - 1, ALIGN_LEFT, 0, text);
    }
}

int plot_confusion(const char *path, const char *title, int classes, char *const *names,
                   const int64_t *counts, Err *err)
{
    if (classes < 1) {
        return err_set(err, "%s: cannot draw: there are no classes", path);
    }
    Layout layout = lay_out(classes, names);
    cairo_t *page = plot_open_page((int)layout.width, (int)layout.height);
    double size = number_size(page, &layout, counts);
    for (int i = 0; i < classes; i++) {
        draw_row(page, &layout, i, counts + (int64_t)i * classes, size);
    }
    draw_grid(page, &layout);
    draw_names(page, &layout, names);
    draw_bar(page, &layout);
    plot_set_colour(page, black);
    plot_title(page, layout.width / 2, TITLE_ROOM / 2, layout.width - 2 * MARGIN, title);
    return plot_finish_page(page, path, err);
}
