#include "model/weights_read.h"

#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- problems -------------------------------------------------------------------------------- */

static void problem_add(Problems *problems, const char *what, const char *name, const char *details)
{
    size_t used = strlen(problems->text);
    char *problem =
        mem_format("%s%s %.100s%s", used ? ", " : "", what, name, details ? details : "");
    /* The list ends where one does not fit any more. */
    if (problems->shown == problems->count && used + strlen(problem) < sizeof problems->text) {
        memcpy(problems->text + used, problem, strlen(problem) + 1);
        problems->shown++;
    }
    problems->count++;
    free(problem);
}

int problems_report(const Problems *problems, Err *err)
{
    if (problems->count == 0) {
        return 0;
    }
    char more[32] = "";
    if (problems->count > problems->shown) {
        snprintf(more, sizeof more, ", and %d more", problems->count - problems->shown);
    }
    return err_set(err, "the file does not fit the network in %d tensor%s: %s%s", problems->count,
                   problems->count == 1 ? "" : "s", problems->text, more);
}

/* "F32 [64,3,7,7]" */
static void describe(const char *dtype, int ndim, const int64_t *shape, size_t room, char *text)
{
    size_t used = (size_t)snprintf(text, room, "%s [", dtype);
    for (int i = 0; i < ndim && used < room; i++) {
        used +=
            (size_t)snprintf(text + used, room - used, "%s%" PRId64, i > 0 ? "," : "", shape[i]);
    }
    if (used < room) {
        snprintf(text + used, room - used, "]");
    }
}

static void add_misshapen(Problems *problems, const char *name, const char *dtype, int ndim,
                          const int64_t *shape, const SafeTensor *found)
{
    char wanted[80];
    char there[80];
    describe(dtype, ndim, shape, sizeof wanted, wanted);
    describe(found->dtype, found->ndim, found->shape, sizeof there, there);
    char *details = mem_format(" (%s wanted, %s found)", wanted, there);
    problem_add(problems, "another shape or type of", name, details);
    free(details);
}

/* ---- the state on the host ------------------------------------------------------------------- */

static float *copy_out(Backend *be, const ParamTable *table, const float *arena)
{
    size_t bytes = (size_t)table->elements * sizeof(float);
    float *host = mem_alloc(bytes);
    device_copy_out(be, host, arena, bytes);
    return host;
}

HostState host_state(const Net *net)
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

void host_state_apply(Net *net, const HostState *state)
{
    Params *params = &net->params;
    size_t weight_bytes = (size_t)params->weights.elements * sizeof(float);
    size_t running_bytes = (size_t)params->running.elements * sizeof(float);
    device_copy_in(net->be, params->w, state->w, weight_bytes);
    params_refresh(params);
    device_copy_in(net->be, params->v, state->v, weight_bytes);
    device_copy_in(net->be, params->running_stats, state->running, running_bytes);
    device_synchronize(net->be);
    for (int i = 0; i < params->norms; i++) {
        params->norm[i].batches = state->batches[i];
    }
}

void host_state_free(HostState *state)
{
    free(state->w);
    free(state->running);
    free(state->v);
    free(state->batches);
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool shape_fits(const SafeTensor *tensor, int ndim, const int64_t *shape)
{
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

static void read_tensor(const ParamSpec *spec, const TensorList *file, const char *name,
                        float *host, Problems *problems)
{
    int64_t shape[PARAM_MAX_DIMS];
    int ndim = param_file_shape(spec, shape);
    const SafeTensor *tensor = tensor_list_find(file, name);
    if (!tensor) {
        problem_add(problems, "missing", name, NULL);
    } else if (!shape_fits(tensor, ndim, shape)) {
        add_misshapen(problems, name, "F32", ndim, shape, tensor);
    } else {
        float *aligned = mem_alloc(tensor->bytes);
        memcpy(aligned, tensor->data, tensor->bytes);
        param_from_file_order(spec, aligned, host + spec->offset);
        free(aligned);
    }
}

void read_table(const ParamTable *table, const TensorList *file, const char *prefix,
                const char *within, float *host, Problems *problems)
{
    for (int i = 0; i < table->count; i++) {
        const ParamSpec *spec = &table->spec[i];
        if (text_starts_with(spec->name, within)) {
            char *name = mem_format("%s%s", prefix, spec->name + strlen(within));
            read_tensor(spec, file, name, host, problems);
            free(name);
        }
    }
}

void read_counters(const Params *params, const TensorList *file, const char *within, bool optional,
                   int64_t *batches, Problems *problems)
{
    for (int i = 0; i < params->norms; i++) {
        if (!text_starts_with(params->norm[i].name, within)) {
            continue;
        }
        char *name = mem_format("%s" COUNTER_ENDING, params->norm[i].name + strlen(within));
        const SafeTensor *tensor = tensor_list_find(file, name);
        if (!tensor) {
            if (!optional) {
                problem_add(problems, "missing", name, NULL);
            }
        } else if (strcmp(tensor->dtype, "I64") != 0 || tensor->bytes != sizeof *batches) {
            add_misshapen(problems, name, "I64", 0, NULL, tensor);
        } else {
            memcpy(&batches[i], tensor->data, sizeof *batches);
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

static bool is_known(const Params *params, const char *name)
{
    const char *weight =
        text_starts_with(name, MOMENTUM_PREFIX) ? name + strlen(MOMENTUM_PREFIX) : name;
    return table_has(&params->weights, weight) || table_has(&params->running, name) ||
           is_counter(params, name);
}

void find_unknown(const Params *params, const TensorList *file, const char *stream,
                  const char *allowed, Problems *problems)
{
    for (int i = 0; i < file->count; i++) {
        const char *name = file->tensor[i].name;
        char *full = mem_format("%s%s", stream, name);
        if (!(allowed && text_starts_with(name, allowed)) && !is_known(params, full)) {
            problem_add(problems, "unknown", name, NULL);
        }
        free(full);
    }
}
