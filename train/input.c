#include "train/input.h"

void input_open(Input *input, Backend *be, int samples, int resize, int crop)
{
    *input = (Input){.be = be, .shape = {.N = samples, .resize = resize, .crop = crop}};
    size_t bytes = (size_t)samples * (size_t)(crop * crop) * (size_t)device_picture_channels(be) *
                   device_activation_bytes(be);
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

void input_augment(Input *input, const uint8_t *pixels, const AugmentItem *const *items)
{
    device_fork(input->be);
    for (int m = 0; m < MODALITIES; m++) {
        device_lane(input->be, m);
        op_augment(input->be, &input->shape, pixels, items[m], input->x[m]);
    }
    device_join(input->be);
}
