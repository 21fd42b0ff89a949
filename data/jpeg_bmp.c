/* JPEG and BMP through stb_image. That library reads zeros behind the end of its input, so what is
 * truncated has to be found here; and its version 2.27 writes behind a table when a damaged JPEG
 * announces more Huffman codes than there can be, so those are counted first. */
#include "data/picture_formats.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define STBI_NO_STDIO
#include <stb/stb_image.h>

static int decode(Picture *picture, const void *data, size_t bytes, Err *err)
{
    int width;
    int height;
    int channels;
    if (bytes > INT_MAX) {
        return err_set(err, "is larger than 2 GB");
    }
    if (!stbi_info_from_memory(data, (int)bytes, &width, &height, &channels)) {
        return err_set(err, "cannot be decoded: %s", stbi_failure_reason());
    }
    if (width > PICTURE_MAX_SIDE || height > PICTURE_MAX_SIDE) {
        return err_set(err, "is %d x %d pixels; a side must have 1 to %d", width, height,
                       PICTURE_MAX_SIDE);
    }
    uint8_t *pixels = stbi_load_from_memory(data, (int)bytes, &width, &height, &channels, 3);
    if (!pixels) {
        return err_set(err, "cannot be decoded: %s", stbi_failure_reason());
    }
    *picture = (Picture){.width = width, .height = height, .pixels = pixels};
    return 0;
}

/* Whether an end-of-image marker stands behind the last start of a scan. Neither can occur inside
 * compressed data; a thumbnail in the header has its own pair, before the picture's scan. */
static bool jpeg_is_whole(const uint8_t *data, size_t bytes)
{
    bool whole = false;
    for (size_t i = 0; i + 1 < bytes; i++) {
        if (data[i] == 0xFF && data[i + 1] == 0xDA) {
            whole = false;
        } else if (data[i] == 0xFF && data[i + 1] == 0xD9) {
            whole = true;
        }
    }
    return whole;
}

/* Whether every table of a DHT segment's content has at most 256 codes. */
static bool huffman_codes_fit(const uint8_t *content, size_t bytes)
{
    while (bytes >= 17) {
        size_t codes = 0;
        for (int length = 1; length <= 16; length++) {
            codes += content[length];
        }
        if (codes > 256) {
            return false;
        }
        size_t table_bytes = 17 + codes < bytes ? 17 + codes : bytes;
        content += table_bytes;
        bytes -= table_bytes;
    }
    /* Where a table is cut off, the decoder goes on reading what follows as its rest. */
    return bytes == 0;
}

/* Walks over the segments, and over the compressed data between them, and looks at each DHT. */
static bool jpeg_tables_are_sound(const uint8_t *data, size_t bytes)
{
    size_t at = 2;
    while (at + 4 <= bytes) {
        uint8_t marker = data[at + 1];
        bool alone = data[at] != 0xFF || marker == 0x00 || marker == 0xFF ||
                     (marker >= 0xD0 && marker <= 0xD9);
        if (alone) { /* data of a scan, fill bytes, or a marker without content */
            at++;
            continue;
        }
        size_t length = (size_t)data[at + 2] << 8 | data[at + 3];
        if (length < 2 || length > bytes - at - 2) {
            return false;
        }
        if (marker == 0xC4 && !huffman_codes_fit(data + at + 4, length - 2)) {
            return false;
        }
        at += 2 + length;
    }
    return true;
}

int jpeg_decode(Picture *picture, const void *data, size_t bytes, Err *err)
{
    if (!jpeg_is_whole(data, bytes)) {
        return err_set(err, "is truncated: a JPEG without its end");
    }
    if (!jpeg_tables_are_sound(data, bytes)) {
        return err_set(err, "is damaged: a JPEG with an impossible segment");
    }
    return decode(picture, data, bytes, err);
}

static uint32_t little_endian(const uint8_t *at, int bytes)
{
    uint32_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        value = value << 8 | at[i];
    }
    return value;
}

/* Where the pixels of an uncompressed BMP end, from its header of at least 30 bytes. */
static uint64_t bmp_end_of_pixels(const uint8_t *header)
{
    bool old = little_endian(header + 14, 4) == 12; /* the OS/2 header: 16-bit sides */
    uint64_t width = old ? little_endian(header + 18, 2) : little_endian(header + 18, 4);
    int32_t height = (int32_t)(old ? little_endian(header + 20, 2) : little_endian(header + 22, 4));
    uint64_t bits = little_endian(old ? header + 24 : header + 28, 2);
    uint64_t row_bytes = (width * bits + 31) / 32 * 4;
    return little_endian(header + 10, 4) + row_bytes * (uint64_t)llabs((long long)height);
}

int bmp_decode(Picture *picture, const void *data, size_t bytes, Err *err)
{
    if (bytes < 30 || bmp_end_of_pixels(data) > bytes) {
        return err_set(err, "is truncated: its pixels do not fit into its %zu bytes", bytes);
    }
    return decode(picture, data, bytes, err);
}
