/* The CUDA backend: opening, precision, and its table of operators. */
#include "base/mem.h"
#include "kernels/cuda/async.h"
#include "kernels/cuda/conv_plans.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUBLAS_WORKSPACE ((size_t)32 << 20) /* what NVIDIA recommends from Hopper on */

static void cuda_close(Backend *be)
{
    CudaBackend *cuda = cuda_backend(be);
    cuda_synchronize(be);
    cuda_conv_plans_close(cuda->plans);
    for (int i = 0; i < DEVICE_LANES; i++) {
        CudaLane *lane = &cuda->lanes[i];
        CUDNN_CHECK(cudnnDestroy(lane->cudnn));
        CUBLAS_CHECK(cublasDestroy(lane->cublas));
        cuda_free(be, lane->cublas_workspace);
        cuda_free(be, lane->workspace.memory);
        cuda_free(be, lane->scratch.memory);
        CUDA_CHECK(cudaEventDestroy(lane->reached));
        CUDA_CHECK(cudaStreamDestroy(lane->stream));
    }
    cuda_free_outgrown(cuda);
    free(cuda);
}

static const char *cuda_description(const Backend *be)
{
    return ((const CudaBackend *)be)->description;
}

static const BackendTable cuda_table = {
    .kind = "cuda",
    .close = cuda_close,
    .description = cuda_description,
    .memory = cuda_memory,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .host_alloc = cuda_host_alloc,
    .host_free = cuda_host_free,
    .zero = cuda_zero,
    .copy_in = cuda_copy_in,
    .copy_out = cuda_copy_out,
    .copy_out_async = cuda_copy_out_async,
    .synchronize = cuda_synchronize,
    .async = &cuda_async_table,
    .conv_fprop = cuda_conv_fprop,
    .conv_dgrad = cuda_conv_dgrad,
    .conv_wgrad = cuda_conv_wgrad,
    .linear_fprop = cuda_linear_fprop,
    .linear_dgrad = cuda_linear_dgrad,
    .linear_wgrad = cuda_linear_wgrad,
    .batchnorm_train = cuda_batchnorm_train,
    .batchnorm_eval = cuda_batchnorm_eval,
    .batchnorm_bprop = cuda_batchnorm_bprop,
    .conv_statistics = cuda_conv_statistics,
    .stem_train = cuda_stem_train,
    .stem_eval = cuda_stem_eval,
    .stem_bprop = cuda_stem_bprop,
    .avgpool_fprop = cuda_avgpool_fprop,
    .avgpool_bprop = cuda_avgpool_bprop,
    .concat = cuda_concat,
    .split = cuda_split,
    .dropout = cuda_dropout,
    .cross_entropy = cuda_cross_entropy,
    .entropy = cuda_entropy,
    .argmax = cuda_argmax,
    .augment = cuda_augment,
    .sgd = cuda_sgd,
    .cast = cuda_cast,
};

/* ---- precision ---------------------------------------------------------------------------------
 */

typedef struct {
    const char *name;
    CudaType type;
    bool tf32;
    int least_sm;
    const char *lacks; /* what older GPUs do not have, and what to do */
} Precision;

static const Precision precisions[] = {
    {"fp32", CUDA_F32, false, 0, NULL},
    {"tf32", CUDA_F32, true, 80, "has no TF32 units (Ampere and later have); use fp32 or fp16"},
    {"fp16", CUDA_F16, false, 60, "is older than Pascal; use fp32"},
    {"bf16", CUDA_BF16, false, 80, "computes no bf16 (Ampere and later do); use fp16"},
};

/* Tensor cores make fp16 several times faster from Volta on; before them it saves little. */
static const char *automatic_precision(int sm)
{
    return sm >= 70 ? "fp16" : "fp32";
}

static int choose_precision(CudaBackend *cuda, const char *wanted, const char *gpu, Err *err)
{
    if (wanted == NULL || strcmp(wanted, "auto") == 0) {
        wanted = automatic_precision(cuda->sm);
    }
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++) {
        const Precision *p = &precisions[i];
        if (strcmp(wanted, p->name) != 0) {
            continue;
        }
        if (cuda->sm < p->least_sm) {
            return err_set(err, "--precision %s: %s %s, or leave --precision at auto", wanted, gpu,
                           p->lacks);
        }
        cuda->type = p->type;
        cuda->tf32 = p->tf32;
        cuda->base.precision = p->name;
        cuda->base.activation_bytes = p->type == CUDA_F32 ? 4 : 2;
        cuda->base.needs_loss_scale = p->type == CUDA_F16;
        return 0;
    }
    return err_set(err, "--precision %s is not known; it takes auto, fp32, tf32, fp16 or bf16",
                   wanted);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

bool cuda_backend_is_built(void)
{
    return true;
}

static cudaError_t count_gpus(int *count)
{
    *count = 0;
    cudaError_t status = cudaGetDeviceCount(count);
    cudaGetLastError(); /* the error stays behind otherwise and would be taken for a later call's */
    return status;
}

bool cuda_backend_finds_gpu(void)
{
    int count;
    return count_gpus(&count) == cudaSuccess && count > 0;
}

static int choose_device(int gpu, struct cudaDeviceProp *properties, int *compiled_for, Err *err)
{
    int count;
    cudaError_t status = count_gpus(&count);
    if (status != cudaSuccess || count == 0) {
        return err_set(err,
                       "device cuda: no GPU can be used (%s); check nvidia-smi, or give --device "
                       "cpu",
                       status != cudaSuccess ? cudaGetErrorString(status) : "none was found");
    }
    if (gpu < 0 || gpu >= count) {
        return err_set(err, "--gpu %d: this machine has %d GPU%s, counted from 0", gpu, count,
                       count == 1 ? "" : "s");
    }
    status = cudaSetDevice(gpu);
    if (status == cudaSuccess) {
        status = cudaGetDeviceProperties(properties, gpu);
    }
    if (status == cudaSuccess) {
        status = cuda_probe(compiled_for);
    }
    if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
        return err_set(err,
                       "%s: this build has no code for its compute capability %d.%d: configure "
                       "again with -DRODEO_CUDA_ARCHITECTURES=%d%d (a CUDA 12 toolkit for less "
                       "than 7.5), or give --device cpu",
                       properties->name, properties->major, properties->minor, properties->major,
                       properties->minor);
    }
    if (status != cudaSuccess) {
        return err_set(err, "--gpu %d: the GPU cannot be used: %s", gpu,
                       cudaGetErrorString(status));
    }
    return 0;
}

#define TURING           75
#define CUDNN_FOR_TURING 91100 /* the first without code for what came before */

/* cuDNN keeps its interface within a major version, but not all GPUs. */
static int check_cudnn(const struct cudaDeviceProp *gpu, Err *err)
{
    size_t found = cudnnGetVersion();
    size_t major = found / (found >= 90000 ? 10000 : 1000);
    if (10 * gpu->major + gpu->minor < TURING && found >= CUDNN_FOR_TURING) {
        return err_set(
            err,
            "%s: cuDNN %zu.%zu has no code for its compute capability %d.%d, 9.10 is the "
            "last that has: install that, configure again and build, or give --device "
            "cpu",
            gpu->name, major, found / 100 % 100, gpu->major, gpu->minor);
    }
    if (major != CUDNN_MAJOR) {
        return err_set(err,
                       "this build was made with cuDNN %d, but the cuDNN %zu library was loaded: "
                       "configure again and build",
                       CUDNN_MAJOR, major);
    }
    return 0;
}

static void open_lane(CudaBackend *cuda, CudaLane *lane)
{
    CUDA_CHECK(cudaStreamCreateWithFlags(&lane->stream, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&lane->reached, cudaEventDisableTiming));
    lane->cublas_workspace = cuda_alloc(&cuda->base, CUBLAS_WORKSPACE);
    CUDNN_CHECK(cudnnCreate(&lane->cudnn));
    CUDNN_CHECK(cudnnSetStream(lane->cudnn, lane->stream));
    CUBLAS_CHECK(cublasCreate(&lane->cublas));
    CUBLAS_CHECK(cublasSetStream(lane->cublas, lane->stream));
    /* With a workspace of its own cuBLAS gives the same bits whatever runs beside it. */
    CUBLAS_CHECK(cublasSetWorkspace(lane->cublas, lane->cublas_workspace, CUBLAS_WORKSPACE));
    CUBLAS_CHECK(cublasSetMathMode(lane->cublas, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
}

Backend *cuda_backend_open(const DeviceOptions *options, Err *err)
{
    struct cudaDeviceProp properties = {0};
    int compiled_for = 0;
    if (choose_device(options->gpu, &properties, &compiled_for, err) != 0 ||
        check_cudnn(&properties, err) != 0) {
        return NULL;
    }
    CudaBackend *cuda = mem_zeroed(1, sizeof *cuda);
    cuda->base.table = &cuda_table;
    cuda->base.picture_channels = CUDA_PICTURE_CHANNELS;
    cuda->device = options->gpu;
    cuda->sm = 10 * properties.major + properties.minor;
    cuda->compiled_for = compiled_for;
    cuda->multiprocessors = properties.multiProcessorCount;
    if (choose_precision(cuda, options->precision, properties.name, err) != 0) {
        free(cuda);
        return NULL;
    }
    snprintf(cuda->base.name, sizeof cuda->base.name, "%.127s", properties.name);
    snprintf(cuda->description, sizeof cuda->description, "%s, %.0f GiB, %s", cuda->base.name,
             (double)properties.totalGlobalMem / 1073741824.0, cuda->base.precision);
    cuda->most_workspace = conv_workspace_bytes(cuda->type, properties.totalGlobalMem);
    cuda->plans = cuda_conv_plans_open(options, properties.name);
    for (int i = 0; i < DEVICE_LANES; i++) {
        open_lane(cuda, &cuda->lanes[i]);
    }
    return &cuda->base;
}
