/* Augmentation on the CPU: stored pictures to network input, one thread a picture.
 *
 * Only what the crop shows is computed. The vertical filter needs a few neighbouring rows at a
 * time: horizontally resized rows live in a ring just as long as the filter, so scratch memory does
 * not grow with the picture's area. The finished 8-bit row is normalised through a table and
 * written where flip and rotation put it. */
#include "base/resample.h"
#include "kernels/cpu/batchnorm.h"

#include <omp.h>

/* The filter along one axis, from n samples to `resize`: resample.h. */
typedef struct {
    int n; /* 0: not made yet */
    int taps;
    int32_t *first, *count, *weights;
} Filter;

/* One thread's memory. Its filters are made anew only where a picture's size differs from that of
 * the picture before. */
typedef struct {
    Filter across, down;
    uint8_t *ring; /* [down.taps][crop][3]: row h of the picture, resized across, in h mod taps */
    int32_t *sums; /* [crop][3] */
    uint8_t *row;  /* [crop][3] */
} Workspace;

typedef struct {
    const AugmentShape *s;
    float table[3][256]; /* 8-bit value to network input */
} Augment;

static void make_filter(Filter *filter, int n, int resize)
{
    if (filter->n != n) {
        filter->n = n;
        filter->taps = resample_taps(n, resize);
        resample_filter(n, resize, filter->taps, filter->first, filter->count, filter->weights);
    }
}

/* Columns left .. left + crop - 1 of one picture row, resized across. */
static void resize_row(const Filter *across, int left, int crop, const uint8_t *pixels,
                       uint8_t *out)
{
    for (int x = 0; x < crop; x++) {
        int j = left + x;
        const int32_t *weights = across->weights + (int64_t)j * across->taps;
        const uint8_t *p = pixels + (int64_t)across->first[j] * 3;
        int32_t r = 0;
        int32_t g = 0;
        int32_t b = 0;
        for (int i = 0; i < across->count[j]; i++) {
            r += weights[i] * p[3 * i];
            g += weights[i] * p[3 * i + 1];
            b += weights[i] * p[3 * i + 2];
        }
        out[3 * x] = resample_round(r);
        out[3 * x + 1] = resample_round(g);
        out[3 * x + 2] = resample_round(b);
    }
}

/* What turns a picture into crop rows one after the other. */
typedef struct {
    const AugmentItem *item;
    const uint8_t *pixels;
    int resize, crop;
    Workspace *w;
    int ring_rows;
    int ready; /* the next picture row to be resized across */
} Cutter;

/* Row h of the picture, resized across and cropped. Rows are asked for from the top down. */
static const uint8_t *row_across(Cutter *cut, int h)
{
    const AugmentItem *item = cut->item;
    const uint8_t *pixels = cut->pixels + (int64_t)h * item->width * 3;
    if (item->width == cut->resize) {
        return pixels + (int64_t)item->left * 3;
    }
    uint8_t *slot = cut->w->ring + (int64_t)(h % cut->ring_rows) * cut->crop * 3;
    if (h >= cut->ready) {
        resize_row(&cut->w->across, item->left, cut->crop, pixels, slot);
        cut->ready = h + 1;
    }
    return slot;
}

/* Row r of the crop, before flip and rotation. */
static const uint8_t *crop_row(Cutter *cut, int r)
{
    int j = cut->item->top + r;
    if (cut->item->height == cut->resize) {
        return row_across(cut, j);
    }
    const Filter *down = &cut->w->down;
    const int32_t *weights = down->weights + (int64_t)j * down->taps;
    int32_t *sums = cut->w->sums;
    uint8_t *row = cut->w->row;
    for (int i = 0; i < down->count[j]; i++) {
        const uint8_t *across = row_across(cut, down->first[j] + i);
        int32_t weight = weights[i];
        for (int k = 0; k < 3 * cut->crop; k++) {
            sums[k] = (i == 0 ? 0 : sums[k]) + weight * across[k];
        }
    }
    for (int k = 0; k < 3 * cut->crop; k++) {
        row[k] = resample_round(sums[k]);
    }
    return row;
}

/* Where the crop's pixels go: pixel (row, column) to y + start + row down + column across. */
typedef struct {
    int64_t start, down, across;
} Placement;

static Placement place(const AugmentItem *item, int crop)
{
    int64_t m = crop - 1;
    Placement turned[4] = {
        {0, crop, 1},
        {m * crop, 1, -crop},
        {m * crop + m, -crop, -1},
        {m, -1, crop},
    };
    Placement p = turned[item->quarter_turns];
    if (item->flip) {
        p.start += m * p.across;
        p.across = -p.across;
    }
    return p;
}

static void augment_picture(const Augment *a, const AugmentItem *item, const uint8_t *pixels,
                            Workspace *w, float *y)
{
    int crop = a->s->crop;
    make_filter(&w->across, item->width, a->s->resize);
    make_filter(&w->down, item->height, a->s->resize);
    Cutter cut = {.item = item,
                  .pixels = pixels + item->offset,
                  .resize = a->s->resize,
                  .crop = crop,
                  .w = w,
                  .ring_rows = resample_taps(item->height, a->s->resize)};
    Placement p = place(item, crop);
    for (int r = 0; r < crop; r++) {
        const uint8_t *row = crop_row(&cut, r);
        for (int x = 0; x < crop; x++) {
            float *to = y + 3 * (p.start + r * p.down + x * p.across);
            to[0] = a->table[0][row[3 * x]];
            to[1] = a->table[1][row[3 * x + 1]];
            to[2] = a->table[2][row[3 * x + 2]];
        }
    }
}

static void make_table(float table[3][256])
{
    static const float mean[3] = {0.485F, 0.456F, 0.406F};
    static const float std[3] = {0.229F, 0.224F, 0.225F};
    for (int channel = 0; channel < 3; channel++) {
        for (int v = 0; v < 256; v++) {
            table[channel][v] = ((float)v / 255 - mean[channel]) / std[channel];
        }
    }
}

/* ---- scratch memory -------------------------------------------------------------------------- */

static size_t filter_bytes(int n, int resize)
{
    size_t outputs = (size_t)resize * sizeof(int32_t);
    return 2 * scratch_piece(outputs) + scratch_piece(outputs * (size_t)resample_taps(n, resize));
}

static Filter take_filter(char **next, int n, int resize)
{
    size_t outputs = (size_t)resize * sizeof(int32_t);
    Filter filter = {0};
    filter.first = scratch_take(next, outputs);
    filter.count = scratch_take(next, outputs);
    filter.weights = scratch_take(next, outputs * (size_t)resample_taps(n, resize));
    return filter;
}

/* For pictures of up to the given size. */
static size_t workspace_bytes(const AugmentShape *s, int width, int height)
{
    size_t row = (size_t)s->crop * 3;
    return filter_bytes(width, s->resize) + filter_bytes(height, s->resize) +
           scratch_piece(row * (size_t)resample_taps(height, s->resize)) +
           scratch_piece(row * sizeof(int32_t)) + scratch_piece(row);
}

static Workspace take_workspace(char *next, const AugmentShape *s, int width, int height)
{
    size_t row = (size_t)s->crop * 3;
    Workspace w;
    w.across = take_filter(&next, width, s->resize);
    w.down = take_filter(&next, height, s->resize);
    w.ring = scratch_take(&next, row * (size_t)resample_taps(height, s->resize));
    w.sums = scratch_take(&next, row * sizeof(int32_t));
    w.row = scratch_take(&next, row);
    return w;
}

void cpu_augment(Backend *be, const AugmentShape *s, const uint8_t *pixels,
                 const AugmentItem *items, void *y)
{
    CpuBackend *cpu = cpu_backend(be);
    int width = 1;
    int height = 1;
    for (int i = 0; i < s->N; i++) {
        width = items[i].width > width ? items[i].width : width;
        height = items[i].height > height ? items[i].height : height;
    }
    size_t bytes = workspace_bytes(s, width, height);
    char *scratch = cpu_scratch(cpu, (size_t)cpu->threads * bytes);
    Augment a = {.s = s};
    make_table(a.table);
#pragma omp parallel num_threads(cpu->threads)
    {
        Workspace w =
            take_workspace(scratch + (size_t)omp_get_thread_num() * bytes, s, width, height);
#pragma omp for schedule(dynamic)
        for (int i = 0; i < s->N; i++) {
            augment_picture(&a, &items[i], pixels, &w,
                            (float *)y + (int64_t)i * s->crop * s->crop * 3);
        }
    }
}
