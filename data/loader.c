/* A ring of staging slots in host memory, one step each.
 *
 * Workers fill the slots in the order of the steps; within a step they take a few pictures at a
 * time. Where every picture goes is decided when the step is planned, under the lock, so a batch
 * does not depend on who gathers what. loader_next copies a finished slot to the device, always to
 * the same addresses: a captured step can be replayed on them, and the device's order of work keeps
 * a copy from overtaking the step that still reads the last one. A slot may be filled again once
 * its own copy has run; an event tells that, so the host never waits for the work behind it.
 *
 * Where pixels stay on the device (the store's tier device), a slot holds what is to be done with
 * them, and the pixels of those pictures alone that are not there yet: each is copied to its own
 * place. */
#include "data/loader.h"

#include "base/mem.h"
#include "data/checksum.h"
#include "data/read_ahead.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LOADER_SLOTS    6  /* steps in host memory */
#define LOADER_COPIES   3  /* of them, at most so many whose copy may still be under way */
#define PICTURES_A_TAKE 8  /* that a worker gathers before it comes back for more */
#define ALIGNMENT       64 /* bytes, of pictures and of the parts of a slot */

#define NOT_GATHERED (-1)

typedef struct {
    uint8_t *host; /* items, labels and pixels */
    PairPlan *plan;
    int64_t *pixels; /* [pictures]: where they are in host behind pixels_at, or NOT_GATHERED */
    int pairs[LOADER_MAX_GROUPS];
    size_t bytes;    /* of host, laid out as in device memory */
    int taken, left; /* pictures given to workers; pictures not yet gathered */
    int damaged;     /* lowest picture that is not what it should be, or `pictures` */
    Err err;         /* what is wrong with it */
} Slot;

struct Loader {
    LoaderSettings settings;
    Plan *plans[LOADER_MAX_GROUPS];
    int groups;
    int pictures; /* of one step, with the repeated ones: groups * batch * MODALITIES */
    int64_t end;  /* behind the last step */
    size_t items_at[MODALITIES], labels_at, pixels_at; /* in a slot and in device memory */
    Store *store;
    Store *own_store; /* the same, if the settings name none */
    bool resident;    /* the pixels stay on the device */
    ReadAhead *ahead; /* where pictures are read from the packs' files */
    LoaderMemory *memory;
    Slot slots[LOADER_SLOTS];
    pthread_t *threads;
    int started;
    /* Under the lock: */
    pthread_mutex_t lock;
    pthread_cond_t work;  /* a slot became free, or the loader closes */
    pthread_cond_t ready; /* a slot is filled */
    bool closing;
    int64_t planned;  /* steps before this one are planned */
    Slot *newest;     /* of the step planned last; NULL before the first */
    int64_t released; /* steps before this one are copied: their slots are free */
    int64_t next;     /* the step that loader_next gives out next */
};

static size_t align(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static Slot *slot_of(Loader *loader, int64_t step)
{
    return &loader->slots[step % LOADER_SLOTS];
}

/* ---- planning a step (under the lock) ------------------------------------------------------- */

/* Plans one group and returns how many of its pairs are valid. Slots without one repeat a pair of
 * the step: the first of the same batch, or of the source's first batch. */
static int plan_group(Loader *loader, int source, int64_t batch, PairPlan *plan,
                      const PairPlan *source_first)
{
    const LoaderSettings *s = &loader->settings;
    int pairs = 0;
    if (s->batches == 0 || batch < s->batches) {
        pairs = plan_batch(loader->plans[source], batch, plan);
    }
    for (int i = pairs; i < s->source[0].batch; i++) {
        plan[i] = pairs > 0 ? plan[0] : *source_first;
    }
    return pairs;
}

static void plan_groups(Loader *loader, Slot *slot, int64_t step)
{
    const LoaderSettings *s = &loader->settings;
    int batch = s->source[0].batch;
    for (int g = 0; g < loader->groups; g++) {
        int source = g / s->consecutive;
        int part = g % s->consecutive;
        PairPlan *source_first = slot->plan + (size_t)source * s->consecutive * batch;
        slot->pairs[g] = plan_group(loader, source, step * s->consecutive + part,
                                    slot->plan + (size_t)g * batch, source_first);
    }
}

static const Pack *pack_of_pair(const Loader *loader, int pair)
{
    int batch = loader->settings.source[0].batch;
    return loader->settings.source[pair / batch / loader->settings.consecutive].pack;
}

/* Decides where each picture that is to be gathered goes: in the order of the pairs, without gaps
 * but for alignment. Where pixels stay on the device, all have their place there already. */
static void place_pictures(Loader *loader, Slot *slot)
{
    int64_t end = 0;
    int32_t *labels = (int32_t *)(slot->host + loader->labels_at);
    for (int i = 0; i < loader->pictures / MODALITIES; i++) {
        const PairPlan *plan = &slot->plan[i];
        const Pack *pack = pack_of_pair(loader, i);
        labels[i] = plan->label;
        for (int m = 0; m < MODALITIES; m++) {
            PackedPicture picture = pack_picture(pack, plan->index, m);
            AugmentItem *items = (AugmentItem *)(slot->host + loader->items_at[m]);
            items[i] = (AugmentItem){
                .offset =
                    loader->resident ? store_offset(loader->store, pack) + picture.offset : end,
                .width = picture.width,
                .height = picture.height,
                .top = plan->top,
                .left = plan->left,
                .flip = plan->flip,
                .quarter_turns = plan->quarter_turns[m]};
            bool there = store_has(loader->store, pack, plan->index, m);
            slot->pixels[i * MODALITIES + m] = there ? NOT_GATHERED : end;
            end += there ? 0 : (int64_t)align((size_t)picture.width * (size_t)picture.height * 3);
        }
    }
    slot->bytes = loader->pixels_at + (loader->resident ? 0 : (size_t)end);
    slot->taken = end > 0 ? 0 : loader->pictures;
    slot->left = loader->pictures - slot->taken;
}

/* Plans the next step if there is one and its slot is free. */
static bool plan_next_step(Loader *loader)
{
    if (loader->planned >= loader->end || loader->planned - loader->released >= LOADER_SLOTS) {
        return false;
    }
    int64_t step = loader->planned++;
    Slot *slot = slot_of(loader, step);
    slot->damaged = loader->pictures;
    plan_groups(loader, slot, step);
    place_pictures(loader, slot);
    loader->newest = slot;
    return true;
}

/* ---- gathering ------------------------------------------------------------------------------ */

/* Brings a picture's pixels into a slot, unless the device has them, and verifies them there: that
 * is what is used. */
static int gather_picture(const Loader *loader, const Slot *slot, int p, Err *err)
{
    int pair = p / MODALITIES;
    int m = p % MODALITIES;
    if (slot->pixels[p] == NOT_GATHERED) {
        return 0;
    }
    int64_t index = slot->plan[pair].index;
    const Pack *pack = pack_of_pair(loader, pair);
    PackedPicture picture = pack_picture(pack, index, m);
    uint8_t *to = slot->host + loader->pixels_at + slot->pixels[p];
    size_t bytes = (size_t)picture.width * (size_t)picture.height * 3;
    if (!loader->ahead) {
        memcpy(to, picture.pixels, bytes);
    } else if (pack_read_picture(pack, index, m, to, err) != 0) {
        return -1;
    }
    return checksum_xxh3(to, bytes) == picture.checksum ? 0 : pack_tell_damage(pack, index, m, err);
}

/* Gathers pictures [first, last) of a step. Returns the lowest one that is not as it should be, or
 * `pictures`. */
static int gather(const Loader *loader, const Slot *slot, int first, int last, Err *err)
{
    for (int p = first; p < last; p++) {
        if (gather_picture(loader, slot, p, err) != 0) {
            return p;
        }
    }
    return loader->pictures;
}

/* Takes some pictures of the newest planned step, or of the next one, and gathers them with the
 * lock released. Returns false if there is nothing to do now. */
static bool work_once(Loader *loader)
{
    if (loader->newest == NULL || loader->newest->taken == loader->pictures) {
        if (!plan_next_step(loader)) {
            return false;
        }
        if (loader->newest->left == 0) {
            pthread_cond_signal(&loader->ready);
            return true;
        }
        pthread_cond_broadcast(&loader->work); /* there is more than one worker's share */
    }
    Slot *slot = loader->newest;
    int first = slot->taken;
    int last = first + PICTURES_A_TAKE;
    last = last < loader->pictures ? last : loader->pictures;
    slot->taken = last;
    pthread_mutex_unlock(&loader->lock);
    Err err;
    int damaged = gather(loader, slot, first, last, &err);
    pthread_mutex_lock(&loader->lock);
    if (damaged < slot->damaged) {
        slot->damaged = damaged;
        slot->err = err;
    }
    slot->left -= last - first;
    if (slot->left == 0) {
        pthread_cond_signal(&loader->ready);
    }
    return true;
}

static void *worker_main(void *argument)
{
    Loader *loader = argument;
    pthread_mutex_lock(&loader->lock);
    while (!loader->closing) {
        if (!work_once(loader)) {
            pthread_cond_wait(&loader->work, &loader->lock);
        }
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int64_t last_step(const LoaderSettings *s)
{
    if (s->batches == 0) {
        return s->steps;
    }
    int64_t full = (s->batches + s->consecutive - 1) / s->consecutive;
    return full < s->steps ? full : s->steps;
}

/* The parts of a slot: items of either modality, labels, then the pixels, with room for the largest
 * pictures of all packs of the store, so that loaders of the same shape have slots of the same
 * size. Returns its bytes. */
static size_t lay_out(Loader *loader)
{
    size_t pairs = (size_t)loader->pictures / MODALITIES;
    size_t item_bytes = align(pairs * sizeof(AugmentItem));
    for (int m = 0; m < MODALITIES; m++) {
        loader->items_at[m] = (size_t)m * item_bytes;
    }
    loader->labels_at = MODALITIES * item_bytes;
    loader->pixels_at = loader->labels_at + align(pairs * sizeof(int32_t));
    return loader->pixels_at +
           (size_t)loader->pictures * align(store_largest_picture(loader->store));
}

static void allocate(Loader *loader)
{
    size_t bytes = lay_out(loader);
    size_t on_device = loader->resident ? loader->pixels_at : bytes;
    loader->memory = store_lend(loader->store, on_device, bytes, LOADER_SLOTS);
    for (int i = 0; i < LOADER_SLOTS; i++) {
        Slot *slot = &loader->slots[i];
        slot->host = loader->memory->host[i];
        slot->plan = mem_zeroed((size_t)loader->pictures / MODALITIES, sizeof *slot->plan);
        slot->pixels = mem_zeroed((size_t)loader->pictures, sizeof *slot->pixels);
    }
}

/* Finds out where the pixels come from. */
static int open_store(Loader *loader, Err *err)
{
    const LoaderSettings *s = &loader->settings;
    loader->store = s->store;
    if (!loader->store) {
        StoreSettings own = {.be = s->be, .tier = TIER_RAM, .count = s->sources};
        for (int i = 0; i < s->sources; i++) {
            own.packs[i] = s->source[i].pack;
        }
        loader->own_store = store_open(&own, err);
        loader->store = loader->own_store;
    }
    if (!loader->store) {
        return -1;
    }
    loader->resident = store_tier(loader->store) == TIER_DEVICE;
    if (store_reads_ahead(loader->store)) {
        loader->ahead = read_ahead_open(s, loader->end, err);
        return loader->ahead ? 0 : -1;
    }
    return 0;
}

static void start_workers(Loader *loader)
{
    int workers = loader->settings.workers;
    loader->threads = mem_zeroed((size_t)workers, sizeof *loader->threads);
    for (; loader->started < workers; loader->started++) {
        int error = pthread_create(&loader->threads[loader->started], NULL, worker_main, loader);
        if (error != 0) {
            fatal("cannot start loader thread %d of %d: %s", loader->started + 1, workers,
                  strerror(error));
        }
    }
}

Loader *loader_open(const LoaderSettings *settings, Err *err)
{
    Loader *loader = mem_zeroed(1, sizeof *loader);
    loader->settings = *settings;
    loader->groups = settings->sources * settings->consecutive;
    loader->pictures = loader->groups * settings->source[0].batch * MODALITIES;
    loader->end = last_step(settings);
    loader->planned = settings->first_step;
    loader->released = settings->first_step;
    loader->next = settings->first_step;
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->ready, NULL);
    if (loader->groups < 1 || loader->groups > LOADER_MAX_GROUPS) {
        fatal("a loader of %d groups was asked for, at most %d are possible", loader->groups,
              LOADER_MAX_GROUPS);
    }
    for (int i = 0; i < settings->sources; i++) {
        loader->plans[i] = plan_open(&settings->source[i], err);
        if (!loader->plans[i]) {
            loader_close(loader);
            return NULL;
        }
    }
    if (open_store(loader, err) != 0) {
        loader_close(loader);
        return NULL;
    }
    allocate(loader);
    start_workers(loader);
    return loader;
}

/* ---- handing out ---------------------------------------------------------------------------- */

static void fill_batch(const Loader *loader, const Slot *slot, Batch *batch)
{
    const uint8_t *device = loader->memory->device;
    *batch = (Batch){.groups = loader->groups,
                     .batch = loader->settings.source[0].batch,
                     .plan = slot->plan,
                     .pixels = loader->resident ? store_pixels(loader->store)
                                                : device + loader->pixels_at,
                     .labels = (const int32_t *)(device + loader->labels_at)};
    memcpy(batch->pairs, slot->pairs, sizeof batch->pairs);
    for (int m = 0; m < MODALITIES; m++) {
        batch->items[m] = (const AugmentItem *)(device + loader->items_at[m]);
    }
}

/* Where pixels stay on the device: copies those of a step that are not there. */
static void put_pictures(Loader *loader, const Slot *slot)
{
    for (int p = 0; p < loader->pictures; p++) {
        if (slot->pixels[p] != NOT_GATHERED) {
            int pair = p / MODALITIES;
            store_put(loader->store, pack_of_pair(loader, pair), slot->plan[pair].index,
                      p % MODALITIES, slot->host + loader->pixels_at + slot->pixels[p]);
        }
    }
}

static DeviceEvent *copied(const Loader *loader, int64_t step)
{
    return loader->memory->copied[step % LOADER_SLOTS];
}

/* Gives the oldest slot that was handed out back to the workers, once its copy has run, if there
 * are enough behind it for the device to go on with. */
static void release_copied(Loader *loader)
{
    if (loader->next - loader->released < LOADER_COPIES) {
        return;
    }
    device_event_wait(loader->settings.be, copied(loader, loader->released));
    pthread_mutex_lock(&loader->lock);
    loader->released++;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

int loader_next(Loader *loader, Batch *batch, Err *err)
{
    if (loader->next >= loader->end) {
        return 0;
    }
    release_copied(loader);
    Slot *slot = slot_of(loader, loader->next);
    pthread_mutex_lock(&loader->lock);
    while (loader->planned <= loader->next || slot->left > 0) {
        pthread_cond_wait(&loader->ready, &loader->lock);
    }
    pthread_mutex_unlock(&loader->lock);
    if (slot->damaged < loader->pictures) {
        return err_set(err, "%s", slot->err.text);
    }
    if (loader->ahead) {
        read_ahead_advance(loader->ahead, loader->next);
    }
    device_copy_in(loader->settings.be, loader->memory->device, slot->host, slot->bytes);
    if (loader->resident) {
        put_pictures(loader, slot);
    }
    device_event_record(loader->settings.be, copied(loader, loader->next));
    fill_batch(loader, slot, batch);
    loader->next++;
    return 1;
}

void loader_close(Loader *loader)
{
    if (!loader) {
        return;
    }
    pthread_mutex_lock(&loader->lock);
    loader->closing = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->started; i++) {
        pthread_join(loader->threads[i], NULL);
    }
    read_ahead_close(loader->ahead);
    if (loader->memory) {
        device_synchronize(loader->settings.be); /* the last step may still read from it */
        store_take_back(loader->store, loader->memory);
    }
    store_close(loader->own_store);
    for (int i = 0; i < LOADER_SLOTS; i++) {
        free(loader->slots[i].plan);
        free(loader->slots[i].pixels);
    }
    for (int i = 0; i < LOADER_MAX_GROUPS; i++) {
        plan_close(loader->plans[i]);
    }
    pthread_cond_destroy(&loader->ready);
    pthread_cond_destroy(&loader->work);
    pthread_mutex_destroy(&loader->lock);
    free(loader->threads);
    free(loader);
}
