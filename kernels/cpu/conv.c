/* Convolutions: oneDNN's direct ones. */
#include "kernels/cpu/onednn.h"

void cpu_conv_fprop(Backend *be, const ConvShape *s, const void *x, const void *w,
                    const float *bias, void *y)
{
    CpuBackend *cpu = cpu_backend(be);
    OnednnConv *conv = onednn_conv(cpu, CONV_FPROP, s, bias != NULL);
    /* The library takes what it only reads without const. */
    OnednnTensors tensors = {.x = (void *)x, .w = (void *)w, .bias = (void *)bias, .y = y};
    onednn_conv_run(cpu, conv, &tensors, false);
}

void cpu_conv_dgrad(Backend *be, const ConvShape *s, const void *dy, const void *w, void *dx)
{
    CpuBackend *cpu = cpu_backend(be);
    OnednnConv *conv = onednn_conv(cpu, CONV_DGRAD, s, false);
    OnednnTensors tensors = {.x = dx, .w = (void *)w, .y = (void *)dy};
    onednn_conv_run(cpu, conv, &tensors, false);
}

void cpu_conv_wgrad(Backend *be, const ConvShape *s, const void *x, const void *dy, bool accumulate,
                    float *dw, float *dbias)
{
    CpuBackend *cpu = cpu_backend(be);
    OnednnConv *conv = onednn_conv(cpu, CONV_WGRAD, s, dbias != NULL);
    OnednnTensors tensors = {.x = (void *)x, .w = dw, .bias = dbias, .y = (void *)dy};
    onednn_conv_run(cpu, conv, &tensors, accumulate);
}
