#include "base/mem.h"
#include "kernels/ref/ref_norm.h"

#include <math.h>
#include <stdlib.h>

/* One output sample of the bilinear filter: output j of `outputs` along an axis with n samples, the
 * first at `from` and the others `stride` bytes apart. Widths as in ops.h: f the filter's half
 * width, c its centre; integer weights with 22 bits. */
static uint8_t filter_sample(const uint8_t *from, int64_t stride, int n, int outputs, int j)
{
    double scale = (double)n / outputs;
    double f = fmax(scale, 1);
    double c = (j + 0.5) * scale;
    int first = (int)fmax(0, trunc(c - f + 0.5));
    int last = (int)fmin(n, trunc(c + f + 0.5));
    double total = 0;
    for (int i = first; i < last; i++) {
        total += fmax(0, 1 - fabs(i - c + 0.5) / f);
    }
    int64_t sum = 1 << 21;
    for (int i = first; i < last; i++) {
        double weight = fmax(0, 1 - fabs(i - c + 0.5) / f) / total;
        sum += (int64_t)trunc(weight * (1 << 22) + 0.5) * from[i * stride];
    }
    sum >>= 22;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* [height,width,3] to [height,size,3] */
static void resize_across(const uint8_t *from, int width, int height, int size, uint8_t *to)
{
    for (int64_t h = 0; h < height; h++) {
        for (int w = 0; w < size; w++) {
            for (int k = 0; k < 3; k++) {
                const uint8_t *row = from + h * width * 3 + k;
                to[(h * size + w) * 3 + k] =
                    width == size ? row[(int64_t)w * 3] : filter_sample(row, 3, width, size, w);
            }
        }
    }
}

/* [height,size,3] to [size,size,3] */
static void resize_down(const uint8_t *from, int height, int size, uint8_t *to)
{
    int64_t stride = (int64_t)size * 3;
    for (int h = 0; h < size; h++) {
        for (int64_t i = 0; i < stride; i++) {
            to[h * stride + i] = height == size ? from[h * stride + i]
                                                : filter_sample(from + i, stride, height, size, h);
        }
    }
}

/* Crop row and column that end up at (y, x), by way of k quarter turns counter-clockwise and a
 * flip; m = crop - 1. */
static void find_source(const AugmentItem *item, int m, int y, int x, int *row, int *column)
{
    const int rows[4] = {y, x, m - y, m - x};
    const int columns[4] = {x, m - y, m - x, y};
    *row = rows[item->quarter_turns];
    *column = columns[item->quarter_turns];
    if (item->flip) {
        *column = m - *column;
    }
}

static void cut_out(const AugmentShape *s, const AugmentItem *item, const uint8_t *resized,
                    double *y)
{
    static const double mean[3] = {0.485, 0.456, 0.406};
    static const double std[3] = {0.229, 0.224, 0.225};
    for (int h = 0; h < s->crop; h++) {
        for (int w = 0; w < s->crop; w++) {
            int row;
            int column;
            find_source(item, s->crop - 1, h, w, &row, &column);
            const uint8_t *pixel =
                resized + ((int64_t)(item->top + row) * s->resize + item->left + column) * 3;
            for (int k = 0; k < 3; k++) {
                y[((int64_t)h * s->crop + w) * 3 + k] = (pixel[k] / 255.0 - mean[k]) / std[k];
            }
        }
    }
}

void ref_augment(const AugmentShape *s, const uint8_t *pixels, const AugmentItem *items, double *y)
{
    for (int i = 0; i < s->N; i++) {
        const AugmentItem *item = &items[i];
        uint8_t *across = mem_alloc((size_t)item->height * s->resize * 3);
        uint8_t *resized = mem_alloc((size_t)s->resize * s->resize * 3);
        resize_across(pixels + item->offset, item->width, item->height, s->resize, across);
        resize_down(across, item->height, s->resize, resized);
        cut_out(s, item, resized, y + (int64_t)i * s->crop * s->crop * 3);
        free(across);
        free(resized);
    }
}
