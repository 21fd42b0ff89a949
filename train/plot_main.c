/* build/plot_runs: the accuracy curves of one or more runs in one picture, and a table of results.
 */
#include "base/args.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/streams.h"
#include "train/metrics.h"
#include "train/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One run: its folder's metrics, split into the two curves. */
typedef struct {
    const char *argument; /* that names it */
    char *folder;
    char *label;
    char *target_label;
    char *source_label;
    double *target;
    double *source;
    int count; /* the last epoch */
} Run;

typedef struct {
    const char *out;
    Run *runs;
    int count;
} Options;

static void run_free(Run *run)
{
    free(run->folder);
    free(run->label);
    free(run->target_label);
    free(run->source_label);
    free(run->target);
    free(run->source);
}

static char *last_part(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    return mem_format("%.*s", (int)(end - start), path + start);
}

/* Splits RUN_FOLDER[=label]. A run's own name is full of '=', so an argument that is a folder as it
 * stands has no label, and otherwise the last '=' counts. */
static Run run_named(const char *argument)
{
    const char *mark = path_is_folder(argument) ? NULL : strrchr(argument, '=');
    if (!mark) {
        return (Run){
            .argument = argument, .folder = mem_string(argument), .label = last_part(argument)};
    }
    return (Run){.argument = argument,
                 .folder = mem_format("%.*s", (int)(mark - argument), argument),
                 .label = mem_string(mark + 1)};
}

/* Puts the value of every epoch at its place; an epoch that the file lacks stays a gap. */
static void take_curves(Run *run, const EpochMetrics *metrics, int lines)
{
    for (int i = 0; i < lines; i++) {
        run->count = metrics[i].epoch > run->count ? metrics[i].epoch : run->count;
    }
    run->target = mem_zeroed((size_t)run->count, sizeof *run->target);
    run->source = mem_zeroed((size_t)run->count, sizeof *run->source);
    for (int i = 0; i < run->count; i++) {
        run->target[i] = run->source[i] = NAN;
    }
    for (int i = 0; i < lines; i++) {
        run->target[metrics[i].epoch - 1] = metrics[i].target_accuracy;
        run->source[metrics[i].epoch - 1] = metrics[i].source_accuracy;
    }
}

static int run_read(Run *run, Err *err)
{
    if (!path_is_folder(run->folder)) {
        err_set(err, "%s: there is no such folder: name the folder of a run", run->argument);
        return -1;
    }
    char *path = path_join(run->folder, "metrics.jsonl");
    MetricsHistory history;
    int rc = metrics_read(path, &history, err);
    if (rc == 0 && history.count == 0) {
        rc = err_set(err, "%s: no epoch is finished yet: there is nothing to draw", path);
    }
    if (rc == 0) {
        take_curves(run, history.epoch, history.count);
        run->target_label = mem_format("target: %s", run->label);
        run->source_label = mem_format("source: %s", run->label);
    }
    metrics_free(&history);
    free(path);
    return rc;
}

static int draw(const Options *options, Err *err)
{
    PlotSeries *series = mem_zeroed(2 * (size_t)options->count, sizeof *series);
    for (int i = 0; i < options->count; i++) {
        Run *run = &options->runs[i];
        if (run_read(run, err) != 0) {
            free(series);
            return -1;
        }
        series[2 * i] = (PlotSeries){run->target_label, run->target, run->count, false};
        series[2 * i + 1] = (PlotSeries){run->source_label, run->source, run->count, true};
    }
    int rc = plot_lines(options->out, "Accuracy on the target and the source test set", "epoch",
                        "accuracy", 0, 1, series, 2 * options->count, err);
    free(series);
    return rc;
}

/* Columns that a text takes: its characters, of UTF-8. */
static int columns(const char *text)
{
    int count = 0;
    for (; *text; text++) {
        count += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return count;
}

/* One line a run: what it came to after its last epoch. */
static void print_table(const Options *options)
{
    int width = 3;
    for (int i = 0; i < options->count; i++) {
        int length = columns(options->runs[i].label);
        width = length > width ? length : width;
    }
    printf("%-*s  epochs  source accuracy  target accuracy\n", width, "run");
    for (int i = 0; i < options->count; i++) {
        const Run *run = &options->runs[i];
        printf("%s%*s  %6d  %13.2f %%  %13.2f %%\n", run->label, width - columns(run->label), "",
               run->count, 100.0 * run->source[run->count - 1],
               100.0 * run->target[run->count - 1]);
    }
}

/* Fills options; its runs are the caller's to free, also after an error. */
static int read_options(Options *options, int argc, char **argv, Err *err)
{
    const char **folders = mem_zeroed((size_t)argc, sizeof *folders);
    const ArgOption list[] = {
        arg_text("out", "FILE.png", &options->out, "The picture to write (needed)"),
        {0},
    };
    const Args args = {
        .program = "plot_runs",
        .summary = "Draws the accuracy of training runs over their epochs: on the target test set "
                   "as a solid line, on the source test set as a dashed one; and prints a table "
                   "of what each came to after its last epoch. Each RUN_FOLDER is the folder of a "
                   "run, which holds metrics.jsonl.",
        .ending = "Example:\n\n"
                  "  plot_runs --out curves.png experiments/run1=adapted experiments/run2=plain\n",
        .options = list,
        .operands = {.usage = "RUN_FOLDER[=LABEL]...",
                     .into = folders,
                     .count = &options->count,
                     .most = argc},
    };
    int rc = args_parse(&args, argc, argv, err);
    if (rc == 0 && !options->out) {
        err_set(err, "--out FILE.png is missing: the picture to write");
        rc = args_explain(&args, err);
    }
    if (rc == 0 && options->count == 0) {
        err_set(err, "name the folder of at least one run");
        rc = args_explain(&args, err);
    }
    options->runs = mem_zeroed((size_t)options->count, sizeof *options->runs);
    for (int i = 0; i < options->count; i++) {
        options->runs[i] = run_named(folders[i]);
    }
    free(folders);
    return rc;
}

int main(int argc, char **argv)
{
    Options options = {0};
    Err err = {""};
    streams_complete();
    int rc = read_options(&options, argc, argv, &err) == 0 ? draw(&options, &err) : -1;
    if (rc == 0) {
        print_table(&options);
        rc = streams_check_output(&err);
    }
    if (rc != 0) {
        fprintf(stderr, "plot_runs: %s\n", err.text);
    }
    for (int i = 0; i < options.count; i++) {
        run_free(&options.runs[i]);
    }
    free(options.runs);
    return rc == 0 ? 0 : 1;
}
