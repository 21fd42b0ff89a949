/* Any bytes as a picture: PNG, and what else picture_decode takes. */
#include "data/picture.h"
#include "input.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Err err;
    Picture picture;
    char *content = input_copy(data, bytes);
    if (picture_decode(&picture, content, bytes, "PICTURE", &err) == 0) {
        input_touch(picture.pixels, (size_t)picture.width * (size_t)picture.height * 3);
        picture_free(&picture);
    }
    free(content);
    return 0;
}
