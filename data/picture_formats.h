/* The decoders behind picture_decode, one a format. Only data/ includes this.
 *
 * Each fills a Picture whose pixels the caller owns, or returns -1 with what is wrong; the caller
 * puts the file's name in front. */
#ifndef RODEO_DATA_PICTURE_FORMATS_H
#define RODEO_DATA_PICTURE_FORMATS_H

#include "data/picture.h"

#include <stdbool.h>

/* An empty picture of that size; -1 if a side is 0 or above PICTURE_MAX_SIDE. */
int picture_create(Picture *picture, int64_t width, int64_t height, Err *err);

/* Any PNG: by png_decode_fast where that takes it, else by png_decode_libpng. */
int png_decode(Picture *picture, const void *data, size_t bytes, Err *err);
int png_decode_libpng(Picture *picture, const void *data, size_t bytes, Err *err);

/* Decodes an ordinary PNG, several times as fast as libpng. false: nothing was done, because it is
 * of another kind or is damaged. What it decodes has the pixels that libpng gives. */
bool png_decode_fast(Picture *picture, const void *data, size_t bytes);

#define PNG_DEFLATE_BEST_RATIO 1032 /* deflate cannot shrink anything by more than this */

/* Binary PGM and PPM (P5, P6) of any maximum value. */
int pnm_decode(Picture *picture, const void *data, size_t bytes, Err *err);

/* JPEG: grey or colour, baseline or progressive; not CMYK. */
int jpeg_decode(Picture *picture, const void *data, size_t bytes, Err *err);

/* BMP without compression. */
int bmp_decode(Picture *picture, const void *data, size_t bytes, Err *err);

#endif
