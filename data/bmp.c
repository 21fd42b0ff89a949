/* BMP through stb_image. That library reads zeros behind the end of its input, so what is truncated
 * has to be found here. */
#include "data/picture_formats.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>

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
