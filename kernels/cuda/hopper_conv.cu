/* The 3x3 convolutions of 64 channels on 56 x 56 maps, channels-last, for Hopper: fprop, and dgrad
 * as the same convolution of dy with weights that are transposed and turned around.
 *
 *   [64 outputs, positions] = sum over 9 taps of [64 outputs, 64 inputs] [64 inputs, positions]
 *
 * One block an SM, for tiles of consecutive positions (hopper_geometry.cuh), has three warpgroups.
 * A thread of the first has TMA stream padded rows of the input through a ring in shared memory.
 * The others take turns: while one has the tensor cores compute a tile, with the weights as left
 * and the pixels as right factors, the other writes its tile out, through shared memory, so that a
 * pixel's 128 bytes leave together. Every input is read from memory once but for a few rows where
 * blocks meet, and never laid out anew: a tap is another place in the ring where a tile begins.
 *
 * Each sum runs over all of its terms in the order of taps and channels: the same bits in every
 * run. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/hopper_async.cuh"
#include "kernels/cuda/hopper_conv.h"
#include "kernels/cuda/hopper_geometry.cuh"
#include "kernels/cuda/hopper_wgmma.cuh"

#include <limits.h>

/* ---- kernel ------------------------------------------------------------------------------------
 */

#define WARPGROUP 128
#define CONSUMERS 2 /* warpgroups */
#define THREADS   ((1 + CONSUMERS) * WARPGROUP)

/* Registers of a thread: the compiler gives each of the block's 168, which the warpgroups share
 * out anew in units of 8. */
#define PRODUCER_REGISTERS "24"
#define CONSUMER_REGISTERS "240"

/* Named barriers; of the first two there is one for each of the consumers. */
enum { TURN = 1, PART = 3, WEIGHTS = 5 };

#define TILE HOPPER_CONV_TILE
typedef HopperLayout<TILE> Layout;

typedef struct {
    const void *w;
    void *to;
    int pictures;
    bool dgrad;
} HopperConv;

/* Addresses in shared memory. */
typedef struct {
    uint32_t weights, parts, ring;
    uint32_t full; /* barriers of the ring's rows: their bytes are there */
    uint32_t done; /* of tiles: the ring's rows have been read */
} SharedPlaces;

__device__ static inline SharedPlaces shared_places(const void *memory)
{
    uint32_t begin = (uint32_t)__cvta_generic_to_shared(memory);
    begin = (begin + SWIZZLE_BYTES - 1) / SWIZZLE_BYTES * SWIZZLE_BYTES;
    SharedPlaces at;
    at.weights = begin + Layout::weights;
    at.parts = begin + Layout::parts;
    at.ring = begin + Layout::ring;
    at.full = begin + Layout::barriers;
    at.done = at.full + 8 * Layout::ring_rows;
    return at;
}

__device__ static inline void init_barriers(const SharedPlaces &at)
{
    for (int i = 0; i < Layout::ring_rows; i++) {
        barrier_init(at.full + 8 * i, 1);
    }
    for (int i = 0; i < DONE_BARRIERS; i++) {
        barrier_init(at.done + 8 * i, WARPGROUP / WARP);
    }
    barriers_are_ready();
    fence_async();
}

/* One thread has all of the block's rows loaded, as the ring has room for them. */
__device__ static inline void load_rows(const SharedPlaces &at, const BlockRange &range,
                                        const CUtensorMap *map)
{
    int slot = 0;
    int tile = 0;
    int freed = 0; /* rows below are no longer read */
    int n = range.row / PITCH;
    int y = range.row % PITCH - 1;
    for (int row = 0; row < range.rows; row++) {
        while (row - Layout::ring_rows >= freed) {
            barrier_wait(at.done + 8 * (tile % DONE_BARRIERS), tile / DONE_BARRIERS & 1);
            tile++;
            freed = first_row(tile_position(range, tile, TILE));
        }
        uint32_t full = at.full + 8 * slot;
        uint32_t to = at.ring + slot * ROW_BYTES;
        barrier_arrive_expecting(full, slot < Layout::mirror ? 2 * ROW_BYTES : ROW_BYTES);
        load_box(to, map, full, 0, -1, y, n);
        if (slot < Layout::mirror) {
            load_box(to + Layout::ring_rows * ROW_BYTES, map, full, 0, -1, y, n);
        }
        slot = slot + 1 < Layout::ring_rows ? slot + 1 : 0;
        if (++y == HOPPER_SIDE) {
            y = -1;
            n++;
        }
    }
}

typedef struct {
    int tap, out, in;
} WeightPlace;

/* Where the i-th 8 weights begin: 8 inputs of one output, in a dgrad 8 outputs of one input, as
 * they lie side by side in memory. */
template <bool DGRAD> __device__ static inline WeightPlace weight_place(int i)
{
    WeightPlace place;
    place.tap = i / (HOPPER_CHANNELS * CHUNK);
    place.out = DGRAD ? i / HOPPER_CHANNELS % CHUNK * CHUNK : i / CHUNK % HOPPER_CHANNELS;
    place.in = DGRAD ? i % HOPPER_CHANNELS : i % CHUNK * CHUNK;
    return place;
}

/* These 8 weights into shared memory, where inputs lie side by side. */
template <bool DGRAD>
__device__ static inline void share_vector(uint32_t weights, const WeightPlace &place, uint4 v)
{
    if (!DGRAD) {
        store_shared(weights + shared_weight(place.tap, place.out, place.in), v);
        return;
    }
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int e = 0; e < CHUNK; e++) {
        store_shared(weights + shared_weight(place.tap, place.out + e, place.in),
                     (uint16_t)(words[e / 2] >> e % 2 * 16));
    }
}

/* All weights into shared memory, by the consumers. */
template <bool DGRAD>
__device__ static inline void share_weights(uint32_t weights, const uint16_t *w)
{
    constexpr int threads = CONSUMERS * WARPGROUP;
    constexpr int each = HOPPER_TAPS * HOPPER_CHANNELS * HOPPER_CHANNELS / CHUNK / threads;
    int t = (int)threadIdx.x - WARPGROUP;
    uint4 v[each]; /* all under way at once */
#pragma unroll
    for (int k = 0; k < each; k++) {
        WeightPlace place = weight_place<DGRAD>(t + threads * k);
        v[k] = *(const uint4 *)(w + weight_index(DGRAD, place.tap, place.out, place.in));
    }
#pragma unroll
    for (int k = 0; k < each; k++) {
        share_vector<DGRAD>(weights, weight_place<DGRAD>(t + threads * k), v[k]);
    }
}

/* Begins the products of a tile whose first input position is `position`. */
template <typename T>
__device__ static __forceinline__ void begin_tile(const SharedPlaces &at, int position,
                                                  float (&sums)[TILE / 2])
{
    uint64_t weights = describe_rows(at.weights);
    int start = position % Layout::ring_positions;
    wgmma_fence();
#pragma unroll
    for (int tap = 0; tap < HOPPER_TAPS; tap++) {
        int p = start + tap / 3 * PITCH + tap % 3;
        p = p >= Layout::ring_positions ? p - Layout::ring_positions : p;
        uint64_t pixels = describe_rows(at.ring + p * POSITION_BYTES);
#pragma unroll
        for (int k = 0; k < HOPPER_CHANNELS / 16; k++) {
            wgmma_multiply_add<T>(sums, weights + tap * TAP_ON + k * TERMS_ON,
                                  pixels + k * TERMS_ON, tap + k > 0);
        }
    }
    wgmma_commit();
}

/* Writes a tile's sums to memory, a part of its positions at a time. m: the first of them. */
template <typename T>
__device__ static __forceinline__ void write_tile(const HopperConv &conv, int m, uint32_t part,
                                                  int consumer, const float (&sums)[TILE / 2])
{
    int thread = (int)(threadIdx.x % WARPGROUP);
    int warp = __shfl_sync(FULL_WARP, thread / WARP, 0);
    int lane = thread % WARP;
#pragma unroll
    for (int first = 0; first < TILE; first += PART_POSITIONS) {
        named_wait(PART + consumer, WARPGROUP); /* the part before has been read */
#pragma unroll
        for (int j = 0; j < PART_POSITIONS / 8; j += 2) {
            uint32_t words[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                Packed<T, 2> two = pack<T, 2>(sums + (first / 8 + j) * 4 + 2 * i);
                memcpy(&words[i], &two, sizeof words[i]);
            }
            store_transposed(part + part_row(warp, lane, j), words);
        }
        named_wait(PART + consumer, WARPGROUP);
#pragma unroll
        for (int k = 0; k < PART_POSITIONS * CHUNK / WARPGROUP; k++) {
            int position = thread / CHUNK + WARPGROUP / CHUNK * k;
            uint4 v = load_shared(part + swizzled(position, thread % CHUNK));
            int pixel = pixel_of(m + first + position, conv.pictures);
            if (pixel >= 0) {
                ((uint4 *)conv.to)[(int64_t)pixel * CHUNK + thread % CHUNK] = v;
            }
        }
    }
}

/* A consumer's tiles, every other one of the block's. */
template <typename T>
__device__ static inline void compute_tiles(const SharedPlaces &at, const BlockRange &range,
                                            const HopperConv &conv, int consumer)
{
    int thread = (int)(threadIdx.x % WARPGROUP);
    int warp = __shfl_sync(FULL_WARP, thread / WARP, 0);
    int lane = thread % WARP;
    if (conv.dgrad) {
        share_weights<true>(at.weights, (const uint16_t *)conv.w);
    } else {
        share_weights<false>(at.weights, (const uint16_t *)conv.w);
    }
    fence_async();
    named_wait(WEIGHTS, CONSUMERS * WARPGROUP);
    for (int t = consumer; t < range.tiles; t += CONSUMERS) {
        int position = tile_position(range, t, TILE);
        int last = last_row(position, TILE);
        for (int row = first_row(position); row <= last; row++) {
            int slot = row % Layout::ring_rows;
            barrier_wait(at.full + 8 * slot, row / Layout::ring_rows & 1);
        }
        if (t > 0) {
            named_wait(TURN + consumer, CONSUMERS * WARPGROUP);
        }
        float sums[TILE / 2];
        begin_tile<T>(at, position, sums);
        if (t + 1 < range.tiles) {
            named_arrive(TURN + 1 - consumer, CONSUMERS * WARPGROUP);
        }
        wgmma_wait();
        if (lane == 0) {
            barrier_arrive(at.done + 8 * (t % DONE_BARRIERS));
        }
        write_tile<T>(conv, range.m + t * TILE, at.parts + consumer * PART_BYTES, consumer, sums);
    }
}

template <typename T>
__global__ static void __launch_bounds__(THREADS, 1)
    hopper_conv_kernel(const __grid_constant__ CUtensorMap map, HopperConv conv)
{
    extern __shared__ uint8_t memory[];
    SharedPlaces at = shared_places(memory);
    if (threadIdx.x == 0) {
        init_barriers(at);
    }
    __syncthreads();
    BlockRange range = range_of((int)blockIdx.x, (int)gridDim.x, conv.pictures, TILE);
    int warpgroup = __shfl_sync(FULL_WARP, (int)(threadIdx.x / WARPGROUP), 0);
    if (warpgroup == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 " PRODUCER_REGISTERS ";");
        if (threadIdx.x == 0) {
            load_rows(at, range, &map);
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 " CONSUMER_REGISTERS ";");
        compute_tiles<T>(at, range, conv, warpgroup - 1);
    }
}

/* ---- launching ---------------------------------------------------------------------------------
 */

typedef decltype(&cuTensorMapEncodeTiled) EncodeTiled;

/* The driver's function that describes tensors to TMA, so that the driver's library need not be
 * linked; NULL: this driver has none. */
static EncodeTiled find_encoder(void)
{
    void *entry = NULL;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                          cudaEnableDefault, &found);
#else
    cudaError_t status =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
    if (status != cudaSuccess || found != cudaDriverEntryPointSuccess) {
        cudaGetLastError(); /* the error stays behind otherwise and would be taken for a later
                               call's */
        entry = NULL;
    }
    return (EncodeTiled)entry;
}

bool cuda_can_convolve_hopper(const CudaBackend *cuda, const ConvProblem *problem)
{
    const ConvShape *s = &problem->shape;
    bool type = (cuda->type == CUDA_F16 && problem->type == CUDNN_DATA_HALF) ||
                (cuda->type == CUDA_BF16 && problem->type == CUDNN_DATA_BFLOAT16);
    bool shape = s->N > 0 && s->N < INT_MAX / PICTURE - 1 && s->H == HOPPER_SIDE &&
                 s->W == HOPPER_SIDE && s->C == HOPPER_CHANNELS && s->K == HOPPER_CHANNELS &&
                 s->R == 3 && s->stride == 1 && s->pad == 1;
    return cuda->sm == 90 && type && shape && problem->pass != CONV_WGRAD && find_encoder() != NULL;
}

/* Pictures [N, 56, 56, 64] in boxes of one padded row. */
static CUtensorMap describe_pictures(const CudaBackend *cuda, int pictures, const void *memory)
{
    const cuuint64_t sizes[] = {HOPPER_CHANNELS, HOPPER_SIDE, HOPPER_SIDE, (cuuint64_t)pictures};
    const cuuint64_t bytes_apart[] = {POSITION_BYTES, POSITION_BYTES * HOPPER_SIDE,
                                      POSITION_BYTES * HOPPER_SIDE * HOPPER_SIDE};
    const cuuint32_t box[] = {HOPPER_CHANNELS, PITCH, 1, 1};
    const cuuint32_t steps[] = {1, 1, 1, 1};
    CUtensorMapDataType type =
        cuda->type == CUDA_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    CUtensorMap map = {};
    CUresult status =
        find_encoder()(&map, type, 4, const_cast<void *>(memory), sizes, bytes_apart, box, steps,
                       CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                       CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS) {
        fatal("cuTensorMapEncodeTiled: error %d for %d pictures", (int)status, pictures);
    }
    return map;
}

/* The map is a parameter by value, so a recorded step keeps it. */
void cuda_hopper_conv(CudaBackend *cuda, const ConvProblem *problem, const ConvOperands *operands)
{
    bool dgrad = problem->pass == CONV_DGRAD;
    int pictures = problem->shape.N;
    const void *from = dgrad ? operands->y : operands->x;
    HopperConv conv = {};
    conv.w = operands->w;
    conv.to = const_cast<void *>(dgrad ? operands->x : operands->y);
    conv.pictures = pictures;
    conv.dgrad = dgrad;
    CUtensorMap map = describe_pictures(cuda, pictures, from);
    int tiles = tiles_of(pictures, TILE);
    int blocks = tiles < cuda->multiprocessors ? tiles : cuda->multiprocessors;
#define RUN(T)                                                                                     \
    do {                                                                                           \
        CUDA_CHECK(cudaFuncSetAttribute(                                                           \
            hopper_conv_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, Layout::bytes));   \
        launch_with_shared(cuda, dgrad ? "dgrad on Hopper" : "fprop on Hopper",                    \
                           hopper_conv_kernel<T>, dim3((unsigned)blocks), dim3(THREADS),           \
                           Layout::bytes, map, conv);                                              \
    } while (0)
    WITH_HALF_TYPE(cuda->type, RUN);
#undef RUN
}
