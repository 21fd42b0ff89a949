/* Races, most of which leave the right values in every order. */
#include "harness.h"

/* All threads write one value: with one thread a launch there is nothing to find. */
__global__ static void write_one(float *y, float x)
{
    *y = x;
}

__global__ static void read_one(const float *x, float *y)
{
    y[blockIdx.x * blockDim.x + threadIdx.x] = *x;
}

/* Each thread reads its neighbour's zero before it writes its own. */
template <bool barrier> __global__ void clear_shared(float *y)
{
    __shared__ float row[64];
    int t = (int)threadIdx.x;
    row[t] = 0;
    if (barrier) {
        __syncthreads();
    }
    y[blockIdx.x * blockDim.x + threadIdx.x] = row[t ^ 32];
}

/* In place within a warp: every lane reads the first element, lane 0 writes it. */
template <bool sync> __global__ void less_first(float *y)
{
    float first = y[0];
    if (sync) {
        __syncwarp();
    }
    y[threadIdx.x] -= first;
}

/* Every thread of every block reads, then one of block 1 writes, behind its own block's readers. */
__global__ static void read_all_write_one(float *y)
{
    float first = y[0];
    __syncthreads();
    if (blockIdx.x == 1 && threadIdx.x == 0) {
        y[0] = first;
    }
}

/* Neighbours write parts of one word: each its own. */
template <typename Part> __global__ void write_parts(Part *y)
{
    y[threadIdx.x] = (Part)threadIdx.x;
}

/* One thread has a word, the other its last byte; one of them writes. */
template <bool word_is_written> __global__ void share_word(int *y, int *read)
{
    uint8_t *bytes = (uint8_t *)y;
    if (threadIdx.x == 0) {
        if (word_is_written) {
            *y = 1;
        } else {
            *read = *y;
        }
    } else if (word_is_written) {
        *read = bytes[3];
    } else {
        bytes[3] = 1;
    }
}

__global__ static void flag(int *y)
{
    atomicOr(y, 1);
}

/* Two threads write in turns, with as many barriers or __syncwarp calls in between as a record can
 * just not tell from none. */
template <bool barriers> __global__ void count_far(float *y)
{
    const int far = barriers ? 2048 : 1024;
    for (int i = 0; i <= 3 * far; i++) {
        if (i % far == 0 && (int)threadIdx.x == i / far % 2) {
            *y = (float)i;
        }
        if (barriers) {
            __syncthreads();
        } else {
            __syncwarp();
        }
    }
}

static bool is_found(const std::function<void(Device &)> &body)
{
    Outcome outcome = in_child([&] {
        Device d;
        OK(cudaMemsetAsync(d.a, 0, floats * sizeof(float), d.stream));
        OK(cudaStreamSynchronize(d.stream));
        body(d);
        OK(cudaDeviceSynchronize());
    });
    CHECK(outcome.status == 0 || outcome.says("race: "));
    return outcome.status != 0;
}

static void within_a_launch()
{
    CHECK(!is_found([](Device &d) { OK(launch(d.stream, 1, 1, write_one, d.a, 1.0f)); }));
    CHECK(is_found([](Device &d) { OK(launch(d.stream, 1, 2, write_one, d.a, 1.0f)); }));
    CHECK(is_found([](Device &d) { OK(launch(d.stream, 2, 1, write_one, d.a, 1.0f)); }));
    CHECK(is_found([](Device &d) { OK(launch(d.stream, 2, 64, read_one, d.a, d.a)); }));
    CHECK(!is_found([](Device &d) { OK(launch(d.stream, 2, 64, read_one, d.a, d.b)); }));
    CHECK(!is_found([](Device &d) { OK(launch(d.stream, 3, 64, clear_shared<true>, d.a)); }));
    CHECK(is_found([](Device &d) { OK(launch(d.stream, 1, 64, clear_shared<false>, d.a)); }));
    CHECK(!is_found([](Device &d) { OK(launch(d.stream, 1, 32, less_first<true>, d.a)); }));
    CHECK(is_found([](Device &d) { OK(launch(d.stream, 1, 32, less_first<false>, d.a)); }));
    CHECK(is_found([](Device &d) { OK(launch(d.stream, 1, 64, less_first<true>, d.a)); }));
    CHECK(!is_found([](Device &d) { OK(launch(d.stream, 3, 64, flag, (int *)d.a)); }));
    CHECK(!is_found([](Device &d) { OK(launch(d.stream, 1, 64, count_far<true>, d.a)); }));
    CHECK(!is_found([](Device &d) { OK(launch(d.stream, 1, 32, count_far<false>, d.a)); }));
}

static void within_a_word()
{
    CHECK(!is_found(
        [](Device &d) { OK(launch(d.stream, 1, 64, write_parts<uint8_t>, (uint8_t *)d.a)); }));
    CHECK(!is_found(
        [](Device &d) { OK(launch(d.stream, 1, 64, write_parts<uint16_t>, (uint16_t *)d.a)); }));
    auto written = [] {
        Device d;
        OK(launch(d.stream, 1, 2, share_word<true>, (int *)d.a, (int *)d.b));
        OK(cudaDeviceSynchronize());
    };
    auto read = [] {
        Device d;
        OK(cudaMemset(d.a, 0, 4));
        OK(cudaDeviceSynchronize());
        OK(launch(d.stream, 1, 2, share_word<false>, (int *)d.a, (int *)d.b));
        OK(cudaDeviceSynchronize());
    };
    CHECK(failures(written, 20) == 20);
    CHECK(failures(read, 20) == 20);
}

/* Many readers near the writer must not hide the one that races, in whatever order they run. */
static void readers_are_remembered()
{
    auto blocks = [] {
        Device d;
        OK(cudaMemset(d.a, 0, 4));
        OK(cudaDeviceSynchronize());
        OK(launch(d.stream, 2, 64, read_all_write_one, d.a));
    };
    auto streams = [] {
        Device d;
        OK(cudaMemset(d.a, 0, 4));
        OK(cudaDeviceSynchronize());
        OK(launch(d.second, 1, 1, read_one, d.a, d.b));
        OK(launch(d.stream, 1, 64, read_one, d.a, d.b + 64));
        OK(launch(d.stream, 1, 1, write_one, d.a, 0.0f));
    };
    CHECK(failures(blocks, 20) == 20);
    CHECK(failures(streams, 20) == 20);
}

enum class Order { none, event, host, stream };

/* A write in one stream, then one in another. */
static bool is_found_between(Order order, const std::function<void(Device &, cudaStream_t)> &then)
{
    return is_found([&](Device &d) {
        cudaEvent_t event;
        OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
        OK(launch(d.stream, 1, 1, write_one, d.a, 0.0f));
        OK(cudaEventRecord(event, d.stream));
        if (order == Order::event) {
            OK(cudaStreamWaitEvent(d.second, event));
        }
        if (order == Order::host) {
            OK(cudaEventSynchronize(event));
        }
        then(d, order == Order::stream ? d.stream : d.second);
        OK(cudaDeviceSynchronize());
        OK(cudaEventDestroy(event));
    });
}

static void between_streams()
{
    /* what is in order for one piece of work need not be for the next */
    auto behind_another = [] {
        Device d;
        OK(launch(d.stream, 1, 1, write_one, d.a, 0.0f));
        OK(launch(d.stream, 1, 1, read_one, d.a, d.b));
        OK(launch(d.second, 1, 1, read_one, d.a, d.b + 64));
        OK(cudaDeviceSynchronize());
    };
    CHECK(failures(behind_another, 20) == 20);
    const std::function<void(Device &, cudaStream_t)> later[] = {
        [](Device &d, cudaStream_t s) { OK(launch(s, 1, 1, write_one, d.a, 0.0f)); },
        [](Device &d, cudaStream_t s) { OK(launch(s, 1, 1, read_one, d.a, d.b)); },
        [](Device &d, cudaStream_t s) { OK(cudaMemsetAsync(d.a, 0, 64, s)); },
        [](Device &d, cudaStream_t s) {
            OK(cudaMemcpyAsync(d.b, d.a, 64, cudaMemcpyDeviceToDevice, s));
        },
    };
    for (const auto &then : later) {
        CHECK(is_found_between(Order::none, then));
        CHECK(!is_found_between(Order::event, then));
        CHECK(!is_found_between(Order::host, then));
        CHECK(!is_found_between(Order::stream, then));
    }
    CHECK(!is_found_between(Order::none, [](Device &d, cudaStream_t s) {
        OK(launch(s, 1, 1, write_one, d.a + 1, 0.0f));
    }));
}

/* In a graph: a write, and beside or after it a read; launched twice, the second time after a
 * write in the stream. */
static bool is_found_in_graph(bool waits)
{
    return is_found([waits](Device &d) {
        cudaEvent_t fork, written, join;
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        OK(cudaEventCreate(&fork));
        OK(cudaEventCreate(&written));
        OK(cudaEventCreate(&join));
        OK(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal));
        OK(cudaEventRecord(fork, d.stream));
        OK(cudaStreamWaitEvent(d.second, fork));
        OK(launch(d.stream, 1, 1, write_one, d.a, 0.0f));
        OK(cudaEventRecord(written, d.stream));
        if (waits) {
            OK(cudaStreamWaitEvent(d.second, written));
        }
        OK(launch(d.second, 1, 1, read_one, d.a, d.b));
        OK(cudaEventRecord(join, d.second));
        OK(cudaStreamWaitEvent(d.stream, join));
        OK(cudaStreamEndCapture(d.stream, &graph));
        OK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
        OK(cudaGraphLaunch(exec, d.stream));
        OK(launch(d.stream, 1, 1, write_one, d.b, 0.0f));
        OK(cudaGraphLaunch(exec, d.stream));
        OK(cudaDeviceSynchronize());
        OK(cudaGraphExecDestroy(exec));
        OK(cudaGraphDestroy(graph));
        OK(cudaEventDestroy(fork));
        OK(cudaEventDestroy(written));
        OK(cudaEventDestroy(join));
    });
}

void test_races()
{
#ifdef __SANITIZE_THREAD__
    within_a_launch();
    within_a_word();
    readers_are_remembered();
    between_streams();
    CHECK(!is_found_in_graph(true));
    CHECK(is_found_in_graph(false));
#else
    (void)within_a_launch;
    (void)readers_are_remembered;
    (void)between_streams;
    (void)is_found_in_graph;
    std::printf("  (this build does not watch what kernels access)\n");
#endif
}
