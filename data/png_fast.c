/* The quick way through an ordinary PNG: 8 bits a sample, no palette, not interlaced.
 *
 * The compressed data is inflated in one go by libdeflate, and rows are unfiltered with vector
 * types of one pixel. Everything that is not plain, or not sound, is left to libpng, which then
 * decodes it or says what is wrong: this file only ever says yes. It checks what libpng checks of
 * the chunks that it uses: order, length, checksum, and the checksum of the inflated data. */
#include "base/mem.h"
#include "data/picture_formats.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIGNATURE_BYTES = 8,
    CHUNK_FRAME = 12, /* length, type and checksum around a chunk's content */
    HEADER_BYTES = 13,
    GREY = 0,
    COLOUR = 2,
    GREY_ALPHA = 4,
    COLOUR_ALPHA = 6,
};

enum { FILTER_NONE, FILTER_SUB, FILTER_UP, FILTER_AVERAGE, FILTER_PAETH, FILTERS };

typedef struct {
    uint32_t width, height;
    int channels;
    const uint8_t *deflated; /* the picture's data, zlib's form */
    size_t deflated_bytes;
    uint8_t *joined; /* owned: where deflated points if it lay in several chunks */
} Layout;

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* ---- chunks --------------------------------------------------------------------------------- */

typedef struct {
    uint32_t type;
    const uint8_t *content;
    uint32_t bytes;
} Chunk;

#define TYPE(a, b, c, d)                                                                           \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

/* The chunk at *at, which moves behind it. False where the file ends or its checksum is wrong. */
static bool next_chunk(const uint8_t *data, size_t bytes, size_t *at, Chunk *chunk)
{
    if (bytes - *at < CHUNK_FRAME) {
        return false;
    }
    const uint8_t *start = data + *at;
    chunk->bytes = big_endian(start);
    if (chunk->bytes > bytes - *at - CHUNK_FRAME) {
        return false;
    }
    chunk->type = big_endian(start + 4);
    chunk->content = start + 8;
    *at += CHUNK_FRAME + (size_t)chunk->bytes;
    return libdeflate_crc32(0, start + 4, (size_t)chunk->bytes + 4) ==
           big_endian(chunk->content + chunk->bytes);
}

static bool read_header(const Chunk *chunk, Layout *layout)
{
    static const int channels[] = {[GREY] = 1, [COLOUR] = 3, [GREY_ALPHA] = 2, [COLOUR_ALPHA] = 4};
    if (chunk->type != TYPE('I', 'H', 'D', 'R') || chunk->bytes != HEADER_BYTES) {
        return false;
    }
    const uint8_t *h = chunk->content;
    layout->width = big_endian(h);
    layout->height = big_endian(h + 4);
    bool plain = h[8] == 8 && h[9] <= COLOUR_ALPHA && channels[h[9]] > 0 && h[10] == 0 &&
                 h[11] == 0 && h[12] == 0;
    layout->channels = plain ? channels[h[9]] : 0;
    return plain && layout->width >= 1 && layout->width <= PICTURE_MAX_SIDE &&
           layout->height >= 1 && layout->height <= PICTURE_MAX_SIDE;
}

static void append_data(Layout *layout, const Chunk *chunk, size_t file_bytes)
{
    if (layout->deflated_bytes == 0) {
        layout->deflated = chunk->content;
    } else {
        if (!layout->joined) {
            layout->joined = mem_alloc(file_bytes);
            memcpy(layout->joined, layout->deflated, layout->deflated_bytes);
            layout->deflated = layout->joined;
        }
        memcpy(layout->joined + layout->deflated_bytes, chunk->content, chunk->bytes);
    }
    layout->deflated_bytes += chunk->bytes;
}

/* Finds header and data. Chunks beside them are skipped where libpng may skip them too. */
static bool read_chunks(const uint8_t *data, size_t bytes, Layout *layout)
{
    const uint32_t ancillary = 0x20000000; /* a small first letter */
    size_t at = SIGNATURE_BYTES;
    Chunk chunk;
    if (!next_chunk(data, bytes, &at, &chunk) || !read_header(&chunk, layout)) {
        return false;
    }
    bool ended = false; /* the run of data chunks, which must be one */
    while (next_chunk(data, bytes, &at, &chunk)) {
        if (chunk.type == TYPE('I', 'E', 'N', 'D')) {
            return layout->deflated_bytes > 0;
        }
        if (chunk.type == TYPE('I', 'D', 'A', 'T') && !ended) {
            append_data(layout, &chunk, bytes);
        } else if (chunk.type & ancillary) {
            ended = layout->deflated_bytes > 0;
        } else {
            return false;
        }
    }
    return false;
}

/* ---- filters -------------------------------------------------------------------------------- */

/* One pixel in lanes of 16 bits; the lanes behind its channels hold what does not matter. */
typedef int16_t Pixel __attribute__((vector_size(16)));
typedef uint8_t Bytes __attribute__((vector_size(8)));

/* Pixels are read and written eight bytes at a time, whatever their channels: every row has so many
 * bytes behind it that this stays inside memory, and as rows are written from left to right, what
 * is written too much is overwritten by the next pixel. */
enum { ROW_GUARD = sizeof(Bytes) };

static inline Pixel load(const uint8_t *at)
{
    Bytes bytes;
    memcpy(&bytes, at, sizeof bytes);
    return __builtin_convertvector(bytes, Pixel);
}

static inline void store(uint8_t *at, Pixel pixel)
{
    Bytes bytes = __builtin_convertvector(pixel, Bytes);
    memcpy(at, &bytes, sizeof bytes);
}

/* Lane by lane: a where the mask has all its bits, b where it has none. */
static inline Pixel choose(Pixel mask, Pixel a, Pixel b)
{
    return (a & mask) | (b & ~mask);
}

/* Of a (left), b (above), c (above left) the one nearest to a + b - c, in a tie in this order. It
 * is the smaller of a and b where 3c - a - b is not below the larger one, the larger where it is
 * not above the smaller one, else c: the form that stb_image found. */
static inline Pixel paeth(Pixel a, Pixel b, Pixel c)
{
    Pixel threshold = (c + c + c - b) - a;
    Pixel a_is_less = a < b;
    Pixel least = choose(a_is_less, a, b);
    Pixel most = choose(a_is_less, b, a);
    return choose(threshold > least, choose(threshold < most, c, least), most);
}

/* Rows of `bytes`: in as stored, above and out unfiltered. Channels is a constant wherever this is
 * inlined. */
static inline void unfilter_row(int filter, const uint8_t *in, const uint8_t *above, uint8_t *out,
                                size_t bytes, size_t channels)
{
    const Pixel low = {255, 255, 255, 255, 255, 255, 255, 255};
    Pixel a = {0};
    Pixel c = {0};
    switch (filter) {
    case FILTER_SUB:
        for (size_t i = 0; i < bytes; i += channels) {
            a = (load(in + i) + a) & low;
            store(out + i, a);
        }
        break;
    case FILTER_UP:
        for (size_t i = 0; i < bytes; i++) {
            out[i] = (uint8_t)(in[i] + above[i]);
        }
        break;
    case FILTER_AVERAGE:
        for (size_t i = 0; i < bytes; i += channels) {
            a = (load(in + i) + ((a + load(above + i)) >> 1)) & low;
            store(out + i, a);
        }
        break;
    case FILTER_PAETH:
        for (size_t i = 0; i < bytes; i += channels) {
            Pixel b = load(above + i);
            a = (load(in + i) + paeth(a, b, c)) & low;
            c = b;
            store(out + i, a);
        }
        break;
    default:
        memcpy(out, in, bytes);
        break;
    }
}

static void unfilter_row_of(int channels, int filter, const uint8_t *in, const uint8_t *above,
                            uint8_t *out, size_t bytes)
{
    switch (channels) {
    case 1:
        unfilter_row(filter, in, above, out, bytes, 1);
        break;
    case 2:
        unfilter_row(filter, in, above, out, bytes, 2);
        break;
    case 3:
        unfilter_row(filter, in, above, out, bytes, 3);
        break;
    default:
        unfilter_row(filter, in, above, out, bytes, 4);
        break;
    }
}

/* ---- pixels --------------------------------------------------------------------------------- */

/* Drops alpha, spreads grey. */
static void to_rgb(const uint8_t *row, uint8_t *rgb, uint32_t width, int channels)
{
    bool grey = channels <= 2;
    for (uint32_t x = 0; x < width; x++, row += channels, rgb += 3) {
        rgb[0] = row[0];
        rgb[1] = row[grey ? 0 : 1];
        rgb[2] = row[grey ? 0 : 2];
    }
}

/* raw: rows as PNG stores them, each behind its filter's number. Rows of colour are unfiltered
 * where they belong, others in two rows of their own that take turns. */
static bool take_rows(const Layout *layout, const uint8_t *raw, uint8_t *rgb)
{
    size_t row_bytes = (size_t)layout->width * (size_t)layout->channels;
    uint8_t *own = mem_zeroed(2, row_bytes + ROW_GUARD);
    const uint8_t *above = own;
    bool colour = layout->channels == 3;
    bool sound = true;
    for (uint32_t y = 0; y < layout->height && sound; y++) {
        uint8_t *out = colour ? rgb : own + (y % 2 == 0 ? row_bytes + ROW_GUARD : 0);
        sound = raw[0] < FILTERS;
        unfilter_row_of(layout->channels, raw[0], raw + 1, above, out, row_bytes);
        if (!colour) {
            to_rgb(out, rgb, layout->width, layout->channels);
        }
        above = out;
        raw += 1 + row_bytes;
        rgb += (size_t)layout->width * 3;
    }
    free(own);
    return sound;
}

/* Whether the data is exactly `bytes` long when inflated, and whole. */
static bool inflate_all(const Layout *layout, uint8_t *raw, size_t bytes)
{
    struct libdeflate_decompressor *inflater = libdeflate_alloc_decompressor();
    if (!inflater) {
        fatal("out of memory: a decompressor");
    }
    /* Without a place for the length that comes out, another one than asked for is an error. */
    bool whole = libdeflate_zlib_decompress(inflater, layout->deflated, layout->deflated_bytes, raw,
                                            bytes, NULL) == LIBDEFLATE_SUCCESS;
    libdeflate_free_decompressor(inflater);
    return whole;
}

bool png_decode_fast(Picture *picture, const void *data, size_t bytes)
{
    Layout layout = {0};
    uint8_t *raw = NULL;
    bool decoded = false;
    if (bytes < SIGNATURE_BYTES || bytes >= UINT32_MAX || !read_chunks(data, bytes, &layout)) {
        goto done;
    }
    size_t raw_bytes = (size_t)layout.height * (1 + (size_t)layout.width * (size_t)layout.channels);
    if (raw_bytes / PNG_DEFLATE_BEST_RATIO > layout.deflated_bytes || raw_bytes >= UINT32_MAX) {
        goto done;
    }
    raw = mem_alloc(raw_bytes + ROW_GUARD);
    if (!inflate_all(&layout, raw, raw_bytes)) {
        goto done;
    }
    *picture = (Picture){
        .width = (int)layout.width,
        .height = (int)layout.height,
        .pixels = mem_alloc((size_t)layout.width * (size_t)layout.height * 3 + ROW_GUARD),
    };
    decoded = take_rows(&layout, raw, picture->pixels);
    if (!decoded) {
        picture_free(picture);
    }
done:
    free(raw);
    free(layout.joined);
    return decoded;
}
