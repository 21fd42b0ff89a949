/* The CPU backend: opening, memory, and its table of operators. */
#include "base/mem.h"
#include "base/memory_limit.h"
#include "base/pool.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEVICE_ALIGNMENT = 256, /* bytes, promised by device_alloc */
    MOST_THREADS = 1024,
};

static void cpu_close(Backend *be)
{
    CpuBackend *cpu = cpu_backend(be);
    onednn_close(cpu->primitives);
    free(cpu->scratch);
    free(cpu);
}

static const char *cpu_description(const Backend *be)
{
    return ((const CpuBackend *)be)->description;
}

static void cpu_memory(const Backend *be, size_t *free_bytes, size_t *total_bytes)
{
    (void)be;
    memory_limit(free_bytes, total_bytes);
}

static void *cpu_alloc(Backend *be, size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, DEVICE_ALIGNMENT, bytes ? bytes : 1) != 0) {
        const double mib = 1 << 20;
        size_t free_bytes;
        size_t total_bytes;
        cpu_memory(be, &free_bytes, &total_bytes);
        fatal("this machine's memory does not suffice: %.0f MiB are needed, %.0f of %.0f MiB are "
              "free; choose a smaller batch, or end other programs",
              (double)bytes / mib, (double)free_bytes / mib, (double)total_bytes / mib);
    }
    return memory;
}

static void cpu_free(Backend *be, void *memory)
{
    (void)be;
    free(memory);
}

static void cpu_zero(Backend *be, void *memory, size_t bytes)
{
    (void)be;
    memset(memory, 0, bytes);
}

static void cpu_copy_in(Backend *be, void *device, const void *host, size_t bytes)
{
    (void)be;
    memcpy(device, host, bytes);
}

static void cpu_copy_out(Backend *be, void *host, const void *device, size_t bytes)
{
    (void)be;
    memcpy(host, device, bytes);
}

static void cpu_synchronize(Backend *be)
{
    (void)be; /* an operator has run when its call returns */
}

void *cpu_scratch(CpuBackend *cpu, size_t bytes)
{
    if (bytes > cpu->scratch_bytes) {
        free(cpu->scratch); /* nothing in it outlives an operator */
        cpu->scratch = mem_aligned(bytes);
        cpu->scratch_bytes = bytes;
    }
    return cpu->scratch;
}

static const BackendTable cpu_table = {
    .kind = "cpu",
    .close = cpu_close,
    .description = cpu_description,
    .memory = cpu_memory,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .host_alloc = cpu_alloc,
    .host_free = cpu_free,
    .zero = cpu_zero,
    .copy_in = cpu_copy_in,
    .copy_out = cpu_copy_out,
    .copy_out_async = cpu_copy_out,
    .synchronize = cpu_synchronize,
    .conv_fprop = cpu_conv_fprop,
    .conv_dgrad = cpu_conv_dgrad,
    .conv_wgrad = cpu_conv_wgrad,
    .linear_fprop = cpu_linear_fprop,
    .linear_dgrad = cpu_linear_dgrad,
    .linear_wgrad = cpu_linear_wgrad,
    .batchnorm_train = cpu_batchnorm_train,
    .batchnorm_eval = cpu_batchnorm_eval,
    .batchnorm_bprop = cpu_batchnorm_bprop,
    .conv_statistics = cpu_conv_statistics,
    .stem_train = cpu_stem_train,
    .stem_eval = cpu_stem_eval,
    .stem_bprop = cpu_stem_bprop,
    .avgpool_fprop = cpu_avgpool_fprop,
    .avgpool_bprop = cpu_avgpool_bprop,
    .concat = cpu_concat,
    .split = cpu_split,
    .dropout = cpu_dropout,
    .cross_entropy = cpu_cross_entropy,
    .entropy = cpu_entropy,
    .argmax = cpu_argmax,
    .augment = cpu_augment,
    .sgd = cpu_sgd,
    .cast = cpu_cast,
};

/* Reads the processor's name into name ("CPU" where the system does not tell it). */
static void read_processor_name(char *name, size_t bytes)
{
    snprintf(name, bytes, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) {
        return;
    }
    char line[256];
    while (fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", strlen("model name")) == 0 && colon != NULL) {
            const char *text = colon + 1 + strspn(colon + 1, " \t");
            snprintf(name, bytes, "%.*s", (int)strcspn(text, "\n"), text);
            break;
        }
    }
    fclose(file);
}

static void describe(CpuBackend *cpu)
{
    read_processor_name(cpu->base.name, sizeof(cpu->base.name));
    snprintf(cpu->description, sizeof(cpu->description), "%s, %d thread%s", cpu->base.name,
             cpu->threads, cpu->threads == 1 ? "" : "s");
}

Backend *cpu_backend_open(const DeviceOptions *options, Err *err)
{
    if (options->threads < 0 || options->threads > MOST_THREADS) {
        err_set(err, "%d CPU threads cannot be used; give 1 to %d, or 0 for one per core",
                options->threads, MOST_THREADS);
        return NULL;
    }
    if (options->precision != NULL && strcmp(options->precision, "auto") != 0 &&
        strcmp(options->precision, "fp32") != 0) {
        err_set(err, "--precision %s: the CPU computes in fp32 only; leave --precision at auto",
                options->precision);
        return NULL;
    }
    CpuBackend *cpu = mem_zeroed(1, sizeof(*cpu));
    cpu->base = (Backend){.table = &cpu_table,
                          .precision = "fp32",
                          .activation_bytes = sizeof(float),
                          .picture_channels = 3};
    cpu->threads = options->threads > 0 ? options->threads : pool_cores();
    describe(cpu);
    /* Holds for parallel regions that the calling thread opens, oneDNN's among them. */
    omp_set_num_threads(cpu->threads);
    cpu->primitives = onednn_open();
    return &cpu->base;
}
