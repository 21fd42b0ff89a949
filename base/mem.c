#include "base/mem.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *check(void *block, size_t bytes)
{
    if (!block) {
        fatal("out of memory: could not get %zu more bytes", bytes);
    }
    return block;
}

void *mem_alloc(size_t bytes)
{
    return check(malloc(bytes ? bytes : 1), bytes);
}

void *mem_zeroed(size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size) {
        fatal("out of memory: could not get %zu blocks of %zu bytes", count, size);
    }
    return check(calloc(count ? count : 1, size ? size : 1), count * size);
}

void *mem_resize(void *old, size_t bytes)
{
    return check(realloc(old, bytes ? bytes : 1), bytes);
}

void *mem_aligned(size_t bytes)
{
    if (bytes > SIZE_MAX - RODEO_ALIGNMENT) {
        fatal("out of memory: could not get %zu more bytes", bytes);
    }
    size_t whole = (bytes + RODEO_ALIGNMENT - 1) / RODEO_ALIGNMENT * RODEO_ALIGNMENT;
    return check(aligned_alloc(RODEO_ALIGNMENT, whole ? whole : RODEO_ALIGNMENT), bytes);
}

char *mem_string(const char *text)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(mem_alloc(bytes), text, bytes);
}

char *mem_format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0) {
        fatal("out of memory: could not format a string");
    }
    return text;
}
