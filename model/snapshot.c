#include "model/snapshot.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t weight_bytes(const NetSnapshot *s)
{
    return (size_t)s->params->weights.elements * sizeof(float);
}

static size_t running_bytes(const NetSnapshot *s)
{
    return (size_t)s->params->running.elements * sizeof(float);
}

void snapshot_open(NetSnapshot *snapshot, const Net *net)
{
    *snapshot = (NetSnapshot){.be = net->be, .params = &net->params};
    snapshot->w = device_host_alloc(net->be, weight_bytes(snapshot));
    snapshot->v = device_host_alloc(net->be, weight_bytes(snapshot));
    snapshot->running = device_host_alloc(net->be, running_bytes(snapshot));
    snapshot->batches = mem_zeroed((size_t)net->params.norms, sizeof *snapshot->batches);
}

void snapshot_touch(NetSnapshot *snapshot)
{
    memset(snapshot->w, 0, weight_bytes(snapshot));
    memset(snapshot->v, 0, weight_bytes(snapshot));
    memset(snapshot->running, 0, running_bytes(snapshot));
}

void snapshot_take(NetSnapshot *snapshot)
{
    const Params *params = snapshot->params;
    device_copy_out(snapshot->be, snapshot->w, params->w, weight_bytes(snapshot));
    device_copy_out(snapshot->be, snapshot->v, params->v, weight_bytes(snapshot));
    device_copy_out(snapshot->be, snapshot->running, params->running_stats,
                    running_bytes(snapshot));
    for (int i = 0; i < params->norms; i++) {
        snapshot->batches[i] = params->norm[i].batches;
    }
}

static bool all_finite(const ParamTable *table, const float *values)
{
    for (int i = 0; i < table->count; i++) {
        const float *tensor = values + table->spec[i].offset;
        bool finite = true;
        for (int64_t j = 0; j < table->spec[i].count; j++) {
            finite &= isfinite(tensor[j]) != 0;
        }
        if (!finite) {
            return false;
        }
    }
    return true;
}

bool snapshot_is_finite(const NetSnapshot *snapshot)
{
    return all_finite(&snapshot->params->weights, snapshot->w) &&
           all_finite(&snapshot->params->weights, snapshot->v) &&
           all_finite(&snapshot->params->running, snapshot->running);
}

void snapshot_close(NetSnapshot *snapshot)
{
    if (snapshot->be) {
        device_host_free(snapshot->be, snapshot->w);
        device_host_free(snapshot->be, snapshot->v);
        device_host_free(snapshot->be, snapshot->running);
    }
    free(snapshot->batches);
    *snapshot = (NetSnapshot){0};
}
