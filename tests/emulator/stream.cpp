/* Streams and events: queues of deferred work, run in a random interleaving. */
#include "emulator.h"

namespace rodeo_emulator
{

/* How often the streams' order of precedence is drawn anew. Between two draws a stream that can run
 * runs ahead of all those behind it, which is how a missing event wait shows. */
static const uint32_t steps_between_orders = 16;

CUstream_st *find_stream(cudaStream_t handle)
{
    State &s = state();
    if (handle == nullptr || handle == cudaStreamLegacy) {
        return s.legacy;
    }
    auto found = s.streams.find(handle);
    return found == s.streams.end() || (*found)->destroyed ? nullptr : handle;
}

void push(CUstream_st *stream, Item item)
{
    stream->queue.push_back(std::move(item));
}

cudaError_t enqueue(cudaStream_t handle, Work work)
{
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr) {
        complain("%s: the stream is not one, or was destroyed", work.what.c_str());
        return report(cudaErrorInvalidResourceHandle);
    }
    if (stream->capture) {
        return report(capture_work(stream, std::move(work)));
    }
    push(stream, {[] { return true; },
                  [work, at = advance(stream)] {
                      Running running(work.what, at);
                      work.run();
                      check_guards(work.what.c_str());
                      return true;
                  }});
    return cudaSuccess;
}

std::chrono::steady_clock::time_point device_time()
{
    return std::chrono::steady_clock::now() + state().time_shift;
}

void run_in(std::chrono::microseconds duration, const std::function<void()> &run)
{
    auto end = device_time() + duration;
    run();
    state().time_shift += end - device_time();
}

bool is_drained(const CUstream_st *stream)
{
    return stream->queue.empty();
}

/* Runs one step of a stream; forgets the stream if that was its last and the user destroyed it. */
static void step(CUstream_st *stream)
{
    if (stream->queue.front().step()) {
        stream->queue.pop_front();
    }
    if (stream->destroyed && stream->queue.empty()) {
        state().streams.erase(stream);
        delete stream;
    }
}

/* The streams that can go on. */
static std::vector<CUstream_st *> runnable()
{
    std::vector<CUstream_st *> streams;
    for (CUstream_st *stream : state().streams) {
        if (!stream->queue.empty() && stream->queue.front().ready()) {
            streams.push_back(stream);
        }
    }
    return streams;
}

void run_until(const std::function<bool()> &done)
{
    DeviceMemoryOpen open;
    Random &random = state().random;
    CUstream_st *favourite = nullptr;
    while (!done()) {
        std::vector<CUstream_st *> streams = runnable();
        if (streams.empty()) {
            die("nothing can run, and what is waited for has not happened");
        }
        bool is_there = false;
        for (CUstream_st *stream : streams) {
            is_there = is_there || stream == favourite;
        }
        if (!is_there || random.below(steps_between_orders) == 0) {
            favourite = streams[random.below((uint32_t)streams.size())];
        }
        step(favourite);
    }
}

void run_some()
{
    DeviceMemoryOpen open;
    Random &random = state().random;
    for (uint32_t steps = 1 + random.below(4); steps > 0; steps--) {
        std::vector<CUstream_st *> streams = runnable();
        if (streams.empty()) {
            return;
        }
        step(streams[random.below((uint32_t)streams.size())]);
    }
}

static bool all_drained()
{
    for (const CUstream_st *stream : state().streams) {
        if (!stream->queue.empty()) {
            return false;
        }
    }
    return true;
}

} // namespace rodeo_emulator

using namespace rodeo_emulator;

cudaError_t cudaDeviceSynchronize(void)
{
    Lock lock(state().mutex);
    cudaError_t status = refuse_unsafe_call("a call that waits for the device");
    if (status != cudaSuccess) {
        return status;
    }
    DeviceMemoryOpen open;
    run_until(all_drained);
    check_guards("cudaDeviceSynchronize");
    for (const CUstream_st *stream : state().streams) {
        join(state().host, stream->clock);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    Lock lock(state().mutex);
    if (flags != cudaStreamNonBlocking) {
        complain("only cudaStreamNonBlocking streams are emulated");
        return report(cudaErrorNotSupported);
    }
    *stream = new CUstream_st;
    (*stream)->number = ++state().streams_made;
    state().streams.insert(*stream);
    count_live("streams", 1);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int)
{
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr || stream == state().legacy) {
        return report(cudaErrorInvalidResourceHandle);
    }
    if (stream->capture) {
        return refuse_capturing(stream, "cudaStreamDestroy");
    }
    count_live("streams", -1);
    stream->destroyed = true;
    if (stream->queue.empty()) {
        state().streams.erase(stream);
        delete stream;
    }
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    if (stream->capture) {
        return refuse_capturing(stream, "cudaStreamSynchronize");
    }
    DeviceMemoryOpen open;
    run_until([stream] { return is_drained(stream); });
    check_guards("cudaStreamSynchronize");
    join(state().host, stream->clock);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    if (stream->capture) {
        return refuse_capturing(stream, "cudaStreamQuery");
    }
    run_some();
    if (!is_drained(stream)) {
        return cudaErrorNotReady;
    }
    join(state().host, stream->clock);
    return cudaSuccess;
}

static bool is_complete(const EventState &event)
{
    return event.completed >= event.recorded;
}

/* The error of waiting for, or asking about, an event that was recorded in a capture. */
static cudaError_t refuse_captured(EventState &event, const char *call)
{
    if (!event.capture) {
        return cudaSuccess;
    }
    if (!event.capture->ended) {
        event.capture->invalid = true;
    }
    complain("%s: the event was last recorded inside a capture", call);
    return report(cudaErrorCapturedEvent);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    Lock lock(state().mutex);
    *event = new CUevent_st{std::make_shared<EventState>()};
    (*event)->state->timed = (flags & cudaEventDisableTiming) == 0;
    count_live("events", 1);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    Lock lock(state().mutex);
    if (event == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    delete event;
    count_live("events", -1);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr || event == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    if (stream->capture) {
        return report(capture_record(stream, *event->state));
    }
    std::shared_ptr<EventState> e = event->state;
    e->capture.reset();
    uint64_t ticket = ++e->recorded;
    e->clock = advance(stream).clock;
    push(stream, {[] { return true; },
                  [e, ticket] {
                      e->completed = ticket > e->completed ? ticket : e->completed;
                      e->time = device_time();
                      return true;
                  }});
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned int)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr || event == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    std::shared_ptr<EventState> e = event->state;
    if (stream->capture || e->capture) {
        return report(capture_wait(stream, *e));
    }
    uint64_t ticket = e->recorded;
    join(stream->clock, e->clock);
    push(stream, {[e, ticket] { return e->completed >= ticket; }, [] { return true; }});
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    Lock lock(state().mutex);
    std::shared_ptr<EventState> e = event->state;
    cudaError_t status = refuse_captured(*e, "cudaEventSynchronize");
    if (status != cudaSuccess) {
        return status;
    }
    DeviceMemoryOpen open;
    run_until([e] { return is_complete(*e); });
    check_guards("cudaEventSynchronize");
    join(state().host, e->clock);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    Lock lock(state().mutex);
    cudaError_t status = refuse_captured(*event->state, "cudaEventQuery");
    if (status == cudaSuccess) {
        status = refuse_unsafe_call("cudaEventQuery");
    }
    if (status != cudaSuccess) {
        return status;
    }
    run_some();
    if (!is_complete(*event->state)) {
        return cudaErrorNotReady;
    }
    join(state().host, event->state->clock);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop)
{
    Lock lock(state().mutex);
    const EventState &a = *start->state;
    const EventState &b = *stop->state;
    if (!a.timed || !b.timed || a.recorded == 0 || b.recorded == 0) {
        return report(cudaErrorInvalidResourceHandle);
    }
    if (!is_complete(a) || !is_complete(b)) {
        return cudaErrorNotReady;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(b.time - a.time).count();
    return cudaSuccess;
}
