/* bench_data: how fast pictures are decoded for a pack, and how fast a waiting consumer gets pairs
 * from each tier. bench/data runs it and its counterparts in Python, and makes a table of it. */
#include "base/args.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "data/loader.h"
#include "data/tar_packs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SETS = 3, CROP = 224, RESIZE = 256 };

typedef struct {
    const char *data_root, *cache_dir, *tier;
    bool decode, cold;
    int threads, batch;
    int64_t seconds;
} Options;

static int read_options(Options *options, int argc, char **argv, Err *err)
{
    const ArgOption list[] = {
        arg_text("data_root", "FOLDER", &options->data_root, "data set to measure with (needed)"),
        arg_text("cache_dir", "FOLDER", &options->cache_dir, "where its packs go (needed)"),
        arg_flag("decode", &options->decode,
                 "measure reading, decoding and shrinking the training list's pictures; else a "
                 "loader with the four groups of a training step"),
        arg_text("tier", "NAME", &options->tier, "device, ram or disk (default ram)"),
        arg_flag("cold", &options->cold,
                 "drop the packs from the file cache before every pass over them"),
        arg_int("threads", "N", &options->threads, 1, 256, "worker threads (default 2)"),
        arg_int("batch_size", "PAIRS", &options->batch, 1, 4096, "pairs of a group (default 32)"),
        arg_int64("seconds", "N", &options->seconds, 1, 3600, "how long to measure (default 3)"),
        {0},
    };
    const Args args = {.program = "bench_data",
                       .summary = "Measures decoding and loading of pictures.",
                       .options = list};
    if (args_parse(&args, argc, argv, err) != 0) {
        return -1;
    }
    if (!options->data_root || !options->cache_dir) {
        err_set(err, "--data_root and --cache_dir are needed");
        return args_explain(&args, err);
    }
    return 0;
}

static double peak_mb(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1e3;
}

/* ---- decoding ------------------------------------------------------------------------------- */

static void decode_picture(void *context, int64_t number)
{
    const PairList *list = context;
    Err err;
    Picture picture;
    if (pack_source_folder.read(NULL, list, number / MODALITIES, (int)(number % MODALITIES),
                                &picture, &err) != 0) {
        fatal("%s", err.text);
    }
    pack_shrink(&picture, RESIZE);
    picture_free(&picture);
}

static int measure_decoding(const Options *options, Err *err)
{
    PairList list;
    if (pairs_read(&list, options->data_root, "synROD", SPLIT_TRAIN, false, err) != 0) {
        return -1;
    }
    Pool *pool = pool_open(options->threads);
    int64_t pictures = list.count * MODALITIES;
    double best = 1e9;
    double start = clock_seconds();
    do {
        double before = clock_seconds();
        pool_run(pool, pictures, decode_picture, &list);
        double seconds = clock_seconds() - before;
        best = seconds < best ? seconds : best;
    } while (clock_seconds() - start < (double)options->seconds);
    printf("decode and shrink, %d threads: %.0f pictures/s\n", options->threads,
           (double)pictures / best);
    pool_close(pool);
    pairs_free(&list);
    return 0;
}

/* ---- loading -------------------------------------------------------------------------------- */

static int open_packs(const Options *options, Pool *pool, Pack **packs, Err *err)
{
    static const PairSet sets[SETS] = {
        {"synROD", SPLIT_TRAIN, false}, {"synROD", SPLIT_TEST, false}, {"ROD", SPLIT_TRAIN, false}};
    PackSettings settings = {.resize = RESIZE, .pool = pool};
    if (path_is_file(options->data_root)) {
        return tar_open_packs(options->data_root, sets, SETS, options->cache_dir, &settings, packs,
                              err);
    }
    for (int i = 0; i < SETS; i++) {
        PairList list;
        if (pairs_read_from(&list, &root_files_on_disk, options->data_root, &sets[i], err) != 0) {
            return -1;
        }
        packs[i] = pack_open_or_build(&list, &settings, options->cache_dir, err);
        pairs_free(&list);
        if (!packs[i]) {
            return -1;
        }
    }
    return 0;
}

/* Writes the pack out of the file cache; pages that are mapped would stay. */
static int drop(const Pack *pack, Err *err)
{
    int fd = open(pack_path(pack), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fdatasync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) {
        err_set(err, "%s: cannot be dropped from the file cache", pack_path(pack));
    }
    if (fd >= 0) {
        close(fd);
    }
    return fd < 0 ? -1 : 0;
}

static PlanSettings plan(const Options *options, const Pack *pack, LoaderId loader, uint32_t epoch)
{
    return (PlanSettings){.pack = pack,
                          .seed = 1,
                          .epoch = epoch,
                          .loader = loader,
                          .batch = options->batch,
                          .crop = CROP,
                          .augment = true,
                          .rotate = loader >= LOADER_SOURCE_ROTATION,
                          .drop_last = true};
}

/* One epoch of a training run's loader, with nothing done between its steps. */
static int load_epoch(const Options *options, Store *store, Backend *be, Pack **packs,
                      uint32_t epoch, int64_t *pairs, int64_t *bytes, Err *err)
{
    int64_t steps = pack_count(packs[0]) / options->batch;
    LoaderSettings settings = {.be = be,
                               .store = store,
                               .sources = 4,
                               .source = {plan(options, packs[0], LOADER_SOURCE, epoch),
                                          plan(options, packs[2], LOADER_TARGET, epoch),
                                          plan(options, packs[0], LOADER_SOURCE_ROTATION, epoch),
                                          plan(options, packs[2], LOADER_TARGET_ROTATION, epoch)},
                               .consecutive = 1,
                               .steps = steps,
                               .workers = options->threads};
    Loader *loader = loader_open(&settings, err);
    if (!loader) {
        return -1;
    }
    Batch batch;
    int rc;
    while ((rc = loader_next(loader, &batch, err)) == 1) {
        *pairs += (int64_t)batch.groups * batch.batch;
        for (int i = 0; i < batch.groups * batch.batch; i++) {
            for (int m = 0; m < MODALITIES; m++) {
                *bytes += (int64_t)batch.items[m][i].width * batch.items[m][i].height * 3;
            }
        }
    }
    loader_close(loader);
    return rc;
}

/* The CPU's device memory is ordinary memory: load_epoch looks into it. */
static int measure_loading(const Options *options, Err *err)
{
    Pack *packs[SETS] = {NULL};
    Pool *pool = pool_open(0);
    Backend *be = device_open("cpu", &(DeviceOptions){.threads = 1}, err);
    StoreSettings settings = {.be = be, .warm = !options->cold};
    int rc = be ? open_packs(options, pool, packs, err) : -1;
    for (int i = 0; i < SETS && rc == 0; i++) {
        settings.packs[settings.count++] = packs[i];
        rc = options->cold ? drop(packs[i], err) : pack_verify(packs[i], pool, NULL, err);
    }
    if (rc == 0) {
        rc = tier_parse(options->tier, &settings.tier, err);
    }
    Store *store = rc == 0 ? store_open(&settings, err) : NULL;
    rc = store ? 0 : -1;
    double best = 0;
    double best_bytes = 0;
    double start = clock_seconds();
    for (uint32_t epoch = 1;
         rc == 0 && (epoch == 1 || clock_seconds() - start < (double)options->seconds); epoch++) {
        int64_t pairs = 0;
        int64_t bytes = 0;
        for (int i = 0; i < SETS && options->cold && rc == 0; i++) {
            rc = drop(packs[i], err);
        }
        double before = clock_seconds();
        rc = rc == 0 ? load_epoch(options, store, be, packs, epoch, &pairs, &bytes, err) : rc;
        double seconds = clock_seconds() - before;
        if ((double)pairs / seconds > best) {
            best = (double)pairs / seconds;
            best_bytes = (double)bytes / seconds;
        }
    }
    if (rc == 0) {
        printf("tier %s%s, %d threads: %.0f pairs/s, %.0f MB/s of pixels, peak %.0f MB\n",
               options->tier, options->cold ? " (cold)" : "", options->threads, best,
               best_bytes / 1e6, peak_mb());
    }
    store_close(store);
    for (int i = 0; i < SETS; i++) {
        pack_close(packs[i]);
    }
    device_close(be);
    pool_close(pool);
    return rc;
}

int main(int argc, char **argv)
{
    Options options = {.tier = "ram", .threads = 2, .batch = 32, .seconds = 3};
    Err err = {0};
    int rc = read_options(&options, argc, argv, &err);
    if (rc == 0) {
        rc = options.decode ? measure_decoding(&options, &err) : measure_loading(&options, &err);
    }
    if (rc != 0) {
        fprintf(stderr, "bench_data: %s\n", err.text);
        return 1;
    }
    return 0;
}
