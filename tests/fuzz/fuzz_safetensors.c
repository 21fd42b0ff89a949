/* Any bytes as a safetensors file. */
#include "input.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Err err;
    SafeFile *file = safetensors_open_content("FILE", input_copy(data, bytes), bytes, &err);
    for (int i = 0; file && i < safetensors_count(file); i++) {
        const SafeTensor *tensor = safetensors_at(file, i);
        input_touch(tensor->data, tensor->bytes);
        safetensors_find(file, tensor->name);
    }
    safetensors_close(file);
    return 0;
}
