#include "train/input.h"

void input_open(Input *input, Backend *be, int samples, int resize, int crop)
{
    *input = (Input){.be = be, .shape = {.N = samples, .resize = resize, .crop = crop}};
    size_t bytes = (size_t)samples * (size_t)(crop * crop) * 3 * device_activation_bytes(be);
    for (int m = 0; m < MODALITIES; m++) {
        input->x[m] = device_alloc(be, bytes);
    }
}

void input_close(Input *input)
{
    for (int m = 0; m < MODALITIES; m++) {
        if (input->x[m]) {
            device_free(input->be, input->x[m]);
        }
    }
    *input = (Input){0};
}

void input_augment(Input *input, const Batch *batch)
{
    for (int m = 0; m < MODALITIES; m++) {
        op_augment(input->be, &input->shape, batch->pixels, batch->items[m], input->x[m]);
    }
}
