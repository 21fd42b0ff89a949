/* What a backend provides: one table of functions, filled completely. Only kernels/ includes this.
 *
 * device.c and ops.c check their arguments once for every backend and then call through the table.
 * The entries have the signatures and the meaning of the operators of the same name in ops.h. */
#ifndef RODEO_KERNELS_BACKEND_H
#define RODEO_KERNELS_BACKEND_H

#include "kernels/ops.h"

typedef struct {
    const char *kind;
    size_t activation_bytes; /* of the compute type */
    void (*close)(Backend *be);
    const char *(*description)(const Backend *be);

    void *(*alloc)(Backend *be, size_t bytes);
    void (*free)(Backend *be, void *memory);
    void *(*host_alloc)(Backend *be, size_t bytes);
    void (*host_free)(Backend *be, void *memory);
    void (*zero)(Backend *be, void *memory, size_t bytes);
    void (*copy_in)(Backend *be, void *device, const void *host, size_t bytes);
    void (*copy_out)(Backend *be, void *host, const void *device, size_t bytes);
    void (*synchronize)(Backend *be);

    __typeof__(op_conv_fprop) *conv_fprop;
    __typeof__(op_conv_dgrad) *conv_dgrad;
    __typeof__(op_conv_wgrad) *conv_wgrad;
    __typeof__(op_linear_fprop) *linear_fprop;
    __typeof__(op_linear_dgrad) *linear_dgrad;
    __typeof__(op_linear_wgrad) *linear_wgrad;
    __typeof__(op_batchnorm_train) *batchnorm_train;
    __typeof__(op_batchnorm_eval) *batchnorm_eval;
    __typeof__(op_batchnorm_bprop) *batchnorm_bprop;
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
} BackendTable;

/* Every backend's own struct begins with this. */
struct Backend {
    const BackendTable *table;
};

/* Opens the CPU backend. */
Backend *cpu_backend_open(const DeviceOptions *options, Err *err);

#endif
