/* Pillow's bilinear resize of 8-bit pixels, integer for integer. */
#include "base/mem.h"
#include "base/resample.h"
#include "data/picture.h"

#include <stdlib.h>
#include <string.h>

/* The filter of one axis: resample.h. */
typedef struct {
    int taps;
    int32_t *first, *count, *weights;
} Axis;

static Axis axis_create(int inputs, int outputs)
{
    Axis axis = {.taps = resample_taps(inputs, outputs)};
    axis.first = mem_zeroed((size_t)outputs, sizeof *axis.first);
    axis.count = mem_zeroed((size_t)outputs, sizeof *axis.count);
    axis.weights = mem_zeroed((size_t)outputs * (size_t)axis.taps, sizeof *axis.weights);
    resample_filter(inputs, outputs, axis.taps, axis.first, axis.count, axis.weights);
    return axis;
}

static void axis_free(Axis *axis)
{
    free(axis->first);
    free(axis->count);
    free(axis->weights);
}

static void resize_row(const Axis *axis, const uint8_t *in, uint8_t *out, int width)
{
    for (int x = 0; x < width; x++) {
        int32_t sum[3] = {0, 0, 0};
        const uint8_t *sample = in + (size_t)axis->first[x] * 3;
        const int32_t *weight = axis->weights + (size_t)x * (size_t)axis->taps;
        for (int i = 0; i < axis->count[x]; i++, sample += 3) {
            sum[0] += weight[i] * sample[0];
            sum[1] += weight[i] * sample[1];
            sum[2] += weight[i] * sample[2];
        }
        out[3 * x] = resample_round(sum[0]);
        out[3 * x + 1] = resample_round(sum[1]);
        out[3 * x + 2] = resample_round(sum[2]);
    }
}

static void resize_columns(const Axis *axis, const Picture *in, Picture *out)
{
    size_t row_bytes = (size_t)in->width * 3;
    int32_t *sum = mem_zeroed(row_bytes, sizeof *sum);
    for (int y = 0; y < out->height; y++) {
        memset(sum, 0, row_bytes * sizeof *sum);
        const uint8_t *row = in->pixels + (size_t)axis->first[y] * row_bytes;
        const int32_t *weight = axis->weights + (size_t)y * (size_t)axis->taps;
        for (int i = 0; i < axis->count[y]; i++, row += row_bytes) {
            for (size_t b = 0; b < row_bytes; b++) {
                sum[b] += weight[i] * row[b];
            }
        }
        uint8_t *line = out->pixels + (size_t)y * row_bytes;
        for (size_t b = 0; b < row_bytes; b++) {
            line[b] = resample_round(sum[b]);
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
