#include "kernels/device.h"

#include "kernels/backend.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

Backend *device_open(const char *device, const DeviceOptions *options, Err *err)
{
    if (strcmp(device, "cuda") == 0) {
        return cuda_backend_open(options, err);
    }
    if (strcmp(device, "cpu") == 0) {
        return cpu_backend_open(options, err);
    }
    if (strcmp(device, "auto") != 0) {
        err_set(err, "device \"%s\" is not known; --device takes auto, cuda or cpu", device);
        return NULL;
    }
    if (cuda_backend_is_built() && device_gpu_is_present()) {
        return cuda_backend_open(options, err);
    }
    return cpu_backend_open(options, err);
}

void device_close(Backend *be)
{
    if (be != NULL) {
        be->table->close(be);
    }
}

size_t device_activation_bytes(const Backend *be)
{
    return be->activation_bytes;
}

const char *device_precision(const Backend *be)
{
    return be->precision;
}

bool device_needs_loss_scale(const Backend *be)
{
    return be->needs_loss_scale;
}

int device_picture_channels(const Backend *be)
{
    return be->picture_channels;
}

int device_steps_ahead(const Backend *be)
{
    return be->table->async != NULL ? 2 : 0;
}

void device_memory(const Backend *be, size_t *free_bytes, size_t *total_bytes)
{
    be->table->memory(be, free_bytes, total_bytes);
}

const char *device_kind(const Backend *be)
{
    return be->table->kind;
}

const char *device_name(const Backend *be)
{
    return be->name;
}

const char *device_description(const Backend *be)
{
    return be->table->description(be);
}

int device_gpu_is_present(void)
{
    /* The device node may be missing until the first use; the driver's folder lists the GPUs. */
    static const char *const signs[] = {"/dev/nvidia0", "/proc/driver/nvidia/gpus"};
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        if (access(signs[i], F_OK) == 0) {
            return 1;
        }
    }
    /* The Windows Subsystem for Linux, and some containers, show neither. */
    return cuda_backend_finds_gpu();
}

void *device_alloc(Backend *be, size_t bytes)
{
    return be->table->alloc(be, bytes);
}

void device_free(Backend *be, void *memory)
{
    be->table->free(be, memory);
}

void *device_host_alloc(Backend *be, size_t bytes)
{
    return be->table->host_alloc(be, bytes);
}

void device_host_free(Backend *be, void *memory)
{
    be->table->host_free(be, memory);
}

void device_zero(Backend *be, void *memory, size_t bytes)
{
    be->table->zero(be, memory, bytes);
}

void device_copy_in(Backend *be, void *device, const void *host, size_t bytes)
{
    be->table->copy_in(be, device, host, bytes);
}

void device_copy_out(Backend *be, void *host, const void *device, size_t bytes)
{
    be->table->copy_out(be, host, device, bytes);
}

void device_copy_out_async(Backend *be, void *host, const void *device, size_t bytes)
{
    be->table->copy_out_async(be, host, device, bytes);
}

void device_synchronize(Backend *be)
{
    be->table->synchronize(be);
}

/* ---- work under way: nothing to do where a call returns only when its work has run ------------
 */

DeviceEvent *device_event_open(Backend *be)
{
    return be->table->async != NULL ? be->table->async->event_open(be) : NULL;
}

void device_event_close(Backend *be, DeviceEvent *event)
{
    if (event != NULL) {
        be->table->async->event_close(be, event);
    }
}

void device_event_record(Backend *be, DeviceEvent *event)
{
    if (event != NULL) {
        be->table->async->event_record(be, event);
    }
}

void device_event_wait(Backend *be, DeviceEvent *event)
{
    if (event != NULL) {
        be->table->async->event_wait(be, event);
    }
}

double device_event_ms(Backend *be, const DeviceEvent *from, const DeviceEvent *to)
{
    return from != NULL && to != NULL ? be->table->async->event_ms(be, from, to) : 0.0;
}

void device_profile(Backend *be, const ProfileHook *hook)
{
    be->profile = hook;
}

static bool has_lanes(const Backend *be)
{
    return be->table->async != NULL && !(be->profile != NULL && be->profile->one_lane);
}

void device_fork(Backend *be)
{
    if (has_lanes(be)) {
        be->table->async->fork(be);
    }
}

void device_lane(Backend *be, int lane)
{
    if (lane < 0 || lane >= DEVICE_LANES) {
        fatal("%s: there is no lane %d", __func__, lane);
    }
    if (has_lanes(be)) {
        be->table->async->lane(be, lane);
    }
}

void device_join(Backend *be)
{
    if (has_lanes(be)) {
        be->table->async->join(be);
    }
}

bool device_capture_begin(Backend *be)
{
    if (be->table->async == NULL) {
        return false;
    }
    be->table->async->capture_begin(be);
    return true;
}

DeviceGraph *device_capture_end(Backend *be)
{
    return be->table->async->capture_end(be);
}

void device_graph_launch(Backend *be, DeviceGraph *graph)
{
    be->table->async->graph_launch(be, graph);
}

void device_graph_close(Backend *be, DeviceGraph *graph)
{
    if (graph != NULL) {
        be->table->async->graph_close(be, graph);
    }
}
