/* Stream capture and graphs: recorded work with its dependencies, replayed in random topological
 * order. */
#include "emulator.h"

#include <algorithm>

using namespace rodeo_emulator;

/* For each node, which nodes lie before it. */
using Ancestors = std::vector<std::vector<bool>>;

struct CUgraphExec_st {
    std::shared_ptr<const Nodes> nodes;
    std::shared_ptr<const Ancestors> ancestors;
    Clock clock; /* of the last launch */
    std::shared_ptr<uint64_t> finished; /* launches that have run */
    uint64_t launched = 0;
};

namespace rodeo_emulator
{

static cudaError_t invalidate(Capture &capture, const char *call)
{
    capture.invalid = true;
    complain("%s is not allowed while a stream is captured", call);
    return report(cudaErrorStreamCaptureUnsupported);
}

cudaError_t refuse_unsafe_call(const char *call)
{
    for (const auto &capture : state().captures) {
        bool forbids = capture->mode == cudaStreamCaptureModeGlobal ||
                       (capture->mode == cudaStreamCaptureModeThreadLocal &&
                        capture->thread == std::this_thread::get_id());
        if (forbids) {
            return invalidate(*capture, call);
        }
    }
    return cudaSuccess;
}

cudaError_t refuse_capturing(CUstream_st *stream, const char *call)
{
    return invalidate(*stream->capture, call);
}

static void add_tips(std::vector<size_t> &to, const std::vector<size_t> &from)
{
    for (size_t tip : from) {
        if (std::find(to.begin(), to.end(), tip) == to.end()) {
            to.push_back(tip);
        }
    }
}

cudaError_t capture_work(CUstream_st *stream, Work work)
{
    Capture &capture = *stream->capture;
    if (capture.invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    capture.nodes.push_back({std::move(work), stream->tips});
    stream->tips = {capture.nodes.size() - 1};
    return cudaSuccess;
}

cudaError_t capture_record(CUstream_st *stream, EventState &event)
{
    if (stream->capture->invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    event.capture = stream->capture;
    event.tips = stream->tips;
    return cudaSuccess;
}

cudaError_t capture_wait(CUstream_st *stream, EventState &event)
{
    if (!event.capture || event.capture->ended) {
        if (!stream->capture) {
            return cudaErrorCapturedEvent;
        }
        stream->capture->invalid = true;
        return cudaErrorStreamCaptureIsolation;
    }
    if (event.capture->invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    if (stream == state().legacy) {
        event.capture->invalid = true;
        return cudaErrorStreamCaptureImplicit;
    }
    if (stream->capture && stream->capture != event.capture) {
        event.capture->invalid = stream->capture->invalid = true;
        return cudaErrorStreamCaptureMerge;
    }
    if (!stream->capture) {
        stream->capture = event.capture;
        stream->tips.clear();
        stream->capture->joined.push_back(stream);
    }
    add_tips(stream->tips, event.tips);
    return cudaSuccess;
}

/* Whether everything captured lies before the origin's last nodes. */
static bool is_joined(const Capture &capture)
{
    std::vector<bool> before(capture.nodes.size());
    for (size_t tip : capture.origin->tips) {
        before[tip] = true;
    }
    for (size_t i = capture.nodes.size(); i-- > 0;) {
        for (size_t dependency : capture.nodes[i].dependencies) {
            before[dependency] = before[dependency] || before[i];
        }
    }
    return std::find(before.begin(), before.end(), false) == before.end();
}

static void end_capture(Capture &capture)
{
    capture.ended = true;
    for (CUstream_st *stream : capture.joined) {
        stream->capture.reset();
        stream->tips.clear();
    }
    auto &all = state().captures;
    all.erase(std::remove_if(all.begin(), all.end(), [](const auto &c) { return c->ended; }),
              all.end());
}

static Ancestors ancestors_of(const Nodes &nodes)
{
    Ancestors result(nodes.size(), std::vector<bool>(nodes.size()));
    for (size_t i = 0; i < nodes.size(); i++) {
        for (size_t dependency : nodes[i].dependencies) {
            for (size_t k = 0; k < dependency; k++) {
                result[i][k] = result[i][k] || result[dependency][k];
            }
            result[i][dependency] = true;
        }
    }
    return result;
}

/* One launch of a graph, which runs one node a step. */
struct Replay {
    std::shared_ptr<const Nodes> nodes;
    std::shared_ptr<const Ancestors> ancestors;
    Position position;
    uint64_t number; /* from 1 */
    std::vector<bool> done;
    size_t left = 0;

    /* Runs one node, drawn from those whose dependencies have run. Returns whether it was the last.
     */
    bool step()
    {
        std::vector<size_t> ready;
        for (size_t i = 0; i < nodes->size(); i++) {
            const std::vector<size_t> &needed = (*nodes)[i].dependencies;
            if (!done[i] &&
                std::all_of(needed.begin(), needed.end(), [this](size_t d) { return done[d]; })) {
                ready.push_back(i);
            }
        }
        if (!ready.empty()) {
            size_t chosen = ready[state().random.below((uint32_t)ready.size())];
            const Work &work = (*nodes)[chosen].work;
            Running running(work.what, position, number, chosen, &(*ancestors)[chosen]);
            work.run();
            check_guards(work.what.c_str());
            done[chosen] = true;
            left--;
        }
        return left == 0;
    }
};

} // namespace rodeo_emulator

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    if (stream == state().legacy) {
        return report(cudaErrorStreamCaptureUnsupported);
    }
    if (stream->capture) {
        return report(cudaErrorIllegalState);
    }
    auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->joined = {stream};
    stream->capture = capture;
    stream->tips.clear();
    state().captures.push_back(capture);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph)
{
    Lock lock(state().mutex);
    *graph = nullptr;
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    std::shared_ptr<Capture> capture = stream->capture;
    if (!capture) {
        return report(cudaErrorIllegalState);
    }
    if (capture->origin != stream) {
        capture->invalid = true;
        return report(cudaErrorStreamCaptureUnmatched);
    }
    if (capture->mode != cudaStreamCaptureModeRelaxed &&
        capture->thread != std::this_thread::get_id()) {
        return report(cudaErrorStreamCaptureWrongThread);
    }
    bool invalid = capture->invalid;
    bool joined = is_joined(*capture);
    end_capture(*capture);
    if (invalid) {
        return report(cudaErrorStreamCaptureInvalidated);
    }
    if (!joined) {
        complain("cudaStreamEndCapture: work that was forked off has not been joined again");
        return report(cudaErrorStreamCaptureUnjoined);
    }
    *graph = new CUgraph_st{std::move(capture->nodes)};
    count_live("graphs", 1);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *status)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    *status = !stream->capture           ? cudaStreamCaptureStatusNone
              : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    Lock lock(state().mutex);
    if (graph == nullptr) {
        return report(cudaErrorInvalidValue);
    }
    for (size_t i = 0; nodes != nullptr && i < *count; i++) {
        nodes[i] =
            i < graph->nodes.size() ? reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]) : nullptr;
    }
    *count = nodes == nullptr ? graph->nodes.size() : std::min(*count, graph->nodes.size());
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                          unsigned long long)
{
    Lock lock(state().mutex);
    if (graph == nullptr) {
        return report(cudaErrorInvalidValue);
    }
    *exec = new CUgraphExec_st{std::make_shared<const Nodes>(graph->nodes),
                               std::make_shared<const Ancestors>(ancestors_of(graph->nodes)),
                               {},
                               std::make_shared<uint64_t>(0)};
    count_live("executable graphs", 1);
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    Lock lock(state().mutex);
    return exec == nullptr || find_stream(stream) == nullptr ? report(cudaErrorInvalidValue)
                                                             : cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (exec == nullptr || stream == nullptr) {
        return report(cudaErrorInvalidValue);
    }
    if (stream->capture) {
        return refuse_capturing(stream, "cudaGraphLaunch (graphs in graphs are not emulated)");
    }
    auto replay = std::make_shared<Replay>();
    replay->nodes = exec->nodes;
    replay->ancestors = exec->ancestors;
    join(stream->clock, exec->clock);
    replay->position = advance(stream);
    replay->number = ++state().graph_launches;
    exec->clock = stream->clock;
    replay->done.resize(exec->nodes->size());
    replay->left = exec->nodes->size();
    uint64_t before = exec->launched++;
    std::shared_ptr<uint64_t> finished = exec->finished;
    /* A graph never runs beside itself, whatever streams it was launched in. */
    push(stream, {[finished, before] { return *finished == before; },
                  [replay, finished] {
                      bool last = replay->step();
                      *finished += last ? 1 : 0;
                      return last;
                  }});
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    Lock lock(state().mutex);
    if (exec == nullptr) {
        return report(cudaErrorInvalidValue);
    }
    delete exec;
    count_live("executable graphs", -1);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    Lock lock(state().mutex);
    if (graph == nullptr) {
        return report(cudaErrorInvalidValue);
    }
    delete graph;
    count_live("graphs", -1);
    return cudaSuccess;
}
