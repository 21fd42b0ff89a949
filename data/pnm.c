/* Binary PGM and PPM. */
#include "data/picture_formats.h"

#include <math.h>
#include <stdbool.h>

typedef struct {
    const uint8_t *next, *end;
} Reader;

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next number of the header, behind blanks and comments; -1 if there is none. */
static int64_t read_number(Reader *reader)
{
    while (reader->next < reader->end && (is_space(*reader->next) || *reader->next == '#')) {
        if (*reader->next++ == '#') {
            while (reader->next < reader->end && *reader->next != '\n') {
                reader->next++;
            }
        }
    }
    int64_t number = -1;
    while (reader->next < reader->end && *reader->next >= '0' && *reader->next <= '9' &&
           number < 1000000) {
        number = (number < 0 ? 0 : number * 10) + (*reader->next++ - '0');
    }
    return number;
}

/* A sample as 8 bits. A maximum other than 255 is scaled with Python's round(), halves to even;
 * grey of more than 8 bits becomes 16-bit grey first and is clamped, as for PNG. */
static uint8_t scale_sample(int value, int maximum, bool grey)
{
    if (maximum == 255) {
        return (uint8_t)value;
    }
    double full = grey && maximum > 255 ? 65535.0 : 255.0;
    double scaled = nearbyint((double)value / maximum * full);
    return (uint8_t)(scaled > 255 ? 255 : scaled);
}

int pnm_decode(Picture *picture, const void *data, size_t bytes, Err *err)
{
    const uint8_t *start = data;
    Reader reader = {.next = start + 2, .end = start + bytes};
    bool grey = start[1] == '5';
    int64_t width = read_number(&reader);
    int64_t height = read_number(&reader);
    int64_t maximum = read_number(&reader);
    if (maximum < 1 || maximum > 65535 || reader.next == reader.end || !is_space(*reader.next++)) {
        return err_set(err, "is damaged: its header is not 'P%d WIDTH HEIGHT MAXIMUM'",
                       grey ? 5 : 6);
    }
    if (picture_create(picture, width, height, err) != 0) {
        return -1;
    }
    int64_t step = maximum > 255 ? 2 : 1;
    int64_t samples = width * height * (grey ? 1 : 3);
    if (reader.end - reader.next < samples * step) {
        return err_set(err, "is truncated: %lld bytes of pixels, %lld expected",
                       (long long)(reader.end - reader.next), (long long)(samples * step));
    }
    for (int64_t i = 0; i < samples; i++, reader.next += step) {
        int value = step == 1 ? reader.next[0] : reader.next[0] << 8 | reader.next[1];
        uint8_t sample = scale_sample(value, (int)maximum, grey);
        if (grey) {
            picture->pixels[3 * i] = sample;
            picture->pixels[3 * i + 1] = sample;
            picture->pixels[3 * i + 2] = sample;
        } else {
            picture->pixels[i] = sample;
        }
    }
    return 0;
}
