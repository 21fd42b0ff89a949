/* The emulator's own declarations: what its sources share. The runtime's interface is in include/.
 *
 * Every call of the runtime holds one lock, so the state below has one user at a time. */
#ifndef RODEO_EMULATOR_H
#define RODEO_EMULATOR_H

#include "cublas_v2.h"
#include "cudnn.h"

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace rodeo_emulator
{

/* ---- faults, random numbers, environment (state.cpp)
 * --------------------------------------------- */

/* Says what is wrong on stderr and aborts. */
[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says on stderr why a call is about to fail. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* xorshift64*, Vigna 2016. */
class Random
{
  public:
    explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u)
    {
        if (state == 0) {
            state = 1;
        }
    }
    uint32_t below(uint32_t count)
    {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        uint64_t high = (state * 0x2545f4914f6cdd1du) >> 32;
        return (uint32_t)((high * count) >> 32);
    }

  private:
    uint64_t state;
};

/* What lies before: of each stream, by its number, how many pieces of work. */
using Clock = std::vector<uint64_t>;

/* Where a piece of work stands. */
struct Position {
    size_t stream;
    Clock clock;
};

struct Work {
    std::string what; /* for messages: "kernel sgd", "cudaMemcpyAsync" */
    std::function<void()> run;
};

/* One recorded graph; its nodes are in the order in which they were captured, so a node's
 * dependencies have smaller numbers. */
struct Node {
    Work work;
    std::vector<size_t> dependencies;
};
using Nodes = std::vector<Node>;

struct Capture {
    Nodes nodes;
    CUstream_st *origin;
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    bool invalid = false;
    bool ended = false;
    std::vector<CUstream_st *> joined; /* the origin too */
};

struct EventState {
    uint64_t recorded = 0; /* how often it was enqueued, and how far execution has come */
    uint64_t completed = 0;
    bool timed = true;
    std::chrono::steady_clock::time_point time;
    std::shared_ptr<Capture> capture; /* where it was last recorded inside a capture */
    std::vector<size_t> tips;
    Clock clock;
};

struct Item {
    std::function<bool()> ready;
    std::function<bool()> step; /* runs some of it; true: finished */
};

struct Allocation {
    char *base; /* of the mapping */
    size_t mapped;
    size_t bytes;
    bool device;
};

struct State {
    std::recursive_mutex mutex;
    Random random;
    cudaError_t last_error = cudaSuccess;
    int major, minor;
    int code; /* that kernels are compiled for: 10 major + minor */
    size_t memory_limit, memory_used = 0;
    std::map<char *, Allocation> allocations; /* by the address that the user has */
    std::set<CUstream_st *> streams;          /* with the legacy one and those not yet drained */
    CUstream_st *legacy;
    size_t streams_made = 0;
    uint64_t graph_launches = 0;
    Clock host; /* what the host has waited for */
    std::vector<std::shared_ptr<Capture>> captures;
    std::map<std::string, long> live;                  /* what the user must destroy, by kind */
    std::chrono::steady_clock::duration time_shift{0}; /* of the device's clock */
    State();
};

/* Lives until the process ends. */
State &state();

/* Counts objects of one kind that the user must destroy, for the report at exit. */
void count_live(const char *kind, long change);

/* Remembers an error for cudaGetLastError and returns it. */
cudaError_t report(cudaError_t status);

using Lock = std::lock_guard<std::recursive_mutex>;

/* ---- memory (memory.cpp)
 * -------------------------------------------------------------------------- */

enum class Place { device, pinned, host, outside };

/* Where a range lies; outside: across the border of an allocation, or in freed device memory. */
Place place_of(const void *memory, size_t bytes);

/* Ends the program, naming `culprit`, if a guard zone was overwritten. */
void check_guards(const char *culprit);

/* While one of these exists, device memory can be accessed. The host faults on it at other times.
 */
class DeviceMemoryOpen
{
  public:
    DeviceMemoryOpen();
    ~DeviceMemoryOpen();
    DeviceMemoryOpen(const DeviceMemoryOpen &) = delete;
    DeviceMemoryOpen &operator=(const DeviceMemoryOpen &) = delete;
};

/* ---- streams and capture (stream.cpp, capture.cpp)
 * ------------------------------------------------ */

/* The stream, or NULL where the handle is not one. */
CUstream_st *find_stream(cudaStream_t handle);

/* Adds work to a stream's queue, or to the graph that is captured from it. */
cudaError_t enqueue(cudaStream_t handle, Work work);
void push(CUstream_st *stream, Item item);
cudaError_t capture_work(CUstream_st *stream, Work work);
cudaError_t capture_record(CUstream_st *stream, EventState &event);
cudaError_t capture_wait(CUstream_st *stream, EventState &event);

/* The error of a call that must not be made during a capture, which it invalidates; cudaSuccess
 * where nothing is captured that forbids it. */
cudaError_t refuse_unsafe_call(const char *call);
cudaError_t refuse_capturing(CUstream_st *stream, const char *call);

/* Runs queued work, in random order between streams, until done() or for `steps` steps. */
void run_until(const std::function<bool()> &done);
void run_some();
bool is_drained(const CUstream_st *stream);

/* The clock that events read: the host's, but for work whose duration is made up. */
std::chrono::steady_clock::time_point device_time();
void run_in(std::chrono::microseconds duration, const std::function<void()> &run);

/* ---- kernels (launch.cpp, block.cpp)
 * --------------------------------------------------------------- */

void run_grid(const std::string &name, dim3 grid, dim3 block, const Kernel &kernel);
std::string kernel_name(const void *kernel);

/* Kernel, block and thread that run, for messages. */
std::string running_position();

/* ---- races (races.cpp)
 * ----------------------------------------------------------------------------- */

void join(Clock &to, const Clock &from);

/* The place of the work that is added to a stream now: behind all that the host has waited for. */
Position advance(CUstream_st *stream);

/* A piece of work runs while one of these exists. From a graph: the number of the launch, the node,
 * and which of the graph's nodes lie before it. */
class Running
{
  public:
    Running(const std::string &what, const Position &position, uint64_t launch = 0, size_t node = 0,
            const std::vector<bool> *before = nullptr);
    ~Running();
    Running(const Running &) = delete;
    Running &operator=(const Running &) = delete;
};

/* Device and pinned memory that is to be watched, or no longer. */
void watch(const void *memory, size_t bytes, bool on);

/* An access that no instrumented code makes. */
enum class Touch { read, write };
void touch(const void *memory, size_t bytes, Touch how);

/* Where the kernel's code is. */
void begin_block(uint64_t number, const void *shared, size_t shared_bytes);
void enter_thread(int thread, uint64_t barriers, uint64_t syncs);
void leave_thread();
void pass_barriers(uint64_t barriers);
void pass_syncs(uint64_t syncs);

/* ---- convolution and matrix product in float (products.cpp)
 * ---------------------------------------- */

struct ConvSizes {
    int N, H, W, C, K, R, S, P, Q, pad_h, pad_w, stride_h, stride_w;
};

/* What floats are rounded to before they are multiplied. */
enum class Factors { exact, tf32, half };

/* How a convolution is computed. */
struct ConvManner {
    Factors factors = Factors::exact;
    bool backwards = false; /* sums run in the opposite order */
    bool coarse = false;    /* 3 bits of the result's mantissa are right */
    bool perturbed = false; /* its last bit is random */
};

/* y = alpha op(a, b) + beta y. Everything is in one type for the convolutions. */
void conv_forward(const ConvSizes &s, cudnnDataType_t type, const ConvManner &manner, float alpha,
                  const void *x, const void *w, float beta, void *y);
void conv_backward_data(const ConvSizes &s, cudnnDataType_t type, const ConvManner &manner,
                        float alpha, const void *w, const void *dy, float beta, void *dx);
void conv_backward_filter(const ConvSizes &s, cudnnDataType_t type, const ConvManner &manner,
                          float alpha, const void *x, const void *dy, float beta, void *dw);

struct GemmSizes {
    bool transa, transb;
    int m, n, k, lda, ldb, ldc;
};
void gemm(const GemmSizes &s, cudaDataType type, cudaDataType type_c, bool tf32, float alpha,
          const void *A, const void *B, float beta, void *C);

} // namespace rodeo_emulator

struct CUstream_st {
    std::deque<rodeo_emulator::Item> queue;
    bool destroyed = false;
    std::shared_ptr<rodeo_emulator::Capture> capture;
    std::vector<size_t> tips; /* the last nodes captured from it */
    size_t number = 0;        /* of all that were ever made */
    rodeo_emulator::Clock clock;
};

struct CUevent_st {
    std::shared_ptr<rodeo_emulator::EventState> state;
};

struct CUgraph_st {
    rodeo_emulator::Nodes nodes;
};

#endif
