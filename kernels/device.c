#include "kernels/device.h"

#include "kernels/backend.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const char *name;
    Backend *(*open)(const DeviceOptions *options, Err *err); /* NULL: not in this build */
} BackendEntry;

/* In the order in which "auto" tries them. */
static const BackendEntry backends[] = {
    {"cuda", NULL},
    {"cpu", cpu_backend_open},
};

enum { BACKENDS = sizeof(backends) / sizeof(backends[0]) };

static Backend *open_first(const DeviceOptions *options, Err *err)
{
    Backend *be = NULL;
    for (int i = 0; i < BACKENDS && be == NULL; i++) {
        if (backends[i].open != NULL) {
            be = backends[i].open(options, err);
        }
    }
    return be;
}

Backend *device_open(const char *device, const DeviceOptions *options, Err *err)
{
    if (strcmp(device, "auto") == 0) {
        return open_first(options, err);
    }
    for (int i = 0; i < BACKENDS; i++) {
        if (strcmp(device, backends[i].name) != 0) {
            continue;
        }
        if (backends[i].open == NULL) {
            err_set(err,
                    "device %s: this build has only the CPU backend; leave --device at auto or "
                    "give --device cpu",
                    device);
            return NULL;
        }
        return backends[i].open(options, err);
    }
    err_set(err, "device \"%s\" is not known; --device takes auto, cuda or cpu", device);
    return NULL;
}

void device_close(Backend *be)
{
    if (be != NULL) {
        be->table->close(be);
    }
}

size_t device_activation_bytes(const Backend *be)
{
    return be->table->activation_bytes;
}

const char *device_kind(const Backend *be)
{
    return be->table->kind;
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
    return 0;
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

void device_synchronize(Backend *be)
{
    be->table->synchronize(be);
}
