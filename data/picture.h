/* Pictures as 8-bit RGB, read as Pillow's Image.open(f).convert("RGB") gives them. */
#ifndef RODEO_DATA_PICTURE_H
#define RODEO_DATA_PICTURE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define PICTURE_MAX_SIDE 16384 /* pixels; a larger one is refused as damaged or unsuitable */

typedef struct {
    int width, height;
    uint8_t *pixels; /* [height, width, 3], owned */
} Picture;

/* Decodes PNG (libpng: all colour types, depths and interlacing), JPEG (libjpeg-turbo), BMP
 * without compression, and PPM. Alpha is dropped, palettes and grey are expanded, 16-bit colour
 * keeps its high byte, 16-bit grey is clamped to 255, 1, 2 and 4-bit grey is scaled to 0..255: what
 * convert("RGB") does. A file that is truncated or not a picture is an error that names the file
 * and what is wrong. */
int picture_read(Picture *picture, const char *path, Err *err);

/* The same from memory; name is for messages. */
int picture_decode(Picture *picture, const void *data, size_t bytes, const char *name, Err *err);

/* Writes an 8-bit RGB PNG, through a temporary file. */
int picture_write_png(const Picture *picture, const char *path, Err *err);

/* Resizes to width x height exactly as Pillow's bilinear filter does it (ops.h, op_augment, gives
 * the formula; the same for other sizes than resize x resize). A side that stays is left alone. */
Picture picture_resize(const Picture *picture, int width, int height);

void picture_free(Picture *picture);

#endif
