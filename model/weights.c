#include "model/weights.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOMENTUM_PREFIX WEIGHTS_MOMENTUM
#define COUNTER_ENDING  ".num_batches_tracked"
#define PROBLEMS_SHOWN  4
#define MISSHAPEN       "another shape or type of"

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

static void collect_arena(WeightList *list, const ParamTable *table, const float *host,
                          const char *prefix)
{
    for (int i = 0; i < table->count; i++) {
        const ParamSpec *spec = &table->spec[i];
        SafeTensor tensor = {.dtype = "F32", .bytes = (size_t)spec->count * sizeof(float)};
        tensor.ndim = param_file_shape(spec, tensor.shape);
        float *data = mem_alloc(tensor.bytes);
        param_to_file_order(spec, host + spec->offset, data);
        list_add(list, mem_format("%s%s", prefix, spec->name), tensor, data);
    }
}

WeightList weights_collect_snapshot(const NetSnapshot *snapshot)
{
    const Params *params = snapshot->params;
    WeightList list = {0};
    collect_arena(&list, &params->weights, snapshot->w, "");
    collect_arena(&list, &params->running, snapshot->running, "");
    collect_arena(&list, &params->weights, snapshot->v, MOMENTUM_PREFIX);
    for (int i = 0; i < params->norms; i++) {
        int64_t *count = mem_alloc(sizeof *count);
        *count = snapshot->batches[i];
        list_add(&list, mem_format("%s" COUNTER_ENDING, params->norm[i].name),
                 (SafeTensor){.dtype = "I64", .bytes = sizeof *count}, count);
    }
    return list;
}

WeightList weights_collect(const Net *net)
{
    NetSnapshot snapshot;
    snapshot_open(&snapshot, net);
    snapshot_take(&snapshot);
    WeightList list = weights_collect_snapshot(&snapshot);
    snapshot_close(&snapshot);
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

/* Gathers what does not fit, for one message. */
typedef struct {
    int count;
    char text[512];
} Problems;

static void problem_add(Problems *problems, const char *what, const char *name)
{
    if (problems->count++ < PROBLEMS_SHOWN) {
        size_t used = strlen(problems->text);
        snprintf(problems->text + used, sizeof problems->text - used, "%s%s %s", used ? ", " : "",
                 what, name);
    }
}

static int problems_report(const Problems *problems, Err *err)
{
    if (problems->count == 0) {
        return 0;
    }
    return err_set(err, "the file does not fit the network in %d tensors: %s%s", problems->count,
                   problems->text, problems->count > PROBLEMS_SHOWN ? ", ..." : "");
}

static bool shape_fits(const ParamSpec *spec, const SafeTensor *tensor)
{
    int64_t shape[PARAM_MAX_DIMS];
    int ndim = param_file_shape(spec, shape);
    if (strcmp(tensor->dtype, "F32") != 0 || tensor->ndim != ndim) {
        return false;
    }
    for (int i = 0; i < ndim; i++) {
        if (tensor->shape[i] != shape[i]) {
            return false;
        }
    }
    return true;
}

/* Reads the tensors of a table whose names start with `within`, as PREFIX + the rest of the name,
 * into host memory laid out as the arena. */
static void read_table(const ParamTable *table, const SafeFile *file, const char *prefix,
                       const char *within, float *host, Problems *problems)
{
    for (int i = 0; i < table->count; i++) {
        const ParamSpec *spec = &table->spec[i];
        if (!text_starts_with(spec->name, within)) {
            continue;
        }
        char *name = mem_format("%s%s", prefix, spec->name + strlen(within));
        const SafeTensor *tensor = safetensors_find(file, name);
        if (!tensor) {
            problem_add(problems, "missing", name);
        } else if (!shape_fits(spec, tensor)) {
            problem_add(problems, MISSHAPEN, name);
        } else {
            float *aligned = mem_alloc(tensor->bytes);
            memcpy(aligned, tensor->data, tensor->bytes);
            param_from_file_order(spec, aligned, host + spec->offset);
            free(aligned);
        }
        free(name);
    }
}

static bool table_has(const ParamTable *table, const char *name)
{
    for (int i = 0; i < table->count; i++) {
        if (strcmp(table->spec[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_counter(const Params *params, const char *name)
{
    for (int i = 0; i < params->norms; i++) {
        size_t length = strlen(params->norm[i].name);
        if (strncmp(name, params->norm[i].name, length) == 0 &&
            strcmp(name + length, COUNTER_ENDING) == 0) {
            return true;
        }
    }
    return false;
}

static void find_superfluous(const Params *params, const SafeFile *file, Problems *problems)
{
    for (int i = 0; i < safetensors_count(file); i++) {
        const char *name = safetensors_at(file, i)->name;
        const char *weight =
            text_starts_with(name, MOMENTUM_PREFIX) ? name + strlen(MOMENTUM_PREFIX) : name;
        if (!table_has(&params->weights, weight) && !table_has(&params->running, name) &&
            !is_counter(params, name)) {
            problem_add(problems, "unknown", name);
        }
    }
}

/* As find_superfluous, for a file of one trunk, whose names lack the stream. What a deeper ResNet
 * has beyond this one shows here; the classifier is expected. */
static void find_foreign(const Params *params, const SafeFile *file, const char *stream,
                         Problems *problems)
{
    for (int i = 0; i < safetensors_count(file); i++) {
        const char *name = safetensors_at(file, i)->name;
        char *full = mem_format("%s%s", stream, name);
        if (!text_starts_with(name, "fc.") && !table_has(&params->weights, full) &&
            !table_has(&params->running, full) && !is_counter(params, full)) {
            problem_add(problems, "unknown", name);
        }
        free(full);
    }
}

/* Reads the counters whose names start with `within`, under the rest of their names, into
 * batches[norms]. Optional ones may be missing. */
static void read_counters(const Params *params, const SafeFile *file, const char *within,
                          bool optional, int64_t *batches, Problems *problems)
{
    for (int i = 0; i < params->norms; i++) {
        if (!text_starts_with(params->norm[i].name, within)) {
            continue;
        }
        char *name = mem_format("%s" COUNTER_ENDING, params->norm[i].name + strlen(within));
        const SafeTensor *tensor = safetensors_find(file, name);
        if (!tensor) {
            if (!optional) {
                problem_add(problems, "missing", name);
            }
        } else if (strcmp(tensor->dtype, "I64") != 0 || tensor->bytes != sizeof *batches) {
            problem_add(problems, MISSHAPEN, name);
        } else {
            memcpy(&batches[i], tensor->data, sizeof *batches);
        }
        free(name);
    }
}

/* A network's state on the host, laid out as its arenas. */
typedef struct {
    float *w, *running, *v;
    int64_t *batches;
} HostState;

static float *copy_out(Backend *be, const ParamTable *table, const float *arena)
{
    size_t bytes = (size_t)table->elements * sizeof(float);
    float *host = mem_alloc(bytes);
    device_copy_out(be, host, arena, bytes);
    return host;
}

static HostState host_state(const Net *net)
{
    const Params *params = &net->params;
    HostState state = {
        .w = copy_out(net->be, &params->weights, params->w),
        .running = copy_out(net->be, &params->running, params->running_stats),
        .v = copy_out(net->be, &params->weights, params->v),
        .batches = mem_zeroed((size_t)params->norms, sizeof(int64_t)),
    };
    for (int i = 0; i < params->norms; i++) {
        state.batches[i] = params->norm[i].batches;
    }
    return state;
}

static void host_state_apply(Net *net, const HostState *state)
{
    Params *params = &net->params;
    size_t weight_bytes = (size_t)params->weights.elements * sizeof(float);
    size_t running_bytes = (size_t)params->running.elements * sizeof(float);
    device_copy_in(net->be, params->w, state->w, weight_bytes);
    device_copy_in(net->be, params->v, state->v, weight_bytes);
    device_copy_in(net->be, params->running_stats, state->running, running_bytes);
    device_synchronize(net->be);
    for (int i = 0; i < params->norms; i++) {
        params->norm[i].batches = state->batches[i];
    }
}

static void host_state_free(HostState *state)
{
    free(state->w);
    free(state->running);
    free(state->v);
    free(state->batches);
}

int weights_restore(Net *net, const SafeFile *file, bool momentum, Err *err)
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
    find_superfluous(params, file, &problems);
    int rc = problems_report(&problems, err);
    if (rc == 0) {
        host_state_apply(net, &state);
    }
    host_state_free(&state);
    return rc;
}

int weights_load_pretrained(Net *net, const char *path, Err *err)
{
    static const char *const streams[] = {"rgb.", "depth."};
    SafeFile *file = safetensors_open(path, err);
    if (!file) {
        return -1;
    }
    const Params *params = &net->params;
    Problems problems = {0};
    HostState state = host_state(net);
    for (int i = 0; i < 2; i++) {
        read_table(&params->weights, file, "", streams[i], state.w, &problems);
        read_table(&params->running, file, "", streams[i], state.running, &problems);
        /* Weights saved by old versions of PyTorch have no counters. */
        read_counters(params, file, streams[i], true, state.batches, &problems);
    }
    find_foreign(params, file, streams[0], &problems);
    int rc = problems_report(&problems, err);
    if (rc == 0) {
        host_state_apply(net, &state);
    } else {
        err_context(err, "%s", path);
    }
    host_state_free(&state);
    safetensors_close(file);
    return rc;
}
