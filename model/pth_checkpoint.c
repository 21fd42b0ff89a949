#include "model/pth_checkpoint.h"

#include "base/mem.h"
#include "base/text.h"
#include "model/pth.h"
#include "model/weights_read.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const prefixes[PARAM_GROUPS] = {"rgb.", "depth.", "main.", "rotation."};

typedef struct PthCheckpointParts {
    PthFile *file;
    SafeTensor *tensor;
    int count, room;
    char **names; /* [count], owned */
    void **zeros; /* momentum that the file does not have */
    int zero_count;
} Parts;

static void add(Parts *parts, char *name, SafeTensor tensor)
{
    if (parts->count == parts->room) {
        parts->room = parts->room ? 2 * parts->room : 256;
        parts->tensor = mem_resize(parts->tensor, (size_t)parts->room * sizeof *parts->tensor);
        parts->names = mem_resize(parts->names, (size_t)parts->room * sizeof *parts->names);
    }
    tensor.name = name;
    parts->names[parts->count] = name;
    parts->tensor[parts->count++] = tensor;
}

/* ---- optimizers ------------------------------------------------------------------------------ */

static double number_or_nan(const PickleValue *value)
{
    if (value && value->kind == PICKLE_FLOAT) {
        return value->real;
    }
    return value && value->kind == PICKLE_INT ? (double)value->integer : NAN;
}

static int read_group(const PickleValue *optimizer, PthOptimizer *settings, Err *err)
{
    const PickleValue *groups = pickle_get(optimizer, "param_groups");
    if (!groups || groups->kind != PICKLE_LIST || groups->count != 1 ||
        groups->item[0]->kind != PICKLE_DICT) {
        return err_set(err, "an optimizer has not exactly one group of parameters");
    }
    const PickleValue *group = groups->item[0];
    *settings = (PthOptimizer){.lr = number_or_nan(pickle_get(group, "lr")),
                               .momentum = number_or_nan(pickle_get(group, "momentum")),
                               .weight_decay = number_or_nan(pickle_get(group, "weight_decay"))};
    return 0;
}

static SafeTensor zeros_like(Parts *parts, const SafeTensor *weight)
{
    SafeTensor zeros = *weight;
    zeros.data = mem_zeroed(weight->bytes, 1);
    parts->zeros = mem_resize(parts->zeros, ((size_t)parts->zero_count + 1) * sizeof(void *));
    parts->zeros[parts->zero_count++] = (void *)zeros.data;
    return zeros;
}

/* The momentum of one parameter, number `index` of its optimizer. */
static int add_momentum(Parts *parts, const PickleValue *state, int64_t index, const char *prefix,
                        const SafeTensor *weight, Err *err)
{
    const PickleValue *entry = pickle_get_index(state, index);
    const PickleValue *buffer = entry ? pickle_get(entry, "momentum_buffer") : NULL;
    SafeTensor tensor;
    if (!buffer || buffer->kind == PICKLE_NONE) {
        tensor = zeros_like(parts, weight);
    } else if (buffer->kind == PICKLE_TENSOR) {
        const SafeTensor *found = pth_tensor(parts->file, buffer, weight->name, err);
        if (!found) {
            return -1;
        }
        tensor = *found;
    } else {
        return err_set(err, "the momentum of parameter %lld of %s* is no tensor", (long long)index,
                       prefix);
    }
    add(parts, mem_format(MOMENTUM_PREFIX "%s%s", prefix, weight->name), tensor);
    return 0;
}

/* ---- modules --------------------------------------------------------------------------------- */

static bool is_buffer(const char *name)
{
    return text_ends_with(name, ".running_mean") || text_ends_with(name, ".running_var") ||
           text_ends_with(name, COUNTER_ENDING);
}

static int read_module(PthCheckpoint *checkpoint, int group, const PickleValue *module,
                       const PickleValue *optimizer, Err *err)
{
    Parts *parts = checkpoint->parts;
    const char *prefix = prefixes[group];
    TensorList list;
    const PickleValue *state = pickle_get(optimizer, "state");
    if (!state || state->kind != PICKLE_DICT) {
        return err_set(err, "optimizer %d has no state", group);
    }
    if (read_group(optimizer, &checkpoint->optimizer[group], err) != 0 ||
        pth_state_dict(parts->file, module, &list, err) != 0) {
        return -1;
    }
    int64_t index = 0;
    for (int i = 0; i < list.count; i++) {
        const SafeTensor *tensor = &list.tensor[i];
        add(parts, mem_format("%s%s", prefix, tensor->name), *tensor);
        if (!is_buffer(tensor->name) &&
            add_momentum(parts, state, index++, prefix, tensor, err) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < state->count; i += 2) {
        if (state->item[i]->kind != PICKLE_INT || state->item[i]->integer < 0 ||
            state->item[i]->integer >= index) {
            return err_set(err, "optimizer %d has momentum of parameters that its module has not",
                           group);
        }
    }
    return 0;
}

static bool is_list_of(const PickleValue *value, size_t count)
{
    return value && (value->kind == PICKLE_LIST || value->kind == PICKLE_TUPLE) &&
           value->count == count;
}

static int read_checkpoint(PthCheckpoint *checkpoint, Err *err)
{
    const PickleValue *root = pth_root(checkpoint->parts->file);
    const PickleValue *epoch = pickle_get(root, "epoch");
    const PickleValue *modules = pickle_get(root, "modules");
    const PickleValue *optimizers = pickle_get(root, "optimizers");
    if (!epoch || !modules || !optimizers) {
        return err_set(err, "it is no checkpoint of a run: it has no entry \"%s\"",
                       !epoch     ? "epoch"
                       : !modules ? "modules"
                                  : "optimizers");
    }
    if (epoch->kind != PICKLE_INT || epoch->integer < 0 || epoch->integer > INT_MAX) {
        return err_set(err, "its epoch is no whole number");
    }
    if (!is_list_of(modules, PARAM_GROUPS) || !is_list_of(optimizers, PARAM_GROUPS)) {
        return err_set(err, "it does not hold four modules (RGB trunk, depth trunk, main head, "
                            "rotation head) and their four optimizers");
    }
    checkpoint->epoch = (int)epoch->integer;
    const PickleValue *saved = pickle_get(root, "time");
    checkpoint->saved = saved && isfinite(number_or_nan(saved)) ? number_or_nan(saved) : 0;
    for (int group = 0; group < PARAM_GROUPS; group++) {
        if (read_module(checkpoint, group, modules->item[group], optimizers->item[group], err) !=
            0) {
            return -1;
        }
    }
    checkpoint->list =
        (TensorList){.tensor = checkpoint->parts->tensor, .count = checkpoint->parts->count};
    return 0;
}

int pth_checkpoint_open(PthCheckpoint *checkpoint, const char *path, Err *err)
{
    *checkpoint = (PthCheckpoint){.parts = mem_zeroed(1, sizeof *checkpoint->parts)};
    checkpoint->parts->file = pth_open(path, err);
    if (!checkpoint->parts->file) {
        pth_checkpoint_close(checkpoint);
        return -1;
    }
    if (read_checkpoint(checkpoint, err) != 0) {
        pth_checkpoint_close(checkpoint);
        return text_starts_with(err->text, path) ? -1 : err_context(err, "%s", path);
    }
    return 0;
}

void pth_checkpoint_close(PthCheckpoint *checkpoint)
{
    Parts *parts = checkpoint->parts;
    if (parts) {
        for (int i = 0; i < parts->count; i++) {
            free(parts->names[i]);
        }
        for (int i = 0; i < parts->zero_count; i++) {
            free(parts->zeros[i]);
        }
        free(parts->names);
        free(parts->zeros);
        free(parts->tensor);
        pth_close(parts->file);
        free(parts);
    }
    *checkpoint = (PthCheckpoint){0};
}
