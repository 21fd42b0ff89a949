/* Finds accesses to the same byte that nothing orders, though at least one of them writes: between
 * the threads of a block without a barrier, between blocks of a launch, and between launches,
 * copies and library calls in streams without an event, a synchronisation or a graph's dependency.
 * The order that was drawn plays no part in it, nor do the values.
 *
 * g++ instruments the kernels as for its ThreadSanitizer; the functions that it calls are here in
 * that library's place. Each byte remembers its last write and two reads by different threads, as
 * in FastTrack (Flanagan, Freund, PLDI 2009); streams, events and the host have vector clocks. */
#include "emulator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <pthread.h>
#include <unordered_map>

namespace rodeo_emulator
{

/* ---- order between pieces of work
 * ----------------------------------------------------------------- */

void join(Clock &to, const Clock &from)
{
    to.resize(std::max(to.size(), from.size()));
    for (size_t i = 0; i < from.size(); i++) {
        to[i] = std::max(to[i], from[i]);
    }
}

Position advance(CUstream_st *stream)
{
    join(stream->clock, state().host);
    stream->clock.resize(std::max(stream->clock.size(), stream->number + 1));
    stream->clock[stream->number]++;
    return {stream->number, stream->clock};
}

/* A piece of work that has begun, for as long as some byte may remember it. */
struct Task {
    const std::string *what;
    size_t stream;
    uint64_t place; /* in its stream */
    uint64_t launch;
    size_t node;
};

/* What one access leaves behind. Numbers that do not fit begin anew, and everything is forgotten.
 */
struct Record {
    uint64_t task : 22;  /* from 1; for shared memory the block's run */
    uint64_t block : 10; /* its number's last bits: two blocks may look like one */
    uint64_t thread : 10;
    uint64_t barriers : 11; /* that the block has passed */
    uint64_t syncs : 10;    /* __syncwarp calls that the thread has passed */
    uint64_t atomic : 1;
};
static_assert(sizeof(Record) == 8, "three records a byte are much already");

struct Cell {
    Record written, read, read_too;
};

static const uintptr_t page_bytes = 4096;
static const uintptr_t word_bytes = 4;

/* Bytes of a word mostly have the same past, and then share a cell. */
struct Page {
    Cell word[page_bytes / word_bytes] = {};
    bool split[page_bytes / word_bytes] = {}; /* each of the word's bytes has a cell of its own */
    std::vector<Cell> byte;                   /* all of the page, once a word is split */
};

struct Races {
    bool watching = getenv("RODEO_EMULATOR_RACES") == nullptr ||
                    std::strcmp(getenv("RODEO_EMULATOR_RACES"), "0") != 0;
    std::set<std::string> names;
    std::vector<Task> tasks = std::vector<Task>(1); /* no record has the number 0 */
    /* the work that runs */
    const Position *position = nullptr;
    const std::vector<bool> *before = nullptr; /* of its graph's nodes; NULL: not from a graph */
    Record self = {};
    pthread_t runner = 0; /* the host's thread while it runs a kernel's code */
    uint32_t work = 0;    /* the work's number */
    struct {
        uint32_t work, task;
        bool ordered;
    } answers[256] = {};          /* of is_ordered, by task */
    const char *shared = nullptr; /* memory of the block that runs */
    size_t shared_bytes = 0;
    uint32_t block_runs = 0;
    /* those watched; empty: not accessed so far */
    std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
    struct {
        uintptr_t number;
        Page *page;
    } recent[1024] = {};
};

static Races &races()
{
    static Races *const only = new Races;
    return *only;
}

static const uint32_t task_limit = 1 << 22;
static const uint32_t barrier_limit = 1 << 11;
static const uint32_t sync_limit = 1 << 10;

static void forget()
{
    Races &r = races();
    for (auto &page : r.pages) {
        page.second.reset();
    }
    for (auto &entry : r.recent) {
        entry = {};
    }
}

Running::Running(const std::string &what, const Position &position, uint64_t launch, size_t node,
                 const std::vector<bool> *before)
{
    Races &r = races();
    if (r.tasks.size() == task_limit) {
        forget();
        r.tasks.resize(1);
    }
    r.tasks.push_back({&*r.names.insert(what).first, position.stream,
                       position.clock[position.stream], launch, node});
    r.position = &position;
    r.before = before;
    r.self = {};
    r.self.task = (uint32_t)r.tasks.size() - 1;
    r.work++;
}

Running::~Running()
{
    races().position = nullptr;
}

/* Whether a task lies before the one that runs. */
static bool is_ordered(uint32_t other)
{
    Races &r = races();
    auto &known = r.answers[other % 256];
    if (known.work != r.work || known.task != other) {
        const Task &task = r.tasks[other];
        const Clock &clock = r.position->clock;
        known = {r.work, other, task.stream < clock.size() && clock[task.stream] >= task.place};
        if (r.before != nullptr && task.launch == r.tasks.back().launch) {
            known.ordered = (*r.before)[task.node];
        }
    }
    return known.ordered;
}

/* ---- one access
 * ----------------------------------------------------------------------------------- */

static bool conflict(const Record &mine, const Record &other, bool shared)
{
    if (other.task == 0 || (mine.atomic && other.atomic)) {
        return false;
    }
    if (mine.task != other.task) {
        return !shared && !is_ordered(other.task);
    }
    if (mine.block != other.block) {
        return true;
    }
    bool same_warp = mine.thread / 32 == other.thread / 32;
    return mine.thread != other.thread && mine.barriers == other.barriers &&
           (!same_warp || mine.syncs == other.syncs);
}

/* How little orders two reads; 0: whatever comes after mine comes after the other. */
static int distance(const Record &mine, const Record &other, bool shared)
{
    if (other.task == 0) {
        return 0;
    }
    if (mine.task != other.task) {
        return shared || is_ordered(other.task) ? 0 : 4;
    }
    if (mine.block != other.block) {
        return 3;
    }
    if (mine.barriers != other.barriers) {
        return 0;
    }
    if (mine.thread / 32 != other.thread / 32) {
        return 2;
    }
    return mine.thread != other.thread && mine.syncs == other.syncs;
}

[[noreturn]] static void explain(const char *address, const Record &mine, bool writes,
                                 const Record &other, bool wrote, bool shared)
{
    Races &r = races();
    std::string memory = "shared memory";
    for (const auto &entry : state().allocations) {
        if (!shared && address >= entry.first && address < entry.first + entry.second.bytes) {
            memory = "byte " + std::to_string(address - entry.first) + " of an allocation of " +
                     std::to_string(entry.second.bytes) + " bytes";
        }
    }
    std::string who;
    if (!shared && mine.task != other.task) {
        who = *r.tasks[other.task].what;
    } else {
        who = mine.block != other.block
                  ? "another block of this launch"
                  : "thread " + std::to_string(other.thread) + " of this block";
    }
    std::string here = r.runner != 0 ? running_position() : *r.tasks.back().what;
    r.runner = 0;
    die("race: %s %s %s, which %s has %s; nothing orders the two", here.c_str(),
        writes ? "writes" : "reads", memory.c_str(), who.c_str(), wrote ? "written" : "read");
}

static void check_byte(Cell &cell, const char *address, const Record &mine, bool writes,
                       bool shared)
{
    if (conflict(mine, cell.written, shared)) {
        explain(address, mine, writes, cell.written, true, shared);
    }
    if (!writes) {
        /* Two readers that are as far apart as there are any: a later write meets one of them. */
        if (distance(mine, cell.read, shared) >= distance(mine, cell.read_too, shared)) {
            cell.read_too = cell.read;
        }
        cell.read = mine;
        return;
    }
    for (const Record *read : {&cell.read, &cell.read_too}) {
        if (conflict(mine, *read, shared)) {
            explain(address, mine, true, *read, false, shared);
        }
    }
    cell = {mine, {}, {}};
}

static bool same(const Cell &a, const Cell &b)
{
    return std::memcmp(&a, &b, sizeof a) == 0;
}

/* Whole words from *offset on that are not split and have the same past, and so the same future. */
static void check_words(Page &page, size_t *offset, size_t end, const char *address,
                        const Record &mine, bool writes, bool shared)
{
    size_t word = *offset / word_bytes;
    const Cell before = page.word[word];
    Cell after = before;
    check_byte(after, address, mine, writes, shared);
    do {
        page.word[word++] = after;
        *offset += word_bytes;
    } while (*offset + word_bytes <= end && !page.split[word] && same(page.word[word], before));
}

/* Bytes from *offset on of one word, which need not stay split afterwards. */
static void check_bytes(Page &page, size_t *offset, size_t end, const char *address,
                        const Record &mine, bool writes, bool shared)
{
    size_t word = *offset / word_bytes;
    page.byte.resize(page_bytes);
    Cell *cells = &page.byte[word * word_bytes];
    if (!page.split[word]) {
        std::fill(cells, cells + word_bytes, page.word[word]);
    }
    for (; *offset < std::min(end, (word + 1) * word_bytes); ++*offset) {
        check_byte(page.byte[*offset], address++, mine, writes, shared);
    }
    page.split[word] = !std::all_of(cells + 1, cells + word_bytes,
                                    [&](const Cell &cell) { return same(cell, cells[0]); });
    page.word[word] = cells[0];
}

static void check_page(Page &page, size_t offset, const char *address, size_t bytes,
                       const Record &mine, bool writes, bool shared)
{
    const char *start = address - offset;
    size_t end = offset + bytes;
    while (offset < end) {
        bool whole = offset % word_bytes == 0 && offset + word_bytes <= end;
        auto *check = whole && !page.split[offset / word_bytes] ? check_words : check_bytes;
        check(page, &offset, end, start + offset, mine, writes, shared);
    }
}

/* A page by its number, NULL where it is not watched. */
static Page *page_of(uintptr_t number)
{
    Races &r = races();
    auto &entry = r.recent[number % 1024];
    if (entry.number != number) {
        auto found = r.pages.find(number);
        if (found == r.pages.end()) {
            entry = {number, nullptr};
        } else {
            if (found->second == nullptr) {
                found->second = std::make_unique<Page>();
            }
            entry = {number, found->second.get()};
        }
    }
    return entry.page;
}

static void access(const void *memory, size_t bytes, bool writes, bool atomic)
{
    Races &r = races();
    const char *address = (const char *)memory;
    bool shared = address >= r.shared && address < r.shared + r.shared_bytes;
    Record mine = r.self;
    mine.atomic = atomic;
    if (shared) {
        mine.task = r.block_runs;
    }
    while (bytes > 0) {
        uintptr_t offset = (uintptr_t)address % page_bytes;
        size_t here = std::min(bytes, (size_t)(page_bytes - offset));
        Page *page = page_of((uintptr_t)address / page_bytes);
        if (page != nullptr) {
            check_page(*page, offset, address, here, mine, writes, shared);
        }
        address += here;
        bytes -= here;
    }
}

/* ---- what the rest of the emulator says
 * ----------------------------------------------------------- */

void watch(const void *memory, size_t bytes, bool on)
{
    Races &r = races();
    uintptr_t first = (uintptr_t)memory / page_bytes;
    uintptr_t last = ((uintptr_t)memory + bytes - 1) / page_bytes;
    for (uintptr_t page = first; r.watching && page <= last; page++) {
        if (on) {
            r.pages.emplace(page, nullptr);
        } else {
            r.pages.erase(page);
        }
        r.recent[page % 1024] = {};
    }
}

void touch(const void *memory, size_t bytes, Touch how)
{
    if (races().position != nullptr) {
        access(memory, bytes, how == Touch::write, false);
    }
}

void touch_atomic(const void *memory, size_t bytes)
{
    if (races().runner == pthread_self()) {
        access(memory, bytes, true, true);
    }
}

void begin_block(uint64_t number, const void *shared, size_t shared_bytes)
{
    Races &r = races();
    if (shared != r.shared || shared_bytes != r.shared_bytes) { /* the host's thread is another */
        if (r.shared_bytes > 0) {
            watch(r.shared, r.shared_bytes, false);
        }
        r.shared = (const char *)shared;
        r.shared_bytes = shared_bytes;
        if (shared_bytes > 0) {
            watch(shared, shared_bytes, true);
        }
    }
    if (++r.block_runs == task_limit) {
        forget();
        r.block_runs = 1;
    }
    r.self.block = number % 1024;
}

void enter_thread(int thread, uint64_t barriers, uint64_t syncs)
{
    Races &r = races();
    r.self.thread = (unsigned)thread & 1023;
    r.self.barriers = barriers % barrier_limit;
    r.self.syncs = syncs % sync_limit;
    r.runner = r.watching ? pthread_self() : 0;
}

void leave_thread()
{
    races().runner = 0;
}

void pass_barriers(uint64_t barriers)
{
    if (barriers % barrier_limit == 0) {
        forget();
    }
}

void pass_syncs(uint64_t syncs)
{
    if (syncs % sync_limit == 0) {
        forget();
    }
}

static inline void instrumented(const void *memory, size_t bytes, bool writes)
{
    if (races().runner == pthread_self()) {
        access(memory, bytes, writes, false);
    }
}

} // namespace rodeo_emulator

/* ---- what instrumented code calls
 * ----------------------------------------------------------------- */

#define RODEO_ACCESS(bytes)                                                                        \
    void __tsan_read##bytes(void *p);                                                              \
    void __tsan_write##bytes(void *p);                                                             \
    void __tsan_unaligned_read##bytes(void *p);                                                    \
    void __tsan_unaligned_write##bytes(void *p);                                                   \
    void __tsan_read##bytes(void *p)                                                               \
    {                                                                                              \
        rodeo_emulator::instrumented(p, bytes, false);                                             \
    }                                                                                              \
    void __tsan_write##bytes(void *p)                                                              \
    {                                                                                              \
        rodeo_emulator::instrumented(p, bytes, true);                                              \
    }                                                                                              \
    void __tsan_unaligned_read##bytes(void *p)                                                     \
    {                                                                                              \
        rodeo_emulator::instrumented(p, bytes, false);                                             \
    }                                                                                              \
    void __tsan_unaligned_write##bytes(void *p)                                                    \
    {                                                                                              \
        rodeo_emulator::instrumented(p, bytes, true);                                              \
    }

extern "C" {
RODEO_ACCESS(1)
RODEO_ACCESS(2)
RODEO_ACCESS(4)
RODEO_ACCESS(8)
RODEO_ACCESS(16)
void __tsan_read_range(void *p, long bytes);
void __tsan_write_range(void *p, long bytes);
void __tsan_init(void);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void *);
void __tsan_read_range(void *p, long bytes)
{
    rodeo_emulator::instrumented(p, (size_t)bytes, false);
}
void __tsan_write_range(void *p, long bytes)
{
    rodeo_emulator::instrumented(p, (size_t)bytes, true);
}
void __tsan_init(void)
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void *)
{
}
}
