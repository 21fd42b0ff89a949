/* Convolutions in float32 as matrix products without a copy of their operands: fprop and dgrad,
 * channels-last. (wgrad: float_wgrad.cu.)
 *
 *   fprop  y [outputs, K]  = x [outputs, taps x C] w [taps x C, K]
 *   dgrad  dx [inputs, C] = dy [inputs, taps x K] w [taps x K, C]
 *
 * A row of the left matrix is what lies under a filter, tap by tap; beyond the edges it is zero. A
 * dgrad is the same as an fprop with the taps in reverse order, for those inputs that lie at the
 * same place between the outputs' centres: with stride 2 these are four parts of the inputs, each
 * with a quarter of the taps or so, and a part without taps is zero.
 *
 * One block has a tile of the result (float_tile.cuh). Each sum runs over all of its terms in the
 * order of taps and channels, in one thread: the same bits in every run. */
#include "kernels/cuda/float_conv.h"
#include "kernels/cuda/float_tile.cuh"

#include <limits.h>

#define LEAST_COLUMNS 32 /* else most of a tile is empty */
#define MOST_STRIDE   2  /* of a dgrad */
#define PARTS         (MOST_STRIDE * MOST_STRIDE)
#define NOWHERE       (INT_MIN / 2) /* rows of the source, so that no tap of it lies inside */

/* Rows of the result that have the same taps. */
typedef struct {
    int rows;                           /* N x height x width */
    int height, width;                  /* of a picture */
    int from_h, from_w;                 /* first tap of the picture's first row in the source */
    int to_h, to_w;                     /* that row in the result */
    int taps_h, taps_w;                 /* there may be none */
    int weight, weight_down, weight_on; /* dgrad: elements of a filter before the first tap's, and
                                           from it to the ones below and beside it */
} ConvPart;

typedef struct {
    int H, W, channels;     /* of the source, which is summed over */
    int result_H, result_W; /* of the result */
    int columns;            /* its channels */
    int from_step, to_step; /* from a row of a part to the next, in source and result */
    int filter;             /* elements of a filter of the weights */
    int column_tiles;       /* tiles side by side */
    ConvPart part[PARTS];
} ConvLayout;

/* A row of a block's tile. */
typedef struct {
    int first; /* element of the first tap's channel 0; may lie before the tensor */
    int h, w;  /* the first tap in its picture */
    int to;    /* element of the result; -1 where there is no such row */
} __align__(16) ConvRow;

/* What a thread reads next: a vector of channels of each of its rows of the source, and a vector of
 * the weights. */
template <int EACH> struct Reader {
    int r, s, channel; /* tap and channel at hand, */
    int at[EACH];      /* their element, */
    bool inside[EACH]; /* unless it lies beyond the edges */
    bool has_column;   /* the same of the weights: */
    bool has_weight;
    int first_weight; /* the thread's element of the first tap's weights, */
    int weight;       /* and of those at hand */
};

__device__ static inline ConvRow find_row(const ConvLayout &l, const ConvPart &p, int row)
{
    ConvRow found = {0, NOWHERE, 0, -1};
    if (row < p.rows) {
        int w = row % p.width;
        int h = row / p.width % p.height;
        int n = row / p.width / p.height;
        found.h = h * l.from_step + p.from_h;
        found.w = w * l.from_step + p.from_w;
        found.first = ((n * l.H + found.h) * l.W + found.w) * l.channels;
        h = h * l.to_step + p.to_h;
        w = w * l.to_step + p.to_w;
        found.to = ((n * l.result_H + h) * l.result_W + w) * l.columns;
    }
    return found;
}

/* Enters the tap that the channel, which may lie behind those of the tap at hand, belongs to. */
template <int COLUMNS>
__device__ static inline void enter_tap(const ConvLayout &l, const ConvPart &p, const ConvRow *rows,
                                        Reader<Tile<COLUMNS>::rows_each> &from)
{
    while (from.channel >= l.channels) { /* twice where a tap has 4 */
        from.channel -= l.channels;
        from.s++;
        if (from.s == p.taps_w) {
            from.s = 0;
            from.r++;
        }
    }
    bool is_tap = from.r < p.taps_h;
    int tap = (from.r * l.W + from.s) * l.channels + from.channel;
    from.has_weight = from.has_column && is_tap;
#pragma unroll
    for (int i = 0; i < Tile<COLUMNS>::rows_each; i++) {
        ConvRow row = rows[((int)threadIdx.x + i * Tile<COLUMNS>::threads) / 2];
        int h = row.h + from.r;
        int w = row.w + from.s;
        from.at[i] = row.first + tap;
        from.inside[i] = is_tap && (unsigned)h < (unsigned)l.H && (unsigned)w < (unsigned)l.W;
    }
}

/* fprop: where a thread reads a vector of terms of one row of the source, and of one filter. */
template <int COLUMNS>
__device__ static inline void begin_fprop(const ConvLayout &l, int column,
                                          Reader<Tile<COLUMNS>::rows_each> &from)
{
    from.channel = (int)threadIdx.x % 2 * VECTOR;
    column += (int)threadIdx.x / 2;
    from.has_column = column < l.columns;
    from.first_weight = from.weight = column * l.filter + from.channel;
}

/* dgrad: of the weights a vector of channels that lie side by side, of one of the step's terms. */
template <int COLUMNS>
__device__ static inline void begin_dgrad(const ConvLayout &l, const ConvPart &p, int column,
                                          Reader<Tile<COLUMNS>::rows_each> &from)
{
    from.channel = (int)threadIdx.x % 2 * VECTOR;
    column += (int)threadIdx.x % (COLUMNS / VECTOR) * VECTOR;
    from.has_column = column < l.columns;
    from.first_weight = (int)threadIdx.x / (COLUMNS / VECTOR) * l.filter + p.weight + column;
    from.weight = from.first_weight;
}

/* Goes on to the next step's terms. */
template <int COLUMNS, bool DGRAD>
__device__ static inline void next_terms(const ConvLayout &l, const ConvPart &p,
                                         const ConvRow *rows,
                                         Reader<Tile<COLUMNS>::rows_each> &from)
{
    from.channel += TILE_DEPTH;
    from.weight += DGRAD ? TILE_DEPTH * l.filter : TILE_DEPTH;
    if (from.channel < l.channels) {
#pragma unroll
        for (int i = 0; i < Tile<COLUMNS>::rows_each; i++) {
            from.at[i] += TILE_DEPTH;
        }
        return;
    }
    enter_tap<COLUMNS>(l, p, rows, from);
    if (DGRAD) {
        from.weight = from.first_weight + from.r * p.weight_down + from.s * p.weight_on;
    }
}

template <int EACH> struct Terms {
    Loaded<float, VECTOR> rows[EACH], columns;
};

template <int EACH>
__device__ static inline void read_terms(const float *source, const float *w,
                                         const Reader<EACH> &from, Terms<EACH> &terms)
{
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        terms.rows[i] = load_if(from.inside[i], source + from.at[i]);
    }
    terms.columns = load_if(from.has_weight, w + from.weight);
}

template <int COLUMNS, bool DGRAD>
__device__ static inline void write_factors(const Terms<Tile<COLUMNS>::rows_each> &terms,
                                            float *rows, float *columns)
{
    typedef Factors<COLUMNS> F;
    int t = (int)threadIdx.x;
    int term = t % 2 * VECTOR;
#pragma unroll
    for (int i = 0; i < Tile<COLUMNS>::rows_each; i++) {
        int row = (t + i * Tile<COLUMNS>::threads) / 2;
        write_terms<F::row_pitch>(terms.rows[i], rows + term * F::row_pitch + row);
    }
    if (DGRAD) {
        int column = t % (COLUMNS / VECTOR) * VECTOR;
        int which = t / (COLUMNS / VECTOR);
        write_side_by_side(terms.columns, columns + which * F::column_pitch + column);
    } else {
        write_terms<F::column_pitch>(terms.columns, columns + term * F::column_pitch + t / 2);
    }
}

/* The grid's x are tiles, those of the same rows one after the other, and its y are parts. */
template <int COLUMNS, bool DGRAD>
__global__ static void __launch_bounds__(Tile<COLUMNS>::threads, Tile<COLUMNS>::resident)
    float_conv_kernel(ConvLayout l, const float *source, const float *w, float *result)
{
    constexpr int each = Tile<COLUMNS>::rows_each;
    __shared__ __align__(16) Factors<COLUMNS> factors;
    __shared__ ConvRow rows[TILE_ROWS];
    const ConvPart &p = l.part[blockIdx.y];
    int row = (int)blockIdx.x / l.column_tiles * TILE_ROWS;
    int column = (int)blockIdx.x % l.column_tiles * COLUMNS;
    if (row >= p.rows) {
        return; /* other parts have more */
    }
    if (threadIdx.x < TILE_ROWS) {
        rows[threadIdx.x] = find_row(l, p, row + (int)threadIdx.x);
    }
    __syncthreads();
    Reader<each> from;
    if (DGRAD) {
        begin_dgrad<COLUMNS>(l, p, column, from);
    } else {
        begin_fprop<COLUMNS>(l, column, from);
    }
    from.r = from.s = 0;
    enter_tap<COLUMNS>(l, p, rows, from);

    TilePlace place = tile_place<COLUMNS>();
    Terms<each> terms;
    float sums[OWN][OWN] = {};
    int steps = (p.taps_h * p.taps_w * l.channels + TILE_DEPTH - 1) / TILE_DEPTH;
    bool has_rows = row + place.row / WARP_ROWS * WARP_ROWS < p.rows; /* the warp */
    read_terms(source, w, from, terms);
    write_factors<COLUMNS, DGRAD>(terms, factors.rows[0], factors.columns[0]);
    __syncthreads();
    for (int i = 0; i < steps; i++) {
        bool goes_on = i + 1 < steps;
        if (goes_on) {
            next_terms<COLUMNS, DGRAD>(l, p, rows, from);
            read_terms(source, w, from, terms);
        }
        if (has_rows) {
            multiply_step<COLUMNS>(factors.rows[i % 2] + place.row,
                                   factors.columns[i % 2] + place.column, sums);
        }
        if (goes_on) {
            write_factors<COLUMNS, DGRAD>(terms, factors.rows[1 - i % 2],
                                          factors.columns[1 - i % 2]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        int to = rows[place.row + row_behind(i)].to;
#pragma unroll
        for (int j = 0; j < OWN; j += VECTOR) {
            int behind = column + place.column + column_behind(j);
            if (to >= 0 && behind < l.columns) {
                store<float, VECTOR>(result + to + behind, sums[i] + j);
            }
        }
    }
}

/* ---- launching ---------------------------------------------------------------------------------
 */

static bool is_countable(int64_t pixels, int64_t channels)
{
    return pixels > 0 && channels > 0 && pixels < INT_MAX / 2 / channels;
}

bool cuda_can_convolve_floats(const CudaBackend *cuda, const ConvProblem *problem, int64_t tile)
{
    const ConvShape *s = &problem->shape;
    int64_t outputs = (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
                      conv_out(s->W, s->R, s->stride, s->pad);
    bool sizes = is_countable((int64_t)s->N * (s->H + 2 * s->pad) * (s->W + 2 * s->pad), s->C) &&
                 is_countable(outputs, s->K) && is_countable((int64_t)s->K * s->R * s->R, s->C);
    int columns = problem->pass == CONV_DGRAD ? s->C : s->K;
    bool terms =
        problem->pass != CONV_DGRAD || (s->K % TILE_DEPTH == 0 && s->stride <= MOST_STRIDE);
    bool fits = columns >= LEAST_COLUMNS &&
                (tile == FLOAT_CONV_NARROW ||
                 (tile == FLOAT_CONV_WIDE && divide_up(columns, FLOAT_CONV_NARROW) % 2 == 0));
    return cuda->type == CUDA_F32 && !cuda->tf32 && problem->type == CUDNN_DATA_FLOAT &&
           s->C % VECTOR == 0 && s->K % VECTOR == 0 && fits && sizes && terms;
}

static ConvLayout fprop_layout(const ConvShape *s)
{
    ConvLayout l = {};
    l.H = s->H;
    l.W = s->W;
    l.channels = s->C;
    l.result_H = conv_out(s->H, s->R, s->stride, s->pad);
    l.result_W = conv_out(s->W, s->R, s->stride, s->pad);
    l.columns = s->K;
    l.from_step = s->stride;
    l.to_step = 1;
    l.filter = s->R * s->R * s->C;
    ConvPart *p = &l.part[0];
    p->height = l.result_H;
    p->width = l.result_W;
    p->rows = s->N * p->height * p->width;
    p->from_h = p->from_w = -s->pad;
    p->taps_h = p->taps_w = s->R;
    return l;
}

/* One direction of a part of a dgrad: the inputs at which tap `tap`, then every stride-th, meets
 * outputs. */
typedef struct {
    int to;    /* the first of these inputs */
    int count; /* of inputs */
    int taps;
    int from; /* the output that the last of these taps meets at the first input */
} DgradSide;

static DgradSide dgrad_side(const ConvShape *s, int size, int tap)
{
    DgradSide side = {};
    side.to = (tap + s->stride * s->pad - s->pad) % s->stride;
    side.count = size > side.to ? (size - side.to + s->stride - 1) / s->stride : 0;
    side.taps = s->R > tap ? (s->R - tap + s->stride - 1) / s->stride : 0;
    side.from = (side.to + s->pad - tap) / s->stride - (side.taps - 1);
    return side;
}

/* Parts with more taps come first, so that none of them ends last. */
static ConvLayout dgrad_layout(const ConvShape *s)
{
    ConvLayout l = {};
    l.H = conv_out(s->H, s->R, s->stride, s->pad);
    l.W = conv_out(s->W, s->R, s->stride, s->pad);
    l.channels = s->K;
    l.result_H = s->H;
    l.result_W = s->W;
    l.columns = s->C;
    l.from_step = 1;
    l.to_step = s->stride;
    l.filter = s->R * s->R * s->C;
    for (int i = 0; i < s->stride * s->stride; i++) {
        ConvPart *p = &l.part[i];
        DgradSide h = dgrad_side(s, s->H, i / s->stride);
        DgradSide w = dgrad_side(s, s->W, i % s->stride);
        p->height = h.count;
        p->width = w.count;
        p->rows = s->N * h.count * w.count;
        p->from_h = h.from;
        p->from_w = w.from;
        p->to_h = h.to;
        p->to_w = w.to;
        p->taps_h = w.taps > 0 ? h.taps : 0;
        p->taps_w = h.taps > 0 ? w.taps : 0;
        p->weight_down = -s->stride * s->R * s->C;
        p->weight_on = -s->stride * s->C;
        int r = i / s->stride + s->stride * (h.taps - 1);
        int c = i % s->stride + s->stride * (w.taps - 1);
        p->weight = (r * s->R + c) * s->C;
    }
    return l;
}

template <int COLUMNS>
static void run(CudaBackend *cuda, bool dgrad, ConvLayout l, int parts, const float *source,
                const float *w, float *result)
{
    int64_t rows = 0;
    for (int i = 0; i < parts; i++) {
        rows = l.part[i].rows > rows ? l.part[i].rows : rows;
    }
    l.column_tiles = (int)divide_up(l.columns, COLUMNS);
    dim3 grid((unsigned)(divide_up(rows, TILE_ROWS) * l.column_tiles), (unsigned)parts);
    launch(cuda, dgrad ? "dgrad in float32" : "fprop in float32",
           dgrad ? float_conv_kernel<COLUMNS, true> : float_conv_kernel<COLUMNS, false>, grid,
           dim3(Tile<COLUMNS>::threads), l, source, w, result);
}

static void run_tiles(CudaBackend *cuda, bool dgrad, const ConvLayout &l, int parts, int64_t tile,
                      const void *source, const void *w, const void *result)
{
    (tile == FLOAT_CONV_WIDE ? run<FLOAT_CONV_WIDE>
                             : run<FLOAT_CONV_NARROW>)(cuda, dgrad, l, parts, (const float *)source,
                                                       (const float *)w, (float *)result);
}

size_t cuda_float_conv_workspace(const CudaBackend *cuda, const ConvProblem *problem, int64_t tile)
{
    const ConvShape *s = &problem->shape;
    int parts = problem->pass == CONV_WGRAD ? cuda_float_wgrad_parts(cuda, s, tile) : 1;
    size_t filters = (size_t)s->K * s->R * s->R * s->C * sizeof(float);
    return parts > 1 ? (size_t)parts * filters : 0;
}

void cuda_float_conv(CudaBackend *cuda, const ConvProblem *problem, int64_t tile,
                     const ConvOperands *operands, void *workspace)
{
    const ConvShape *s = &problem->shape;
    switch (problem->pass) {
    case CONV_FPROP:
        run_tiles(cuda, false, fprop_layout(s), 1, tile, operands->x, operands->w, operands->y);
        break;
    case CONV_DGRAD:
        run_tiles(cuda, true, dgrad_layout(s), s->stride * s->stride, tile, operands->y,
                  operands->w, operands->x);
        break;
    case CONV_WGRAD:
        cuda_float_wgrad(cuda, s, tile, (const float *)operands->x, (const float *)operands->y,
                         (float *)operands->w, (float *)workspace);
        break;
    }
}
