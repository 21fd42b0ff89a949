/* The CPU backend's own declarations: its state, and one function an operator. Only kernels/cpu/
 * includes this.
 *
 * Operators are ordinary C on OpenMP threads, convolution-sized work goes to oneDNN. Everything is
 * float32. An operator has run when its call returns. */
#ifndef RODEO_KERNELS_CPU_H
#define RODEO_KERNELS_CPU_H

#include "kernels/backend.h"

typedef struct CpuPrimitives CpuPrimitives; /* oneDNN primitives by shape: cpu/onednn.h */

typedef struct {
    Backend base;
    int threads;
    char description[160];
    CpuPrimitives *primitives;
    void *scratch; /* grows to the largest operator's need; cpu_scratch */
    size_t scratch_bytes;
} CpuBackend;

static inline CpuBackend *cpu_backend(Backend *be)
{
    return (CpuBackend *)be;
}

/* At least `bytes` of scratch memory, aligned, valid until the next call of this function. */
void *cpu_scratch(CpuBackend *cpu, size_t bytes);

__typeof__(op_conv_fprop) cpu_conv_fprop;
__typeof__(op_conv_dgrad) cpu_conv_dgrad;
__typeof__(op_conv_wgrad) cpu_conv_wgrad;
__typeof__(op_linear_fprop) cpu_linear_fprop;
__typeof__(op_linear_dgrad) cpu_linear_dgrad;
__typeof__(op_linear_wgrad) cpu_linear_wgrad;
__typeof__(op_batchnorm_train) cpu_batchnorm_train;
__typeof__(op_batchnorm_eval) cpu_batchnorm_eval;
__typeof__(op_batchnorm_bprop) cpu_batchnorm_bprop;
__typeof__(op_conv_statistics) cpu_conv_statistics;
__typeof__(op_stem_train) cpu_stem_train;
__typeof__(op_stem_eval) cpu_stem_eval;
__typeof__(op_stem_bprop) cpu_stem_bprop;
__typeof__(op_avgpool_fprop) cpu_avgpool_fprop;
__typeof__(op_avgpool_bprop) cpu_avgpool_bprop;
__typeof__(op_concat) cpu_concat;
__typeof__(op_split) cpu_split;
__typeof__(op_dropout) cpu_dropout;
__typeof__(op_cross_entropy) cpu_cross_entropy;
__typeof__(op_entropy) cpu_entropy;
__typeof__(op_argmax) cpu_argmax;
__typeof__(op_augment) cpu_augment;
__typeof__(op_sgd) cpu_sgd;
__typeof__(op_cast) cpu_cast;

#endif
