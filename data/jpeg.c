/* JPEG through libjpeg-turbo, the decoder that Pillow has, with its defaults: the accurate
 * transform and smooth upsampling. Pixels are Pillow's to the bit. */
#include "data/picture_formats.h"

#include <turbojpeg.h>

/* Whatever the library finds odd counts as damage: it would fill up with grey and go on. */
#define FLAGS (TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS)

static int decode(tjhandle decoder, Picture *picture, const void *data, size_t bytes, Err *err)
{
    int width = 0;
    int height = 0;
    int subsampling = 0;
    int colours = 0;
    if (tjDecompressHeader3(decoder, data, bytes, &width, &height, &subsampling, &colours) != 0) {
        return err_set(err, "is damaged or truncated: %s", tjGetErrorStr2(decoder));
    }
    /* The library takes a file of tables without a picture for sound, and tells no size. */
    if (width == 0 && height == 0) {
        return err_set(err, "is damaged or truncated: there is no picture in it");
    }
    if (colours == TJCS_CMYK || colours == TJCS_YCCK) {
        return err_set(err, "is a JPEG for printing (CMYK): convert it to RGB");
    }
    if (picture_create(picture, width, height, err) != 0) {
        return -1;
    }
    if (tjDecompress2(decoder, data, bytes, picture->pixels, width, 0, height, TJPF_RGB, FLAGS) !=
        0) {
        picture_free(picture);
        return err_set(err, "is damaged or truncated: %s", tjGetErrorStr2(decoder));
    }
    return 0;
}

int jpeg_decode(Picture *picture, const void *data, size_t bytes, Err *err)
{
    tjhandle decoder = tjInitDecompress();
    if (!decoder) {
        fatal("out of memory: could not start a JPEG decoder");
    }
    int rc = decode(decoder, picture, data, bytes, err);
    tjDestroy(decoder);
    return rc;
}
