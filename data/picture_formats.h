/* The decoders behind picture_decode, one a format. Only data/ includes this.
 *
 * Each fills a Picture whose pixels the caller owns, or returns -1 with what is wrong; the caller
 * puts the file's name in front. */
#ifndef RODEO_DATA_PICTURE_FORMATS_H
#define RODEO_DATA_PICTURE_FORMATS_H

#include "data/picture.h"

/* An empty picture of that size; -1 if a side is 0 or above PICTURE_MAX_SIDE. */
int picture_create(Picture *picture, int64_t width, int64_t height, Err *err);

int png_decode(Picture *picture, const void *data, size_t bytes, Err *err);

/* Binary PGM and PPM (P5, P6) of any maximum value. */
int pnm_decode(Picture *picture, const void *data, size_t bytes, Err *err);

/* JPEG: grey or colour, baseline or progressive; not CMYK. */
int jpeg_decode(Picture *picture, const void *data, size_t bytes, Err *err);

/* BMP without compression. */
int bmp_decode(Picture *picture, const void *data, size_t bytes, Err *err);

#endif
