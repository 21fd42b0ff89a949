/* The device that operators run on: opening a backend, its memory, and the records that the host
 * hands to it. The operators themselves are in ops.h; what a backend must provide is in backend.h.
 *
 * A backend runs operators in the order in which they are called. Calls may return before the work
 * has run; device_synchronize waits for it. Device memory is what operators read and write; on the
 * CPU backend it is ordinary memory, but only the functions here may assume that. */
#ifndef RODEO_KERNELS_DEVICE_H
#define RODEO_KERNELS_DEVICE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Backend Backend;

typedef struct {
    int threads; /* CPU threads for the operators; 0: all cores of this process */
    int gpu;     /* which GPU, counted from 0 */
    /* Compute type of the activations: "fp32", "tf32", "fp16", "bf16", or "auto" (NULL is auto):
     * fp16 where the GPU has tensor cores, else fp32. The CPU computes in fp32 only. */
    const char *precision;
    const char *cache_dir; /* where the choices of measured engines are kept; NULL: nowhere */
    /* Told, for people, what is about to take seconds; may be NULL. */
    void (*notice)(void *user, const char *text);
    void *notice_user;
} DeviceOptions;

/* Opens a backend. device is "cpu", "cuda", or "auto": CUDA where this build has it and a GPU
 * answers, else the CPU. Returns NULL with err filled where the device asked for by name cannot be
 * used; the message says what to do. */
Backend *device_open(const char *device, const DeviceOptions *options, Err *err);

/* Waits for all work and releases the backend. Its memory must have been freed. be may be NULL. */
void device_close(Backend *be);

/* "cpu" or "cuda". */
const char *device_kind(const Backend *be);

/* The name that the device's maker gave it: "Tesla T4". Belongs to the backend. */
const char *device_name(const Backend *be);

/* What the device is, for people: "AMD EPYC 7B13, 2 threads". Belongs to the backend. */
const char *device_description(const Backend *be);

/* Whether this machine shows an NVIDIA GPU, whatever this build can use; one that shows none of the
 * usual signs only a build with CUDA finds. */
int device_gpu_is_present(void);

/* Bytes of one element of an activation: of the backend's compute type. */
size_t device_activation_bytes(const Backend *be);

/* "fp32", "tf32", "fp16" or "bf16". */
const char *device_precision(const Backend *be);

/* Whether gradients need a loss scale: their smallest values would vanish in fp16. */
bool device_needs_loss_scale(const Backend *be);

/* Channels that a picture has as network input: 3, or more where the first convolution is faster on
 * a padded layout; those beyond the third hold zeros. */
int device_picture_channels(const Backend *be);

/* How many steps the host may usefully run ahead of the device; 0 where a call returns only when
 * its work has run. */
int device_steps_ahead(const Backend *be);

/* Device memory of this machine that is free now, and in all, in bytes. */
void device_memory(const Backend *be, size_t *free_bytes, size_t *total_bytes);

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

/* Enqueues a copy to host memory from device_host_alloc; it has run when an event recorded behind
 * it has. */
void device_copy_out_async(Backend *be, void *host, const void *device, size_t bytes);

void device_synchronize(Backend *be);

/* A mark in the order of the work. */
typedef struct DeviceEvent DeviceEvent;

DeviceEvent *device_event_open(Backend *be);
void device_event_close(Backend *be, DeviceEvent *event); /* event may be NULL */

/* Marks the work enqueued so far. */
void device_event_record(Backend *be, DeviceEvent *event);

/* Blocks the host until the work marked last has run; at once if nothing was marked yet. */
void device_event_wait(Backend *be, DeviceEvent *event);

/* Milliseconds of device time between two marks that have been waited for. */
double device_event_ms(Backend *be, const DeviceEvent *from, const DeviceEvent *to);

/* Work that does not depend on each other may run side by side, on two lanes. Outside of a fork
 * everything is on lane 0. fork: lane 1 starts behind what lane 0 has got so far. lane: what is
 * called from now on belongs to this lane. join: lane 0 goes on, behind the work of both. */
#define DEVICE_LANES 2
void device_fork(Backend *be);
void device_lane(Backend *be, int lane);
void device_join(Backend *be);

/* Work that is enqueued between begin and end is recorded instead of being run, on both lanes;
 * replaying the record costs the host next to nothing. Every operator must have run with the same
 * shapes before, and may not allocate. Pointers and host values are recorded as they are. begin
 * returns false where the backend cannot record: then nothing has changed. */
typedef struct DeviceGraph DeviceGraph;

bool device_capture_begin(Backend *be);
DeviceGraph *device_capture_end(Backend *be);
void device_graph_launch(Backend *be, DeviceGraph *graph);
void device_graph_close(Backend *be, DeviceGraph *graph); /* graph may be NULL */

/* What an operator had to do, counted from its shape: FLOPs of convolutions and matrix products (a
 * multiply-add is two; 0 for the others), and the bytes of every tensor it had to read or write. */
typedef struct {
    double flops, bytes;
    char shape[48]; /* for people */
} OpWork;

/* Told before and after every operator of ops.h that is called. */
typedef struct {
    void (*before)(void *user);
    void (*after)(void *user, const char *op, const OpWork *work);
    void *user;
    bool one_lane; /* everything runs on lane 0, so that what lies between two events is one
                      operator's. Memory that operators keep for lane 1 is not taken then. */
} ProfileHook;

/* From now on hook, which is borrowed, is told; NULL: nobody. Not between fork and join. */
void device_profile(Backend *be, const ProfileHook *hook);

/* How one picture of a batch is cut out of its stored pixels. */
typedef struct {
    int64_t offset;        /* of its first byte in the batch's pixel buffer; 8-bit RGB [H,W,3] */
    int32_t width, height; /* as stored, >= 1 */
    int32_t top, left;     /* of the crop, in the resized picture */
    int32_t flip;          /* 1: mirrored left to right, after the crop */
    int32_t quarter_turns; /* 0..3 counter-clockwise, after the flip */
} AugmentItem;

/* State of the dynamic loss scale (Micikevicius et al., "Mixed precision training", 2018), in
 * device memory: losses are multiplied by `scale` before their gradients are taken in fp16. */
typedef struct {
    float scale;
    int32_t good_steps; /* since the scale last changed */
    int32_t skipped;    /* steps of the run whose gradients overflowed; their update was left out */
    int32_t overflow;   /* 1: the last step was one of them */
} LossScale;

#define LOSS_SCALE_INITIAL  65536.0f
#define LOSS_SCALE_INTERVAL 2000 /* good steps after which the scale is doubled */
#define LOSS_SCALE_MAXIMUM  16777216.0f

#endif
