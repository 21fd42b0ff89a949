/* bench_png: decoders of PNG files side by side, on one core: whole pictures by libpng, libspng and
 * this program's own reader, and their compressed data alone by zlib, libdeflate and ISA-L. Built
 * where libspng is installed; nothing else needs it. */
#include "base/args.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "data/pairs.h"
#include "data/picture.h"

#include <isa-l.h>
#include <libdeflate.h>
#include <png.h>
#include <spng.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { SIGNATURE_BYTES = 8, CHUNK_BYTES = 12 };

typedef struct {
    char *path;
    uint8_t *file, *zlib;          /* the whole file; its IDAT chunks, one behind the other */
    size_t file_bytes, zlib_bytes; /* of both */
    uint8_t *out;                  /* room for its pixels or scanlines */
    size_t scanline_bytes;         /* inflated, with a filter byte a row */
    size_t pixel_bytes;            /* as 8-bit RGB */
} Png;

typedef bool Decode(const Png *png, void *decoder);

static bool by_libpng(const Png *png, void *decoder)
{
    (void)decoder;
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&image, png->file, png->file_bytes)) {
        return false;
    }
    image.format = PNG_FORMAT_RGB;
    return png_image_finish_read(&image, NULL, png->out, 0, NULL) != 0;
}

static bool by_libspng(const Png *png, void *decoder)
{
    (void)decoder;
    spng_ctx *context = spng_ctx_new(0);
    bool good = spng_set_png_buffer(context, png->file, png->file_bytes) == 0 &&
                spng_decode_image(context, png->out, png->pixel_bytes, SPNG_FMT_RGB8, 0) == 0;
    spng_ctx_free(context);
    return good;
}

static bool by_rodeo(const Png *png, void *decoder)
{
    (void)decoder;
    Picture picture;
    Err err;
    bool good = picture_decode(&picture, png->file, png->file_bytes, png->path, &err) == 0;
    picture_free(&picture);
    return good;
}

static bool by_zlib(const Png *png, void *decoder)
{
    (void)decoder;
    uLongf bytes = png->scanline_bytes;
    return uncompress(png->out, &bytes, png->zlib, png->zlib_bytes) == Z_OK;
}

static bool by_libdeflate(const Png *png, void *decoder)
{
    return libdeflate_zlib_decompress(decoder, png->zlib, png->zlib_bytes, png->out,
                                      png->scanline_bytes, NULL) == LIBDEFLATE_SUCCESS;
}

static bool by_isal(const Png *png, void *decoder)
{
    struct inflate_state *state = decoder;
    isal_inflate_init(state);
    state->crc_flag = ISAL_ZLIB;
    state->next_in = png->zlib;
    state->avail_in = (uint32_t)png->zlib_bytes;
    state->next_out = png->out;
    state->avail_out = (uint32_t)png->scanline_bytes;
    return isal_inflate_stateless(state) == ISAL_DECOMP_OK;
}

static size_t big_endian(const uint8_t *bytes)
{
    return (size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
}

/* Sound files with 8-bit RGB and without interlacing are what is measured; others are left out. */
static bool read_png(Png *png, const char *path, Err *err)
{
    *png = (Png){.path = mem_string(path)};
    png->file = (uint8_t *)path_read(path, &png->file_bytes, err);
    Picture picture;
    if (!png->file || picture_decode(&picture, png->file, png->file_bytes, path, err) != 0) {
        return false;
    }
    const uint8_t *header = png->file + SIGNATURE_BYTES + 8;
    bool plain = png->file_bytes > 64 && header[8] == 8 && header[9] == 2 && header[12] == 0;
    png->pixel_bytes = (size_t)picture.width * (size_t)picture.height * 3;
    png->scanline_bytes = png->pixel_bytes + (size_t)picture.height;
    picture_free(&picture);
    png->zlib = mem_alloc(png->file_bytes);
    png->out = mem_alloc(png->scanline_bytes);
    for (size_t at = SIGNATURE_BYTES; plain && at + CHUNK_BYTES <= png->file_bytes;) {
        size_t bytes = big_endian(png->file + at);
        if (memcmp(png->file + at + 4, "IDAT", 4) == 0) {
            memcpy(png->zlib + png->zlib_bytes, png->file + at + 8, bytes);
            png->zlib_bytes += bytes;
        }
        at += bytes + CHUNK_BYTES;
    }
    return plain && png->zlib_bytes > 0;
}

static void free_png(Png *png)
{
    free(png->path);
    free(png->file);
    free(png->zlib);
    free(png->out);
}

static int read_pngs(Png **pngs, int64_t *count, const char *data_root, Err *err)
{
    PairList list;
    if (pairs_read(&list, data_root, "synROD", SPLIT_TRAIN, false, err) != 0) {
        return -1;
    }
    *pngs = mem_zeroed((size_t)list.count * MODALITIES, sizeof **pngs);
    for (int64_t i = 0; i < list.count * MODALITIES; i++) {
        char *path = path_join(list.folder, list.pairs[i / MODALITIES].path[i % MODALITIES]);
        Png *png = *pngs + *count;
        if (read_png(png, path, err)) {
            (*count)++;
        } else {
            free_png(png);
        }
        free(path);
    }
    pairs_free(&list);
    return *count > 0 ? 0 : err_set(err, "%s: holds no PNG file of plain RGB", data_root);
}

static int measure(const char *name, Decode *decode, void *decoder, const Png *pngs, int64_t count,
                   Err *err)
{
    double best = 1e9;
    double start = clock_seconds();
    double bytes = 0;
    do {
        double before = clock_seconds();
        bytes = 0;
        for (int64_t i = 0; i < count; i++) {
            if (!decode(&pngs[i], decoder)) {
                return err_set(err, "%s: %s cannot decode it", pngs[i].path, name);
            }
            bytes += (double)pngs[i].pixel_bytes;
        }
        double seconds = clock_seconds() - before;
        best = seconds < best ? seconds : best;
    } while (clock_seconds() - start < 3);
    printf("%-28s %8.0f pictures/s %6.0f MB/s of pixels\n", name, (double)count / best,
           bytes / best / 1e6);
    return 0;
}

static int measure_all(const Png *pngs, int64_t count, Err *err)
{
    struct libdeflate_decompressor *libdeflate = libdeflate_alloc_decompressor();
    struct inflate_state *isal = mem_alloc(sizeof *isal);
    int rc = measure("libpng", by_libpng, NULL, pngs, count, err) != 0 ||
                     measure("libspng", by_libspng, NULL, pngs, count, err) != 0 ||
                     measure("Rodeo", by_rodeo, NULL, pngs, count, err) != 0 ||
                     measure("inflating alone: zlib", by_zlib, NULL, pngs, count, err) != 0 ||
                     measure("inflating alone: libdeflate", by_libdeflate, libdeflate, pngs, count,
                             err) != 0 ||
                     measure("inflating alone: ISA-L", by_isal, isal, pngs, count, err) != 0
                 ? -1
                 : 0;
    libdeflate_free_decompressor(libdeflate);
    free(isal);
    return rc;
}

int main(int argc, char **argv)
{
    const char *data_root = NULL;
    const ArgOption list[] = {
        arg_text("data_root", "FOLDER", &data_root, "data set with the pictures (needed)"), {0}};
    const Args args = {.program = "bench_png",
                       .summary = "Measures decoders of PNG files on one core.",
                       .options = list};
    Err err = {0};
    Png *pngs = NULL;
    int64_t count = 0;
    int rc = args_parse(&args, argc, argv, &err);
    if (rc == 0 && !data_root) {
        err_set(&err, "--data_root is needed");
        rc = args_explain(&args, &err);
    }
    rc = rc == 0 ? read_pngs(&pngs, &count, data_root, &err) : rc;
    rc = rc == 0 ? measure_all(pngs, count, &err) : rc;
    for (int64_t i = 0; i < count; i++) {
        free_png(&pngs[i]);
    }
    free(pngs);
    if (rc != 0) {
        fprintf(stderr, "bench_png: %s\n", err.text);
        return 1;
    }
    return 0;
}
