/* The weights' gradients of convolutions in float32 as matrix products without a copy of their
 * operands:
 *
 *   dw [K, taps x C]: its transpose = x^T [taps x C, outputs] dy [outputs, K]
 *
 * A column of the left matrix is what lies under a filter at one output. The outputs are divided
 * into parts, so that there are blocks for the whole GPU; one block sums a tile of a part
 * (float_tile.cuh), output by output in each thread. The sums of the parts are then added in their
 * order: the same bits in every run on the same GPU. */
#include "kernels/cuda/float_conv.h"
#include "kernels/cuda/float_tile.cuh"

#define LONGEST_PART  8192 /* outputs, that rounding adds up over */
#define SHORTEST_PART 128  /* that are worth a block */
#define MOST_ROUNDS   8    /* of blocks */
#define SLICES        8    /* of the parts, when they are added */

typedef struct {
    int H, W, C, P, Q, K;
    int R, stride, pad;
    int step_w, step;    /* columns and elements of x from a step's outputs to the next step's, */
    int wrap_w, wrap_h;  /* columns and rows that the outputs of a picture move on over x, */
    int wrap, wrap_last; /* and elements from behind a row of outputs to the next row's first, and
                            from behind the last row to the next picture's first */
    int outputs, part;   /* in all, and in a part */
    int rows;            /* of the left matrix: taps x C */
    int row_tiles;       /* tiles one below the other */
} WgradLayout;

/* What a thread reads next: a vector of rows of x at some of a step's outputs, and a vector of dy's
 * columns at one. */
template <int EACH> struct WgradReader {
    int h[EACH], w[EACH]; /* where the tap of the thread's rows meets the picture, */
    int at[EACH];         /* and the element there; may lie beyond the edges */
    int end_h, end_w;     /* of h and w */
    int dy;               /* element of dy */
    bool has_row, has_column;
};

/* Which of a step's outputs the t-th vector of as many rows or columns of each is of. */
__device__ static inline int output_of(int across, int t)
{
    return t / (across / VECTOR);
}

template <int COLUMNS>
__device__ static inline void begin(const WgradLayout &l, int row, int column, int first,
                                    WgradReader<Tile<COLUMNS>::rows_each> &from)
{
    int t = (int)threadIdx.x;
    row += t % (TILE_ROWS / VECTOR) * VECTOR;
    int r = row / l.C / l.R - l.pad;
    int s = row / l.C % l.R - l.pad;
    from.has_row = row < l.rows;
    from.end_h = l.P * l.stride + r;
    from.end_w = l.Q * l.stride + s;
#pragma unroll
    for (int i = 0; i < Tile<COLUMNS>::rows_each; i++) {
        int output = first + output_of(TILE_ROWS, t + i * Tile<COLUMNS>::threads);
        int n = output / l.Q / l.P;
        from.h[i] = output / l.Q % l.P * l.stride + r;
        from.w[i] = output % l.Q * l.stride + s;
        from.at[i] = ((n * l.H + from.h[i]) * l.W + from.w[i]) * l.C + row % l.C;
    }
    column += t % (COLUMNS / VECTOR) * VECTOR;
    from.has_column = column < l.K;
    from.dy = (first + output_of(COLUMNS, t)) * l.K + column;
}

/* Goes on to the next step's outputs. */
template <int EACH>
__device__ static inline void next_outputs(const WgradLayout &l, WgradReader<EACH> &from)
{
    from.dy += TILE_DEPTH * l.K;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        from.w[i] += l.step_w;
        from.at[i] += l.step;
        while (from.w[i] >= from.end_w) {
            from.w[i] -= l.wrap_w;
            from.h[i] += l.stride;
            from.at[i] += l.wrap;
            if (from.h[i] >= from.end_h) {
                from.h[i] -= l.wrap_h;
                from.at[i] += l.wrap_last;
            }
        }
    }
}

template <int EACH> struct WgradTerms {
    Loaded<float, VECTOR> rows[EACH], columns;
};

/* left: outputs of the part from the step's first on. */
template <int COLUMNS>
__device__ static inline void read_outputs(const WgradLayout &l, const float *x, const float *dy,
                                           int left,
                                           const WgradReader<Tile<COLUMNS>::rows_each> &from,
                                           WgradTerms<Tile<COLUMNS>::rows_each> &terms)
{
    int t = (int)threadIdx.x;
#pragma unroll
    for (int i = 0; i < Tile<COLUMNS>::rows_each; i++) {
        bool wanted = from.has_row && output_of(TILE_ROWS, t + i * Tile<COLUMNS>::threads) < left &&
                      (unsigned)from.h[i] < (unsigned)l.H && (unsigned)from.w[i] < (unsigned)l.W;
        terms.rows[i] = load_if(wanted, x + from.at[i]);
    }
    terms.columns = load_if(from.has_column && output_of(COLUMNS, t) < left, dy + from.dy);
}

template <int COLUMNS>
__device__ static inline void write_factors(const WgradTerms<Tile<COLUMNS>::rows_each> &terms,
                                            float *rows, float *columns)
{
    typedef Factors<COLUMNS> F;
    int t = (int)threadIdx.x;
    rows += t % (TILE_ROWS / VECTOR) * VECTOR;
    columns += t % (COLUMNS / VECTOR) * VECTOR;
#pragma unroll
    for (int i = 0; i < Tile<COLUMNS>::rows_each; i++) {
        int output = output_of(TILE_ROWS, t + i * Tile<COLUMNS>::threads);
        write_side_by_side(terms.rows[i], rows + output * F::row_pitch);
    }
    write_side_by_side(terms.columns, columns + output_of(COLUMNS, t) * F::column_pitch);
}

/* sums: [parts, K, taps x C]. The grid's x are tiles, those of the same columns one after the
 * other, and its y are parts: blocks that run together read the same outputs. */
template <int COLUMNS>
__global__ static void __launch_bounds__(Tile<COLUMNS>::threads, Tile<COLUMNS>::resident)
    float_wgrad_kernel(WgradLayout l, const float *x, const float *dy, float *to)
{
    constexpr int each = Tile<COLUMNS>::rows_each;
    __shared__ __align__(16) Factors<COLUMNS> factors;
    int row = (int)blockIdx.x % l.row_tiles * TILE_ROWS;
    int column = (int)blockIdx.x / l.row_tiles * COLUMNS;
    int first = (int)blockIdx.y * l.part;
    int end = first + l.part < l.outputs ? first + l.part : l.outputs;
    int steps = (end - first + TILE_DEPTH - 1) / TILE_DEPTH;
    TilePlace place = tile_place<COLUMNS>();
    WgradReader<each> from;
    WgradTerms<each> terms;
    float sums[OWN][OWN] = {};
    begin<COLUMNS>(l, row, column, first, from);
    read_outputs<COLUMNS>(l, x, dy, end - first, from, terms);
    write_factors<COLUMNS>(terms, factors.rows[0], factors.columns[0]);
    __syncthreads();
    for (int i = 0; i < steps; i++) {
        bool goes_on = i + 1 < steps;
        if (goes_on) {
            next_outputs(l, from);
            read_outputs<COLUMNS>(l, x, dy, end - first - (i + 1) * TILE_DEPTH, from, terms);
        }
        multiply_step<COLUMNS>(factors.rows[i % 2] + place.row,
                               factors.columns[i % 2] + place.column, sums);
        if (goes_on) {
            write_factors<COLUMNS>(terms, factors.rows[1 - i % 2], factors.columns[1 - i % 2]);
        }
        __syncthreads();
    }
    to += (int64_t)blockIdx.y * l.K * l.rows;
#pragma unroll
    for (int j = 0; j < OWN; j++) {
        int k = column + place.column + column_behind(j);
#pragma unroll
        for (int i = 0; i < OWN; i += VECTOR) {
            int behind = row + place.row + row_behind(i);
            float own[VECTOR] = {sums[i][j], sums[i + 1][j], sums[i + 2][j], sums[i + 3][j]};
            if (behind < l.rows && k < l.K) {
                store<float, VECTOR>(to + k * l.rows + behind, own);
            }
        }
    }
}

/* dw = the sum over the parts, a vector in a thread's x; threads of different y add up different
 * parts. */
__global__ static void __launch_bounds__(WARP *SLICES)
    add_parts(const float *sums, int parts, int vectors, float *dw)
{
    __shared__ __align__(16) float slices[SLICES][WARP * VECTOR];
    int vector = (int)(blockIdx.x * WARP + threadIdx.x);
    float sum[VECTOR] = {};
#pragma unroll 4
    for (int i = (int)threadIdx.y; i < parts && vector < vectors; i += SLICES) {
        float x[VECTOR];
        load<float, VECTOR>(sums + ((int64_t)i * vectors + vector) * VECTOR, x);
#pragma unroll
        for (int k = 0; k < VECTOR; k++) {
            sum[k] += x[k];
        }
    }
    store<float, VECTOR>(slices[threadIdx.y] + threadIdx.x * VECTOR, sum);
    __syncthreads();
    if (threadIdx.y == 0 && vector < vectors) {
        for (int i = 1; i < SLICES; i++) {
#pragma unroll
            for (int k = 0; k < VECTOR; k++) {
                sum[k] += slices[i][threadIdx.x * VECTOR + k];
            }
        }
        store<float, VECTOR>(dw + (int64_t)vector * VECTOR, sum);
    }
}

/* ---- launching ---------------------------------------------------------------------------------
 */

static int64_t tiles_of(const ConvShape *s, int64_t tile)
{
    return divide_up((int64_t)s->R * s->R * s->C, TILE_ROWS) * divide_up(s->K, tile);
}

static int64_t outputs_of(const ConvShape *s)
{
    return (int64_t)s->N * conv_out(s->H, s->R, s->stride, s->pad) *
           conv_out(s->W, s->R, s->stride, s->pad);
}

/* Outputs of a part. As many parts as keep all multiprocessors busy until the end, or nearly: fewer
 * are preferred, for they leave less to add. */
static int part_of(const CudaBackend *cuda, const ConvShape *s, int64_t tile)
{
    int64_t tiles = tiles_of(s, tile);
    int64_t outputs = outputs_of(s);
    int64_t least = divide_up(outputs, LONGEST_PART);
    int64_t most = outputs / SHORTEST_PART > least ? outputs / SHORTEST_PART : least;
    int64_t at_once = (int64_t)cuda->multiprocessors * (tile == FLOAT_CONV_WIDE
                                                            ? Tile<FLOAT_CONV_WIDE>::resident
                                                            : Tile<FLOAT_CONV_NARROW>::resident);
    int64_t best = least;
    double busy = 0;
    for (int rounds = 1; rounds <= MOST_ROUNDS; rounds++) {
        int64_t parts = rounds * at_once / tiles;
        parts = parts < least ? least : parts > most ? most : parts;
        int64_t blocks = parts * tiles;
        double share = (double)blocks / (double)(divide_up(blocks, at_once) * at_once);
        if (share > 1.02 * busy) {
            busy = share;
            best = parts;
        }
    }
    return (int)(divide_up(divide_up(outputs, best), TILE_DEPTH) * TILE_DEPTH);
}

int cuda_float_wgrad_parts(const CudaBackend *cuda, const ConvShape *s, int64_t tile)
{
    return (int)divide_up(outputs_of(s), part_of(cuda, s, tile));
}

static WgradLayout wgrad_layout(const CudaBackend *cuda, const ConvShape *s, int64_t tile)
{
    WgradLayout l = {};
    l.H = s->H;
    l.W = s->W;
    l.C = s->C;
    l.P = conv_out(s->H, s->R, s->stride, s->pad);
    l.Q = conv_out(s->W, s->R, s->stride, s->pad);
    l.K = s->K;
    l.R = s->R;
    l.stride = s->stride;
    l.pad = s->pad;
    l.step_w = TILE_DEPTH * s->stride;
    l.step = l.step_w * s->C;
    l.wrap_w = l.Q * s->stride;
    l.wrap_h = l.P * s->stride;
    l.wrap = (s->stride * s->W - l.wrap_w) * s->C;
    l.wrap_last = (s->H - l.wrap_h) * s->W * s->C;
    l.outputs = (int)outputs_of(s);
    l.part = part_of(cuda, s, tile);
    l.rows = s->R * s->R * s->C;
    l.row_tiles = (int)divide_up(l.rows, TILE_ROWS);
    return l;
}

void cuda_float_wgrad(CudaBackend *cuda, const ConvShape *s, int64_t tile, const float *x,
                      const float *dy, float *dw, float *workspace)
{
    WgradLayout l = wgrad_layout(cuda, s, tile);
    int parts = cuda_float_wgrad_parts(cuda, s, tile);
    float *to = parts > 1 ? workspace : dw;
    dim3 grid((unsigned)tiles_of(s, tile), (unsigned)parts);
    if (tile == FLOAT_CONV_WIDE) {
        launch(cuda, "wgrad in float32", float_wgrad_kernel<FLOAT_CONV_WIDE>, grid,
               dim3(Tile<FLOAT_CONV_WIDE>::threads), l, x, dy, to);
    } else {
        launch(cuda, "wgrad in float32", float_wgrad_kernel<FLOAT_CONV_NARROW>, grid,
               dim3(Tile<FLOAT_CONV_NARROW>::threads), l, x, dy, to);
    }
    if (parts > 1) {
        int vectors = s->K * l.rows / VECTOR;
        launch(cuda, "wgrad in float32, sum of parts", add_parts,
               dim3((unsigned)divide_up(vectors, WARP)), dim3(WARP, SLICES), (const float *)to,
               parts, vectors, dw);
    }
}
