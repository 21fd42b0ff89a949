#include "kernels/cuda/async.h"

#include "base/mem.h"
#include "kernels/cuda/conv_plans.h"

#include <stdlib.h>

struct DeviceEvent {
    cudaEvent_t event;
};

struct DeviceGraph {
    cudaGraphExec_t exec;
};

/* ---- events ------------------------------------------------------------------------------------
 */

/* A waiting host sleeps: the cores belong to the threads that prepare pictures. */
static DeviceEvent *event_open(Backend *be)
{
    (void)be;
    DeviceEvent *event = mem_zeroed(1, sizeof *event);
    CUDA_CHECK(cudaEventCreateWithFlags(&event->event, cudaEventBlockingSync));
    return event;
}

static void event_close(Backend *be, DeviceEvent *event)
{
    (void)be;
    CUDA_CHECK(cudaEventDestroy(event->event));
    free(event);
}

static void event_record(Backend *be, DeviceEvent *event)
{
    CUDA_CHECK(cudaEventRecord(event->event, cuda_stream(be)));
    cuda_conv_plans_save(cuda_backend(be)->plans);
}

static void event_wait(Backend *be, DeviceEvent *event)
{
    (void)be;
    CUDA_CHECK(cudaEventSynchronize(event->event));
}

static double event_ms(Backend *be, const DeviceEvent *from, const DeviceEvent *to)
{
    (void)be;
    float ms = 0.0f;
    CUDA_CHECK(cudaEventElapsedTime(&ms, from->event, to->event));
    return (double)ms;
}

/* ---- lanes -------------------------------------------------------------------------------------
 */

/* What `to` gets from now on starts behind what `from` has got so far. */
static void order(CudaLane *from, CudaLane *to)
{
    CUDA_CHECK(cudaEventRecord(from->reached, from->stream));
    CUDA_CHECK(cudaStreamWaitEvent(to->stream, from->reached, 0));
}

static void lane_fork(Backend *be)
{
    CudaBackend *cuda = cuda_backend(be);
    for (int i = 1; i < DEVICE_LANES; i++) {
        order(&cuda->lanes[0], &cuda->lanes[i]);
    }
}

static void lane_choose(Backend *be, int lane)
{
    cuda_backend(be)->lane = lane;
}

static void lane_join(Backend *be)
{
    CudaBackend *cuda = cuda_backend(be);
    for (int i = 1; i < DEVICE_LANES; i++) {
        order(&cuda->lanes[i], &cuda->lanes[0]);
    }
    cuda->lane = 0;
}

/* ---- recorded steps ----------------------------------------------------------------------------
 */

/* Lane 1 is drawn into the record by the first fork. Other threads may go on using the device. */
static void capture_begin(Backend *be)
{
    CudaBackend *cuda = cuda_backend(be);
    CUDA_CHECK(cudaStreamBeginCapture(cuda->lanes[0].stream, cudaStreamCaptureModeThreadLocal));
    cuda->capturing = true;
    cuda->has_recorded = true;
}

static DeviceGraph *capture_end(Backend *be)
{
    CudaBackend *cuda = cuda_backend(be);
    cudaGraph_t record;
    CUDA_CHECK(cudaStreamEndCapture(cuda->lanes[0].stream, &record));
    cuda->capturing = false;
    DeviceGraph *graph = mem_zeroed(1, sizeof *graph);
    CUDA_CHECK(cudaGraphInstantiateWithFlags(&graph->exec, record, 0));
    CUDA_CHECK(cudaGraphDestroy(record));
    return graph;
}

static void graph_launch(Backend *be, DeviceGraph *graph)
{
    CUDA_CHECK(cudaGraphLaunch(graph->exec, cuda_stream(be)));
}

static void graph_close(Backend *be, DeviceGraph *graph)
{
    (void)be;
    CUDA_CHECK(cudaGraphExecDestroy(graph->exec));
    free(graph);
}

const AsyncTable cuda_async_table = {
    .event_open = event_open,
    .event_close = event_close,
    .event_record = event_record,
    .event_wait = event_wait,
    .event_ms = event_ms,
    .fork = lane_fork,
    .lane = lane_choose,
    .join = lane_join,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_close = graph_close,
};
