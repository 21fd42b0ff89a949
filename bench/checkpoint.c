/* build/bench_checkpoint: what a checkpoint of the full network costs.
 *
 * How long a request keeps the training waiting (the copy of the network's state to host memory),
 * how long the file takes to be written in the background until it is durable, and how long reading
 * it back takes. */
#include "base/args.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "bench/median.h"
#include "train/saver.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    const char *device, *folder;
    int width, depth, times;
} Options;

typedef struct {
    double first, median, longest;
} Times;

static int read_options(Options *o, int argc, char **argv, Err *err)
{
    const ArgOption list[] = {
        arg_text("folder", "FOLDER", &o->folder,
                 "Where the checkpoints are written and removed again (default: .)"),
        arg_int("times", "N", &o->times, 2, 1000, "Checkpoints timed (default: 10)"),
        arg_int("depth", "18|50", &o->depth, 18, 50, "Depth of the ResNet trunks (default: 18)"),
        arg_int("width", "N", &o->width, 1, 1024, "Channels of their first stage (default: 64)"),
        arg_text("device", "NAME", &o->device, "auto, cuda or cpu (default: auto)"),
        {0},
    };
    const Args args = {
        .program = "bench_checkpoint",
        .summary = "Times checkpoints of two trunks and both heads: the stall, the write, the way "
                   "back.",
        .options = list,
    };
    return args_parse(&args, argc, argv, err);
}

static Times summarise(double *seconds, int count)
{
    Times times = {.first = seconds[0]};
    times.median = median(seconds, count);
    times.longest = seconds[count - 1];
    return times;
}

static void print_times(const char *what, Times t)
{
    printf("%s: first %.1f ms, median %.1f ms, longest %.1f ms\n", what, 1e3 * t.first,
           1e3 * t.median, 1e3 * t.longest);
}

static int time_writes(const Options *o, const Net *net, const Settings *settings, Log *log,
                       Err *err)
{
    double *stall = mem_zeroed((size_t)o->times, sizeof *stall);
    double *write = mem_zeroed((size_t)o->times, sizeof *write);
    SaverSettings saving = {.folder = o->folder, .net = net, .settings = settings, .log = log};
    CheckpointState state = {.classes = net->config.classes};
    MetricsHistory history = {0};
    double start = clock_seconds();
    Saver *saver = saver_open(&saving, NULL);
    printf("opening: %.1f ms\n", 1e3 * (clock_seconds() - start));
    int rc = 0;
    for (int i = 0; i < o->times && rc == 0; i++) {
        state.step = i + 1;
        start = clock_seconds();
        saver_request(saver, SAVE_TRAINED, &state, &history);
        stall[i] = clock_seconds() - start;
        rc = saver_finish(saver, err);
        write[i] = clock_seconds() - start;
    }
    saver_close(saver);
    if (rc == 0) {
        print_times("stall of the training", summarise(stall, o->times));
        print_times("until it is durable", summarise(write, o->times));
    }
    free(stall);
    free(write);
    return rc;
}

static int time_reads(const Options *o, Net *net, Log *log, Err *err)
{
    double *read = mem_zeroed((size_t)o->times, sizeof *read);
    int rc = 0;
    for (int i = 0; i < o->times && rc == 0; i++) {
        double start = clock_seconds();
        SafeFile *file = checkpoint_open(o->folder, log, err);
        rc = file ? weights_restore(net, file, true, err) : -1;
        safetensors_close(file);
        read[i] = clock_seconds() - start;
    }
    if (rc == 0) {
        print_times("reading, checking and restoring", summarise(read, o->times));
    }
    free(read);
    return rc;
}

static int measure(const Options *o, Net *net, Log *log, Err *err)
{
    char *path = checkpoint_path(o->folder);
    char *old = checkpoint_old_path(o->folder);
    Settings settings = settings_default();
    struct stat status;
    int rc = 0;
    if (checkpoint_exists(o->folder)) {
        rc = err_set(err, "%s holds a checkpoint already: give another --folder", o->folder);
    }
    if (rc == 0) {
        rc = time_writes(o, net, &settings, log, err);
        rc = rc == 0 ? time_reads(o, net, log, err) : -1;
        if (stat(path, &status) == 0) {
            printf("file: %.1f MB\n", (double)status.st_size / 1e6);
        }
        unlink(path);
        unlink(old);
    }
    settings_free(&settings);
    free(old);
    free(path);
    return rc;
}

int main(int argc, char **argv)
{
    Options o = {.device = "auto", .folder = ".", .width = 64, .depth = 18, .times = 10};
    DeviceOptions device = {0};
    Err err = {""};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (read_options(&o, argc, argv, &err) != 0) {
        fprintf(stderr, "bench_checkpoint: %s\n", err.text);
        return 1;
    }
    NetConfig config = {.trunk = {.depth = o.depth, .width = o.width, .crop = 224},
                        .classes = 47,
                        .dropout_p = 0.5f,
                        .rotation_dropout_p = 0.5f};
    NetStep step = step_groups(2, 0.1, 1.0);
    Backend *be = device_open(o.device, &device, &err);
    Net *net = be ? net_open(be, &config, &step, 0, &err) : NULL;
    FILE *nowhere = fopen("/dev/null", "w");
    Log *log = log_open(nowhere ? nowhere : stderr, nowhere ? nowhere : stderr);
    if (net) {
        printf("%s, two ResNet-%d trunks of width %d\n", device_description(be), o.depth, o.width);
    }
    int rc = net ? measure(&o, net, log, &err) : -1;
    if (rc != 0) {
        fprintf(stderr, "bench_checkpoint: %s\n", err.text);
    }
    log_close(log);
    if (nowhere) {
        fclose(nowhere);
    }
    net_close(net);
    device_close(be);
    return rc == 0 ? 0 : 1;
}
