/* From named tensors in a file to a network's arenas. Only model/ includes this. */
#ifndef RODEO_MODEL_WEIGHTS_READ_H
#define RODEO_MODEL_WEIGHTS_READ_H

#include "model/net.h"
#include "model/safetensors.h"

#define MOMENTUM_PREFIX "momentum."
#define COUNTER_ENDING  ".num_batches_tracked"

/* Gathers what does not fit, for one message. */
typedef struct {
    int count, shown;
    char text[800];
} Problems;

/* 0 if there are none; else -1 with an err that lists them, as many as a message holds. */
int problems_report(const Problems *problems, Err *err);

/* A network's state on the host, laid out as its arenas: read from a network, changed, and given
 * back to it when all went well. */
typedef struct {
    float *w, *running, *v;
    int64_t *batches;
} HostState;

HostState host_state(const Net *net);

/* Gives the state to the network. Everything that comes from a file enters a network here. */
void host_state_apply(Net *net, const HostState *state);
void host_state_free(HostState *state);

/* Reads the tensors of a table whose names start with `within`, from the file's tensors named
 * prefix + the rest of the name, into host memory laid out as the arena. */
void read_table(const ParamTable *table, const TensorList *file, const char *prefix,
                const char *within, float *host, Problems *problems);

/* Reads the counters whose names start with `within`, under the rest of their names, into
 * batches[norms]. Optional ones may be missing. */
void read_counters(const Params *params, const TensorList *file, const char *within, bool optional,
                   int64_t *batches, Problems *problems);

/* Reports the file's tensors that the network has not, under stream + their name. allowed: the
 * beginning of names that are left out; NULL: none. */
void find_unknown(const Params *params, const TensorList *file, const char *stream,
                  const char *allowed, Problems *problems);

#endif
