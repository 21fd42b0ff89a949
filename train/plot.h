/* Pictures of results, drawn with cairo and written as PNG. */
#ifndef RODEO_TRAIN_PLOT_H
#define RODEO_TRAIN_PLOT_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *label;
    const double *y; /* count values at x = 1 .. count; NAN leaves a gap */
    int count;
    bool dashed; /* in the colour of the series before it; every other one has its own */
} PlotSeries;

/* A line plot with axes, grid and legend. y runs over [y_low, y_high]. */
int plot_lines(const char *path, const char *title, const char *x_label, const char *y_label,
               double y_low, double y_high, const PlotSeries *series, int series_count, Err *err);

/* A confusion matrix: counts [classes, classes], row = true class, column = predicted; every row is
 * coloured by its shares, numbers are written in where there is room. names: classes strings. */
int plot_confusion(const char *path, const char *title, int classes, char *const *names,
                   const int64_t *counts, Err *err);

#endif
