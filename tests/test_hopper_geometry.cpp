/* The index arithmetic of the Hopper convolution (kernels/cuda/hopper_geometry.cuh), which no GPU
 * but a Hopper and no emulator runs: a block's work is replayed on whole numbers, with memory as
 * TMA writes it, wgmma reads it by descriptors, and stmatrix writes it, and compared with a direct
 * convolution. The producer is as far ahead as the ring lets it be. */
#include <cuda_runtime.h>

#include "kernels/cuda/hopper_geometry.cuh"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define SIDE     HOPPER_SIDE
#define CHANNELS HOPPER_CHANNELS
#define TILE     256
#define NOTHING  12345 /* what memory holds that nobody has written */

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::printf("%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);              \
            std::exit(EXIT_FAILURE);                                                               \
        }                                                                                          \
    } while (0)

typedef struct {
    int pictures;
    std::vector<int16_t> x; /* [pictures,56,56,64], dy in a dgrad */
    std::vector<int16_t> w; /* [64,3,3,64] */
} Operands;

/* -1, 0 or 1 */
static std::vector<int16_t> small_numbers(size_t count, uint32_t seed)
{
    std::vector<int16_t> numbers(count);
    for (int16_t &number : numbers) {
        seed = seed * 1664525 + 1013904223;
        number = (int16_t)((seed >> 16) % 3) - 1;
    }
    return numbers;
}

/* fprop: y[p,q,k] = sum of x[p+r-1,q+s-1,c] w[k,r,s,c]
 * dgrad: dx[h,w,c] = sum of dy[h+1-r,w+1-s,k] w[k,r,s,c] */
static std::vector<int> direct(const Operands &o, bool dgrad)
{
    std::vector<int> to(o.x.size());
    for (int pixel = 0; pixel < o.pictures * SIDE * SIDE; pixel++) {
        int y = pixel / SIDE % SIDE;
        int x = pixel % SIDE;
        for (int tap = 0; tap < 9; tap++) {
            int down = dgrad ? 1 - tap / 3 : tap / 3 - 1;
            int right = dgrad ? 1 - tap % 3 : tap % 3 - 1;
            if (y + down < 0 || y + down >= SIDE || x + right < 0 || x + right >= SIDE) {
                continue;
            }
            const int16_t *from = &o.x[(size_t)(pixel + down * SIDE + right) * CHANNELS];
            int *sums = &to[(size_t)pixel * CHANNELS];
            for (int k = 0; k < CHANNELS; k++) {
                const int16_t *w = &o.w[(size_t)(k * 9 + tap) * CHANNELS];
                for (int c = 0; c < CHANNELS; c++) {
                    sums[dgrad ? c : k] += w[c] * from[dgrad ? k : c];
                }
            }
        }
    }
    return to;
}

/* ---- what the hardware does --------------------------------------------------------------------
 */

class SharedMemory
{
  public:
    static constexpr uint32_t begin = SWIZZLE_BYTES;

    SharedMemory() : elements((begin + SHARED_LIMIT) / 2, NOTHING)
    {
    }
    int16_t &at(uint32_t address)
    {
        REQUIRE(address % 2 == 0 && address / 2 < elements.size());
        return elements[address / 2];
    }

  private:
    std::vector<int16_t> elements;
};

/* 128-byte swizzling goes by the address itself. */
static uint32_t swizzle(uint32_t address)
{
    return address ^ ((address >> 7 & 7) << 4);
}

/* A box of one row: 57 pixels from x = -1 on. */
static void load_box(SharedMemory &memory, const Operands &o, uint32_t to, int y, int n)
{
    for (int i = 0; i < PITCH * CHANNELS; i++) {
        int x = i / CHANNELS - 1;
        bool inside = n >= 0 && n < o.pictures && y >= 0 && y < SIDE && x >= 0 && x < SIDE;
        size_t from = ((size_t)(n * SIDE + y) * SIDE + (size_t)x) * CHANNELS + i % CHANNELS;
        memory.at(swizzle(to + 2 * (uint32_t)i)) = inside ? o.x[from] : 0;
    }
}

/* Where wgmma reads a term of a row. */
static uint32_t operand_address(uint64_t descriptor, int row, int term)
{
    uint32_t start = (uint32_t)(descriptor & 0x3fff) << 4;
    uint32_t eight_rows = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    REQUIRE(descriptor >> 62 == 1);
    return swizzle(start + row / 8 * eight_rows + row % 8 * 128 + term * 2);
}

/* ---- a block -----------------------------------------------------------------------------------
 */

typedef struct {
    std::vector<int> value, times; /* what was written to each element, and how often */
} Written;

class Block
{
    typedef HopperLayout<TILE> Layout;

  public:
    Block(const Operands &operands, bool is_dgrad, int block, int blocks)
        : o(operands), dgrad(is_dgrad), range(range_of(block, blocks, operands.pictures, TILE)),
          loaded(Layout::ring_rows, -1)
    {
        for (int i = 0; i < 9 * CHANNELS * CHANNELS; i++) {
            int tap = i / (CHANNELS * CHANNELS);
            int out = i / CHANNELS % CHANNELS;
            memory.at(SharedMemory::begin + Layout::weights +
                      shared_weight(tap, out, i % CHANNELS)) = weight(tap, out, i % CHANNELS);
        }
    }

    void run(Written &written)
    {
        for (int t = 0; t < range.tiles; t++) {
            load_rows(first_row(tile_position(range, t, TILE)));
            std::vector<int> sums = multiply(tile_position(range, t, TILE));
            write(t, sums, written);
        }
        REQUIRE(range.tiles == 0 || row == range.rows);
    }

  private:
    int16_t weight(int tap, int out, int in) const
    {
        return o.w[(size_t)weight_index(dgrad, tap, out, in)];
    }

    /* All that fit into the ring while rows from `freed` on are still to be read. */
    void load_rows(int freed)
    {
        for (; row < range.rows && row - Layout::ring_rows < freed; row++) {
            int slot = row % Layout::ring_rows;
            int n = (range.row + row) / PITCH;
            int y = (range.row + row) % PITCH - 1;
            load_box(memory, o, ring + slot * ROW_BYTES, y, n);
            if (slot < Layout::mirror) {
                load_box(memory, o, ring + (Layout::ring_rows + slot) * ROW_BYTES, y, n);
            }
            loaded[(size_t)slot] = row;
        }
    }

    /* sums [64, TILE] */
    std::vector<int> multiply(int position)
    {
        std::vector<int> sums((size_t)CHANNELS * TILE);
        for (int r = first_row(position); r <= last_row(position, TILE); r++) {
            REQUIRE(loaded[(size_t)(r % Layout::ring_rows)] == r);
        }
        for (int step = 0; step < 9 * CHANNELS / 16; step++) {
            int tap = step / (CHANNELS / 16);
            int k = step % (CHANNELS / 16);
            int p = position % Layout::ring_positions + tap / 3 * PITCH + tap % 3;
            p = p >= Layout::ring_positions ? p - Layout::ring_positions : p;
            uint64_t pixels = describe_rows(ring + p * POSITION_BYTES) + k * TERMS_ON;
            uint64_t weights =
                describe_rows(SharedMemory::begin + Layout::weights) + tap * TAP_ON + k * TERMS_ON;
            for (int term = 0; term < 16; term++) {
                int right[TILE];
                for (int m = 0; m < TILE; m++) {
                    right[m] = memory.at(operand_address(pixels, m, term));
                }
                for (int out = 0; out < CHANNELS; out++) {
                    int left = memory.at(operand_address(weights, out, term));
                    for (int m = 0; m < TILE && left != 0; m++) {
                        sums[(size_t)(out * TILE + m)] += left * right[m];
                    }
                }
            }
        }
        return sums;
    }

    void write(int t, const std::vector<int> &sums, Written &written)
    {
        uint32_t part = SharedMemory::begin + Layout::parts + t % 2 * PART_BYTES;
        for (int first = 0; first < TILE; first += PART_POSITIONS) {
            for (int i = 0; i < CHANNELS * PART_POSITIONS / 2; i++) {
                write_pair(part, first, i, sums);
            }
            for (int i = 0; i < PART_POSITIONS * CHANNELS; i++) {
                int position = i / CHANNELS;
                int channel = i % CHANNELS;
                int pixel = pixel_of(range.m + t * TILE + first + position, o.pictures);
                if (pixel >= 0) {
                    size_t to = (size_t)pixel * CHANNELS + (size_t)channel;
                    written.value[to] = memory.at(part + swizzled(position, channel / CHUNK) +
                                                  (uint32_t)(channel % CHUNK) * 2);
                    written.times[to]++;
                }
            }
        }
    }

    /* The i-th of all pairs of sums that stmatrix takes from lanes, two columns of a matrix's row,
     * which transposed are two rows' elements. */
    void write_pair(uint32_t part, int first, int i, const std::vector<int> &sums)
    {
        int lane = i % 32;
        int matrix = i / 32 % 4;
        int j = i / 128 % 4 * 2;
        int warp = i / 512;
        for (int e = 0; e < 2; e++) {
            int element = (first / 8 + j) * 4 + 2 * matrix + e; /* of the lane's sums */
            int out = 16 * warp + lane / 4 + element % 4 / 2 * 8;
            int m = element / 4 * 8 + lane % 4 * 2 + element % 2;
            uint32_t to = part + part_row(warp, matrix * 8 + lane % 4 * 2 + e, j);
            REQUIRE(to % 16 == 0);
            memory.at(to + (uint32_t)(lane / 4) * 2) = (int16_t)sums[(size_t)(out * TILE + m)];
        }
    }

    static constexpr uint32_t ring = SharedMemory::begin + Layout::ring;
    const Operands &o;
    bool dgrad;
    BlockRange range;
    std::vector<int> loaded; /* the row in each slot of the ring */
    int row = 0;             /* the next to be loaded */
    SharedMemory memory;
};

static void check(const Operands &o, int blocks, const std::vector<int> expected[2])
{
    for (int dgrad = 0; dgrad < 2; dgrad++) {
        Written written = {std::vector<int>(o.x.size(), NOTHING), std::vector<int>(o.x.size())};
        for (int b = 0; b < blocks; b++) {
            Block(o, dgrad, b, blocks).run(written);
        }
        REQUIRE(written.value == expected[dgrad]);
        REQUIRE(written.times == std::vector<int>(o.x.size(), 1));
    }
    std::printf("%d pictures in %d blocks, tiles of %d\n", o.pictures, blocks, TILE);
}

int main()
{
    for (int pictures = 1; pictures <= 3; pictures += 2) {
        Operands o = {pictures,
                      small_numbers((size_t)pictures * SIDE * SIDE * CHANNELS, (uint32_t)pictures),
                      small_numbers(CHANNELS * 9 * CHANNELS, 77)};
        const std::vector<int> expected[2] = {direct(o, false), direct(o, true)};
        for (int blocks = 1; blocks <= 5; blocks += 2) {
            check(o, blocks, expected);
        }
    }
    return EXIT_SUCCESS;
}
