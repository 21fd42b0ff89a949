/* Augmentation: stored 8-bit pictures to network input, to the bit as Pillow resizes (ops.h,
 * base/resample.h).
 *
 * A block owns 32 x 32 pixels of one crop, whatever the picture's size. It makes the integer filter
 * weights of its 32 columns and 32 rows, then goes down the picture 32 rows at a time: the rows are
 * resized across into shared memory, rounded to 8 bits, and every thread adds what they give to its
 * four pixels, in 32-bit integers. A pass that changes nothing has the filter (1) and needs no
 * treatment of its own.
 *
 * Weights are computed in double, each operation rounded by itself: fused, they would differ from
 * Pillow's in the last place. Filters of more than TAPS samples (pictures shrunk to less than a
 * seventh) do not fit into the table; their weights are computed where they are used.
 *
 * A thread's pixels lie in one column of the crop, or in one row where the picture is turned by an
 * odd number of quarters: neighbouring threads always write neighbouring pixels, a vector each. */
#include "kernels/cuda/device.cuh"

#define RESAMPLE_INLINE static inline __host__ __device__
extern "C" {
#include "base/resample.h"
}

#define SIDE  32 /* of a tile, and source rows at a time */
#define BLOCK 256
#define EACH  (SIDE * SIDE / BLOCK) /* pixels a thread */
#define TAPS  16
#define PITCH (SIDE + 1) /* so that threads of one column use different banks */

/* The filters of a tile along one axis. */
typedef struct {
    int first[SIDE], last[SIDE];
    double sum[SIDE];
    int32_t weight[SIDE][TAPS + 1];
} Filter;

/* An axis of n samples that becomes `resize`. */
typedef struct {
    int n;
    bool in_table;
    double scale, reach, inverse;
} Axis;

__device__ static Axis axis_of(int n, int resize)
{
    Axis axis;
    axis.n = n;
    axis.scale = __ddiv_rn((double)n, (double)resize);
    axis.reach = fmax(axis.scale, 1.0);
    axis.inverse = __ddiv_rn(1.0, axis.reach);
    axis.in_table = 2 * (int)axis.reach + 3 <= TAPS; /* resample_taps */
    return axis;
}

/* The centre of output j. */
__device__ static double centre_of(const Axis *axis, int j)
{
    return __dmul_rn(__dadd_rn((double)j, 0.5), axis->scale);
}

__device__ static double triangle(const Axis *axis, int i, double centre)
{
    double distance = __dadd_rn(__dsub_rn((double)i, centre), 0.5);
    return fmax(0.0, __dsub_rn(1.0, fabs(__dmul_rn(distance, axis->inverse))));
}

__device__ static int32_t weight_of(const Axis *axis, int i, double centre, double sum)
{
    double share = __ddiv_rn(triangle(axis, i, centre), sum);
    return (int32_t)__dadd_rn(__dmul_rn(share, (double)(1 << RESAMPLE_BITS)), 0.5);
}

/* The filter of output j, as entry k of the tile. */
__device__ static void make_filter(const Axis *axis, int j, int k, Filter *filter)
{
    double centre = centre_of(axis, j);
    int first = (int)__dadd_rn(__dsub_rn(centre, axis->reach), 0.5);
    int last = (int)__dadd_rn(__dadd_rn(centre, axis->reach), 0.5);
    first = first < 0 ? 0 : first;
    last = last > axis->n ? axis->n : last;
    double sum = 0;
    for (int i = first; i < last; i++) {
        sum = __dadd_rn(sum, triangle(axis, i, centre));
    }
    for (int i = first; axis->in_table && i < last; i++) {
        filter->weight[k][i - first] = weight_of(axis, i, centre, sum);
    }
    filter->first[k] = first;
    filter->last[k] = last;
    filter->sum[k] = sum;
}

/* The weight of sample i for output j, entry k of the tile. */
__device__ static int32_t weight_at(const Axis *axis, const Filter *filter, int i, int j, int k)
{
    if (axis->in_table) {
        return filter->weight[k][i - filter->first[k]];
    }
    return weight_of(axis, i, centre_of(axis, j), filter->sum[k]);
}

typedef struct {
    int32_t r, g, b;
} Sums;

/* Row h of the picture at output column j, which is entry k of the tile: 8-bit red, green, blue in
 * the bytes of a word. */
__device__ static uint32_t resize_across(const Axis *axis, const Filter *filter, int j, int k,
                                         const uint8_t *row)
{
    Sums sum = {0, 0, 0};
    for (int i = filter->first[k]; i < filter->last[k]; i++) {
        int32_t weight = weight_at(axis, filter, i, j, k);
        const uint8_t *pixel = row + (int64_t)i * 3;
        sum.r += weight * pixel[0];
        sum.g += weight * pixel[1];
        sum.b += weight * pixel[2];
    }
    return resample_round(sum.r) | (uint32_t)resample_round(sum.g) << 8 |
           (uint32_t)resample_round(sum.b) << 16;
}

/* Adds source rows from .. to - 1, resized across into `rows`, to the sums of output row j, entry
 * k of the tile. */
__device__ static void resize_down(const Axis *axis, const Filter *filter, int j, int k, int from,
                                   int to, const uint32_t *rows, Sums *sum)
{
    int first = max(from, filter->first[k]);
    int last = min(to, filter->last[k]);
    for (int i = first; i < last; i++) {
        int32_t weight = weight_at(axis, filter, i, j, k);
        uint32_t pixel = rows[(i - from) * PITCH];
        sum->r += weight * (int32_t)(pixel & 255);
        sum->g += weight * (int32_t)(pixel >> 8 & 255);
        sum->b += weight * (int32_t)(pixel >> 16);
    }
}

/* a / by, correctly rounded (as the host divides) for every quotient that occurs here: the first
 * guess is off by at most one place, and the exact remainder corrects it. */
__device__ static float divide(float a, float by, float inverse)
{
    float guess = __fmul_rn(a, inverse);
    return __fmaf_rn(__fmaf_rn(-guess, by, a), inverse, guess);
}

__device__ static float normalise(int32_t sum, float mean, float std, float inverse_std)
{
    float value = divide((float)resample_round(sum), 255.0f, 1.0f / 255.0f);
    return divide(__fsub_rn(value, mean), std, inverse_std);
}

/* Where the crop's pixels go: pixel (row, column) becomes the picture's pixel
 * start + row down + column across. */
typedef struct {
    int start, down, across;
} Placement;

__device__ static Placement placement_of(const AugmentItem *item, int crop)
{
    int m = crop - 1;
    Placement p = {0, crop, 1};
    if (item->quarter_turns == 1) {
        p = {m * crop, 1, -crop};
    } else if (item->quarter_turns == 2) {
        p = {m * crop + m, -crop, -1};
    } else if (item->quarter_turns == 3) {
        p = {m, -1, crop};
    }
    if (item->flip) {
        p.start += m * p.across;
        p.across = -p.across;
    }
    return p;
}

template <typename T> __device__ static void write_pixel(const Sums *sum, T *to)
{
    float pixel[CUDA_PICTURE_CHANNELS] = {normalise(sum->r, 0.485f, 0.229f, 1.0f / 0.229f),
                                          normalise(sum->g, 0.456f, 0.224f, 1.0f / 0.224f),
                                          normalise(sum->b, 0.406f, 0.225f, 1.0f / 0.225f)};
    store<T, CUDA_PICTURE_CHANNELS>(to, pixel);
}

/* across: tiles beside each other in a crop. blockIdx.x counts tiles row by row, picture by
 * picture. */
template <typename T>
__global__ void __launch_bounds__(BLOCK)
    augment(int resize, int crop, int across, const uint8_t *__restrict__ pixels,
            const AugmentItem *items, T *y)
{
    __shared__ Filter columns, rows;
    __shared__ uint32_t resized[SIDE * PITCH];
    int thread = (int)threadIdx.x;
    int tile = (int)(blockIdx.x % (unsigned)(across * across));
    int64_t picture = blockIdx.x / (unsigned)(across * across);
    const AugmentItem item = items[picture];
    int row0 = tile / across * SIDE;
    int column0 = tile % across * SIDE;
    int height = min(SIDE, crop - row0);
    int width = min(SIDE, crop - column0);
    Axis horizontal = axis_of(item.width, resize);
    Axis vertical = axis_of(item.height, resize);
    if (thread < width) {
        make_filter(&horizontal, item.left + column0 + thread, thread, &columns);
    } else if (thread >= SIDE && thread - SIDE < height) {
        make_filter(&vertical, item.top + row0 + thread - SIDE, thread - SIDE, &rows);
    }
    __syncthreads();

    bool turned = item.quarter_turns % 2 != 0;
    int beside = thread % SIDE;
    int below = thread / SIDE;
    int r0 = turned ? beside : below; /* this thread's first pixel, and the way to its next ones */
    int c0 = turned ? below : beside;
    int r_step = turned ? 0 : BLOCK / SIDE;
    int c_step = turned ? BLOCK / SIDE : 0;
    Sums sums[EACH] = {};
    int source_end = rows.last[height - 1];
    for (int from = rows.first[0]; from < source_end; from += SIDE) {
        int to = min(from + SIDE, source_end);
        for (int row = from + below; row < to && beside < width; row += BLOCK / SIDE) {
            resized[(row - from) * PITCH + beside] =
                resize_across(&horizontal, &columns, item.left + column0 + beside, beside,
                              pixels + item.offset + (int64_t)row * item.width * 3);
        }
        __syncthreads();
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            int r = r0 + e * r_step;
            int c = c0 + e * c_step;
            if (r < height && c < width) {
                resize_down(&vertical, &rows, item.top + row0 + r, r, from, to, resized + c,
                            &sums[e]);
            }
        }
        __syncthreads();
    }

    Placement p = placement_of(&item, crop);
    T *out = y + picture * crop * crop * CUDA_PICTURE_CHANNELS;
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        int r = r0 + e * r_step;
        int c = c0 + e * c_step;
        if (r < height && c < width) {
            int at = p.start + (row0 + r) * p.down + (column0 + c) * p.across;
            write_pixel(&sums[e], out + (int64_t)at * CUDA_PICTURE_CHANNELS);
        }
    }
}

void cuda_augment(Backend *be, const AugmentShape *s, const uint8_t *pixels,
                  const AugmentItem *items, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    int across = (int)divide_up(s->crop, SIDE);
    dim3 grid((unsigned)((int64_t)s->N * across * across));
#define CALL(T)                                                                                    \
    launch(cuda, "augment", augment<T>, grid, dim3(BLOCK), s->resize, s->crop, across, pixels,     \
           items, (T *)y)
    WITH_TYPE(cuda->type, CALL);
#undef CALL
}
