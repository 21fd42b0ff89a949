/* What the fuzzers share: giving a reader that takes a path the bytes that the fuzzer made up. */
#ifndef RODEO_TESTS_FUZZ_INPUT_H
#define RODEO_TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

/* libFuzzer calls this with one input after the other. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Makes a file in memory hold these bytes, and returns its path, which stays the same and valid. */
const char *input_file(const void *data, size_t bytes);

/* Writes bytes to a file by name, replacing what was there. */
void input_write(const char *path, const void *data, size_t bytes);

/* A copy in memory of its own, so that a read beyond the end is seen. Free it. */
char *input_copy(const void *data, size_t bytes);

/* Reads every byte, so that a range that is not there is seen. */
void input_touch(const void *data, size_t bytes);

#endif
