/* BMP without compression: palettes of 1, 4 and 8 bits, colour of 16, 24 and 32, in any header from
 * OS/2's first to Windows' fifth. Pixels are Pillow's. */
#include "data/picture_formats.h"

#include <stdbool.h>
#include <string.h>

enum {
    FILE_HEADER = 14, /* bytes in front of the header */
    OLD_HEADER = 12,  /* OS/2's: 16-bit sides, palette entries of 3 bytes */
    LEAST_HEADER = 40,
    MOST_HEADER = 124,
    PLAIN = 0, /* kinds of compression */
    MASKS = 3, /* none, but the header says where in a pixel its colours are */
    COLOURS = 256,
};

/* Where a colour is in a pixel. */
typedef struct {
    uint32_t mask, shift, most; /* most: its highest value; 0: it is not there */
} Channel;

typedef struct {
    const uint8_t *data;
    size_t bytes;
    uint32_t header_bytes, pixels_at, bits, compression;
    uint64_t width, height, row_bytes;
    bool from_top;
    uint8_t palette[COLOURS][3];
    Channel channel[3];
} Bmp;

static uint32_t number_at(const Bmp *bmp, size_t at, size_t bytes)
{
    uint32_t value = 0;
    for (size_t i = bytes; i-- > 0;) {
        value = value << 8 | bmp->data[at + i];
    }
    return value;
}

static int tell_truncated(const Bmp *bmp, Err *err)
{
    return err_set(err, "is truncated: its pixels do not fit into its %zu bytes", bmp->bytes);
}

static int read_sizes(Bmp *bmp, Err *err)
{
    if (bmp->bytes < FILE_HEADER + OLD_HEADER) {
        return tell_truncated(bmp, err);
    }
    bmp->pixels_at = number_at(bmp, 10, 4);
    bmp->header_bytes = number_at(bmp, 14, 4);
    if (bmp->header_bytes == OLD_HEADER) {
        bmp->width = number_at(bmp, 18, 2);
        bmp->height = number_at(bmp, 20, 2);
        bmp->bits = number_at(bmp, 24, 2);
        return 0;
    }
    if (bmp->header_bytes < LEAST_HEADER || bmp->header_bytes > MOST_HEADER) {
        return err_set(err, "is damaged, or a BMP of an unknown kind: a header of %u bytes",
                       bmp->header_bytes);
    }
    if (bmp->bytes < FILE_HEADER + (size_t)bmp->header_bytes) {
        return tell_truncated(bmp, err);
    }
    uint32_t height = number_at(bmp, 22, 4);
    bmp->from_top = height >> 31;
    bmp->width = number_at(bmp, 18, 4);
    bmp->height = bmp->from_top ? 0u - height : height;
    bmp->bits = number_at(bmp, 28, 2);
    bmp->compression = number_at(bmp, 30, 4);
    return 0;
}

static int check_kind(const Bmp *bmp, Err *err)
{
    bool palette = bmp->bits == 1 || bmp->bits == 4 || bmp->bits == 8;
    bool colour = bmp->bits == 16 || bmp->bits == 24 || bmp->bits == 32;
    if (!palette && !colour) {
        return err_set(err, "is damaged: a BMP of %u bits a pixel", bmp->bits);
    }
    if (bmp->compression != PLAIN && !(bmp->compression == MASKS && colour)) {
        return err_set(err, "is a compressed BMP (kind %u): save it without compression",
                       bmp->compression);
    }
    return 0;
}

/* Colours behind the last one that the file has are grey, as Pillow has them. */
static int read_palette(Bmp *bmp, Err *err)
{
    size_t entry = bmp->header_bytes == OLD_HEADER ? 3 : 4;
    uint32_t told = bmp->header_bytes == OLD_HEADER ? 0 : number_at(bmp, 46, 4);
    uint32_t colours = told > 0 ? told : 1u << bmp->bits;
    size_t at = FILE_HEADER + (size_t)bmp->header_bytes;
    for (size_t i = 0; i < COLOURS; i++, at += entry) {
        if (i >= colours) {
            memset(bmp->palette[i], (int)i, 3);
            continue;
        }
        if (at + 3 > bmp->bytes) {
            return err_set(err, "is truncated: its palette ends too early");
        }
        for (size_t c = 0; c < 3; c++) {
            bmp->palette[i][c] = bmp->data[at + 2 - c];
        }
    }
    return 0;
}

static Channel channel_of(uint32_t mask)
{
    Channel channel = {.mask = mask};
    while (mask > 0 && (mask & 1) == 0) {
        mask >>= 1;
        channel.shift++;
    }
    channel.most = mask;
    return channel;
}

/* With MASKS they stand behind the shortest header, or at the same place in a longer one; where all
 * are 0 the usual ones hold. */
static int read_channels(Bmp *bmp, Err *err)
{
    static const uint32_t usual[3] = {0xFF0000, 0xFF00, 0xFF};
    static const uint32_t usual16[3] = {0x7C00, 0x3E0, 0x1F};
    const size_t masks_at = FILE_HEADER + LEAST_HEADER;
    uint32_t told[3] = {0};
    if (bmp->compression == MASKS && bmp->bytes < masks_at + sizeof told) {
        return tell_truncated(bmp, err);
    }
    for (size_t c = 0; c < 3 && bmp->compression == MASKS; c++) {
        told[c] = number_at(bmp, masks_at + 4 * c, 4);
    }
    bool any = told[0] > 0 || told[1] > 0 || told[2] > 0;
    for (size_t c = 0; c < 3; c++) {
        bmp->channel[c] = channel_of(any ? told[c] : bmp->bits == 16 ? usual16[c] : usual[c]);
    }
    return 0;
}

static uint8_t take_channel(uint32_t pixel, Channel channel)
{
    uint64_t value = (pixel & channel.mask) >> channel.shift;
    return (uint8_t)(channel.most == 255 ? value
                     : channel.most > 0  ? value * 255 / channel.most
                                         : 0);
}

/* The first pixel of a byte is in its highest bits. */
static void take_palette_row(const Bmp *bmp, const uint8_t *row, uint8_t *rgb)
{
    uint32_t in_byte = 8 / bmp->bits;
    uint32_t mask = (1u << bmp->bits) - 1;
    for (uint32_t x = 0; x < bmp->width; x++, rgb += 3) {
        uint32_t shift = (in_byte - 1 - x % in_byte) * bmp->bits;
        memcpy(rgb, bmp->palette[row[x / in_byte] >> shift & mask], 3);
    }
}

static void take_colour_row(const Bmp *bmp, const uint8_t *row, uint8_t *rgb)
{
    size_t at = (size_t)(row - bmp->data);
    for (uint32_t x = 0; x < bmp->width; x++, at += bmp->bits / 8, rgb += 3) {
        uint32_t pixel = number_at(bmp, at, bmp->bits / 8);
        for (size_t c = 0; c < 3; c++) {
            rgb[c] = take_channel(pixel, bmp->channel[c]);
        }
    }
}

static int take_rows(const Bmp *bmp, Picture *picture, Err *err)
{
    if (picture_create(picture, (int64_t)bmp->width, (int64_t)bmp->height, err) != 0) {
        return -1;
    }
    for (uint64_t y = 0; y < bmp->height; y++) {
        uint64_t line = bmp->from_top ? y : bmp->height - 1 - y;
        const uint8_t *row = bmp->data + bmp->pixels_at + line * bmp->row_bytes;
        uint8_t *rgb = picture->pixels + y * bmp->width * 3;
        if (bmp->bits <= 8) {
            take_palette_row(bmp, row, rgb);
        } else {
            take_colour_row(bmp, row, rgb);
        }
    }
    return 0;
}

int bmp_decode(Picture *picture, const void *data, size_t bytes, Err *err)
{
    Bmp bmp = {.data = data, .bytes = bytes};
    if (read_sizes(&bmp, err) != 0 || check_kind(&bmp, err) != 0 ||
        (bmp.bits <= 8 ? read_palette(&bmp, err) : read_channels(&bmp, err)) != 0) {
        return -1;
    }
    bool palette = bmp.bits <= 8;
    if (bmp.pixels_at < (uint64_t)FILE_HEADER + bmp.header_bytes + palette) {
        return err_set(err, "is damaged: its pixels begin in its header");
    }
    bmp.row_bytes = (bmp.width * bmp.bits + 31) / 32 * 4;
    if (bmp.width <= PICTURE_MAX_SIDE && bmp.height <= PICTURE_MAX_SIDE &&
        bmp.pixels_at + bmp.row_bytes * bmp.height > bytes) {
        return tell_truncated(&bmp, err);
    }
    return take_rows(&bmp, picture, err);
}
