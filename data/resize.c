/* Pillow's bilinear resize of 8-bit pixels, integer for integer. */
#include "base/mem.h"
#include "data/picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_BITS 22

/* The weighted window of input samples behind every output sample of one axis. */
typedef struct {
    int window;       /* most samples of any window */
    int *first;       /* [outputs] */
    int *count;       /* [outputs] */
    int32_t *weights; /* [outputs, window] */
} Axis;

static void fill_window(Axis *axis, int j, int inputs, double scale, double *real)
{
    double reach = fmax(scale, 1.0);
    double centre = (j + 0.5) * scale;
    int first = (int)(centre - reach + 0.5);
    int last = (int)(centre + reach + 0.5);
    first = first < 0 ? 0 : first;
    last = last > inputs ? inputs : last;
    double sum = 0;
    for (int i = first; i < last; i++) {
        real[i - first] = fmax(0.0, 1.0 - fabs((i - centre + 0.5) * (1.0 / reach)));
        sum += real[i - first];
    }
    int32_t *weights = axis->weights + (size_t)j * (size_t)axis->window;
    for (int i = 0; i < last - first; i++) {
        double share = sum != 0 ? real[i] / sum : real[i];
        weights[i] = (int32_t)(share * (1 << WEIGHT_BITS) + 0.5);
    }
    axis->first[j] = first;
    axis->count[j] = last - first;
}

static Axis axis_create(int inputs, int outputs)
{
    double scale = (double)inputs / outputs;
    Axis axis = {.window = 2 * (int)ceil(fmax(scale, 1.0)) + 1};
    axis.first = mem_zeroed((size_t)outputs, sizeof *axis.first);
    axis.count = mem_zeroed((size_t)outputs, sizeof *axis.count);
    axis.weights = mem_zeroed((size_t)outputs * (size_t)axis.window, sizeof *axis.weights);
    double *real = mem_zeroed((size_t)axis.window, sizeof *real);
    for (int j = 0; j < outputs; j++) {
        fill_window(&axis, j, inputs, scale, real);
    }
    free(real);
    return axis;
}

static void axis_free(Axis *axis)
{
    free(axis->first);
    free(axis->count);
    free(axis->weights);
}

static uint8_t round_sum(int32_t sum)
{
    int32_t value = sum >> WEIGHT_BITS;
    return (uint8_t)(value > 255 ? 255 : value);
}

static void resize_row(const Axis *axis, const uint8_t *in, uint8_t *out, int width)
{
    for (int x = 0; x < width; x++) {
        int32_t sum[3] = {1 << (WEIGHT_BITS - 1), 1 << (WEIGHT_BITS - 1), 1 << (WEIGHT_BITS - 1)};
        const uint8_t *sample = in + (size_t)axis->first[x] * 3;
        const int32_t *weight = axis->weights + (size_t)x * (size_t)axis->window;
        for (int i = 0; i < axis->count[x]; i++, sample += 3) {
            sum[0] += weight[i] * sample[0];
            sum[1] += weight[i] * sample[1];
            sum[2] += weight[i] * sample[2];
        }
        out[3 * x] = round_sum(sum[0]);
        out[3 * x + 1] = round_sum(sum[1]);
        out[3 * x + 2] = round_sum(sum[2]);
    }
}

static void resize_columns(const Axis *axis, const Picture *in, Picture *out)
{
    size_t row_bytes = (size_t)in->width * 3;
    int32_t *sum = mem_zeroed(row_bytes, sizeof *sum);
    for (int y = 0; y < out->height; y++) {
        for (size_t b = 0; b < row_bytes; b++) {
            sum[b] = 1 << (WEIGHT_BITS - 1);
        }
        const uint8_t *row = in->pixels + (size_t)axis->first[y] * row_bytes;
        const int32_t *weight = axis->weights + (size_t)y * (size_t)axis->window;
        for (int i = 0; i < axis->count[y]; i++, row += row_bytes) {
            for (size_t b = 0; b < row_bytes; b++) {
                sum[b] += weight[i] * row[b];
            }
        }
        uint8_t *line = out->pixels + (size_t)y * row_bytes;
        for (size_t b = 0; b < row_bytes; b++) {
            line[b] = round_sum(sum[b]);
        }
    }
    free(sum);
}

static Picture empty_picture(int width, int height)
{
    return (Picture){
        .width = width, .height = height, .pixels = mem_alloc((size_t)width * (size_t)height * 3)};
}

Picture picture_resize(const Picture *picture, int width, int height)
{
    Picture wide = empty_picture(width, picture->height);
    if (width == picture->width) {
        memcpy(wide.pixels, picture->pixels, (size_t)width * (size_t)picture->height * 3);
    } else {
        Axis axis = axis_create(picture->width, width);
        for (size_t y = 0; y < (size_t)picture->height; y++) {
            resize_row(&axis, picture->pixels + y * (size_t)picture->width * 3,
                       wide.pixels + y * (size_t)width * 3, width);
        }
        axis_free(&axis);
    }
    if (height == picture->height) {
        return wide;
    }
    Picture result = empty_picture(width, height);
    Axis axis = axis_create(picture->height, height);
    resize_columns(&axis, &wide, &result);
    axis_free(&axis);
    picture_free(&wide);
    return result;
}
