/* build/export: a trained network's weights for PyTorch, and the network as an ONNX model. */
#include "base/args.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/streams.h"
#include "base/text.h"
#include "model/weights.h"
#include "train/checkpoint.h"
#include "train/export_onnx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *checkpoint, *out;
} Options;

/* What is written of the checkpoint, each under its names without the prefix. */
static const struct {
    const char *prefix, *file;
} parts[] = {
    {"rgb.", "rgb_trunk.safetensors"},
    {"depth.", "depth_trunk.safetensors"},
    {"main.", "main_head.safetensors"},
    {"rotation.", "rotation_head.safetensors"},
};

static int read_options(Options *options, int argc, char **argv, Err *err)
{
    const ArgOption list[] = {
        arg_text("checkpoint", "FILE", &options->checkpoint,
                 "A run's checkpoint.safetensors, or the run's folder (needed)"),
        arg_text("out", "DIR", &options->out,
                 "Where the files go (default: a folder \"export\" beside the checkpoint)"),
        {0},
    };
    const Args args = {
        .program = "export",
        .summary = "Writes a trained network for other programs: rgb_trunk, depth_trunk, main_head "
                   "and rotation_head as .safetensors with the state-dict names and layouts of "
                   "PyTorch (the trunks' are torchvision's), and network.onnx, the whole network "
                   "for inference, from normalised pictures to class and rotation logits.",
        .ending = "Example:\n  build/export --checkpoint experiments/RUN --out exported\n"
                  "docs/pytorch.md shows how to load the files in Python.",
        .options = list,
    };
    if (args_parse(&args, argc, argv, err) != 0) {
        return -1;
    }
    if (!options->checkpoint) {
        err_set(err, "--checkpoint is needed");
        return args_explain(&args, err);
    }
    return 0;
}

typedef struct {
    const Options *options;
    Log *log;
    SafeFile *file;
    Settings saved; /* of the run */
    CheckpointState state;
    Backend *be;
    Net *net;
    char *folder;
} Exporter;

static int open_checkpoint(Exporter *e, Err *err)
{
    const char *given = e->options->checkpoint;
    e->file =
        path_is_folder(given) ? checkpoint_open(given, e->log, err) : safetensors_open(given, err);
    if (!e->file) {
        return -1;
    }
    if (checkpoint_describe(e->file, &e->state, &e->saved, err) != 0) {
        e->saved = (Settings){0};
        err_context(err, "%s", given);
        return -1;
    }
    return 0;
}

/* The network, which also checks that the checkpoint is complete. It never computes: the CPU will
 * do. */
static int open_network(Exporter *e, Err *err)
{
    const Settings *s = &e->saved;
    DeviceOptions device = {0};
    NetConfig config = {
        .trunk = {.depth = settings_depth(s), .width = s->arch_width, .crop = s->crop_size},
        .classes = e->state.classes};
    NetStep step = {.batch = 2, .main_groups = 1};
    e->be = device_open("cpu", &device, err);
    if (!e->be) {
        return -1;
    }
    e->net = net_open(e->be, &config, &step, s->seed, err);
    if (!e->net || weights_restore(e->net, e->file, false, err) != 0) {
        return err_context(err, "%s", e->options->checkpoint);
    }
    return 0;
}

/* The tensors whose names begin with a prefix, without it, in the order of the network's tables as
 * a state dict has them. */
static int write_part(const Exporter *e, const char *prefix, const char *name, Err *err)
{
    const SafeMetadata metadata[] = {{"format", "pt"}};
    WeightList weights = weights_collect(e->net);
    SafeTensor *chosen = mem_zeroed((size_t)weights.count, sizeof *chosen);
    int count = 0;
    for (int i = 0; i < weights.count; i++) {
        if (text_starts_with(weights.tensor[i].name, prefix)) {
            chosen[count] = weights.tensor[i];
            chosen[count++].name += strlen(prefix);
        }
    }
    char *path = path_join(e->folder, name);
    int rc = safetensors_write(path, NULL, chosen, count, metadata, 1, err);
    if (rc == 0) {
        log_result(e->log, "%s: %d tensors", path, count);
    }
    free(path);
    free(chosen);
    weights_free(&weights);
    return rc;
}

static int write_onnx(const Exporter *e, Err *err)
{
    char *path = path_join(e->folder, "network.onnx");
    int rc = export_onnx(e->net, path, err);
    if (rc == 0) {
        log_result(e->log, "%s: the whole network, opset %d", path, EXPORT_ONNX_OPSET);
    }
    free(path);
    return rc;
}

/* The folder that --out names, or "export" beside the checkpoint. A new string. */
static char *output_folder(const Options *options)
{
    if (options->out) {
        return mem_string(options->out);
    }
    if (path_is_folder(options->checkpoint)) {
        return path_join(options->checkpoint, "export");
    }
    const char *slash = strrchr(options->checkpoint, '/');
    int length = slash ? (int)(slash - options->checkpoint) + 1 : 0;
    return mem_format("%.*sexport", length, options->checkpoint);
}

static int export_all(Exporter *e, Err *err)
{
    if (open_checkpoint(e, err) != 0 || open_network(e, err) != 0) {
        return -1;
    }
    char place[CHECKPOINT_PLACE_SIZE];
    log_note(e->log, "Checkpoint of %s: %s of width %d, %d classes.",
             checkpoint_place(&e->state, place), e->saved.arch, e->saved.arch_width,
             (int)e->state.classes);
    e->folder = output_folder(e->options);
    int rc = path_make_folders(e->folder, err);
    for (size_t i = 0; rc == 0 && i < sizeof parts / sizeof *parts; i++) {
        rc = write_part(e, parts[i].prefix, parts[i].file, err);
    }
    return rc == 0 ? write_onnx(e, err) : -1;
}

int main(int argc, char **argv)
{
    Options options = {0};
    Err err = {""};
    streams_complete();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (read_options(&options, argc, argv, &err) != 0) {
        fprintf(stderr, "export: %s\n", err.text);
        return 1;
    }
    Exporter e = {.options = &options, .log = log_open(stdout, stderr)};
    int rc = export_all(&e, &err);
    rc = rc == 0 ? streams_check_output(&err) : rc;
    if (rc != 0) {
        log_note(e.log, "export: %s", err.text);
    }
    net_close(e.net);
    device_close(e.be);
    safetensors_close(e.file);
    settings_free(&e.saved);
    free(e.folder);
    log_close(e.log);
    return rc == 0 ? 0 : 1;
}
