#include "model/weights.h"

#include "base/mem.h"
#include "model/weights_read.h"

#include <stdlib.h>
#include <string.h>

/* ---- collecting
 * ------------------------------------------------------------------------------------ */

static void list_add(WeightList *list, char *name, SafeTensor tensor, void *data)
{
    size_t size = (size_t)list->count + 1;
    list->tensor = mem_resize(list->tensor, size * sizeof *list->tensor);
    list->names = mem_resize(list->names, size * sizeof *list->names);
    list->data = mem_resize(list->data, size * sizeof *list->data);
    tensor.name = name;
    tensor.data = data;
    list->tensor[list->count] = tensor;
    list->names[list->count] = name;
    list->data[list->count] = data;
    list->count++;
}

static void collect_arena(WeightList *list, Backend *be, const ParamTable *table,
                          const float *arena, const char *prefix)
{
    size_t bytes = (size_t)table->elements * sizeof(float);
    float *host = mem_alloc(bytes);
    device_copy_out(be, host, arena, bytes);
    for (int i = 0; i < table->count; i++) {
        const ParamSpec *spec = &table->spec[i];
        SafeTensor tensor = {.dtype = "F32", .bytes = (size_t)spec->count * sizeof(float)};
        tensor.ndim = param_file_shape(spec, tensor.shape);
        float *data = mem_alloc(tensor.bytes);
        param_to_file_order(spec, host + spec->offset, data);
        list_add(list, mem_format("%s%s", prefix, spec->name), tensor, data);
    }
    free(host);
}

WeightList weights_collect(const Net *net)
{
    const Params *params = &net->params;
    WeightList list = {0};
    collect_arena(&list, net->be, &params->weights, params->w, "");
    collect_arena(&list, net->be, &params->running, params->running_stats, "");
    collect_arena(&list, net->be, &params->weights, params->v, MOMENTUM_PREFIX);
    for (int i = 0; i < params->norms; i++) {
        int64_t *count = mem_alloc(sizeof *count);
        *count = params->norm[i].batches;
        list_add(&list, mem_format("%s" COUNTER_ENDING, params->norm[i].name),
                 (SafeTensor){.dtype = "I64", .bytes = sizeof *count}, count);
    }
    return list;
}

void weights_free(WeightList *list)
{
    for (int i = 0; i < list->count; i++) {
        free(list->names[i]);
        free(list->data[i]);
    }
    free(list->tensor);
    free(list->names);
    free(list->data);
    *list = (WeightList){0};
}

/* ---- restoring
 * --------------------------------------------------------------------------------------- */

int weights_restore_list(Net *net, const TensorList *file, bool momentum, Err *err)
{
    const Params *params = &net->params;
    Problems problems = {0};
    HostState state = host_state(net);
    read_table(&params->weights, file, "", "", state.w, &problems);
    read_table(&params->running, file, "", "", state.running, &problems);
    if (momentum) {
        read_table(&params->weights, file, MOMENTUM_PREFIX, "", state.v, &problems);
    }
    read_counters(params, file, "", false, state.batches, &problems);
    find_unknown(params, file, "", NULL, &problems);
    int rc = problems_report(&problems, err);
    if (rc == 0) {
        host_state_apply(net, &state);
    }
    host_state_free(&state);
    return rc;
}

int weights_restore(Net *net, const SafeFile *file, bool momentum, Err *err)
{
    TensorList list = safetensors_list(file);
    return weights_restore_list(net, &list, momentum, err);
}
