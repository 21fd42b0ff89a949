/* build/pack: builds the packed files of a data set ahead of a training run, and looks into them.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "data/pack.h"
#include "data/picture.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef enum { BUILD, VERIFY, INFO, EXTRACT } Action;

typedef struct {
    Action action;
    const char *data_root, *source, *target, *cache_dir;
    bool smallset;
    int image_size, threads;
    int64_t index;       /* of --extract */
    const char *file[3]; /* the arguments without a name: PACK, OUT, OUT2 */
    int files;
} Options;

enum {
    KEY_DATA_ROOT = 256,
    KEY_SOURCE,
    KEY_TARGET,
    KEY_IMAGE_SIZE,
    KEY_CACHE_DIR,
    KEY_SMALLSET,
    KEY_THREADS,
    KEY_VERIFY,
    KEY_INFO,
    KEY_EXTRACT,
};

static const struct argp_option option_list[] = {
    {0, 0, 0, 0, "Building:", 1},
    {"data_root", KEY_DATA_ROOT, "FOLDER", 0, "holds synROD/ and ROD/ (needed)", 1},
    {"source", KEY_SOURCE, "NAME", 0, "data set with labels: synROD, synHB (default synROD)", 1},
    {"target", KEY_TARGET, "NAME", 0, "data set to adapt to: ROD, valHB (default ROD)", 1},
    {"image_size", KEY_IMAGE_SIZE, "PIXELS", 0,
     "side that training resizes pictures to; larger ones are packed at that size (default 256)",
     1},
    {"cache_dir", KEY_CACHE_DIR, "FOLDER", 0,
     "where packs go (default: rodeo-cache in the data root, or ./rodeo-cache if the data root is "
     "read-only or a mounted drive)",
     1},
    {"smallset", KEY_SMALLSET, 0, 0, "the small lists, classes 0 to 4 (default: the full ones)", 1},
    {"threads", KEY_THREADS, "N", 0, "worker threads (default 0: one a core)", 1},
    {0, 0, 0, 0, "Looking into a pack:", 2},
    {"verify", KEY_VERIFY, 0, 0, "check the checksum of every picture", 2},
    {"info", KEY_INFO, 0, 0, "print what is in it", 2},
    {"extract", KEY_EXTRACT, "INDEX", 0,
     "write pair INDEX (from 0) as PNG: OUT gets the RGB picture with the depth picture on its "
     "right; with OUT2 given, OUT gets RGB and OUT2 depth",
     2},
    {0, 0, 0, 0, "Other:", 3},
    {0, 'h', 0, OPTION_HIDDEN, "", 3},
    {0}};

static const char doc[] =
    "Decodes every picture that a training run needs, once, into one packed file a list, and tells "
    "what it did. Packs that are current are left as they are. Training does the same by itself "
    "when it starts; this program does it ahead of time.\v"
    "Example: pack --data_root ROD-synROD\n"
    "         pack --verify rodeo-cache/ROD-256.pack\n"
    "         pack --extract 7 rodeo-cache/ROD-256.pack pair7.png";

static const char arguments_doc[] =
    "--data_root FOLDER\n--verify PACK\n--info PACK\n--extract INDEX PACK OUT [OUT2]";

static int64_t parse_number(struct argp_state *state, const char *name, const char *text,
                            int64_t lowest, int64_t highest)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < lowest || value > highest) {
        argp_error(state, "%s must be a whole number from %lld to %lld, not '%s'", name,
                   (long long)lowest, (long long)highest, text);
    }
    return value;
}

/* What must stand beside what, checked once everything is read. */
static void check_options(const Options *options, struct argp_state *state)
{
    static const int least[] = {[BUILD] = 0, [VERIFY] = 1, [INFO] = 1, [EXTRACT] = 2};
    static const int most[] = {[BUILD] = 0, [VERIFY] = 1, [INFO] = 1, [EXTRACT] = 3};
    if (options->action == BUILD && !options->data_root) {
        argp_error(state, "name the data set's folder with --data_root");
    }
    if (options->files < least[options->action] || options->files > most[options->action]) {
        argp_error(state, "expected %d to %d file names, got %d", least[options->action],
                   most[options->action], options->files);
    }
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    Options *options = state->input;
    switch (key) {
    case KEY_DATA_ROOT:
        options->data_root = argument;
        break;
    case KEY_SOURCE:
        options->source = argument;
        break;
    case KEY_TARGET:
        options->target = argument;
        break;
    case KEY_CACHE_DIR:
        options->cache_dir = argument;
        break;
    case KEY_SMALLSET:
        options->smallset = true;
        break;
    case KEY_IMAGE_SIZE:
        options->image_size =
            (int)parse_number(state, "--image_size", argument, 1, PICTURE_MAX_SIDE);
        break;
    case KEY_THREADS:
        options->threads = (int)parse_number(state, "--threads", argument, 0, 1024);
        break;
    case KEY_VERIFY:
        options->action = VERIFY;
        break;
    case KEY_INFO:
        options->action = INFO;
        break;
    case KEY_EXTRACT:
        options->action = EXTRACT;
        options->index = parse_number(state, "--extract", argument, 0, INT64_MAX);
        break;
    case 'h':
        argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
        break;
    case ARGP_KEY_ARG:
        if (options->files == 3) {
            argp_error(state, "too many file names");
        }
        options->file[options->files++] = argument;
        break;
    case ARGP_KEY_END:
        check_options(options, state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int build_list(const Options *options, const char *cache_dir, const char *dataset,
                      Split split, Pool *pool, Log *log, Err *err)
{
    PairList list;
    if (pairs_read(&list, options->data_root, dataset, split, options->smallset, err) != 0) {
        return -1;
    }
    Pack *pack = pack_open_or_build(&list, options->image_size, cache_dir, pool, log, err);
    if (pack) {
        log_result(log, "%s: %lld pairs, %d classes: %s", list.name, (long long)list.count,
                   list.classes, pack_path(pack));
    }
    int rc = pack ? 0 : -1;
    pack_close(pack);
    pairs_free(&list);
    return rc;
}

/* The target has one list for training and test. */
static int build(const Options *options, Pool *pool, Log *log, Err *err)
{
    char *cache_dir = options->cache_dir ? mem_string(options->cache_dir)
                                         : pack_default_cache_dir(options->data_root);
    int rc = -1;
    if (build_list(options, cache_dir, options->source, SPLIT_TRAIN, pool, log, err) == 0 &&
        build_list(options, cache_dir, options->source, SPLIT_TEST, pool, log, err) == 0 &&
        build_list(options, cache_dir, options->target, SPLIT_TRAIN, pool, log, err) == 0) {
        rc = 0;
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
    static const struct argp parser = {option_list, parse_option, arguments_doc, doc, 0, 0, 0};
    Options options = {.source = "synROD", .target = "ROD", .image_size = 256};
    if (argp_parse(&parser, argc, argv, 0, NULL, &options) != 0) {
        return EXIT_FAILURE;
    }
    Err err = {0};
    Log *log = log_open(stdout, stderr);
    Pool *pool = pool_open(options.threads);
    int rc = options.action == BUILD ? build(&options, pool, log, &err)
                                     : look_into(&options, pool, log, &err);
    pool_close(pool);
    log_close(log);
    if (rc != 0) {
        fprintf(stderr, "pack: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
