#include "model/params.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "kernels/ops.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t param_table_add(ParamTable *table, ParamGroup group, ParamInit init, int file_ndim,
                        int ndim, const int *dim, const char *format, ...)
{
    ParamSpec spec = {
        .ndim = ndim, .file_ndim = file_ndim, .group = group, .init = init, .count = 1};
    va_list args;
    va_start(args, format);
    int length = vsnprintf(spec.name, sizeof spec.name, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof spec.name) {
        fatal("parameter name %s... is too long", spec.name);
    }
    if (table->count > 0 && table->spec[table->count - 1].group > group) {
        fatal("parameter %s comes after one of a later group", spec.name);
    }
    for (int i = 0; i < ndim; i++) {
        spec.dim[i] = dim[i];
        spec.count *= dim[i];
    }
    spec.offset = table->elements;
    table->elements += (spec.count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
    table->spec = mem_resize(table->spec, (size_t)(table->count + 1) * sizeof *table->spec);
    table->spec[table->count++] = spec;
    return spec.offset;
}

int param_file_shape(const ParamSpec *spec, int64_t shape[static PARAM_MAX_DIMS])
{
    const int *dim = spec->dim;
    if (spec->ndim < 4) {
        for (int i = 0; i < spec->ndim; i++) {
            shape[i] = dim[i];
        }
    } else if (spec->file_ndim == 4) {
        shape[0] = dim[0];
        shape[1] = dim[3];
        shape[2] = dim[1];
        shape[3] = dim[2];
    } else {
        shape[0] = dim[0];
        shape[1] = (int64_t)dim[1] * dim[2] * dim[3];
    }
    return spec->file_ndim;
}

/* Copies [K,positions,C] in memory from or to [K,C,positions] in the file. */
static void transpose(const ParamSpec *spec, const float *from, float *to, bool to_file)
{
    if (spec->ndim < 4) {
        memcpy(to, from, (size_t)spec->count * sizeof *to);
        return;
    }
    int64_t positions = (int64_t)spec->dim[1] * spec->dim[2];
    int64_t channels = spec->dim[3];
    for (int64_t k = 0; k < spec->dim[0]; k++) {
        int64_t start = k * positions * channels;
        for (int64_t p = 0; p < positions; p++) {
            for (int64_t c = 0; c < channels; c++) {
                int64_t memory = start + p * channels + c;
                int64_t file = start + c * positions + p;
                to[to_file ? file : memory] = from[to_file ? memory : file];
            }
        }
    }
}

void param_to_file_order(const ParamSpec *spec, const float *memory, float *file)
{
    transpose(spec, memory, file, true);
}

void param_from_file_order(const ParamSpec *spec, const float *file, float *memory)
{
    transpose(spec, file, memory, false);
}

void param_group_range(const ParamTable *table, ParamGroup group, int64_t *offset, int64_t *count)
{
    *offset = 0;
    *count = 0;
    for (int i = 0; i < table->count; i++) {
        const ParamSpec *spec = &table->spec[i];
        int64_t end = i + 1 < table->count ? table->spec[i + 1].offset : table->elements;
        if (spec->group == group) {
            if (*count == 0) {
                *offset = spec->offset;
            }
            *count = end - *offset;
        }
    }
}

void params_allocate(Params *params)
{
    size_t bytes = (size_t)params->weights.elements * sizeof(float);
    float **arenas[] = {&params->w, &params->dw, &params->v};
    for (size_t i = 0; i < sizeof arenas / sizeof *arenas; i++) {
        *arenas[i] = device_alloc(params->be, bytes);
        device_zero(params->be, *arenas[i], bytes);
    }
    params->w_act = params->w;
    size_t act_bytes = (size_t)params->weights.elements * device_activation_bytes(params->be);
    if (act_bytes != bytes) {
        params->w_act = device_alloc(params->be, act_bytes);
        device_zero(params->be, params->w_act, act_bytes);
    }
    size_t running_bytes = (size_t)params->running.elements * sizeof(float);
    params->running_stats = device_alloc(params->be, running_bytes);
    device_zero(params->be, params->running_stats, running_bytes);
}

void params_refresh(Params *params)
{
    if (params->w_act != params->w) {
        op_cast(params->be, params->weights.elements, params->w, params->w_act);
    }
}

const void *params_weight(const Params *params, int64_t offset)
{
    return (const char *)params->w_act + (size_t)offset * device_activation_bytes(params->be);
}

static double xavier_bound(const ParamSpec *spec)
{
    int64_t positions = spec->ndim == 4 ? (int64_t)spec->dim[1] * spec->dim[2] : 1;
    double fan_in = (double)(positions * spec->dim[spec->ndim - 1]);
    double fan_out = (double)(positions * spec->dim[0]);
    return sqrt(6.0 / (fan_in + fan_out));
}

static void fill_constant(float *value, int64_t count, float constant)
{
    for (int64_t i = 0; i < count; i++) {
        value[i] = constant;
    }
}

static void fill_uniform(float *value, int64_t count, double bound, Rng *rng)
{
    for (int64_t i = 0; i < count; i++) {
        value[i] = (float)(bound * (2.0 * rng_uniform(rng) - 1.0));
    }
}

static void fill_normal(float *value, int64_t count, double mean, double std, Rng *rng)
{
    for (int64_t i = 0; i < count; i++) {
        value[i] = (float)(mean + std * rng_normal(rng));
    }
}

static void initialise_elements(const ParamSpec *spec, float *value, int64_t count, Rng *rng)
{
    switch (spec->init) {
    case INIT_ZERO:
        fill_constant(value, count, 0.0f);
        break;
    case INIT_ONE:
        fill_constant(value, count, 1.0f);
        break;
    case INIT_KAIMING_FAN_OUT:
        fill_normal(value, count, 0.0,
                    sqrt(2.0 / ((double)spec->dim[0] * spec->dim[1] * spec->dim[2])), rng);
        break;
    case INIT_XAVIER_UNIFORM:
        fill_uniform(value, count, xavier_bound(spec), rng);
        break;
    case INIT_NORMAL_NEAR_0:
        fill_normal(value, count, 0.0, 0.01, rng);
        break;
    case INIT_NORMAL_NEAR_1:
        fill_normal(value, count, 1.0, 0.01, rng);
        break;
    }
}

/* One task of initialise_table: the tensor's chunks draw from sequences of their own, so that large
 * tensors are shared among the threads and the values do not depend on how many there are. */
#define INIT_CHUNK 65536

typedef struct {
    const ParamTable *table;
    uint64_t seed;
    float *host;
} InitTask;

static void initialise_chunk(void *context, int64_t index)
{
    const InitTask *task = context;
    int64_t chunk = index;
    int tensor = 0;
    for (;; tensor++) {
        int64_t chunks = (task->table->spec[tensor].count + INIT_CHUNK - 1) / INIT_CHUNK;
        if (chunk < chunks) {
            break;
        }
        chunk -= chunks;
    }
    const ParamSpec *spec = &task->table->spec[tensor];
    int64_t first = chunk * INIT_CHUNK;
    int64_t count = spec->count - first < INIT_CHUNK ? spec->count - first : INIT_CHUNK;
    Rng rng = rng_at(task->seed, RNG_INITIAL_WEIGHTS, (uint32_t)tensor, (uint32_t)chunk, 0);
    initialise_elements(spec, task->host + spec->offset + first, count, &rng);
}

static void initialise_table(Backend *be, const ParamTable *table, uint64_t seed, Pool *pool,
                             float *arena)
{
    InitTask task = {
        .table = table, .seed = seed, .host = mem_zeroed((size_t)table->elements, sizeof(float))};
    int64_t chunks = 0;
    for (int i = 0; i < table->count; i++) {
        chunks += (table->spec[i].count + INIT_CHUNK - 1) / INIT_CHUNK;
    }
    pool_run(pool, chunks, initialise_chunk, &task);
    device_copy_in(be, arena, task.host, (size_t)table->elements * sizeof(float));
    device_synchronize(be);
    free(task.host);
}

void params_initialise(Params *params, uint64_t seed)
{
    Pool *pool = pool_open(0);
    initialise_table(params->be, &params->weights, seed, pool, params->w);
    initialise_table(params->be, &params->running, seed, pool, params->running_stats);
    pool_close(pool);
    device_zero(params->be, params->v, (size_t)params->weights.elements * sizeof(float));
    params_refresh(params);
    for (int i = 0; i < params->norms; i++) {
        params->norm[i].batches = 0;
    }
}

int64_t params_count(const Params *params, ParamGroup group)
{
    int64_t count = 0;
    for (int i = 0; i < params->weights.count; i++) {
        count += params->weights.spec[i].group == group ? params->weights.spec[i].count : 0;
    }
    return count;
}

void params_free(Params *params)
{
    void *w_act = params->w_act != params->w ? params->w_act : NULL;
    void *arenas[] = {params->w, params->dw, params->v, params->running_stats, w_act};
    for (size_t i = 0; i < sizeof arenas / sizeof *arenas; i++) {
        if (arenas[i]) {
            device_free(params->be, arenas[i]);
        }
    }
    free(params->weights.spec);
    free(params->running.spec);
    free(params->norm);
    *params = (Params){0};
}
