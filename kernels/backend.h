/* What a backend provides: one table of functions, filled completely. Only kernels/ includes this.
 *
 * device.c and ops.c check their arguments once for every backend and then call through the table.
 * The entries have the signatures and the meaning of the operators of the same name in ops.h. */
#ifndef RODEO_KERNELS_BACKEND_H
#define RODEO_KERNELS_BACKEND_H

#include "kernels/ops.h"

typedef struct {
    DeviceEvent *(*event_open)(Backend *be);
    void (*event_close)(Backend *be, DeviceEvent *event);
    void (*event_record)(Backend *be, DeviceEvent *event);
    void (*event_wait)(Backend *be, DeviceEvent *event);
    double (*event_ms)(Backend *be, const DeviceEvent *from, const DeviceEvent *to);
    void (*fork)(Backend *be);
    void (*lane)(Backend *be, int lane);
    void (*join)(Backend *be);
    void (*capture_begin)(Backend *be);
    DeviceGraph *(*capture_end)(Backend *be);
    void (*graph_launch)(Backend *be, DeviceGraph *graph);
    void (*graph_close)(Backend *be, DeviceGraph *graph);
} AsyncTable;

typedef struct {
    const char *kind;
    void (*close)(Backend *be);
    const char *(*description)(const Backend *be);
    void (*memory)(const Backend *be, size_t *free_bytes, size_t *total_bytes);

    void *(*alloc)(Backend *be, size_t bytes);
    void (*free)(Backend *be, void *memory);
    void *(*host_alloc)(Backend *be, size_t bytes);
    void (*host_free)(Backend *be, void *memory);
    void (*zero)(Backend *be, void *memory, size_t bytes);
    void (*copy_in)(Backend *be, void *device, const void *host, size_t bytes);
    void (*copy_out)(Backend *be, void *host, const void *device, size_t bytes);
    void (*copy_out_async)(Backend *be, void *host, const void *device, size_t bytes);
    void (*synchronize)(Backend *be);

    /* NULL for all of them where a call returns only when its work has run: then there is nothing
     * to mark, to run side by side, or to record. */
    const AsyncTable *async;

    __typeof__(op_conv_fprop) *conv_fprop;
    __typeof__(op_conv_dgrad) *conv_dgrad;
    __typeof__(op_conv_wgrad) *conv_wgrad;
    __typeof__(op_linear_fprop) *linear_fprop;
    __typeof__(op_linear_dgrad) *linear_dgrad;
    __typeof__(op_linear_wgrad) *linear_wgrad;
    __typeof__(op_batchnorm_train) *batchnorm_train;
    __typeof__(op_batchnorm_eval) *batchnorm_eval;
    __typeof__(op_batchnorm_bprop) *batchnorm_bprop;
    __typeof__(op_conv_statistics) *conv_statistics;
    __typeof__(op_stem_train) *stem_train;
    __typeof__(op_stem_eval) *stem_eval;
    __typeof__(op_stem_bprop) *stem_bprop;
    __typeof__(op_avgpool_fprop) *avgpool_fprop;
    __typeof__(op_avgpool_bprop) *avgpool_bprop;
    __typeof__(op_concat) *concat;
    __typeof__(op_split) *split;
    __typeof__(op_dropout) *dropout;
    __typeof__(op_cross_entropy) *cross_entropy;
    __typeof__(op_entropy) *entropy;
    __typeof__(op_argmax) *argmax;
    __typeof__(op_augment) *augment;
    __typeof__(op_sgd) *sgd;
    __typeof__(op_cast) *cast;
} BackendTable;

/* The batch norm whose statistics op_conv_statistics takes. */
static inline BatchNormShape conv_statistics_norm(const ConvStatisticsShape *s)
{
    const ConvShape *c = &s->conv;
    int64_t positions =
        (int64_t)conv_out(c->H, c->R, c->stride, c->pad) * conv_out(c->W, c->R, c->stride, c->pad);
    BatchNormShape norm = {s->groups, c->N / s->groups * positions, c->K, s->eps, s->momentum,
                           false};
    return norm;
}

/* Every backend's own struct begins with this. The properties are those of device.h. */
struct Backend {
    const BackendTable *table;
    const char *precision;
    char name[128]; /* device_name() */
    size_t activation_bytes;
    bool needs_loss_scale;
    int picture_channels;
    const ProfileHook *profile; /* NULL: nobody measures */
};

/* Opens the CPU backend. */
Backend *cpu_backend_open(const DeviceOptions *options, Err *err);

/* Opens the CUDA backend. NULL and err where there is no GPU, or none that this build has code for.
 * In a build without it this always says how to get one. */
Backend *cuda_backend_open(const DeviceOptions *options, Err *err);

/* Whether this build has the CUDA backend. */
bool cuda_backend_is_built(void);

/* Whether CUDA finds a GPU; false in a build without it. */
bool cuda_backend_finds_gpu(void);

#endif
