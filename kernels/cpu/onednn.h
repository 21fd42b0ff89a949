/* oneDNN convolutions, created once per shape and kept: creating one takes milliseconds.
 *
 *     OnednnConv *conv = onednn_conv(cpu, CONV_FPROP, s, bias != NULL);
 *     onednn_conv_run(cpu, conv, &(OnednnTensors){x, w, bias, y}, false);
 *
 * Activations stay channels-last. The library chooses the layout in which it wants the weights;
 * those of the caller are [K,R,R,C] and are converted inside a run where that differs. */
#ifndef RODEO_KERNELS_CPU_ONEDNN_H
#define RODEO_KERNELS_CPU_ONEDNN_H

#include "kernels/cpu/cpu.h"

typedef enum { CONV_FPROP, CONV_DGRAD, CONV_WGRAD } ConvPass;

typedef struct OnednnConv OnednnConv; /* one pass over one shape; belongs to the backend */

/* What a pass reads and writes: fprop x, w, bias -> y; dgrad y, w -> x; wgrad x, y -> w, bias, each
 * of x, w, bias, y being the gradient of that name where the pass has it so. bias is NULL exactly
 * where onednn_conv was told that there is none. */
typedef struct {
    void *x, *w, *bias, *y;
} OnednnTensors;

CpuPrimitives *onednn_open(void);
void onednn_close(CpuPrimitives *primitives);

/* The pass over the shape, created on the first call. has_bias is of no effect on dgrad. */
OnednnConv *onednn_conv(CpuBackend *cpu, ConvPass pass, const ConvShape *shape, bool has_bias);

/* Runs it. accumulate, for wgrad only: adds to w and bias instead of overwriting them. Uses the
 * backend's scratch memory. */
void onednn_conv_run(CpuBackend *cpu, OnednnConv *conv, const OnednnTensors *tensors,
                     bool accumulate);

#endif
