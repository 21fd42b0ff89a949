/* What the tests of safetensors files share: a folder for one file, and samples to write. */
#ifndef RODEO_TESTS_SAFETENSORS_FIXTURE_H
#define RODEO_TESTS_SAFETENSORS_FIXTURE_H

#include "model/safetensors.h"

#include <stdbool.h>

/* A new folder, with the names of a file in it and of its backup. */
typedef struct {
    char folder[64];
    char path[96];
    char backup[96];
} Place;

/* cmocka's set-up and tear-down of a Place. Tear-down fails where any other file is left. */
int place_open(void **state);
int place_close(void **state);

/* Makes the file hold these bytes. */
void place_put(const Place *place, const void *bytes, size_t count);

/* The file's bytes (free them). */
char *place_get(const Place *place, size_t *count);

/* Whether the file opens. If not, the error must name it. */
bool place_is_accepted(const Place *place);

enum { SAMPLES = 21, SAMPLE_METADATA = 4 };

/* A tensor of every type, a scalar, empty ones, an odd name; and odd strings. */
extern const SafeTensor samples[SAMPLES];
extern const SafeMetadata sample_metadata[SAMPLE_METADATA];

/* Writes them all. */
void samples_write(const Place *place);

#endif
