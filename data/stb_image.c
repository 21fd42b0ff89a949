/* The implementation of stb_image, with the one format that is read through it. It is compiled
 * without warnings (room.cmake). Its memory is zeroed, so that what a damaged file leaves out does
 * not show what was there before. */
#include "base/mem.h"
#include "data/picture.h"

#include <stdlib.h>

#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_FAILURE_USERMSG
#define STBI_MAX_DIMENSIONS         PICTURE_MAX_SIDE
#define STBI_MALLOC(bytes)          mem_zeroed(1, bytes)
#define STBI_REALLOC(memory, bytes) mem_resize(memory, bytes)
#define STBI_FREE(memory)           free(memory)
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
