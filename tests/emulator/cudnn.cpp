/* cuDNN: handles, versions, errors. */
#include "cudnn_internal.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

using namespace rodeo_emulator;

static char last_error[256];
static std::set<const void *> handles;

cudnnStatus_t rodeo_emulator::cudnn_refusal(cudnnStatus_t status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(last_error, sizeof(last_error), format, arguments);
    va_end(arguments);
    return status;
}

cudnnStatus_t rodeo_emulator::cudnn_fault(cudnnStatus_t status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(last_error, sizeof(last_error), format, arguments);
    va_end(arguments);
    complain("cuDNN: %s", last_error);
    return status;
}

bool rodeo_emulator::is_cudnn_handle(const void *handle)
{
    return handles.count(handle) != 0;
}

size_t cudnnGetVersion(void)
{
    const char *version = std::getenv("RODEO_EMULATOR_CUDNN_VERSION");
    return version != nullptr ? std::strtoul(version, nullptr, 10) : CUDNN_VERSION;
}

size_t cudnnGetCudartVersion(void)
{
    return CUDART_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
#define NAME(value)                                                                                \
    case value:                                                                                    \
        return #value;
    switch (status) {
        NAME(CUDNN_STATUS_SUCCESS)
        NAME(CUDNN_STATUS_NOT_INITIALIZED)
        NAME(CUDNN_STATUS_BAD_PARAM)
        NAME(CUDNN_STATUS_BAD_PARAM_NULL_POINTER)
        NAME(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER)
        NAME(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED)
        NAME(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT)
        NAME(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH)
        NAME(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES)
        NAME(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE)
        NAME(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE)
        NAME(CUDNN_STATUS_NOT_SUPPORTED)
        NAME(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH)
        NAME(CUDNN_STATUS_INTERNAL_ERROR)
        NAME(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED)
        NAME(CUDNN_STATUS_EXECUTION_FAILED)
    }
    return "CUDNN_UNKNOWN_STATUS";
}

void cudnnGetLastErrorString(char *message, size_t max_size)
{
    Lock lock(state().mutex);
    std::snprintf(message, max_size, "%s", last_error);
    last_error[0] = '\0';
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    Lock lock(state().mutex);
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        return CUDNN_STATUS_NOT_INITIALIZED;
    }
    *handle = new cudnnContext;
    handles.insert(*handle);
    count_live("cuDNN handles", 1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    Lock lock(state().mutex);
    if (handles.erase(handle) == 0) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "cudnnDestroy: not a handle");
    }
    delete handle;
    count_live("cuDNN handles", -1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    Lock lock(state().mutex);
    if (!is_cudnn_handle(handle) || find_stream(stream) == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "cudnnSetStream: not a handle or not a stream");
    }
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream)
{
    Lock lock(state().mutex);
    if (!is_cudnn_handle(handle)) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "cudnnGetStream: not a handle");
    }
    *stream = handle->stream;
    return CUDNN_STATUS_SUCCESS;
}
