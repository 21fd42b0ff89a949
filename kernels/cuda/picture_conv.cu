/* The 7x7/2 convolution of pictures [N,H,W,4] with weights [64,7,7,3], the statistics of its
 * output, and the weights' gradient, on tensor cores as matrix products without a copy of the
 * pictures.
 *
 * A row of a filter is taken as 8 taps of 4 channels, the first tap and the last channel with zero
 * weights: then the 8 taps of output q are the 32 consecutive elements from pixel 2q - 4 on, and
 * those of output q + 1 begin 8 elements further, on an address that is a multiple of 16 bytes. So
 * the matrix [16 outputs, 16 of a row's 32 products] lies in shared memory as it is, its rows
 * overlapping, 8 elements apart. A block works on tiles of outputs, and the pixels of the next tile
 * are on their way while it computes. Sums are in float32. */
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/picture_conv.h"
#include "kernels/cuda/tensor_core.cuh"

#define FILTERS  64
#define SIDE     7                 /* of a filter */
#define TAPS     8                 /* of a row, the first with zero weights */
#define ROW      (TAPS * CHANNELS) /* products of a row */
#define CHANNELS CUDA_PICTURE_CHANNELS
#define STEP     (2 * CHANNELS) /* elements from an output's pixels to the next one's */
#define MATRIX   8              /* side of the tensor cores' matrices */
#define COLUMNS  (2 * MATRIX)   /* outputs of a tile along a row */
#define WARPS    7
#define THREADS  (WARPS * WARP)
#define RESIDENT 2 /* blocks that a multiprocessor runs at a time */

/* Of the pixels under a tile: a vector is two pixels. */
#define PIXEL_COLUMNS (2 * (COLUMNS - 1) + TAPS)
#define PITCH         160 /* elements of a row in shared memory, a multiple of 16 bytes */
#define ROW_VECTORS   (PIXEL_COLUMNS / 2)

/* Groups are the grid's y where there are some; its x are blocks that share a group's tiles. */
typedef struct {
    int N, H, W, P, Q;           /* N: pictures of a group */
    int tile_rows, tile_columns; /* tiles of a picture */
    int tiles;                   /* of a group */
} PictureShape;

/* The first outputs of a group's tile. */
typedef struct {
    int picture, p, q;
} TileOrigin;

__device__ static inline TileOrigin tile_origin(const PictureShape &s, int group, int tile,
                                                int rows)
{
    TileOrigin origin;
    origin.q = tile % s.tile_columns * COLUMNS;
    tile /= s.tile_columns;
    origin.p = tile % s.tile_rows * rows;
    origin.picture = group * s.N + tile / s.tile_rows;
    return origin;
}

/* Two pixels. */
template <typename T> using Pixels = Loaded<T, STEP>;

/* The vectors of pixels under a tile of ROWS rows of outputs, as a block's threads share them. */
template <int ROWS> struct Under {
    static constexpr int rows = 2 * (ROWS - 1) + SIDE;
    static constexpr int vectors = rows * ROW_VECTORS;
    static constexpr int each = (vectors + THREADS - 1) / THREADS;
};

/* What this thread takes of the pixels under a tile; zeros where there is no picture. */
template <typename T, int ROWS>
__device__ static inline void read_pixels(const PictureShape &s, const T *x, const TileOrigin &o,
                                          Pixels<T> pixels[Under<ROWS>::each])
{
    const T *picture = x + (int64_t)o.picture * s.H * s.W * CHANNELS;
#pragma unroll
    for (int k = 0; k < Under<ROWS>::each; k++) {
        int i = (int)threadIdx.x + k * THREADS;
        int h = 2 * o.p - 3 + i / ROW_VECTORS;
        int w = 2 * o.q - 4 + i % ROW_VECTORS * 2;
        pixels[k] = Pixels<T>();
        if (i < Under<ROWS>::vectors && h >= 0 && h < s.H && w >= 0 && w < s.W) {
            pixels[k] = load_words<T, STEP>(picture + (h * s.W + w) * CHANNELS);
        }
    }
}

template <typename T, int ROWS>
__device__ static inline void write_pixels(const Pixels<T> pixels[Under<ROWS>::each], T *shared)
{
#pragma unroll
    for (int k = 0; k < Under<ROWS>::each; k++) {
        int i = (int)threadIdx.x + k * THREADS;
        if (i < Under<ROWS>::vectors) {
            T *to = shared + i / ROW_VECTORS * PITCH + i % ROW_VECTORS * STEP;
            *reinterpret_cast<Pixels<T> *>(to) = pixels[k];
        }
    }
}

/* ---- fprop -------------------------------------------------------------------------------------
 *
 * y [outputs, 64] = pixels [outputs, 7 x 32] weights [7 x 32, 64]. A warp has two rows of a tile's
 * outputs and all filters; the weights stay in shared memory. There filter 32 h + 8 j + 2 t + b
 * lies in row 32 h + 8 t + 2 j + b, so that a lane's columns of four matrices' sums are eight
 * filters side by side, and four lanes write 64 bytes in one piece.
 *
 * Where batch norm follows, the block also sums y - k and (y - k)^2 over its outputs, k being the
 * running mean: so nobody has to read y for its statistics. */

#define FPROP_ROWS   (2 * WARPS)
#define WEIGHT_PITCH (SIDE * ROW + 8) /* so that the rows of a matrix lie in different banks */

/* A lane has the sums of two parts of the filters, eight of each side by side: its own. */
#define PART (FILTERS / 2)
#define OWN  (PART / 4)
#define SUMS (2 * FILTERS) /* of y - k, then of the squares */

/* The filters, [64, 7, 8, 4] with WEIGHT_PITCH elements a filter. */
template <typename T> __device__ static inline void read_weights(const T *w, T *shared)
{
    for (int i = (int)threadIdx.x; i < FILTERS * SIDE * TAPS; i += THREADS) {
        int filter = i / (SIDE * TAPS);
        int place = i % (SIDE * TAPS);
        int tap = place % TAPS;
        const T *from = w + (int64_t)(filter * SIDE * SIDE + place / TAPS * SIDE + tap - 1) * 3;
        int row = (filter / PART * 4 + filter % OWN / 2) * 8 + filter % PART / OWN * 2 + filter % 2;
        T *to = shared + row * WEIGHT_PITCH + place * CHANNELS;
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) {
            to[c] = tap > 0 && c < 3 ? from[c] : from_float<T>(0.0f);
        }
    }
}

/* A warp's outputs: two rows of 16, in eight matrices of 16 outputs and 8 filters each. */
typedef float FpropSums[2][FILTERS / MATRIX][4];

/* rows: the pixels under the warp's first row of outputs. */
template <typename T>
__device__ static inline void multiply_fprop(const T *rows, const T *weights, FpropSums sums)
{
    int lane = (int)threadIdx.x % WARP;
    int row = lane % MATRIX;
    int matrix = lane / MATRIX;
    const T *pixels = rows + (row + matrix % 2 * MATRIX) * STEP + matrix / 2 * MATRIX;
    const T *filters = weights + (row + matrix / 2 * MATRIX) * WEIGHT_PITCH + matrix % 2 * MATRIX;
#pragma unroll 2
    for (int k = 0; k < SIDE * ROW; k += 2 * MATRIX) {
        uint32_t a[2][4];
        const T *from = pixels + k / ROW * PITCH + k % ROW;
        load_matrices(from, a[0]);
        load_matrices(from + 2 * PITCH, a[1]);
#pragma unroll
        for (int n = 0; n < FILTERS / MATRIX; n += 2) {
            uint32_t b[4];
            load_matrices(filters + n * MATRIX * WEIGHT_PITCH + k, b);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                multiply_add<T>(a[i], b, sums[i][n]);
                multiply_add<T>(a[i], b + 2, sums[i][n + 1]);
            }
        }
    }
}

/* In shared memory: what moments are taken around, and each warp's sums. */
struct BlockMoments {
    alignas(16) float k[FILTERS];
    alignas(16) float of_warps[WARPS][SUMS];
};

__device__ static inline void start_moments(const float *running_mean, BlockMoments *m)
{
    for (int i = (int)threadIdx.x; i < SUMS; i += THREADS) {
        if (i < FILTERS) {
            m->k[i] = running_mean[i];
        }
        for (int warp = 0; warp < WARPS; warp++) {
            m->of_warps[warp][i] = 0.0f;
        }
    }
}

/* Adds up y - k and (y - k)^2 for y as they are stored. */
template <typename T>
__device__ static inline void add_output(const float y[OWN], const float *k, float sums[2 * OWN])
{
    float around[OWN];
    load<float, 4>(k, around);
    load<float, 4>(k + 4, around + 4);
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        float d = rounded<T>(y[i]) - around[i];
        sums[i] += d;
        sums[OWN + i] = fmaf(d, d, sums[OWN + i]);
    }
}

/* Of 2 COUNT values, adds up COUNT with the lane whose number differs in `bit`: the upper ones
 * where the lane's own is set. */
template <int COUNT> __device__ static inline void share_sums(float value[2 * COUNT], int bit)
{
    bool upper = (threadIdx.x & (unsigned)bit) != 0;
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        float given = upper ? value[i] : value[COUNT + i];
        float kept = upper ? value[COUNT + i] : value[i];
        value[i] = kept + __shfl_xor_sync(FULL_WARP, given, bit);
    }
}

/* Eight lanes have sums of the same filters of a part. Adds them up, and two of them, for which
 * this lane answers, to the warp's. */
__device__ static inline void add_lanes(float sums[2 * OWN], int part, BlockMoments *m)
{
    share_sums<OWN>(sums, 16);
    share_sums<OWN / 2>(sums, 8);
    share_sums<OWN / 4>(sums, 4);
    int lane = (int)threadIdx.x % WARP;
    int filter = part * PART + lane % 4 * OWN + lane / 8 % 2 * 4 + lane / 4 % 2 * 2;
    float *answered = m->of_warps[threadIdx.x / WARP] + lane / 16 * FILTERS + filter;
    float total[2];
    load<float, 2>(answered, total);
    total[0] += sums[0];
    total[1] += sums[1];
    store<float, 2>(answered, total);
}

/* Where the blocks' sums lie: a chunk for each block of a group. */
__host__ __device__ static inline NormLayout moments_layout(int groups, int blocks)
{
    NormLayout l = {};
    l.groups = groups;
    l.C = FILTERS;
    l.chunks = blocks;
    return l;
}

/* Adds up the warps. partial: as norm.cuh has it, in moments_layout(). All threads of the block
 * call it. */
__device__ static inline void write_moments(const BlockMoments *m, float *partial)
{
    NormLayout l = moments_layout((int)gridDim.y, (int)gridDim.x);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < SUMS; i += THREADS) {
        float sum = 0.0f;
        for (int warp = 0; warp < WARPS; warp++) {
            sum += m->of_warps[warp][i];
        }
        int64_t at = norm_partial_at(l, i % FILTERS, (int)blockIdx.y, (int)blockIdx.x);
        partial[at + i / FILTERS * NORM_SIDE] = sum;
    }
}

/* Writes those of a warp's outputs that are within the picture: it has so many rows and columns
 * from the first of them on, which is at y. Takes moments of them unless m is NULL. */
template <typename T>
__device__ static inline void write_outputs(const PictureShape &s, const FpropSums sums, int rows,
                                            int columns, T *y, BlockMoments *m)
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int part = 0; part < 2; part++) {
        int filter = part * PART + lane % 4 * OWN;
        float moments[2 * OWN] = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = i / 2;
            int column = lane / 4 + i % 2 * MATRIX;
            if (row < rows && column < columns) {
                float value[OWN];
#pragma unroll
                for (int j = 0; j < OWN; j++) {
                    value[j] = sums[row][part * (PART / MATRIX) + j / 2][i % 2 * 2 + j % 2];
                }
                /* in 64 bits, or the compiler splits the store */
                int64_t at = (row * s.Q + column) * FILTERS + filter;
                store<T, OWN>(y + at, value);
                if (m != NULL) {
                    add_output<T>(value, m->k + filter, moments);
                }
            }
        }
        if (m != NULL) {
            add_lanes(moments, part, m);
        }
    }
}

/* A multiprocessor of Turing has shared memory for one block: its threads may use all registers. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define FPROP_RESIDENT 1
#else
#define FPROP_RESIDENT RESIDENT
#endif

/* running_mean [64] and partial: where moments are taken. */
template <typename T, bool MOMENTS>
__global__ static void __launch_bounds__(THREADS, FPROP_RESIDENT)
    picture_fprop_kernel(PictureShape s, const T *x, const T *w, T *y, const float *running_mean,
                         float *partial)
{
    __shared__ __align__(16) T weights[FILTERS * WEIGHT_PITCH];
    __shared__ __align__(16) T under[Under<FPROP_ROWS>::rows * PITCH];
    __shared__ BlockMoments moments;
    int first_row = (int)threadIdx.x / WARP * 2;
    int group = (int)blockIdx.y;
    Pixels<T> next[Under<FPROP_ROWS>::each];
    read_weights<T>(w, weights);
    if (MOMENTS) {
        start_moments(running_mean, &moments);
    }
    read_pixels<T, FPROP_ROWS>(s, x, tile_origin(s, group, (int)blockIdx.x, FPROP_ROWS), next);
    for (int tile = (int)blockIdx.x; tile < s.tiles; tile += (int)gridDim.x) {
        __syncthreads(); /* the tile before has been computed */
        write_pixels<T, FPROP_ROWS>(next, under);
        __syncthreads();
        if (tile + (int)gridDim.x < s.tiles) {
            read_pixels<T, FPROP_ROWS>(
                s, x, tile_origin(s, group, tile + (int)gridDim.x, FPROP_ROWS), next);
        }
        FpropSums sums = {};
        multiply_fprop<T>(under + 2 * first_row * PITCH, weights, sums);
        TileOrigin o = tile_origin(s, group, tile, FPROP_ROWS);
        int p = o.p + first_row;
        write_outputs<T>(s, sums, s.P - p, s.Q - o.q,
                         y + (((int64_t)o.picture * s.P + p) * s.Q + o.q) * FILTERS,
                         MOMENTS ? &moments : NULL);
    }
    if (MOMENTS) {
        write_moments(&moments, partial);
    }
}

/* ---- wgrad -------------------------------------------------------------------------------------
 *
 * dw [64, 7 x 32] = dy [64, outputs] pixels [outputs, 7 x 32]. A warp has one row of the filters,
 * for all 64 of them. Every block sums over its own tiles; a second kernel adds up the blocks. */

#define WGRAD_ROWS 7
#define DY_PITCH   (FILTERS + 8) /* so that eight outputs lie in different banks */
#define DY_VECTORS (FILTERS / 8) /* of an output */
#define DY_EACH    ((WGRAD_ROWS * COLUMNS * DY_VECTORS + THREADS - 1) / THREADS)
#define SLICES     8 /* threads that share an element of dw */

/* What this thread takes of a tile's gradients; zeros beyond the picture. */
template <typename T>
__device__ static inline void read_gradients(const PictureShape &s, const T *dy,
                                             const TileOrigin &o, Loaded<T, 8> gradients[DY_EACH])
{
    const T *picture = dy + (int64_t)o.picture * s.P * s.Q * FILTERS;
#pragma unroll
    for (int k = 0; k < DY_EACH; k++) {
        int i = (int)threadIdx.x + k * THREADS;
        int output = i / DY_VECTORS;
        int p = o.p + output / COLUMNS;
        int q = o.q + output % COLUMNS;
        gradients[k] = Loaded<T, 8>();
        if (output < WGRAD_ROWS * COLUMNS && p < s.P && q < s.Q) {
            gradients[k] = load_words<T, 8>(picture + (p * s.Q + q) * FILTERS + i % DY_VECTORS * 8);
        }
    }
}

template <typename T>
__device__ static inline void write_gradients(const Loaded<T, 8> gradients[DY_EACH], T *shared)
{
#pragma unroll
    for (int k = 0; k < DY_EACH; k++) {
        int i = (int)threadIdx.x + k * THREADS;
        if (i < WGRAD_ROWS * COLUMNS * DY_VECTORS) {
            T *to = shared + i / DY_VECTORS * DY_PITCH + i % DY_VECTORS * 8;
            *reinterpret_cast<Loaded<T, 8> *>(to) = gradients[k];
        }
    }
}

/* A warp's sums: 64 filters in four matrices of 16, a row's 32 products in four of 8. */
typedef float WgradSums[FILTERS / (2 * MATRIX)][ROW / MATRIX][4];

/* under: the pixels under the tile's first row of outputs, from the filter's row on. */
template <typename T>
__device__ static inline void multiply_wgrad(const T *outputs, const T *under, WgradSums sums)
{
    int lane = (int)threadIdx.x % WARP;
    int row = lane % MATRIX;
    int matrix = lane / MATRIX;
    const T *left = outputs + (row + matrix / 2 * MATRIX) * DY_PITCH + matrix % 2 * MATRIX;
    const T *right = under + (row + matrix % 2 * MATRIX) * STEP + matrix / 2 * MATRIX;
#pragma unroll 1
    for (int p = 0; p < WGRAD_ROWS; p++) {
        uint32_t b[2][4];
        load_transposed(right + 2 * p * PITCH, b[0]);
        load_transposed(right + 2 * p * PITCH + 2 * MATRIX, b[1]);
#pragma unroll
        for (int m = 0; m < FILTERS / (2 * MATRIX); m++) {
            uint32_t a[4];
            load_transposed(left + p * COLUMNS * DY_PITCH + m * 2 * MATRIX, a);
#pragma unroll
            for (int n = 0; n < ROW / MATRIX; n++) {
                multiply_add<T>(a, b[n / 2] + n % 2 * 2, sums[m][n]);
            }
        }
    }
}

/* own: the block's sums of the warp's row, from the first filter on. */
__device__ static inline void write_sums(const WgradSums sums, float *own)
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int m = 0; m < FILTERS / (2 * MATRIX); m++) {
#pragma unroll
        for (int n = 0; n < ROW / MATRIX; n++) {
            float *to = own + (m * 2 * MATRIX + lane / 4) * SIDE * ROW + n * MATRIX + lane % 4 * 2;
            store<float, 2>(to, sums[m][n]);
            store<float, 2>(to + MATRIX * SIDE * ROW, sums[m][n] + 2);
        }
    }
}

/* partial [blocks, 64, 7, 8, 4] */
template <typename T>
__global__ static void __launch_bounds__(THREADS, RESIDENT)
    picture_wgrad_kernel(PictureShape s, const T *x, const T *dy, float *partial)
{
    __shared__ __align__(16) T outputs[WGRAD_ROWS * COLUMNS * DY_PITCH];
    __shared__ __align__(16) T under[Under<WGRAD_ROWS>::rows * PITCH];
    int row = (int)threadIdx.x / WARP;
    WgradSums sums = {};
    Pixels<T> pixels[Under<WGRAD_ROWS>::each];
    Loaded<T, 8> gradients[DY_EACH];
    TileOrigin origin = tile_origin(s, 0, (int)blockIdx.x, WGRAD_ROWS);
    read_pixels<T, WGRAD_ROWS>(s, x, origin, pixels);
    read_gradients<T>(s, dy, origin, gradients);
    for (int tile = (int)blockIdx.x; tile < s.tiles; tile += (int)gridDim.x) {
        __syncthreads(); /* the tile before has been computed */
        write_pixels<T, WGRAD_ROWS>(pixels, under);
        write_gradients<T>(gradients, outputs);
        __syncthreads();
        if (tile + (int)gridDim.x < s.tiles) {
            origin = tile_origin(s, 0, tile + (int)gridDim.x, WGRAD_ROWS);
            read_pixels<T, WGRAD_ROWS>(s, x, origin, pixels);
            read_gradients<T>(s, dy, origin, gradients);
        }
        multiply_wgrad<T>(outputs, under + row * PITCH, sums);
    }
    write_sums(sums, partial + (int64_t)blockIdx.x * FILTERS * SIDE * ROW + row * ROW);
}

/* dw [64,7,7,3] = or += the sum over the blocks. A block has one row of one filter: x is the
 * product, threads of different y add up different blocks. */
__global__ static void __launch_bounds__(ROW *SLICES)
    add_blocks(const float *partial, int blocks, bool accumulate, float *dw)
{
    __shared__ float slices[SLICES][ROW];
    int product = (int)threadIdx.x;
    const float *from = partial + (int64_t)blockIdx.x * ROW + product;
    float sum = 0.0f;
#pragma unroll 8
    for (int b = (int)threadIdx.y; b < blocks; b += SLICES) {
        sum += from[(int64_t)b * FILTERS * SIDE * ROW];
    }
    slices[threadIdx.y][product] = sum;
    __syncthreads();
    int tap = product / CHANNELS - 1;
    int channel = product % CHANNELS;
    if (threadIdx.y == 0 && tap >= 0 && channel < 3) {
        float *to = dw + ((int64_t)blockIdx.x * SIDE + tap) * 3 + channel;
        float total = accumulate ? *to : 0.0f;
        for (int i = 0; i < SLICES; i++) {
            total += slices[i][product];
        }
        *to = total;
    }
}

/* ---- launching ---------------------------------------------------------------------------------
 */

bool cuda_can_convolve_pictures(const CudaBackend *cuda, const ConvShape *s)
{
    bool has_code = (cuda->type == CUDA_F16 && cuda->compiled_for >= TENSOR_CORES_FP16) ||
                    (cuda->type == CUDA_BF16 && cuda->compiled_for >= TENSOR_CORES_BF16);
    return has_code && s->C == 3 && s->K == FILTERS && s->R == SIDE && s->stride == 2 &&
           s->pad == 3 && s->H % 2 == 0 && s->W % 2 == 0;
}

/* For tiles of so many rows of outputs. */
static PictureShape picture_shape(const ConvShape *s, int groups, int rows)
{
    PictureShape p = {};
    p.N = s->N / groups;
    p.H = s->H;
    p.W = s->W;
    p.P = conv_out(s->H, s->R, s->stride, s->pad);
    p.Q = conv_out(s->W, s->R, s->stride, s->pad);
    p.tile_rows = (int)divide_up(p.P, rows);
    p.tile_columns = (int)divide_up(p.Q, COLUMNS);
    int64_t tiles = (int64_t)s->N * p.tile_rows * p.tile_columns;
    if (tiles > INT32_MAX / 2 || (int64_t)p.H * p.W > INT32_MAX / FILTERS) {
        fatal("the first convolution of %d pictures of %d x %d has too many outputs to count", s->N,
              p.H, p.W);
    }
    p.tiles = (int)(tiles / groups);
    return p;
}

/* As many blocks as run at a time, each for several tiles of a group. */
static dim3 grid_for(const CudaBackend *cuda, const PictureShape *p, int groups)
{
    int most = RESIDENT * cuda->multiprocessors / groups;
    most = most > 1 ? most : 1;
    return dim3((unsigned)(p->tiles < most ? p->tiles : most), (unsigned)groups);
}

static void fprop(CudaBackend *cuda, const PictureShape *p, dim3 grid, const void *x, const void *w,
                  void *y, const float *running_mean, float *partial)
{
#define RUN(T)                                                                                     \
    launch(cuda, "fprop of pictures",                                                              \
           partial != NULL ? picture_fprop_kernel<T, true> : picture_fprop_kernel<T, false>, grid, \
           dim3(THREADS), *p, (const T *)x, (const T *)w, (T *)y, running_mean, partial)
    WITH_HALF_TYPE(cuda->type, RUN);
#undef RUN
}

void cuda_picture_fprop(CudaBackend *cuda, const ConvShape *s, const void *x, const void *w,
                        void *y)
{
    PictureShape p = picture_shape(s, 1, FPROP_ROWS);
    fprop(cuda, &p, grid_for(cuda, &p, 1), x, w, y, NULL, NULL);
}

void cuda_conv_statistics(Backend *be, const ConvStatisticsShape *s, const void *x, const void *w,
                          float *running_mean, float *running_var, float *batch_mean,
                          float *batch_invstd, void *y)
{
    CudaBackend *cuda = cuda_backend(be);
    BatchNormShape norm = conv_statistics_norm(s);
    if (!cuda_can_convolve_pictures(cuda, &s->conv) || s->groups > BLOCK_LIMIT) {
        cuda_conv_fprop(be, &s->conv, x, w, NULL, y);
        norm_statistics(cuda, &norm, y, running_mean, running_var, batch_mean, batch_invstd);
        return;
    }
    PictureShape p = picture_shape(&s->conv, s->groups, FPROP_ROWS);
    dim3 grid = grid_for(cuda, &p, s->groups);
    NormLayout l = moments_layout(s->groups, (int)grid.x);
    l.rows = norm.rows;
    float *partial = (float *)cuda_scratch(cuda, norm_partial_bytes(&l));
    fprop(cuda, &p, grid, x, w, y, running_mean, partial);
    norm_statistics_of_sums(cuda, &norm, &l, partial, running_mean, running_var, batch_mean,
                            batch_invstd);
}

void cuda_picture_wgrad(CudaBackend *cuda, const ConvShape *s, const void *x, const void *dy,
                        bool accumulate, float *dw)
{
    PictureShape p = picture_shape(s, 1, WGRAD_ROWS);
    int blocks = (int)grid_for(cuda, &p, 1).x;
    size_t bytes = (size_t)blocks * FILTERS * SIDE * ROW * sizeof(float);
    float *partial = (float *)cuda_scratch(cuda, bytes);
#define RUN(T)                                                                                     \
    launch(cuda, "wgrad of pictures", picture_wgrad_kernel<T>, dim3((unsigned)blocks),             \
           dim3(THREADS), p, (const T *)x, (const T *)dy, partial)
    WITH_HALF_TYPE(cuda->type, RUN);
#undef RUN
    launch(cuda, "wgrad of pictures, sum of blocks", add_blocks, dim3(FILTERS * SIDE),
           dim3(ROW, SLICES), (const float *)partial, blocks, accumulate, dw);
}
