/* Streams and events, capture and graphs. */
#include "harness.h"

__global__ static void add(float *y, float x)
{
    *y += x;
}

__global__ static void multiply(float *y, float x)
{
    *y *= x;
}

/* Ten times: one stream adds, the other multiplies, and so on in turns. */
static void take_turns(bool waits)
{
    Device d;
    cudaEvent_t added, multiplied;
    float result = -1;
    OK(cudaEventCreateWithFlags(&added, cudaEventDisableTiming));
    OK(cudaEventCreateWithFlags(&multiplied, cudaEventDisableTiming));
    OK(cudaMemsetAsync(d.a, 0, 4, d.stream));
    float expected = 0;
    for (int i = 0; i < 10; i++) {
        OK(launch(d.stream, 1, 1, add, d.a, 1.0f));
        OK(cudaEventRecord(added, d.stream));
        if (waits) {
            OK(cudaStreamWaitEvent(d.second, added));
        }
        OK(launch(d.second, 1, 1, multiply, d.a, 2.0f));
        OK(cudaEventRecord(multiplied, d.second));
        OK(cudaStreamWaitEvent(d.stream, multiplied));
        expected = 2 * (expected + 1);
    }
    OK(cudaMemcpyAsync(&result, d.a, 4, cudaMemcpyDeviceToHost, d.stream));
    OK(cudaEventDestroy(added));
    OK(cudaEventDestroy(multiplied));
    CHECK(result == expected);
}

/* Nothing runs before it is waited for; queries make progress. */
static void deferred()
{
    Device d;
    float *pinned;
    cudaEvent_t event;
    OK(cudaEventCreate(&event));
    OK(cudaMallocHost(&pinned, 4));
    *pinned = 5;
    OK(cudaMemsetAsync(d.a, 0, 4, d.stream));
    OK(launch(d.stream, 1, 1, add, d.a, 3.0f));
    OK(cudaMemcpyAsync(pinned, d.a, 4, cudaMemcpyDeviceToHost, d.stream));
    OK(cudaEventRecord(event, d.stream));
    CHECK(*pinned == 5);
    int queries = 0;
    while (cudaEventQuery(event) == cudaErrorNotReady) {
        queries++;
    }
    CHECK(*pinned == 3 && queries < 10);
    OK(cudaStreamQuery(d.stream));
    OK(cudaEventSynchronize(event));
    OK(cudaFreeHost(pinned));
    OK(cudaEventDestroy(event));
}

/* The other stream has its own work, which waiting for this one need not finish. */
static void waits_for_one_stream_only()
{
    Device d;
    OK(cudaMemsetAsync(d.a, 0, 4, d.second));
    for (int i = 0; i < 200; i++) {
        OK(launch(d.second, 1, 1, add, d.a, 1.0f));
    }
    OK(cudaMemsetAsync(d.b, 0, 4, d.stream));
    OK(cudaStreamSynchronize(d.stream));
    CHECK(cudaStreamQuery(d.second) == cudaErrorNotReady);
    OK(cudaDeviceSynchronize());
    OK(cudaStreamQuery(d.second));
}

void test_streams()
{
    CHECK(failures([] { take_turns(true); }, 20) == 0);
    CHECK(failures([] { take_turns(false); }, 20) >= 18);
    CHECK(failures(deferred, 10) == 0);
    CHECK(failures(waits_for_one_stream_only, 5) < 5);
    must_succeed([] {
        cudaStream_t stream;
        CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamDefault) == cudaErrorNotSupported);
        CHECK(cudaStreamSynchronize((cudaStream_t)&stream) == cudaErrorInvalidResourceHandle);
    });
}

/* ---- capture
 * ---------------------------------------------------------------------------------------- */

/* a += 1 in one stream; then b = 2 a beside a copy of a to b[1] in two; joined; a += b. */
static void fork_and_join(bool waits)
{
    Device d;
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    size_t nodes = 0;
    float y[2], start = 1;
    OK(cudaEventCreate(&fork));
    OK(cudaEventCreate(&join));
    OK(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal));
    OK(launch(d.stream, 1, 1, add, d.a, 1.0f));
    OK(cudaEventRecord(fork, d.stream));
    OK(cudaStreamWaitEvent(d.second, fork));
    OK(cudaMemcpyAsync(d.b, d.a, 4, cudaMemcpyDeviceToDevice, d.stream));
    OK(launch(d.second, 1, 1, multiply, d.b + 1, 3.0f));
    OK(launch(d.second, 1, 1, add, d.b + 1, 1.0f));
    OK(cudaEventRecord(join, d.second));
    if (waits) {
        OK(cudaStreamWaitEvent(d.stream, join));
    }
    OK(cudaMemcpyAsync(d.b + 2, d.b + 1, 4, cudaMemcpyDeviceToDevice, d.stream));
    if (!waits) {
        OK(cudaStreamWaitEvent(d.stream, join)); /* too late */
    }
    OK(cudaStreamEndCapture(d.stream, &graph));
    OK(cudaGraphGetNodes(graph, nullptr, &nodes));
    CHECK(nodes == 5);
    OK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    OK(cudaMemcpyAsync(d.a, &start, 4, cudaMemcpyHostToDevice, d.stream));
    OK(cudaMemcpyAsync(d.b + 1, &start, 4, cudaMemcpyHostToDevice, d.stream));
    OK(cudaGraphLaunch(exec, d.stream));
    OK(cudaGraphLaunch(exec, d.stream));
    OK(cudaMemcpyAsync(&y[0], d.b, 4, cudaMemcpyDeviceToHost, d.stream));
    OK(cudaMemcpyAsync(&y[1], d.b + 2, 4, cudaMemcpyDeviceToHost, d.stream));
    OK(cudaGraphExecDestroy(exec));
    OK(cudaEventDestroy(fork));
    OK(cudaEventDestroy(join));
    CHECK(y[0] == 3 && y[1] == 13);
}

/* Calls that must not be made in a capture, each of which invalidates it. */
static void misuse()
{
    Device d;
    cudaGraph_t graph;
    void *p;
    float host = 0;
    cudaEvent_t event;
    OK(cudaEventCreate(&event));
    const std::function<cudaError_t()> calls[] = {
        [&] { return cudaMalloc(&p, 4); },
        [&] { return cudaFree(nullptr); },
        [&] { return cudaMallocHost(&p, 4); },
        [&] { return cudaDeviceSynchronize(); },
        [&] { return cudaStreamSynchronize(d.stream); },
        [&] { return cudaStreamQuery(d.stream); },
        [&] { return cudaEventQuery(event); },
        [&] { return cudaMemcpy(&host, d.a, 4, cudaMemcpyDeviceToHost); },
        [&] { return cudaMemcpyAsync(&host, d.a, 4, cudaMemcpyDeviceToHost, d.stream); },
    };
    for (const auto &call : calls) {
        cudaStreamCaptureStatus status;
        OK(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal));
        CHECK(call() == cudaErrorStreamCaptureUnsupported);
        OK(cudaStreamIsCapturing(d.stream, &status));
        CHECK(status == cudaStreamCaptureStatusInvalidated);
        CHECK(launch(d.stream, 1, 1, add, d.a, 1.0f) == cudaErrorStreamCaptureInvalidated);
        CHECK(cudaStreamEndCapture(d.stream, &graph) == cudaErrorStreamCaptureInvalidated);
        CHECK(graph == nullptr);
        OK(cudaStreamIsCapturing(d.stream, &status));
        CHECK(status == cudaStreamCaptureStatusNone);
    }
    OK(cudaEventDestroy(event));
}

static void unjoined_and_isolated()
{
    Device d;
    cudaGraph_t graph;
    cudaEvent_t fork, outside;
    OK(cudaEventCreate(&fork));
    OK(cudaEventCreate(&outside));
    OK(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal));
    OK(launch(d.stream, 1, 1, add, d.a, 1.0f));
    OK(cudaEventRecord(fork, d.stream));
    OK(cudaStreamWaitEvent(d.second, fork));
    OK(launch(d.second, 1, 1, add, d.b, 1.0f));
    CHECK(cudaEventSynchronize(fork) == cudaErrorCapturedEvent);
    CHECK(cudaStreamEndCapture(d.stream, &graph) == cudaErrorStreamCaptureInvalidated);

    OK(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal));
    OK(launch(d.stream, 1, 1, add, d.a, 1.0f));
    OK(cudaEventRecord(fork, d.stream));
    OK(cudaStreamWaitEvent(d.second, fork));
    OK(launch(d.second, 1, 1, add, d.b, 1.0f));
    CHECK(cudaStreamEndCapture(d.stream, &graph) == cudaErrorStreamCaptureUnjoined);

    OK(cudaEventRecord(outside, d.second));
    OK(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal));
    CHECK(cudaStreamWaitEvent(d.stream, outside) == cudaErrorStreamCaptureIsolation);
    CHECK(cudaStreamEndCapture(d.stream, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(cudaStreamEndCapture(d.stream, &graph) == cudaErrorIllegalState);
    CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeThreadLocal) ==
          cudaErrorStreamCaptureUnsupported);
    OK(cudaEventDestroy(fork));
    OK(cudaEventDestroy(outside));
}

void test_capture()
{
    CHECK(failures([] { fork_and_join(true); }, 20) == 0);
    CHECK(failures([] { fork_and_join(false); }, 20) >= 5); /* half of the orders are wrong */
    must_succeed(misuse);
    must_succeed(unjoined_and_isolated);
}
