/* Runs the blocks of a grid one after the other, each thread of a block as a fiber.
 *
 * A thread runs until it meets a barrier or a warp primitive, or ends; which thread is next is
 * drawn anew each time. A fiber whose thread has ended goes on with another thread that has not
 * begun, so kernels without barriers cost no switches. */
#include "emulator.h"

#include <boost/context/fiber.hpp>
#include <link.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define RODEO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RODEO_ASAN 1
#endif
/* clang links its sanitizers into the program, whose thread-local storage is then theirs too. */
#if __has_feature(address_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define RODEO_KEEP_SHARED 1
#endif
#endif
#ifdef RODEO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace rodeo_emulator
{

static const size_t stack_bytes = 256 << 10;
static const size_t page_bytes = 4096;

enum class Phase { fresh, running, barrier, exchange, ended };

struct Worker {
    boost::context::fiber fiber;
    void *stack; /* lowest address, above its guard page */
};

struct Thread {
    Phase phase = Phase::fresh;
    Worker *worker = nullptr;
    Exchange kind = Exchange::sync;
    unsigned mask = 0;
    uint64_t bits = 0;
    int source = 0;
    void (*all)(void *const lanes[32]) = nullptr; /* of warp_together */
    uint64_t result = 0;
    uint64_t syncs = 0; /* __syncwarp calls passed */
};

/* The block that runs. */
struct Block {
    std::string name; /* of the kernel */
    const Kernel *kernel = nullptr;
    int count = 0; /* threads */
    int ended = 0, at_barrier = 0;
    uint64_t barriers = 0;      /* passed */
    int votes = 0, outcome = 0; /* of __syncthreads_count, before and after the barrier */
    std::vector<Thread> threads;
    std::vector<int> queue; /* those that can run */
    int current = 0;
    std::vector<Worker *> idle;
    boost::context::fiber scheduler; /* while a fiber runs */
    const void *scheduler_stack = nullptr;
    size_t scheduler_stack_bytes = 0;
};

static Block &block()
{
    static Block *const only = new Block;
    return *only;
}

static uint3 index_of(int thread)
{
    unsigned t = (unsigned)thread;
    return make_uint3(t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y);
}

static std::string position(int thread)
{
    uint3 t = index_of(thread);
    char text[256];
    std::snprintf(text, sizeof(text), "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)",
                  block().name.c_str(), blockIdx.x, blockIdx.y, blockIdx.z, t.x, t.y, t.z);
    return text;
}

std::string running_position()
{
    return position(block().current);
}

/* ---- switching between the scheduler and fibers
 * --------------------------------------------------- */

static void leave_for(const void *stack, size_t bytes, void **fake_stack)
{
#ifdef RODEO_ASAN
    __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
#else
    (void)stack;
    (void)bytes;
    (void)fake_stack;
#endif
}

static void arrive_from(void *fake_stack, const void **stack, size_t *bytes)
{
#ifdef RODEO_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, stack, bytes);
#else
    (void)fake_stack;
    (void)stack;
    (void)bytes;
#endif
}

/* From the thread that runs to the scheduler; returns when the thread is to go on. */
static void suspend()
{
    Block &b = block();
    void *fake_stack = nullptr;
    leave_thread();
    leave_for(b.scheduler_stack, b.scheduler_stack_bytes, &fake_stack);
    b.scheduler = std::move(b.scheduler).resume();
    arrive_from(fake_stack, &b.scheduler_stack, &b.scheduler_stack_bytes);
}

static void make_current(int thread)
{
    const Block &b = block();
    block().current = thread;
    threadIdx = index_of(thread);
    enter_thread(thread, b.barriers, b.threads[(size_t)thread].syncs);
}

static int draw()
{
    std::vector<int> &queue = block().queue;
    uint32_t place = state().random.below((uint32_t)queue.size());
    int thread = queue[place];
    queue[place] = queue.back();
    queue.pop_back();
    return thread;
}

/* What a fiber does: one thread after the other, for ever. */
static void work(Worker *self)
{
    Block &b = block();
    for (;;) {
        b.threads[(size_t)b.current].phase = Phase::running;
        (*b.kernel)();
        b.threads[(size_t)b.current].phase = Phase::ended;
        b.ended++;
        if (!b.queue.empty()) {
            int next = draw();
            if (b.threads[(size_t)next].phase == Phase::fresh) {
                b.threads[(size_t)next].worker = self;
                make_current(next);
                continue;
            }
            b.queue.push_back(next);
        }
        b.idle.push_back(self);
        suspend();
    }
}

static Worker *new_worker()
{
    size_t mapped = stack_bytes + page_bytes;
    void *base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED || mprotect(base, page_bytes, PROT_NONE) != 0) {
        die("no memory for the stack of a thread");
    }
    Worker *worker = new Worker;
    worker->stack = (char *)base + page_bytes;
    /* Workers are reused and never destroyed: nothing ever frees their stacks. */
    struct Keep {
        void deallocate(boost::context::stack_context &)
        {
        }
    };
    boost::context::stack_context context;
    context.size = stack_bytes;
    context.sp = (char *)worker->stack + stack_bytes;
    worker->fiber = boost::context::fiber(
        std::allocator_arg, boost::context::preallocated(context.sp, context.size, context), Keep{},
        [worker](boost::context::fiber &&scheduler) {
            Block &b = block();
            arrive_from(nullptr, &b.scheduler_stack, &b.scheduler_stack_bytes);
            b.scheduler = std::move(scheduler);
            work(worker);
            return boost::context::fiber();
        });
    return worker;
}

/* Runs a thread until it waits or its fiber runs out of threads. */
static void resume(int thread)
{
    Block &b = block();
    Thread &t = b.threads[(size_t)thread];
    if (t.phase == Phase::fresh) {
        if (b.idle.empty()) {
            b.idle.push_back(new_worker());
        }
        t.worker = b.idle.back();
        b.idle.pop_back();
    }
    make_current(thread);
    Worker *worker = t.worker;
    void *fake_stack = nullptr;
    leave_for(worker->stack, stack_bytes, &fake_stack);
    boost::context::fiber back = std::move(worker->fiber).resume();
    arrive_from(fake_stack, nullptr, nullptr);
    /* The fiber that came back is that of the thread that is current by this time. */
    b.threads[(size_t)b.current].worker->fiber = std::move(back);
}

/* ---- barriers and warp primitives
 * ------------------------------------------------------------------ */

int lane()
{
    return block().current % 32;
}

void die_in_kernel(const char *what)
{
    die("%s: %s", position(block().current).c_str(), what);
}

void require_code(int least)
{
    if (state().code < least) {
        die("%s: an instruction that code for compute capability %.1f does not have",
            position(block().current).c_str(), state().code / 10.0);
    }
}

void check_width(int width)
{
    if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
        die("%s: a shuffle of width %d", position(block().current).c_str(), width);
    }
}

static void run_together(int first)
{
    const Block &b = block();
    void *lanes[32];
    for (int i = 0; i < 32; i++) {
        lanes[i] = (void *)b.threads[(size_t)(first + i)].bits;
    }
    b.threads[(size_t)first].all(lanes);
}

/* Gives each lane of the mask its result and lets it go on. */
static void complete(int first, unsigned mask)
{
    Block &b = block();
    uint64_t ballot = 0;
    for (int i = 0; i < 32; i++) {
        if ((mask >> i & 1) != 0 && b.threads[(size_t)(first + i)].bits != 0) {
            ballot |= 1u << i;
        }
    }
    for (int i = 0; i < 32; i++) {
        if ((mask >> i & 1) == 0) {
            continue;
        }
        Thread &t = b.threads[(size_t)(first + i)];
        switch (t.kind) {
        case Exchange::shuffle:
            t.result = b.threads[(size_t)(first + t.source)].bits;
            break;
        case Exchange::ballot:
            t.result = ballot;
            break;
        case Exchange::any:
            t.result = ballot != 0;
            break;
        case Exchange::all:
            t.result = ballot == mask;
            break;
        case Exchange::sync:
            pass_syncs(++t.syncs);
            break;
        case Exchange::together:
            break;
        }
        t.phase = Phase::running;
        b.queue.push_back(first + i);
    }
}

static bool have_all_arrived(int first, const Thread &asking)
{
    const Block &b = block();
    for (int i = 0; i < 32; i++) {
        if ((asking.mask >> i & 1) == 0) {
            continue;
        }
        if (first + i >= b.count) {
            return false;
        }
        const Thread &t = b.threads[(size_t)(first + i)];
        if (t.phase != Phase::exchange || t.kind != asking.kind || t.mask != asking.mask ||
            (t.kind == Exchange::together && t.all != asking.all)) {
            return false;
        }
    }
    return true;
}

uint64_t warp_exchange(Exchange kind, unsigned mask, uint64_t bits, int source)
{
    Block &b = block();
    int self = b.current;
    Thread &t = b.threads[(size_t)self];
    int lane = self % 32;
    if ((mask >> lane & 1) == 0) {
        die("%s: a warp primitive whose mask 0x%08x leaves out the calling lane %d",
            position(self).c_str(), mask, lane);
    }
    if (kind == Exchange::shuffle && (mask >> source & 1) == 0) {
        die("%s: a shuffle reads lane %d, which is not in its mask 0x%08x", position(self).c_str(),
            source, mask);
    }
    t.phase = Phase::exchange;
    t.kind = kind;
    t.mask = mask;
    t.bits = bits;
    t.source = source;
    if (have_all_arrived(self - lane, t)) {
        if (kind == Exchange::together) {
            run_together(self - lane);
        }
        complete(self - lane, mask);
    }
    suspend();
    return t.result;
}

void warp_together(void *own, void (*all)(void *const lanes[32]))
{
    block().threads[(size_t)block().current].all = all;
    warp_exchange(Exchange::together, 0xffffffffu, (uint64_t)own, 0);
}

/* ---- blocks and grids
 * ------------------------------------------------------------------------------- */

/* Explains why no thread of the block can go on. */
[[noreturn]] static void explain_stuck()
{
    const Block &b = block();
    for (int i = 0; i < b.count; i++) {
        const Thread &t = b.threads[(size_t)i];
        if (t.phase == Phase::exchange) {
            die("%s waits in a warp primitive with mask 0x%08x for lanes that do not come: %d "
                "threads "
                "of the block have ended, %d are at a barrier",
                position(i).c_str(), t.mask, b.ended, b.at_barrier);
        }
    }
    int waiting = 0;
    while (b.threads[(size_t)waiting].phase != Phase::barrier) {
        waiting++;
    }
    die("%s waits at __syncthreads, which %d of the block's %d threads have ended without reaching",
        position(waiting).c_str(), b.ended, b.count);
}

static void release_barrier()
{
    Block &b = block();
    b.at_barrier = 0;
    pass_barriers(++b.barriers);
    b.outcome = b.votes;
    b.votes = 0;
    for (int i = 0; i < b.count; i++) {
        b.threads[(size_t)i].phase = Phase::running;
        b.queue.push_back(i);
    }
}

static void run_block()
{
    Block &b = block();
    b.ended = b.at_barrier = b.votes = 0;
    b.barriers = 0;
    b.threads.assign((size_t)b.count, Thread());
    for (int i = 0; i < b.count; i++) {
        b.queue.push_back(i);
    }
    while (b.ended < b.count) {
        while (!b.queue.empty()) {
            resume(draw());
        }
        if (b.at_barrier == b.count) {
            release_barrier();
        } else if (b.ended < b.count) {
            explain_stuck();
        }
    }
}

/* The program's thread-local storage: all of the kernels' shared memory, and whatever else the
 * program declares thread-local, which is put back after the kernel. */
struct Range {
    char *start;
    size_t bytes;
};

static int find_storage(dl_phdr_info *info, size_t, void *result)
{
    Range *range = (Range *)result;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            *range = {(char *)info->dlpi_tls_data, info->dlpi_phdr[i].p_memsz};
        }
    }
    return 1; /* the first one is the program */
}

static Range shared_memory()
{
    Range range = {nullptr, 0};
#ifndef RODEO_KEEP_SHARED
    dl_iterate_phdr(find_storage, &range);
#else
    (void)find_storage;
#endif
    return range;
}

void run_grid(const std::string &name, dim3 grid, dim3 size, const Kernel &kernel)
{
    Block &b = block();
    b.name = name;
    b.kernel = &kernel;
    b.count = (int)(size.x * size.y * size.z);
    gridDim = grid;
    blockDim = size;
    std::vector<uint64_t> order((size_t)grid.x * grid.y * grid.z);
    for (size_t i = 0; i < order.size(); i++) {
        order[i] = i;
    }
    Range shared = shared_memory();
    std::vector<char> kept(shared.start, shared.start + shared.bytes);
    for (size_t left = order.size(); left > 0; left--) {
        size_t place = state().random.below((uint32_t)left);
        uint64_t i = order[place];
        order[place] = order[left - 1];
        blockIdx = make_uint3((unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y),
                              (unsigned)(i / grid.x / grid.y));
        if (shared.bytes > 0) {
            std::memset(shared.start, 0xFF, shared.bytes);
        }
        begin_block(i, shared.start, shared.bytes);
        run_block();
    }
    if (shared.bytes > 0) {
        std::memcpy(shared.start, kept.data(), shared.bytes);
    }
}

} // namespace rodeo_emulator

int __syncthreads_count(int predicate)
{
    using namespace rodeo_emulator;
    Block &b = block();
    b.threads[(size_t)b.current].phase = Phase::barrier;
    b.at_barrier++;
    b.votes += predicate != 0;
    suspend();
    return b.outcome;
}

void __syncthreads()
{
    __syncthreads_count(0);
}

int __syncthreads_or(int predicate)
{
    return __syncthreads_count(predicate) != 0;
}

int __syncthreads_and(int predicate)
{
    return __syncthreads_count(predicate) == rodeo_emulator::block().count;
}
