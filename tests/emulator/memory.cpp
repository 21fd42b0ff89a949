/* Device and pinned memory: guard zones, a limit, addresses that are never used twice, and access
 * for the host only while work runs. */
#include "emulator.h"

#include <csignal>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define RODEO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RODEO_ASAN 1
#endif
#endif
#ifdef RODEO_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace rodeo_emulator
{

static const size_t page = 4096;
static const size_t front = page + 256; /* so that addresses are multiples of 256 and not of 512 */
static const size_t guard = 256;        /* bytes of it that are checked, on either side */
static const size_t protected_bytes = 256 << 10;
static const unsigned char guard_byte = 0xA5;
static int open_count;

/* Ranges that were freed. Their addresses stay taken, so every later access faults. */
static std::map<char *, Allocation> freed;

static void fence(const Allocation &a, char *memory, bool on)
{
#ifdef RODEO_ASAN
    if (on) {
        __asan_poison_memory_region(a.base, (size_t)(memory - a.base));
        __asan_poison_memory_region(memory + a.bytes,
                                    (size_t)(a.base + a.mapped - (memory + a.bytes)));
    } else {
        __asan_unpoison_memory_region(a.base, a.mapped);
    }
#else
    (void)a;
    (void)memory;
    (void)on;
#endif
}

/* Only the beginning of a large allocation: changing the access of all its pages takes too long. */
static void protect(const Allocation &a, bool open)
{
    size_t bytes = a.mapped < protected_bytes ? a.mapped : protected_bytes;
    if (a.device && mprotect(a.base, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0) {
        die("mprotect failed");
    }
}

DeviceMemoryOpen::DeviceMemoryOpen()
{
    if (open_count++ == 0) {
        for (const auto &entry : state().allocations) {
            protect(entry.second, true);
        }
    }
}

DeviceMemoryOpen::~DeviceMemoryOpen()
{
    if (--open_count == 0) {
        for (const auto &entry : state().allocations) {
            protect(entry.second, false);
        }
    }
}

static const Allocation *holding(const std::map<char *, Allocation> &map, const char *p)
{
    for (const auto &entry : map) {
        if (p >= entry.second.base && p < entry.second.base + entry.second.mapped) {
            return &entry.second;
        }
    }
    return nullptr;
}

/* Says what a fault in device memory means, then lets it happen again without this handler. */
static void explain_fault(int signal_number, siginfo_t *info, void *)
{
    const char *p = (const char *)info->si_addr;
    if (const Allocation *a = holding(state().allocations, p)) {
        complain("fault: the host touched device memory (an allocation of %zu bytes)", a->bytes);
    } else if (const Allocation *f = holding(freed, p)) {
        complain("fault: an access to memory that was freed (%zu bytes)", f->bytes);
    }
    signal(signal_number, SIG_DFL);
}

static void watch_faults()
{
    static bool installed;
    if (installed) {
        return;
    }
    installed = true;
    struct sigaction action = {};
    action.sa_sigaction = explain_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
}

static cudaError_t allocate(void **memory, size_t bytes, bool device)
{
    State &s = state();
    *memory = nullptr;
    if (bytes == 0) {
        return cudaSuccess;
    }
    if (bytes > (1ULL << 46) || (device && bytes > s.memory_limit - s.memory_used)) {
        return report(cudaErrorMemoryAllocation);
    }
    watch_faults();
    Allocation a = {nullptr, (front + bytes + guard + page - 1) / page * page, bytes, device};
    void *base = mmap(nullptr, a.mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return report(cudaErrorMemoryAllocation);
    }
    a.base = (char *)base;
    char *start = a.base + front;
    std::memset(start - guard, guard_byte, guard);
    std::memset(start, 0xFF, bytes);
    std::memset(start + bytes, guard_byte, guard);
    fence(a, start, true);
    if (open_count == 0) {
        protect(a, false);
    }
    watch(start, bytes, true);
    s.allocations[start] = a;
    s.memory_used += device ? bytes : 0;
    *memory = start;
    return cudaSuccess;
}

__attribute__((no_sanitize("address"))) static bool is_intact(const char *p)
{
    const volatile unsigned char *byte = (const volatile unsigned char *)p;
    unsigned char difference = 0;
    for (size_t i = 0; i < guard; i++) {
        difference |= (unsigned char)(byte[i] ^ guard_byte);
    }
    return difference == 0;
}

void check_guards(const char *culprit)
{
    DeviceMemoryOpen open;
    for (const auto &entry : state().allocations) {
        const Allocation &a = entry.second;
        bool before = is_intact(entry.first - guard);
        if (!before || !is_intact(entry.first + a.bytes)) {
            die("a write %s an allocation of %zu bytes of %s memory, found after %s",
                before ? "behind" : "before", a.bytes, a.device ? "device" : "pinned", culprit);
        }
    }
}

static cudaError_t release(void *memory, bool device)
{
    State &s = state();
    if (memory == nullptr) {
        return cudaSuccess;
    }
    auto found = s.allocations.find((char *)memory);
    if (found == s.allocations.end() || found->second.device != device) {
        complain("freed: a pointer that is not of this kind of allocation, or was freed already");
        return report(device ? cudaErrorInvalidValue : cudaErrorInvalidHostPointer);
    }
    Allocation a = found->second;
    check_guards("everything up to its being freed");
    fence(a, found->first, false);
    watch(found->first, a.bytes, false);
    s.allocations.erase(found);
    s.memory_used -= device ? a.bytes : 0;
    if (mmap(a.base, a.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
             -1, 0) == MAP_FAILED) {
        die("mmap failed");
    }
    freed[a.base] = a;
    return cudaSuccess;
}

Place place_of(const void *memory, size_t bytes)
{
    const char *p = (const char *)memory;
    for (const auto *map : {&state().allocations, &freed}) {
        for (const auto &entry : *map) {
            const Allocation &a = entry.second;
            if (p + bytes <= a.base || p >= a.base + a.mapped) {
                continue;
            }
            bool inside = map != &freed && p >= entry.first && p + bytes <= entry.first + a.bytes;
            return !inside ? Place::outside : a.device ? Place::device : Place::pinned;
        }
    }
    return Place::host;
}

static cudaError_t check_copy(const char *call, const void *to, const void *from, size_t bytes,
                              cudaMemcpyKind kind, Place *to_place, Place *from_place)
{
    *to_place = place_of(to, bytes);
    *from_place = place_of(from, bytes);
    if (*to_place == Place::outside || *from_place == Place::outside) {
        complain("%s: %zu bytes %s are not inside one allocation", call, bytes,
                 *to_place == Place::outside ? "to" : "from");
        return report(cudaErrorInvalidValue);
    }
    bool to_device = *to_place == Place::device;
    bool from_device = *from_place == Place::device;
    const bool expected[][2] = {{false, false}, {true, false}, {false, true}, {true, true}};
    if (kind != cudaMemcpyDefault &&
        ((int)kind > 3 || expected[kind][0] != to_device || expected[kind][1] != from_device)) {
        complain("%s: the direction does not fit the pointers (to %s, from %s)", call,
                 to_device ? "device" : "host", from_device ? "device" : "host");
        return report(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

} // namespace rodeo_emulator

using namespace rodeo_emulator;

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    Lock lock(state().mutex);
    cudaError_t status = refuse_unsafe_call("cudaMalloc");
    return status != cudaSuccess ? status : allocate(memory, bytes, true);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned int)
{
    Lock lock(state().mutex);
    cudaError_t status = refuse_unsafe_call("cudaHostAlloc");
    return status != cudaSuccess ? status : allocate(memory, bytes, false);
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    return cudaHostAlloc(memory, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFree(void *memory)
{
    Lock lock(state().mutex);
    cudaError_t status = cudaDeviceSynchronize();
    return status != cudaSuccess ? status : release(memory, true);
}

cudaError_t cudaFreeHost(void *memory)
{
    Lock lock(state().mutex);
    cudaError_t status = cudaDeviceSynchronize();
    return status != cudaSuccess ? status : release(memory, false);
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    Lock lock(state().mutex);
    *total = state().memory_limit;
    *free = state().memory_limit - state().memory_used;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t handle)
{
    Lock lock(state().mutex);
    CUstream_st *stream = find_stream(handle);
    if (stream == nullptr) {
        return report(cudaErrorInvalidResourceHandle);
    }
    if (bytes == 0) {
        return cudaSuccess;
    }
    Place to_place, from_place;
    cudaError_t status =
        check_copy("cudaMemcpyAsync", to, from, bytes, kind, &to_place, &from_place);
    if (status != cudaSuccess) {
        return status;
    }
    bool pageable = to_place == Place::host || from_place == Place::host;
    if (pageable && stream->capture) {
        return refuse_capturing(stream, "cudaMemcpyAsync with pageable host memory");
    }
    if (from_place == Place::host) {
        auto staged =
            std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
        status = enqueue(handle, {"cudaMemcpyAsync", [=] {
                                      touch(to, bytes, Touch::write);
                                      std::memcpy(to, staged->data(), bytes);
                                  }});
    } else {
        status = enqueue(handle, {"cudaMemcpyAsync", [=] {
                                      touch(from, bytes, Touch::read);
                                      touch(to, bytes, Touch::write);
                                      std::memmove(to, from, bytes);
                                  }});
    }
    if (status == cudaSuccess && to_place == Place::host) {
        status = cudaStreamSynchronize(handle);
    }
    return status;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    Lock lock(state().mutex);
    cudaError_t status = refuse_unsafe_call("cudaMemcpy");
    if (status == cudaSuccess) {
        status = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    }
    return status == cudaSuccess ? cudaStreamSynchronize(nullptr) : status;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    Lock lock(state().mutex);
    if (bytes == 0) {
        return cudaSuccess;
    }
    Place place = place_of(memory, bytes);
    if (place != Place::device && place != Place::pinned) {
        complain("cudaMemsetAsync: %zu bytes are not inside one allocation", bytes);
        return report(cudaErrorInvalidValue);
    }
    return enqueue(stream, {"cudaMemsetAsync", [=] {
                                touch(memory, bytes, Touch::write);
                                std::memset(memory, value, bytes);
                            }});
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    Lock lock(state().mutex);
    cudaError_t status = refuse_unsafe_call("cudaMemset");
    return status != cudaSuccess ? status : cudaMemsetAsync(memory, value, bytes, nullptr);
}
