/* Any bytes as a file of torch.save: as a state dict, and as a run's checkpoint. */
#include "input.h"
#include "model/pth.h"
#include "model/pth_checkpoint.h"

static void touch(const TensorList *list)
{
    for (int i = 0; i < list->count; i++) {
        input_touch(list->tensor[i].data, list->tensor[i].bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Err err;
    TensorList list;
    PthFile *file = pth_open_content("FILE", input_copy(data, bytes), bytes, &err);
    if (file && pth_state_dict(file, pth_root(file), &list, &err) == 0) {
        touch(&list);
    }
    pth_close(file);
    PthCheckpoint checkpoint;
    if (pth_checkpoint_open(&checkpoint, input_file(data, bytes), &err) == 0) {
        touch(&checkpoint.list);
        pth_checkpoint_close(&checkpoint);
    }
    return 0;
}
