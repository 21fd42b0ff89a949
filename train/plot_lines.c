#include "base/mem.h"
#include "train/plot.h"
#include "train/plot_draw.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pixels. The legend stands below the axes, so that it never covers a line. */
#define WIDTH      1000
#define HEIGHT     600 /* without the legend */
#define LEFT       80.0
#define RIGHT      (WIDTH - 30.0)
#define TOP        56.0
#define BOTTOM     (HEIGHT - 62.0)
#define ROW_HEIGHT 24
#define SAMPLE     36.0 /* a line in the legend */
#define ENTRY_GAP  28.0
#define LABEL_SIZE 13.0

/* Okabe and Ito's colours, which people with colour blindness can tell apart. */
static const Colour palette[] = {
    {0.000, 0.447, 0.698}, {0.835, 0.369, 0.000}, {0.000, 0.620, 0.451}, {0.800, 0.475, 0.655},
    {0.902, 0.624, 0.000}, {0.337, 0.706, 0.914}, {0.250, 0.250, 0.250},
};

static const Colour black = {0.1, 0.1, 0.1};
static const Colour grey = {0.87, 0.87, 0.87};

typedef struct {
    double x_low, x_high, y_low, y_high;
} Axes;

static double x_pixel(const Axes *axes, double x)
{
    return LEFT + (x - axes->x_low) / (axes->x_high - axes->x_low) * (RIGHT - LEFT);
}

static double y_pixel(const Axes *axes, double y)
{
    return BOTTOM - (y - axes->y_low) / (axes->y_high - axes->y_low) * (BOTTOM - TOP);
}

/* A step of 1, 2 or 5 times a power of ten that divides span into at most `most` parts. */
static double tick_step(double span, int most)
{
    double power = pow(10, floor(log10(span / most)));
    static const double factors[] = {1, 2, 5};
    for (int i = 0; i < 3; i++) {
        if (span / (factors[i] * power) <= most * (1 + 1e-9)) {
            return factors[i] * power;
        }
    }
    return 10 * power;
}

static void draw_grid_line(cairo_t *page, double x0, double y0, double x1, double y1)
{
    plot_set_colour(page, grey);
    cairo_set_line_width(page, 1);
    cairo_move_to(page, floor(x0) + 0.5, floor(y0) + 0.5);
    cairo_line_to(page, floor(x1) + 0.5, floor(y1) + 0.5);
    cairo_stroke(page);
    plot_set_colour(page, black);
}

static void draw_x_ticks(cairo_t *page, const Axes *axes)
{
    double step = fmax(1, tick_step(axes->x_high - axes->x_low, 12));
    /* 1, then whole steps: an axis that begins at 1 is best read at 10, 20, 30. */
    for (double tick = axes->x_low; tick <= axes->x_high + 1e-9;) {
        char text[32];
        snprintf(text, sizeof text, "%.0f", tick);
        double x = x_pixel(axes, tick);
        draw_grid_line(page, x, TOP, x, BOTTOM);
        plot_text(page, x, BOTTOM + 15, LABEL_SIZE, ALIGN_CENTRE, 0, text);
        tick = (floor(tick / step) + 1) * step;
    }
}

static void draw_y_ticks(cairo_t *page, const Axes *axes)
{
    double step = tick_step(axes->y_high - axes->y_low, 10);
    int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    long first = lround(ceil(axes->y_low / step - 1e-9));
    long last = lround(floor(axes->y_high / step + 1e-9));
    for (long i = first; i <= last; i++) {
        char text[32];
        snprintf(text, sizeof text, "%.*f", decimals, (double)i * step);
        double y = y_pixel(axes, (double)i * step);
        draw_grid_line(page, LEFT, y, RIGHT, y);
        plot_text(page, LEFT - 9, y, LABEL_SIZE, ALIGN_RIGHT, 0, text);
    }
}

static void draw_frame(cairo_t *page, const char *title, const char *x_label, const char *y_label)
{
    plot_title(page, (LEFT + RIGHT) / 2, TOP / 2, RIGHT - LEFT, title);
    plot_text(page, (LEFT + RIGHT) / 2, BOTTOM + 42, LABEL_SIZE + 1, ALIGN_CENTRE, 0, x_label);
    plot_text(page, 24, (TOP + BOTTOM) / 2, LABEL_SIZE + 1, ALIGN_CENTRE, -acos(0), y_label);
    cairo_set_line_width(page, 1);
    cairo_rectangle(page, floor(LEFT) + 0.5, floor(TOP) + 0.5, RIGHT - LEFT, BOTTOM - TOP);
    cairo_stroke(page);
}

static void set_dash(cairo_t *page, bool dashed)
{
    static const double pattern[] = {7, 5};
    cairo_set_dash(page, pattern, dashed ? 2 : 0, 0);
}

/* A dot; a hollow one where the line is dashed. */
static void draw_dot(cairo_t *page, double x, double y, bool hollow, Colour colour)
{
    cairo_new_sub_path(page);
    cairo_arc(page, x, y, 3.2, 0, 4 * acos(0));
    plot_set_colour(page, hollow ? (Colour){1, 1, 1} : colour);
    cairo_fill_preserve(page);
    plot_set_colour(page, colour);
    cairo_set_line_width(page, 1.3);
    set_dash(page, false);
    cairo_stroke(page);
}

static void draw_series(cairo_t *page, const Axes *axes, const PlotSeries *series, Colour colour)
{
    bool pen_down = false;
    for (int i = 0; i < series->count; i++) {
        if (!isfinite(series->y[i])) {
            pen_down = false;
            continue;
        }
        double x = x_pixel(axes, i + 1);
        double y = y_pixel(axes, series->y[i]);
        (pen_down ? cairo_line_to : cairo_move_to)(page, x, y);
        pen_down = true;
    }
    plot_set_colour(page, colour);
    cairo_set_line_width(page, 2);
    cairo_set_line_join(page, CAIRO_LINE_JOIN_ROUND);
    set_dash(page, series->dashed);
    cairo_stroke(page);
    /* Dots show single points between gaps; on a long curve they would only make it thick. */
    for (int i = 0; i < series->count; i++) {
        bool alone = (i == 0 || !isfinite(series->y[i - 1])) &&
                     (i + 1 == series->count || !isfinite(series->y[i + 1]));
        if (isfinite(series->y[i]) && (alone || axes->x_high <= 50)) {
            draw_dot(page, x_pixel(axes, i + 1), y_pixel(axes, series->y[i]), series->dashed,
                     colour);
        }
    }
}

static bool is_inside_character(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80; /* of UTF-8 */
}

/* The label, with "..." for as much of its middle as does not fit the legend's width: run names
 * differ at their ends too. A new string. */
static char *fit_label(cairo_t *page, const char *label)
{
    const double width = RIGHT - LEFT - SAMPLE - 8;
    size_t head = strlen(label) / 2;
    size_t tail = head;
    char *text = mem_string(label);
    while (head > 0 && plot_text_width(page, LABEL_SIZE, text) > width) {
        do {
            head--;
        } while (head > 0 && is_inside_character(label[head]));
        tail += label[tail] != '\0'; /* its half may have fewer characters */
        while (is_inside_character(label[tail])) {
            tail++;
        }
        free(text);
        text = mem_format("%.*s...%s", (int)head, label, label + tail);
    }
    return text;
}

/* Walks the legend's entries from left to right, row by row; draws them unless only the rows are
 * wanted. Returns the number of rows. */
static int lay_legend(cairo_t *page, const PlotSeries *series, const int *colours, int count,
                      bool draw)
{
    double x = LEFT;
    int row = 0;
    for (int i = 0; i < count; i++) {
        char *label = fit_label(page, series[i].label);
        double width = SAMPLE + 8 + plot_text_width(page, LABEL_SIZE, label);
        if (x > LEFT && x + width > RIGHT) {
            x = LEFT;
            row++;
        }
        if (draw) {
            double y = HEIGHT + (row + 0.3) * ROW_HEIGHT;
            Colour colour = palette[colours[i]];
            plot_set_colour(page, colour);
            cairo_set_line_width(page, 2);
            set_dash(page, series[i].dashed);
            cairo_move_to(page, x, y);
            cairo_line_to(page, x + SAMPLE, y);
            cairo_stroke(page);
            draw_dot(page, x + SAMPLE / 2, y, series[i].dashed, colour);
            plot_set_colour(page, black);
            plot_text(page, x + SAMPLE + 8, y, LABEL_SIZE, ALIGN_LEFT, 0, label);
        }
        x += width + ENTRY_GAP;
        free(label);
    }
    return count > 0 ? row + 1 : 0;
}

/* A new colour for every series but a dashed one, which shares that of the series before it. */
static int *choose_colours(const PlotSeries *series, int count)
{
    int *colours = mem_zeroed((size_t)count + 1, sizeof *colours);
    int next = -1;
    for (int i = 0; i < count; i++) {
        next += !series[i].dashed || next < 0;
        colours[i] = next % (int)(sizeof palette / sizeof palette[0]);
    }
    return colours;
}

static Axes choose_axes(double y_low, double y_high, const PlotSeries *series, int count)
{
    int longest = 2; /* an axis must have a length, even for a single point */
    for (int i = 0; i < count; i++) {
        longest = series[i].count > longest ? series[i].count : longest;
    }
    return (Axes){.x_low = 1, .x_high = longest, .y_low = y_low, .y_high = y_high};
}

int plot_lines(const char *path, const char *title, const char *x_label, const char *y_label,
               double y_low, double y_high, const PlotSeries *series, int series_count, Err *err)
{
    if (!(isfinite(y_low) && isfinite(y_high) && y_low < y_high)) {
        return err_set(err, "%s: cannot draw: the vertical axis would run from %g to %g", path,
                       y_low, y_high);
    }
    int *colours = choose_colours(series, series_count);
    cairo_t *probe = plot_open_page(1, 1);
    int rows = lay_legend(probe, series, colours, series_count, false);
    plot_finish_page(probe, NULL, NULL);

    Axes axes = choose_axes(y_low, y_high, series, series_count);
    cairo_t *page = plot_open_page(WIDTH, HEIGHT + rows * ROW_HEIGHT);
    draw_x_ticks(page, &axes);
    draw_y_ticks(page, &axes);
    draw_frame(page, title, x_label, y_label);
    cairo_save(page);
    /* A few pixels wider than the axes, or dots at the rim would be cut. */
    cairo_rectangle(page, LEFT - 5, TOP - 5, RIGHT - LEFT + 10, BOTTOM - TOP + 10);
    cairo_clip(page);
    for (int i = 0; i < series_count; i++) {
        draw_series(page, &axes, &series[i], palette[colours[i]]);
    }
    cairo_restore(page);
    lay_legend(page, series, colours, series_count, true);
    free(colours);
    return plot_finish_page(page, path, err);
}
