/* build/evaluate: what a trained network answers on the source test set and on the target set. */
#include "base/args.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/streams.h"
#include "model/weights.h"
#include "train/checkpoint.h"
#include "train/confusion.h"
#include "train/corpus.h"
#include "train/evaluate.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *data_root, *checkpoint, *out, *cache_dir, *device, *precision;
    int batch, threads, gpu;
} Options;

static int read_options(Options *options, int argc, char **argv, Err *err)
{
    const ArgOption list[] = {
        arg_text("data_root", "DIR|TAR", &options->data_root,
                 "Folder that holds the data sets that the run was trained on, or a tar file of "
                 "it (needed)"),
        arg_text("checkpoint", "FILE", &options->checkpoint,
                 "A run's checkpoint.safetensors, or the run's folder (needed)"),
        arg_text("out", "DIR", &options->out,
                 "Where the files go (default: a folder \"evaluation\" beside the checkpoint)"),
        arg_text("cache_dir", "DIR", &options->cache_dir,
                 "Where packed data is (default: rodeo-cache in the data root, or in the working "
                 "directory where that cannot be written)"),
        arg_int("batch_size", "N", &options->batch, 1, 65536, "Pairs a batch (default: 64)"),
        arg_text("device", "NAME", &options->device, "auto, cuda or cpu (default: auto)"),
        arg_text("precision", "NAME", &options->precision,
                 "fp32, tf32, fp16, bf16 or auto: fp16 on GPUs with tensor cores, else fp32 "
                 "(default: auto)"),
        arg_int("gpu", "N", &options->gpu, 0, 1023, "Which GPU, counted from 0 (default: 0)"),
        arg_int("threads", "N", &options->threads, 0, 1024,
                "CPU threads; 0 for all cores (default: 0)"),
        {0},
    };
    const Args args = {
        .program = "evaluate",
        .summary = "Evaluates a trained network: prints accuracy on the source test set and on "
                   "the target set, in all and class by class, and writes confusion matrices (CSV "
                   "and PNG) and every prediction (CSV).",
        .ending = "Example:\n  build/evaluate --data_root ROD-synROD --checkpoint experiments/RUN",
        .options = list,
    };
    if (args_parse(&args, argc, argv, err) != 0) {
        return -1;
    }
    if (!options->data_root || !options->checkpoint) {
        err_set(err, "--data_root and --checkpoint are needed");
        return args_explain(&args, err);
    }
    return 0;
}

/* Everything that the program holds open. */
typedef struct {
    const Options *options;
    Log *log;
    Pool *pool;
    SafeFile *file;
    Settings saved; /* of the run */
    CheckpointState state;
    Corpus corpus;
    int batch; /* pairs in it */
    Backend *be;
    Net *net;
    Input input;
    char *folder; /* where the files go */
} Evaluator;

static int open_checkpoint(Evaluator *e, Err *err)
{
    const char *given = e->options->checkpoint;
    e->saved = settings_default();
    e->file =
        path_is_folder(given) ? checkpoint_open(given, e->log, err) : safetensors_open(given, err);
    if (!e->file) {
        return -1;
    }
    settings_free(&e->saved);
    if (checkpoint_describe(e->file, &e->state, &e->saved, err) != 0) {
        e->saved = settings_default();
        return err_context(err, "%s", given);
    }
    return 0;
}

/* The batch that is asked for, but none larger than the sets: the network computes whole batches.
 */
static int choose_batch(const Evaluator *e)
{
    int64_t test = e->corpus.list[CORPUS_SOURCE_TEST].count;
    int64_t target = e->corpus.list[CORPUS_TARGET].count;
    int64_t most = test > target ? test : target;
    return most < e->options->batch ? (int)most : e->options->batch;
}

static int open_network(Evaluator *e, Err *err)
{
    const Settings *s = &e->saved;
    DeviceOptions device = {.threads = e->options->threads,
                            .gpu = e->options->gpu,
                            .precision = e->options->precision,
                            .cache_dir = e->folder,
                            .notice = log_note_text,
                            .notice_user = e->log};
    NetConfig config = {
        .trunk = {.depth = settings_depth(s), .width = s->arch_width, .crop = s->crop_size},
        .classes = (int)e->state.classes,
        .dropout_p = (float)s->dropout_p,
        .rotation_dropout_p = 0.5f};
    e->batch = choose_batch(e);
    NetStep step = {.batch = e->batch, .main_groups = 1};
    e->be = device_open(e->options->device, &device, err);
    if (!e->be) {
        return -1;
    }
    e->net = net_open(e->be, &config, &step, s->seed, err);
    if (!e->net || weights_restore(e->net, e->file, false, err) != 0) {
        return err_context(err, "%s", e->options->checkpoint);
    }
    input_open(&e->input, e->be, net_samples(e->net), s->image_size, s->crop_size);
    return corpus_place(&e->corpus, e->be, "auto", e->log, err);
}

static int open_data(Evaluator *e, Err *err)
{
    CorpusSettings corpus = {.data_root = e->options->data_root,
                             .source = e->saved.source,
                             .target = e->saved.target,
                             .cache_dir = e->options->cache_dir,
                             .smallset = e->saved.smallset,
                             .resize = e->saved.image_size,
                             .skip_bad = e->saved.skip_bad};
    e->pool = pool_open(e->options->threads);
    if (corpus_read(&e->corpus, &corpus, err) != 0 ||
        corpus_pack(&e->corpus, &corpus, CORPUS_SOURCE_TEST, e->pool, e->log, err) != 0) {
        return -1;
    }
    if (e->corpus.classes != (int)e->state.classes) {
        return err_set(err, "the checkpoint was trained on %d classes, but %s has %d",
                       (int)e->state.classes, e->corpus.list[CORPUS_SOURCE_TRAIN].file,
                       e->corpus.classes);
    }
    return 0;
}

static void take_prediction(void *context, const PairPlan *pair, int prediction)
{
    confusion_add(context, pair->index, pair->label, prediction);
}

static void print_classes(Log *log, const Confusion *confusion, char *const *names)
{
    for (int c = 0; c < confusion->classes; c++) {
        int64_t pairs = confusion_pairs(confusion, c);
        int64_t hits = confusion_hits(confusion, c);
        if (pairs > 0) {
            log_result(log, "  %-18s %6.2f %%  (%lld of %lld)", names[c],
                       100.0 * (double)hits / (double)pairs, (long long)hits, (long long)pairs);
        }
    }
}

static int evaluate_set(Evaluator *e, CorpusSet set, const char *name, const char *folder, Err *err)
{
    const PairList *list = &e->corpus.list[set];
    Confusion confusion;
    EvaluateResult result;
    confusion_open(&confusion, e->corpus.classes, list->count);
    EvaluateSettings settings = {
        .plan = {.pack = e->corpus.pack[set],
                 .seed = e->saved.seed,
                 .loader = set == CORPUS_TARGET ? LOADER_TARGET_TEST : LOADER_SOURCE_TEST,
                 .batch = e->batch,
                 .crop = e->saved.crop_size},
        .store = e->corpus.store,
        .task = EVALUATE_CLASSES,
        .workers = 1,
        .label = "Evaluation: ",
        .predicted = take_prediction,
        .context = &confusion,
    };
    int rc = evaluate_run(e->net, &e->input, &settings, e->log, &result, err);
    if (rc == 0) {
        log_result(e->log, "%s accuracy: %.2f %%  (%lld of %lld pairs of %s)", name,
                   100.0 * result.accuracy, (long long)result.correct, (long long)result.pairs,
                   list->name);
        print_classes(e->log, &confusion, e->corpus.class_names);
        rc = confusion_write(&confusion, list, e->corpus.class_names, folder, name, err);
    }
    confusion_close(&confusion);
    return rc;
}

/* The folder that --out names, or "evaluation" beside the checkpoint. A new string. */
static char *output_folder(const Options *options)
{
    if (options->out) {
        return mem_string(options->out);
    }
    if (path_is_folder(options->checkpoint)) {
        return path_join(options->checkpoint, "evaluation");
    }
    const char *slash = strrchr(options->checkpoint, '/');
    int length = slash ? (int)(slash - options->checkpoint) + 1 : 0;
    return mem_format("%.*sevaluation", length, options->checkpoint);
}

static int evaluate(Evaluator *e, Err *err)
{
    e->folder = output_folder(e->options);
    if (open_checkpoint(e, err) != 0 || open_data(e, err) != 0 || open_network(e, err) != 0) {
        return -1;
    }
    char place[CHECKPOINT_PLACE_SIZE];
    log_note(e->log, "Checkpoint of %s, %s width %d; device: %s.",
             checkpoint_place(&e->state, place), e->saved.arch, e->saved.arch_width,
             device_description(e->be));
    int rc = path_make_folders(e->folder, err);
    if (rc == 0) {
        rc = evaluate_set(e, CORPUS_SOURCE_TEST, "source", e->folder, err);
    }
    if (rc == 0) {
        rc = evaluate_set(e, CORPUS_TARGET, "target", e->folder, err);
    }
    if (rc == 0) {
        log_note(e->log, "Confusion matrices and predictions are in %s", e->folder);
    }
    return rc;
}

static void on_bus_error(int number)
{
    (void)number;
    pack_die_lost(PACK_LOST("evaluate", " --cache_dir names another place."));
}

int main(int argc, char **argv)
{
    Options options = {.device = "auto", .batch = 64};
    Err err = {""};
    streams_complete();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (read_options(&options, argc, argv, &err) != 0) {
        fprintf(stderr, "evaluate: %s\n", err.text);
        return 1;
    }
    sigaction(SIGBUS, &(struct sigaction){.sa_handler = on_bus_error}, NULL);
    Evaluator e = {.options = &options, .log = log_open(stdout, stderr)};
    int rc = evaluate(&e, &err);
    rc = rc == 0 ? streams_check_output(&err) : rc;
    if (rc != 0) {
        log_note(e.log, "evaluate: %s", err.text);
    }
    input_close(&e.input);
    net_close(e.net);
    corpus_close(&e.corpus);
    device_close(e.be);
    pool_close(e.pool);
    safetensors_close(e.file);
    settings_free(&e.saved);
    free(e.folder);
    log_close(e.log);
    return rc == 0 ? 0 : 1;
}
