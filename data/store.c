#include "data/store.h"

#include "base/mem.h"
#include "base/memory_limit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WARM_BYTES ((size_t)4 << 20) /* that are brought into memory at once */
#define MB         1000000

struct Store {
    StoreSettings settings;
    Tier tier;
    size_t largest;
    bool fits_cache; /* the file cache has room for all pixels */
    uint8_t *pixels; /* device memory, in the tier device */
    int64_t offset[STORE_MAX_PACKS];
    /* In the tier device, [pairs, MODALITIES]: whether the copy of a picture has been enqueued.
     * Packs with the same content share them. */
    atomic_bool *there[STORE_MAX_PACKS];
    LoaderMemory **memory;
    int memories;
    pthread_t warmer;
    bool warming;
    atomic_bool closing;
};

static const char *const tier_names[] = {"auto", "device", "ram", "disk"};

int tier_parse(const char *name, Tier *tier, Err *err)
{
    for (int i = TIER_AUTO; i <= TIER_DISK; i++) {
        if (strcmp(name, tier_names[i]) == 0) {
            *tier = (Tier)i;
            return 0;
        }
    }
    return err_set(err, "'%s' is no tier: it is one of auto, device, ram, disk", name);
}

/* The first pack with the same content: a list that is used twice is placed once. */
static int first_like(const Store *store, int i)
{
    const StoreSettings *s = &store->settings;
    for (int k = 0; k < i; k++) {
        if (s->packs[k] == s->packs[i] ||
            (pack_checksum(s->packs[k]) == pack_checksum(s->packs[i]) &&
             pack_count(s->packs[k]) == pack_count(s->packs[i]))) {
            return k;
        }
    }
    return i;
}

/* Gives every pack its place behind the others. Returns the bytes of all pixels. */
static size_t lay_out(Store *store)
{
    size_t end = 0;
    for (int i = 0; i < store->settings.count; i++) {
        int first = first_like(store, i);
        size_t bytes;
        pack_pixels(store->settings.packs[i], &bytes);
        store->offset[i] = first < i ? store->offset[first] : (int64_t)end;
        end += first < i ? 0 : bytes;
        size_t largest = pack_largest_picture(store->settings.packs[i]);
        store->largest = largest > store->largest ? largest : store->largest;
    }
    return end;
}

/* ---- choosing ------------------------------------------------------------------------------- */

/* What must stay free on the device beside the pictures: libraries' workspaces, which take up to an
 * eighth of it while engines are timed, and what other programs may still ask for. */
static bool fits_device(const Store *store, size_t bytes, size_t *free_bytes)
{
    size_t total;
    device_memory(store->settings.be, free_bytes, &total);
    size_t reserve = total / 8 + ((size_t)256 << 20);
    return *free_bytes > reserve && bytes <= *free_bytes - reserve;
}

/* A quarter stays to everything else, so that nothing pushes the pictures out of the cache. */
static bool fits_cache(size_t bytes, size_t *free_bytes)
{
    size_t total;
    memory_limit(free_bytes, &total);
    return bytes <= *free_bytes / 4 * 3;
}

static bool is_cpu(const Store *store)
{
    return strcmp(device_kind(store->settings.be), "cpu") == 0;
}

static int choose(Store *store, size_t bytes, Err *err)
{
    size_t free_bytes;
    store->tier = store->settings.tier;
    if (store->tier == TIER_DEVICE && !fits_device(store, bytes, &free_bytes)) {
        return err_set(err,
                       "the tier device needs %.1f GB for the pictures, and some more must stay "
                       "free, but the device has only %.1f GB left: leave the tier to auto",
                       (double)bytes / 1e9, (double)free_bytes / 1e9);
    }
    store->fits_cache = fits_cache(bytes, &free_bytes);
    if (store->tier == TIER_RAM && !store->fits_cache && store->settings.log) {
        log_warning(store->settings.log,
                    "the tier ram was asked for, but %.1f GB of pictures in %.1f GB of free memory "
                    "will not stay there",
                    (double)bytes / 1e9, (double)free_bytes / 1e9);
    }
    if (store->tier == TIER_AUTO) {
        bool device = !is_cpu(store) && fits_device(store, bytes, &free_bytes);
        store->tier = device ? TIER_DEVICE : store->fits_cache ? TIER_RAM : TIER_DISK;
    }
    return 0;
}

static void tell(const Store *store, size_t bytes)
{
    static const char *const places[] = {[TIER_DEVICE] =
                                             "in the device's memory once they have been used",
                                         [TIER_RAM] = "in this machine's memory",
                                         [TIER_DISK] = "read from the packs ahead of every step"};
    if (store->settings.log) {
        log_note(store->settings.log, "Pictures: %.1f MB, %s (tier %s%s).", (double)bytes / MB,
                 places[store->tier], tier_names[store->tier],
                 store->settings.tier == TIER_AUTO ? ", chosen by free memory" : "");
    }
}

/* ---- the tier device ------------------------------------------------------------------------ */

static void place_on_device(Store *store, size_t bytes)
{
    const StoreSettings *s = &store->settings;
    store->pixels = device_alloc(s->be, bytes);
    for (int i = 0; i < s->count; i++) {
        int first = first_like(store, i);
        store->there[i] = first < i ? store->there[first]
                                    : mem_zeroed((size_t)pack_count(s->packs[i]) * MODALITIES,
                                                 sizeof(atomic_bool));
    }
}

static void leave_device(Store *store)
{
    for (int i = 0; i < store->settings.count; i++) {
        if (first_like(store, i) == i) {
            free(store->there[i]);
        }
    }
    if (store->pixels) {
        device_free(store->settings.be, store->pixels);
    }
}

/* ---- the file cache ------------------------------------------------------------------------- */

/* Reads from a part of a mapping, so that it is in memory and in this process's page table. */
static void touch(const uint8_t *from, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t before = (uintptr_t)from % page;
#ifdef MADV_POPULATE_READ
    if (madvise((void *)(from - before), bytes + before, MADV_POPULATE_READ) == 0) {
        return;
    }
#endif
    volatile uint8_t sink = 0;
    for (size_t at = 0; at < bytes + before; at += page) {
        sink = *(const volatile uint8_t *)(from - before + at);
    }
    (void)sink;
}

static void *warm(void *argument)
{
    Store *store = argument;
    for (int i = 0; i < store->settings.count; i++) {
        size_t bytes;
        const uint8_t *pixels = pack_pixels(store->settings.packs[i], &bytes);
        for (size_t at = 0; at < bytes && !atomic_load(&store->closing); at += WARM_BYTES) {
            touch(pixels + at, bytes - at < WARM_BYTES ? bytes - at : WARM_BYTES);
        }
    }
    return NULL;
}

static void start_warming(Store *store)
{
    /* Without the thread pictures come into memory when they are first used. */
    store->warming = pthread_create(&store->warmer, NULL, warm, store) == 0;
}

/* ---- loaders' memory ------------------------------------------------------------------------ */

static LoaderMemory *create_memory(Backend *be, size_t device_bytes, size_t host_bytes, int slots)
{
    LoaderMemory *memory = mem_zeroed(1, sizeof *memory);
    memory->device_bytes = device_bytes;
    memory->host_bytes = host_bytes;
    memory->slots = slots;
    memory->device = device_alloc(be, device_bytes);
    for (int i = 0; i < slots; i++) {
        memory->host[i] = device_host_alloc(be, host_bytes);
        memory->copied[i] = device_event_open(be);
        memset(memory->host[i], 0, device_bytes); /* gaps are copied, too */
    }
    return memory;
}

static void free_memory(Backend *be, LoaderMemory *memory)
{
    for (int i = 0; i < memory->slots; i++) {
        device_event_close(be, memory->copied[i]);
        device_host_free(be, memory->host[i]);
    }
    device_free(be, memory->device);
    free(memory);
}

LoaderMemory *store_lend(Store *store, size_t device_bytes, size_t host_bytes, int slots)
{
    if (slots > STORE_MAX_SLOTS) {
        fatal("a loader asked for %d slots, at most %d are possible", slots, STORE_MAX_SLOTS);
    }
    for (int i = 0; i < store->memories; i++) {
        LoaderMemory *memory = store->memory[i];
        if (!memory->lent && memory->device_bytes == device_bytes &&
            memory->host_bytes == host_bytes && memory->slots == slots) {
            memory->lent = true;
            return memory;
        }
    }
    LoaderMemory *memory = create_memory(store->settings.be, device_bytes, host_bytes, slots);
    memory->lent = true;
    store->memory =
        mem_resize(store->memory, (size_t)(store->memories + 1) * sizeof(LoaderMemory *));
    store->memory[store->memories++] = memory;
    return memory;
}

void store_take_back(Store *store, LoaderMemory *memory)
{
    (void)store;
    memory->lent = false;
}

/* ---- opening -------------------------------------------------------------------------------- */

Store *store_open(const StoreSettings *settings, Err *err)
{
    Store *store = mem_zeroed(1, sizeof *store);
    store->settings = *settings;
    size_t bytes = lay_out(store);
    if (choose(store, bytes, err) != 0) {
        store_close(store);
        return NULL;
    }
    if (store->tier == TIER_DEVICE) {
        place_on_device(store, bytes);
    }
    if (!store_reads_ahead(store) && settings->warm) {
        start_warming(store);
    }
    tell(store, bytes);
    return store;
}

void store_close(Store *store)
{
    if (!store) {
        return;
    }
    Backend *be = store->settings.be;
    atomic_store(&store->closing, true);
    if (store->warming) {
        pthread_join(store->warmer, NULL);
    }
    for (int i = 0; i < store->memories; i++) {
        free_memory(be, store->memory[i]);
    }
    leave_device(store);
    free(store->memory);
    free(store);
}

Tier store_tier(const Store *store)
{
    return store->tier;
}

size_t store_largest_picture(const Store *store)
{
    return store->largest;
}

const uint8_t *store_pixels(const Store *store)
{
    return store->pixels;
}

bool store_reads_ahead(const Store *store)
{
    return store->tier == TIER_DISK || (store->tier == TIER_DEVICE && !store->fits_cache);
}

static int number_of(const Store *store, const Pack *pack)
{
    for (int i = 0; i < store->settings.count; i++) {
        if (store->settings.packs[i] == pack) {
            return i;
        }
    }
    fatal("%s is not among the packs of this store", pack_path(pack));
}

int64_t store_offset(const Store *store, const Pack *pack)
{
    return store->offset[number_of(store, pack)];
}

bool store_has(const Store *store, const Pack *pack, int64_t index, int modality)
{
    return store->tier == TIER_DEVICE &&
           atomic_load(&store->there[number_of(store, pack)][index * MODALITIES + modality]);
}

void store_put(Store *store, const Pack *pack, int64_t index, int modality, const uint8_t *host)
{
    int i = number_of(store, pack);
    PackedPicture picture = pack_picture(pack, index, modality);
    device_copy_in(store->settings.be, store->pixels + store->offset[i] + picture.offset, host,
                   (size_t)picture.width * (size_t)picture.height * 3);
    atomic_store(&store->there[i][index * MODALITIES + modality], true);
}
