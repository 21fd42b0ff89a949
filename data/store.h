/* Where the pictures of a run are while it trains, and the memory that its loaders work in.
 *
 *   device  all pixels have their place in one block of device memory. The first step that uses a
 *           picture brings it there, in one of the following two ways; from then on a step sends
 *           only what is to be done with it. So the first step need not wait for all of them.
 *   ram     all pixels are in the file cache, where a thread brings them in the background; a
 *           step's pixels are gathered from there into staging memory and copied to the device.
 *   disk    a step's pixels are read from the packs, ahead of the step, in the order in which they
 *           lie there; the file cache keeps what it has room for.
 *
 * One store serves a run from beginning to end: its packs' pixels are placed once, and loaders that
 * follow each other get the same memory again, at the same addresses. */
#ifndef RODEO_DATA_STORE_H
#define RODEO_DATA_STORE_H

#include "data/pack.h"
#include "kernels/device.h"

#define STORE_MAX_PACKS 8
#define STORE_MAX_SLOTS 8

typedef enum { TIER_AUTO, TIER_DEVICE, TIER_RAM, TIER_DISK } Tier;

/* "auto", "device", "ram", "disk". -1 and err if it is none of them. */
int tier_parse(const char *name, Tier *tier, Err *err);

typedef struct {
    Backend *be;
    const Pack *packs[STORE_MAX_PACKS]; /* borrowed; a pack may be there twice */
    int count;
    Tier tier;
    bool warm; /* bring all pixels into the file cache, in the background, where it has room */
    Log *log;  /* or NULL */
} StoreSettings;

typedef struct Store Store;

/* Places the packs' pixels, with a note that says where. auto takes the first of device (where that
 * is not the CPU), ram and disk that has room and leaves some to others: of the device's memory, of
 * the machine's, of what a control group allows. err: a device without the room that was asked for.
 */
Store *store_open(const StoreSettings *settings, Err *err);

/* Its loaders must be closed. store may be NULL. */
void store_close(Store *store);

Tier store_tier(const Store *store);

/* Bytes of the largest picture of all packs. */
size_t store_largest_picture(const Store *store);

/* Whether pictures are read as in the tier disk, rather than out of the file cache. */
bool store_reads_ahead(const Store *store);

/* In the tier device: the device address of all pixels, and where a pack's begin behind it. */
const uint8_t *store_pixels(const Store *store);
int64_t store_offset(const Store *store, const Pack *pack);

/* Whether a picture's pixels are on the device for all work that is enqueued from now on; false in
 * the other tiers. Any thread may ask. */
bool store_has(const Store *store, const Pack *pack, int64_t index, int modality);

/* In the tier device: enqueues the copy of a picture's pixels to their place, from host memory as
 * in device_copy_in. */
void store_put(Store *store, const Pack *pack, int64_t index, int modality, const uint8_t *host);

/* Memory of a loader: a block on the device, and slots in host memory, which begin with what is
 * copied to the block, with an event each. */
typedef struct {
    uint8_t *device;
    uint8_t *host[STORE_MAX_SLOTS];
    DeviceEvent *copied[STORE_MAX_SLOTS];
    size_t device_bytes, host_bytes; /* of the block, and of every slot */
    int slots;
    bool lent;
} LoaderMemory;

/* Lends memory of this size, the same each time it is free; returned with store_take_back, once no
 * copy from it is under way. host_bytes: at least device_bytes. */
LoaderMemory *store_lend(Store *store, size_t device_bytes, size_t host_bytes, int slots);
void store_take_back(Store *store, LoaderMemory *memory);

#endif
