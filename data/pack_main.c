/* build/pack: builds the packed files of a data set ahead of a training run, and looks into them.
 */
#include "base/args.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/pool.h"
#include "base/streams.h"
#include "data/pack.h"
#include "data/picture.h"
#include "data/tar_packs.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    stop_signal = number;
}

static void on_bus_error(int number)
{
    (void)number;
    pack_die_lost(PACK_LOST("pack", ""));
}

/* A build removes what it has begun. A second signal ends the process at once. */
static void catch_signals(void)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_RESETHAND};
        struct sigaction before;
        sigemptyset(&action.sa_mask);
        /* What nohup and "&" have made it ignore stays ignored. */
        if (sigaction(caught[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            sigaction(caught[i], &action, NULL);
        }
    }
}

typedef enum { BUILD, VERIFY, INFO, EXTRACT } Action;

typedef struct {
    bool verify, info;
    Action action;
    const char *data_root, *source, *target, *cache_dir;
    bool smallset;
    int image_size, threads, skip_bad;
    int64_t index;       /* of --extract; -1: not given */
    const char *file[3]; /* the arguments without a name: PACK, OUT, OUT2 */
    int files;
} Options;

/* What the options together ask for, and whether that many files were named. */
static int find_action(Options *options, Err *err)
{
    static const int least[] = {[BUILD] = 0, [VERIFY] = 1, [INFO] = 1, [EXTRACT] = 2};
    static const int most[] = {[BUILD] = 0, [VERIFY] = 1, [INFO] = 1, [EXTRACT] = 3};
    static const char *const expected[] = {[BUILD] = "no file",
                                           [VERIFY] = "one pack",
                                           [INFO] = "one pack",
                                           [EXTRACT] = "a pack and one or two pictures to write"};
    bool extract = options->index >= 0;
    if (options->verify + options->info + extract > 1) {
        return err_set(err, "give one of --verify, --info and --extract, not several");
    }
    options->action = options->verify ? VERIFY : options->info ? INFO : extract ? EXTRACT : BUILD;
    if (options->action == BUILD && !options->data_root) {
        return err_set(err, "name the data set's folder or tar file with --data_root");
    }
    if (options->files < least[options->action] || options->files > most[options->action]) {
        return err_set(err, "expected %s, got %d file names", expected[options->action],
                       options->files);
    }
    return 0;
}

static int read_options(Options *options, int argc, char **argv, Err *err)
{
    const ArgOption list[] = {
        arg_heading("Building:"),
        arg_text("data_root", "FOLDER|TAR", &options->data_root,
                 "holds synROD/ and ROD/; or a tar file of it, plain, .gz or .zst, which is read "
                 "once from front to back (needed)"),
        arg_text("source", "NAME", &options->source,
                 "data set with labels: synROD, synHB (default synROD)"),
        arg_text("target", "NAME", &options->target,
                 "data set to adapt to: ROD, valHB (default ROD)"),
        arg_int("image_size", "PIXELS", &options->image_size, 1, PICTURE_MAX_SIDE,
                "side that training resizes pictures to; larger ones are packed at that size "
                "(default 256)"),
        arg_text("cache_dir", "FOLDER", &options->cache_dir,
                 "where packs go (default: rodeo-cache in the data root or beside the tar file, or "
                 "./rodeo-cache if that place is read-only or a mounted drive)"),
        arg_int("skip_bad", "N", &options->skip_bad, 0, 1000000,
                "leave out up to N pictures of a list that cannot be decoded, with their partners, "
                "instead of stopping; --info lists them (default 0)"),
        arg_flag("smallset", &options->smallset,
                 "the small lists, classes 0 to 4 (default: the full ones)"),
        arg_int("threads", "N", &options->threads, 0, 1024,
                "worker threads (default 0: one a core)"),
        arg_heading("Looking into a pack:"),
        arg_flag("verify", &options->verify, "check the checksum of every picture"),
        arg_flag("info", &options->info, "print what is in it"),
        arg_int64("extract", "INDEX", &options->index, 0, INT64_MAX,
                  "write pair INDEX (from 0) as PNG: OUT gets the RGB picture with the depth "
                  "picture on its right; with OUT2 given, OUT gets RGB and OUT2 depth"),
        {0},
    };
    const Args args = {
        .program = "pack",
        .summary = "Decodes every picture that a training run needs, once, into one packed file a "
                   "list, and tells what it did. Packs that are current are left as they are. "
                   "Training does the same by itself when it starts; this program does it ahead "
                   "of time.",
        .ending = "Example: pack --data_root ROD-synROD\n"
                  "         pack --data_root ROD-synROD.tar --cache_dir /local/packs\n"
                  "         pack --verify rodeo-cache/ROD-256.pack\n"
                  "         pack --extract 7 rodeo-cache/ROD-256.pack pair7.png",
        .options = list,
        .operands = {.usage = "--data_root FOLDER|TAR\n--verify PACK\n--info PACK\n"
                              "--extract INDEX PACK OUT [OUT2]",
                     .into = options->file,
                     .count = &options->files,
                     .most = sizeof options->file / sizeof options->file[0]},
    };
    if (args_parse(&args, argc, argv, err) != 0) {
        return -1;
    }
    return find_action(options, err) == 0 ? 0 : args_explain(&args, err);
}

/* trained: a network is to tell the list's classes apart. */
static void tell_pack(const Pack *pack, bool trained, Log *log)
{
    PairList list;
    pack_list(pack, &list);
    log_result(log, "%s: %lld pairs, %d classes: %s", list.name, (long long)list.count,
               list.classes, pack_path(pack));
    if (trained) {
        pairs_warn_of_gaps(&list, log);
    }
    pairs_free(&list);
}

/* Opens or builds the packs of a folder's lists. */
static int build_from_folder(const Options *options, const PairSet *sets, int count,
                             const char *cache_dir, const PackSettings *settings, Pack **packs,
                             Err *err)
{
    int rc = 0;
    for (int i = 0; i < count && rc == 0; i++) {
        PairList list;
        if (pairs_read_from(&list, &root_files_on_disk, options->data_root, &sets[i], err) != 0) {
            return -1;
        }
        packs[i] = pack_open_or_build(&list, settings, cache_dir, err);
        rc = packs[i] ? 0 : -1;
        pairs_free(&list);
    }
    return rc;
}

/* The target has one list for training and test. */
static int build(const Options *options, Pool *pool, Log *log, Err *err)
{
    const PairSet sets[] = {{options->source, SPLIT_TRAIN, options->smallset},
                            {options->source, SPLIT_TEST, options->smallset},
                            {options->target, SPLIT_TRAIN, options->smallset}};
    enum { SETS = sizeof sets / sizeof *sets };
    Pack *packs[SETS] = {NULL};
    PackSettings settings = {.resize = options->image_size,
                             .skip_bad = options->skip_bad,
                             .stop = &stop_signal,
                             .pool = pool,
                             .log = log};
    catch_signals();
    char *cache_dir = options->cache_dir ? mem_string(options->cache_dir)
                                         : pack_default_cache_dir(options->data_root);
    int rc = path_is_file(options->data_root)
                 ? tar_open_packs(options->data_root, sets, SETS, cache_dir, &settings, packs, err)
                 : build_from_folder(options, sets, SETS, cache_dir, &settings, packs, err);
    for (int i = 0; i < SETS; i++) {
        if (packs[i] && rc == 0) {
            tell_pack(packs[i], i == 0, log);
        }
        pack_close(packs[i]);
    }
    free(cache_dir);
    return rc;
}

static void print_info(const Pack *pack, Log *log)
{
    int32_t highest = 0;
    int64_t bytes = 0;
    for (int64_t i = 0; i < pack_count(pack); i++) {
        highest = pack_label(pack, i) > highest ? pack_label(pack, i) : highest;
        for (int m = 0; m < MODALITIES; m++) {
            PackedPicture picture = pack_picture(pack, i, m);
            bytes += (int64_t)picture.width * picture.height * 3;
        }
    }
    log_result(log, "pairs            %lld", (long long)pack_count(pack));
    log_result(log, "labels           0 to %d", highest);
    log_result(log, "image size       %d", pack_resize(pack));
    log_result(log, "pixels           %.1f MB", (double)bytes / 1e6);
    log_result(log, "largest picture  %zu bytes", pack_largest_picture(pack));
    log_result(log, "digest           %016llx", (unsigned long long)pack_digest(pack));
    log_result(log, "left out         %d pictures that cannot be decoded", pack_skipped(pack));
    for (int i = 0; i < pack_skipped(pack); i++) {
        log_result(log, "  %s: %s", pack_skipped_path(pack, i), pack_skipped_reason(pack, i));
    }
}

static Picture borrow(PackedPicture packed)
{
    return (Picture){.width = packed.width,
                     .height = packed.height,
                     .pixels = (uint8_t *)packed.pixels}; /* only read from */
}

/* RGB and depth side by side on black. */
static Picture join(const Picture *left, const Picture *right)
{
    int height = left->height > right->height ? left->height : right->height;
    Picture both = {.width = left->width + right->width, .height = height};
    size_t row_bytes = (size_t)both.width * 3;
    both.pixels = mem_zeroed((size_t)height, row_bytes);
    const Picture *part[2] = {left, right};
    size_t at = 0;
    for (int p = 0; p < 2; p++) {
        size_t part_bytes = (size_t)part[p]->width * 3;
        for (size_t y = 0; y < (size_t)part[p]->height; y++) {
            memcpy(both.pixels + y * row_bytes + at, part[p]->pixels + y * part_bytes, part_bytes);
        }
        at += part_bytes;
    }
    return both;
}

static int extract(const Options *options, const Pack *pack, Err *err)
{
    if (options->index >= pack_count(pack)) {
        return err_set(err, "%s: has no pair %lld, only 0 to %lld", options->file[0],
                       (long long)options->index, (long long)pack_count(pack) - 1);
    }
    Picture rgb = borrow(pack_picture(pack, options->index, RGB));
    Picture depth = borrow(pack_picture(pack, options->index, DEPTH));
    if (options->files == 3) {
        return picture_write_png(&rgb, options->file[1], err) == 0
                   ? picture_write_png(&depth, options->file[2], err)
                   : -1;
    }
    Picture both = join(&rgb, &depth);
    int rc = picture_write_png(&both, options->file[1], err);
    picture_free(&both);
    return rc;
}

static int look_into(const Options *options, Pool *pool, Log *log, Err *err)
{
    Pack *pack = pack_open(options->file[0], err);
    if (!pack) {
        return -1;
    }
    int rc = 0;
    if (options->action == VERIFY) {
        rc = pack_verify(pack, pool, log, err);
        if (rc == 0) {
            log_result(log, "%s: all %lld pairs are sound", options->file[0],
                       (long long)pack_count(pack));
        }
    } else if (options->action == INFO) {
        print_info(pack, log);
    } else {
        rc = extract(options, pack, err);
    }
    pack_close(pack);
    return rc;
}

int main(int argc, char **argv)
{
    Options options = {.source = "synROD", .target = "ROD", .image_size = 256, .index = -1};
    Err err = {0};
    streams_complete();
    if (read_options(&options, argc, argv, &err) != 0) {
        fprintf(stderr, "pack: %s\n", err.text);
        return EXIT_FAILURE;
    }
    sigaction(SIGBUS, &(struct sigaction){.sa_handler = on_bus_error}, NULL);
    Log *log = log_open(stdout, stderr);
    Pool *pool = pool_open(options.threads);
    int rc = options.action == BUILD ? build(&options, pool, log, &err)
                                     : look_into(&options, pool, log, &err);
    rc = rc == 0 ? streams_check_output(&err) : rc;
    pool_close(pool);
    log_close(log);
    if (rc != 0) {
        fprintf(stderr, "pack: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
