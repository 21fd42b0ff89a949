/* demo_data: writes the demo data set. */
#include "base/args.h"
#include "base/err.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/streams.h"
#include "data/demo/catalogue.h"
#include "data/demo/dataset.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const char *out, *tar, *sheet;
    DemoSettings settings;
    int threads;
} Options;

static int read_options(Options *options, int argc, char **argv, Err *err)
{
    DemoSettings *settings = &options->settings;
    const ArgOption list[] = {
        arg_text("out", "DIR", &options->out,
                 "Folder for the data set: new, empty, or with the same set in it, which is then "
                 "completed. It is what train takes as --data_root"),
        arg_int("classes", "N", &settings->classes, 2, CATALOGUE_CLASSES,
                "Classes, 2 to 16 (default 8)"),
        arg_int("per_class", "N", &settings->per_class, DEMO_MIN_PER_CLASS, DEMO_MAX_PER_CLASS,
                "RGB-D pairs of each class for training, and as many real ones; a quarter of it "
                "more for the synthetic test (4 to 5000, default 60)"),
        arg_uint64("seed", "N", &settings->seed,
                   "The same seed gives the same pictures (default 1)"),
        arg_text("tar", "FILE", &options->tar,
                 "Also pack the data set into one tar file, below ROD-synROD/"),
        arg_text("sheet", "FILE.png", &options->sheet,
                 "Also draw a contact sheet of the classes. Without --out only this is done"),
        arg_int("threads", "N", &options->threads, 1, 256,
                "Threads, 1 to 256 (default: one a core)"),
        {0},
    };
    const Args args = {
        .program = "demo_data",
        .summary = "Writes a demo data set: procedural RGB-D pictures of household things, "
                   "rendered clean (synROD) and as a real camera might see them (ROD), in the "
                   "files and names of ROD-synROD.",
        .ending = "Example:\n  demo_data --out demo --sheet demo.png\n"
                  "  train --data_root demo --logdir runs",
        .options = list,
    };
    if (args_parse(&args, argc, argv, err) != 0) {
        return -1;
    }
    if (!options->out && (!options->sheet || options->tar)) {
        err_set(err, "--out DIR is missing: say where to put the data set");
        return args_explain(&args, err);
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
    Err err = {0};
    streams_complete();
    if (read_options(&options, argc, argv, &err) != 0) {
        fprintf(stderr, "demo_data: %s\n", err.text);
        return 1;
    }
    Log *log = log_open(stdout, stderr);
    int rc = run(&options, log, &err);
    rc = rc == 0 ? streams_check_output(&err) : rc;
    log_close(log);
    if (rc != 0) {
        fprintf(stderr, "demo_data: %s\n", err.text);
        return 1;
    }
    return 0;
}
