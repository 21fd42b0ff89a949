/* State of the process, errors, random orders, device properties, the report of leaks at exit. */
#include "emulator.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace rodeo_emulator
{

static void say(const char *kind, const char *format, va_list arguments)
{
    std::fprintf(stderr, "CUDA emulator: %s", kind);
    std::vfprintf(stderr, format, arguments);
    std::fprintf(stderr, "\n");
}

void die(const char *format, ...)
{
    std::fflush(nullptr);
    va_list arguments;
    va_start(arguments, format);
    say("fault: ", format, arguments);
    va_end(arguments);
    std::abort();
}

void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("", format, arguments);
    va_end(arguments);
}

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = std::getenv(name);
    return value != nullptr && value[0] != '\0' ? value : otherwise;
}

static uint64_t number(const char *name, const char *otherwise)
{
    const char *value = setting(name, otherwise);
    char *end = nullptr;
    uint64_t result = std::strtoull(value, &end, 10);
    if (end == value || *end != '\0') {
        die("%s=%s: a whole number is expected", name, value);
    }
    return result;
}

static void capability(const char *name, const char *otherwise, int *major, int *minor)
{
    const char *value = setting(name, otherwise);
    if (std::sscanf(value, "%d.%d", major, minor) != 2) {
        die("%s=%s: a compute capability such as 8.0 is expected", name, value);
    }
}

static pid_t owner;

static void report_leaks()
{
    if (getpid() != owner || number("RODEO_EMULATOR_LEAKS", "1") == 0) {
        return;
    }
    bool any = false;
    for (const auto &kind : state().live) {
        if (kind.second != 0) {
            complain("%ld left at exit: %s", kind.second, kind.first.c_str());
            any = true;
        }
    }
    for (const auto &entry : state().allocations) {
        complain("an allocation of %zu bytes was never freed", entry.second.bytes);
        any = true;
    }
    if (any) {
        std::fflush(nullptr);
        _exit(23);
    }
}

State::State() : random(number("RODEO_EMULATOR_SEED", "1"))
{
    capability("RODEO_EMULATOR_SM", "8.0", &major, &minor);
    int code_major;
    int code_minor;
    capability("RODEO_EMULATOR_CODE", setting("RODEO_EMULATOR_SM", "8.0"), &code_major,
               &code_minor);
    code = code_major * 10 + code_minor;
    memory_limit = (size_t)number("RODEO_EMULATOR_MEMORY", "2147483648");
    legacy = new CUstream_st;
    streams.insert(legacy);
    owner = getpid();
    std::atexit(report_leaks);
}

State &state()
{
    static State *const only = new State;
    return *only;
}

void count_live(const char *kind, long change)
{
    state().live[kind] += change;
}

cudaError_t report(cudaError_t status)
{
    if (status != cudaSuccess && status != cudaErrorNotReady) {
        state().last_error = status;
    }
    return status;
}

static int gpus()
{
    static const int count = (int)number("RODEO_EMULATOR_GPUS", "1");
    return count;
}

static cudaError_t check_device(int device)
{
    if (gpus() == 0) {
        return report(cudaErrorNoDevice);
    }
    return device == 0 ? cudaSuccess : report(cudaErrorInvalidDevice);
}

} // namespace rodeo_emulator

using namespace rodeo_emulator;

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = gpus() == 0 ? 0 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    Lock lock(state().mutex);
    *count = gpus();
    return *count == 0 ? report(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    Lock lock(state().mutex);
    *device = 0;
    return check_device(0);
}

cudaError_t cudaSetDevice(int device)
{
    Lock lock(state().mutex);
    return check_device(device);
}

cudaError_t cudaSetDeviceFlags(unsigned int)
{
    Lock lock(state().mutex);
    return check_device(0);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    Lock lock(state().mutex);
    cudaError_t status = check_device(device);
    if (status != cudaSuccess) {
        return status;
    }
    std::memset(properties, 0, sizeof(*properties));
    std::snprintf(properties->name, sizeof(properties->name), "emulated GPU");
    properties->totalGlobalMem = state().memory_limit;
    properties->sharedMemPerBlock = 48 << 10;
    properties->regsPerBlock = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 0x7fffffff;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->totalConstMem = 64 << 10;
    properties->major = state().major;
    properties->minor = state().minor;
    properties->multiProcessorCount = (int)number("RODEO_EMULATOR_MULTIPROCESSORS", "6");
    properties->canMapHostMemory = 1;
    properties->concurrentKernels = 1;
    properties->asyncEngineCount = 2;
    properties->unifiedAddressing = 1;
    properties->memoryBusWidth = 256;
    properties->l2CacheSize = 4 << 20;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->sharedMemPerMultiprocessor = 96 << 10;
    properties->regsPerMultiprocessor = 65536;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;
    cudaError_t status = cudaGetDeviceProperties(&p, device);
    if (status != cudaSuccess) {
        return status;
    }
    const std::map<cudaDeviceAttr, int> values = {
        {cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
        {cudaDevAttrMaxBlockDimX, p.maxThreadsDim[0]},
        {cudaDevAttrMaxBlockDimY, p.maxThreadsDim[1]},
        {cudaDevAttrMaxBlockDimZ, p.maxThreadsDim[2]},
        {cudaDevAttrMaxGridDimX, p.maxGridSize[0]},
        {cudaDevAttrMaxGridDimY, p.maxGridSize[1]},
        {cudaDevAttrMaxGridDimZ, p.maxGridSize[2]},
        {cudaDevAttrMaxSharedMemoryPerBlock, (int)p.sharedMemPerBlock},
        {cudaDevAttrWarpSize, p.warpSize},
        {cudaDevAttrMaxRegistersPerBlock, p.regsPerBlock},
        {cudaDevAttrClockRate, 1000000},
        {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
        {cudaDevAttrL2CacheSize, p.l2CacheSize},
        {cudaDevAttrMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
        {cudaDevAttrComputeCapabilityMajor, p.major},
        {cudaDevAttrComputeCapabilityMinor, p.minor},
    };
    auto found = values.find(attribute);
    if (found == values.end()) {
        return report(cudaErrorInvalidValue);
    }
    *value = found->second;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device)
{
    Lock lock(state().mutex);
    std::snprintf(id, (size_t)size, "0000:00:00.0");
    return check_device(device);
}

cudaError_t cudaGetLastError(void)
{
    Lock lock(state().mutex);
    cudaError_t error = state().last_error;
    state().last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    Lock lock(state().mutex);
    return state().last_error;
}

#define NAMES(X)                                                                                   \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInitializationError, "initialization error")                                        \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInvalidHostPointer, "invalid host pointer")                                         \
    X(cudaErrorInvalidDevicePointer, "invalid device pointer")                                     \
    X(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy")                        \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient")                          \
    X(cudaErrorInvalidDeviceFunction, "invalid device function")                                   \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                     \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorNoKernelImageForDevice, "no kernel image is available for the device")              \
    X(cudaErrorUnsupportedPtxVersion, "the PTX was compiled with an unsupported toolchain")        \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorIllegalState, "the operation cannot be performed in the present state")             \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                         \
    X(cudaErrorLaunchOutOfResources, "too many resources requested for launch")                    \
    X(cudaErrorMisalignedAddress, "misaligned address")                                            \
    X(cudaErrorLaunchFailure, "unspecified launch failure")                                        \
    X(cudaErrorNotSupported, "operation not supported")                                            \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")       \
    X(cudaErrorStreamCaptureInvalidated,                                                           \
      "operation failed due to a previous error during capture")                                   \
    X(cudaErrorStreamCaptureMerge, "operation would merge two capture sequences")                  \
    X(cudaErrorStreamCaptureUnmatched, "capture was not initiated in this stream")                 \
    X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                        \
    X(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream")  \
    X(cudaErrorStreamCaptureImplicit,                                                              \
      "operation would make the legacy stream depend on a capture")                                \
    X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capture")    \
    X(cudaErrorStreamCaptureWrongThread, "attempt to end a capture of another thread")             \
    X(cudaErrorUnknown, "unknown error")

const char *cudaGetErrorName(cudaError_t error)
{
#define NAME(value, text)                                                                          \
    case value:                                                                                    \
        return #value;
    switch (error) {
        NAMES(NAME)
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
#define TEXT(value, text)                                                                          \
    case value:                                                                                    \
        return text;
    switch (error) {
        NAMES(TEXT)
    }
    return "unrecognized error code";
}
