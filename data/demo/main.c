/* demo_data: writes the demo data set. */
#include "base/err.h"
#include "base/log.h"
#include "base/pool.h"
#include "data/demo/catalogue.h"
#include "data/demo/dataset.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const char *out, *tar, *sheet;
    DemoSettings settings;
    int threads;
} Options;

enum { KEY_OUT = 256, KEY_CLASSES, KEY_PER_CLASS, KEY_SEED, KEY_TAR, KEY_SHEET, KEY_THREADS };

static const struct argp_option option_list[] = {
    {"help", 'h', NULL, 0, "Print this text", -1},
    {"out", KEY_OUT, "DIR", 0,
     "Folder for the data set: new, empty, or with the same set in it, which is then completed. It "
     "is what train takes as --data_root",
     0},
    {"classes", KEY_CLASSES, "N", 0, "Classes, 2 to 16 (default 8)", 0},
    {"per_class", KEY_PER_CLASS, "N", 0,
     "RGB-D pairs of each class for training, and as many real ones; a quarter of it more for the "
     "synthetic test (4 to 5000, default 60)",
     0},
    {"seed", KEY_SEED, "N", 0, "The same seed gives the same pictures (default 1)", 0},
    {"tar", KEY_TAR, "FILE", 0, "Also pack the data set into one tar file, below ROD-synROD/", 0},
    {"sheet", KEY_SHEET, "FILE.png", 0,
     "Also draw a contact sheet of the classes. Without --out only this is done", 0},
    {"threads", KEY_THREADS, "N", 0, "Threads, 1 to 256 (default: one a core)", 0},
    {0},
};

static const char help_text[] =
    "Writes a demo data set: procedural RGB-D pictures of household things, rendered clean "
    "(synROD) and as a real camera might see them (ROD), in the files and names of ROD-synROD."
    "\vExample:\n  demo_data --out demo --sheet demo.png\n  train --data_root demo --logdir runs";

/* Reads a whole number from low to high, or ends the program with a message. */
static uint64_t parse_number(const char *text, const char *name, uint64_t low, uint64_t high,
                             const struct argp_state *state)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < low ||
        value > high) {
        argp_failure(state, 1, 0, "--%s %s: must be a whole number from %llu to %llu", name, text,
                     (unsigned long long)low, (unsigned long long)high);
    }
    return value;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    Options *options = state->input;
    DemoSettings *settings = &options->settings;
    switch (key) {
    case 'h':
        argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
        break;
    case KEY_OUT:
        options->out = text;
        break;
    case KEY_TAR:
        options->tar = text;
        break;
    case KEY_SHEET:
        options->sheet = text;
        break;
    case KEY_CLASSES:
        settings->classes = (int)parse_number(text, "classes", 2, CATALOGUE_CLASSES, state);
        break;
    case KEY_PER_CLASS:
        settings->per_class =
            (int)parse_number(text, "per_class", DEMO_MIN_PER_CLASS, DEMO_MAX_PER_CLASS, state);
        break;
    case KEY_SEED:
        settings->seed = parse_number(text, "seed", 0, UINT64_MAX, state);
        break;
    case KEY_THREADS:
        options->threads = (int)parse_number(text, "threads", 1, 256, state);
        break;
    case ARGP_KEY_ARG:
        argp_failure(state, 1, 0, "%s: is not an option; -h lists them", text);
        break;
    case ARGP_KEY_END:
        if (!options->out && (!options->sheet || options->tar)) {
            argp_failure(state, 1, 0, "--out DIR is missing: say where to put the data set");
        }
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int write_set(const DemoSet *set, const Options *options, Pool *pool, Log *log, Err *err)
{
    int64_t added;
    if (demo_write(set, options->out, pool, log, &added, err) != 0) {
        return -1;
    }
    int pairs = set->count[DEMO_TRAIN] + set->count[DEMO_TEST] + set->count[DEMO_TARGET];
    if (added == 0) {
        log_result(log, "%s: already holds this data set, all %d pairs", options->out, pairs);
    } else {
        log_result(log, "%s: %d classes, %d synthetic pairs and %d to test with, %d real pairs",
                   options->out, options->settings.classes, set->count[DEMO_TRAIN],
                   set->count[DEMO_TEST], set->count[DEMO_TARGET]);
    }
    if (options->tar) {
        if (demo_write_tar(set, options->out, options->tar, log, err) != 0) {
            return -1;
        }
        log_result(log, "%s: the same as a tar file", options->tar);
    }
    return 0;
}

static int run(const Options *options, Log *log, Err *err)
{
    DemoSet *set = demo_open(&options->settings);
    Pool *pool = pool_open(options->threads);
    int rc = options->out ? write_set(set, options, pool, log, err) : 0;
    if (rc == 0 && options->sheet) {
        rc = demo_write_sheet(set, options->sheet, pool, err);
        if (rc == 0) {
            log_result(log, "%s: contact sheet", options->sheet);
        }
    }
    pool_close(pool);
    demo_close(set);
    return rc;
}

int main(int argc, char **argv)
{
    Options options = {.settings = {.classes = 8, .per_class = 60, .seed = 1}};
    const struct argp argp = {option_list, parse_option, NULL, help_text, NULL, NULL, NULL};
    argp_err_exit_status = 1;
    argp_parse(&argp, argc, argv, ARGP_NO_HELP, NULL, &options);
    Log *log = log_open(stdout, stderr);
    Err err = {0};
    int rc = run(&options, log, &err);
    log_close(log);
    if (rc != 0) {
        fprintf(stderr, "demo_data: %s\n", err.text);
        return 1;
    }
    return 0;
}
