/* The device that operators run on: opening a backend, its memory, and the records that the host
 * hands to it. The operators themselves are in ops.h; what a backend must provide is in backend.h.
 *
 * A backend runs operators in the order in which they are called. Calls may return before the work
 * has run; device_synchronize waits for it. Device memory is what operators read and write; on the
 * CPU backend it is ordinary memory, but only the functions here may assume that. */
#ifndef RODEO_KERNELS_DEVICE_H
#define RODEO_KERNELS_DEVICE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Backend Backend;

typedef struct {
    int threads; /* CPU threads for the operators; 0: all cores of this process */
    int gpu;     /* which GPU, counted from 0 */
} DeviceOptions;

/* Opens a backend. device is "cpu", "cuda", or "auto": CUDA where this build has it and a GPU
 * answers, else the CPU. Returns NULL with err filled where the device asked for by name cannot be
 * used; the message says what to do. */
Backend *device_open(const char *device, const DeviceOptions *options, Err *err);

/* Waits for all work and releases the backend. Its memory must have been freed. be may be NULL. */
void device_close(Backend *be);

/* "cpu" or "cuda". */
const char *device_kind(const Backend *be);

/* What the device is, for people: "AMD EPYC 7B13, 2 threads". Belongs to the backend. */
const char *device_description(const Backend *be);

/* Whether this machine shows an NVIDIA GPU, whatever this build can use. */
int device_gpu_is_present(void);

/* Bytes of one element of an activation: of the backend's compute type. */
size_t device_activation_bytes(const Backend *be);

/* bytes of device memory, aligned to 256 bytes, not initialised. Ends the program if there is not
 * enough. Not to be called inside a training step. */
void *device_alloc(Backend *be, size_t bytes);
void device_free(Backend *be, void *memory);

/* Host memory from which copies to the device are fastest (pinned, where that means anything). */
void *device_host_alloc(Backend *be, size_t bytes);
void device_host_free(Backend *be, void *memory);

/* Enqueues a fill with zero bytes. */
void device_zero(Backend *be, void *memory, size_t bytes);

/* Enqueues a copy from the host; `host` must stay as it is until the copy has run. */
void device_copy_in(Backend *be, void *device, const void *host, size_t bytes);

/* Copies to the host and waits until the data is there. */
void device_copy_out(Backend *be, void *host, const void *device, size_t bytes);

void device_synchronize(Backend *be);

/* How one picture of a batch is cut out of its stored pixels. */
typedef struct {
    int64_t offset;        /* of its first byte in the batch's pixel buffer; 8-bit RGB [H,W,3] */
    int32_t width, height; /* as stored, >= 1 */
    int32_t top, left;     /* of the crop, in the resized picture */
    int32_t flip;          /* 1: mirrored left to right, after the crop */
    int32_t quarter_turns; /* 0..3 counter-clockwise, after the flip */
} AugmentItem;

#endif
