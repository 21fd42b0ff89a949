#include "data/picture.h"

#include "base/mem.h"
#include "base/path.h"
#include "data/picture_formats.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *magic;
    size_t bytes;
    int (*decode)(Picture *picture, const void *data, size_t bytes, Err *err);
} Format;

static const Format formats[] = {
    {"\x89PNG\r\n\x1a\n", 8, png_decode},
    {"\xFF\xD8\xFF", 3, jpeg_decode},
    {"BM", 2, bmp_decode},
    {"P5", 2, pnm_decode},
    {"P6", 2, pnm_decode},
};

int picture_create(Picture *picture, int64_t width, int64_t height, Err *err)
{
    if (width < 1 || height < 1 || width > PICTURE_MAX_SIDE || height > PICTURE_MAX_SIDE) {
        return err_set(err, "is %lld x %lld pixels; a side must have 1 to %d", (long long)width,
                       (long long)height, PICTURE_MAX_SIDE);
    }
    *picture = (Picture){.width = (int)width,
                         .height = (int)height,
                         .pixels = mem_alloc((size_t)width * (size_t)height * 3)};
    return 0;
}

static int decode(Picture *picture, const void *data, size_t bytes, Err *err)
{
    if (bytes == 0) {
        return err_set(err, "is empty");
    }
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const Format *format = &formats[i];
        if (bytes >= format->bytes && memcmp(data, format->magic, format->bytes) == 0) {
            return format->decode(picture, data, bytes, err);
        }
    }
    return err_set(err, "is not a picture: its content is not PNG, JPEG, BMP or binary PPM");
}

int picture_decode(Picture *picture, const void *data, size_t bytes, const char *name, Err *err)
{
    *picture = (Picture){0};
    if (decode(picture, data, bytes, err) != 0) {
        picture_free(picture);
        return err_context(err, "%s", name);
    }
    return 0;
}

int picture_read(Picture *picture, const char *path, Err *err)
{
    *picture = (Picture){0};
    size_t bytes = 0;
    char *data = path_read(path, &bytes, err);
    if (!data) {
        return -1;
    }
    int rc = picture_decode(picture, data, bytes, path, err);
    free(data);
    return rc;
}

void picture_free(Picture *picture)
{
    free(picture->pixels);
    *picture = (Picture){0};
}
