#include "kernels/cuda/conv_plans.h"

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define RETRY_SECONDS 60.0  /* behind a write that failed */
#define WAIT_SECONDS  120.0 /* for other processes that measure, in all */
#define POLL_MS       50

/* A line of the file: a convolution, and what it runs with. */
typedef struct {
    ConvPass pass;
    char precision[8];
    ConvShape shape;
    ConvEngine engine;
} Kept;

/* A convolution that is ready to run in a lane, made with that lane's handle. */
typedef struct {
    int lane;
    ConvGraph *graph;
    ConvChoice choice;
} Ready;

struct CudaConvPlans {
    Ready *ready;
    int count;
    Kept *kept;
    int kept_count;
    bool changed;        /* since the file was read or written */
    double next_attempt; /* clock_seconds() from which on it may be written */
    char *folder;        /* NULL: nothing is kept */
    int turn;            /* the folder, locked, while this process measures; else -1 */
    double patience;     /* seconds left of those that it waits for its turn */
    char *path;
    void *compiler; /* held from the first measurement on: conv_hold_compiler */
    void (*notice)(void *user, const char *text); /* NULL once it was told */
    void *notice_user;
};

static const char *const pass_names[] = {"fprop", "dgrad", "wgrad"};

static bool same_convolution(ConvPass pass, const ConvShape *a, ConvPass other, const ConvShape *b)
{
    return pass == other && a->N == b->N && a->H == b->H && a->W == b->W && a->C == b->C &&
           a->K == b->K && a->R == b->R && a->stride == b->stride && a->pad == b->pad;
}

static Kept *find_kept(const CudaConvPlans *plans, ConvPass pass, const ConvShape *shape,
                       const char *precision)
{
    for (int i = 0; i < plans->kept_count; i++) {
        Kept *k = &plans->kept[i];
        if (same_convolution(k->pass, &k->shape, pass, shape) &&
            strcmp(k->precision, precision) == 0) {
            return k;
        }
    }
    return NULL;
}

static void keep(CudaConvPlans *plans, const Kept *kept)
{
    plans->kept = mem_resize(plans->kept, (size_t)(plans->kept_count + 1) * sizeof *plans->kept);
    plans->kept[plans->kept_count++] = *kept;
}

/* ---- reading the file --------------------------------------------------------------------------
 */

/* Takes the number behind `label`, if that is what *line goes on with. */
static bool take_number(const char **line, const char *label, int64_t *value)
{
    size_t length = strlen(label);
    char *end;
    if (strncmp(*line, label, length) != 0) {
        return false;
    }
    errno = 0;
    *value = strtoll(*line + length, &end, 10);
    if (errno != 0 || end == *line + length) {
        return false;
    }
    *line = end;
    return true;
}

static bool take_size(const char **line, const char *label, int *value)
{
    int64_t number;
    if (!take_number(line, label, &number) || number < 0 || number > INT_MAX) {
        return false;
    }
    *value = (int)number;
    return true;
}

/* Takes the word and the blank that *line begins with. */
static bool take_word(const char **line, char *word, size_t size)
{
    size_t length = strcspn(*line, " \n");
    if (length == 0 || length >= size || (*line)[length] != ' ') {
        return false;
    }
    snprintf(word, size, "%.*s", (int)length, *line);
    *line += length + 1;
    return true;
}

static bool take_pass(const char **line, ConvPass *pass)
{
    char word[8];
    if (!take_word(line, word, sizeof word)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (strcmp(word, pass_names[i]) == 0) {
            *pass = (ConvPass)i;
            return true;
        }
    }
    return false;
}

/* "engine 62 2=4 13=0"; "engine own 0=128". The line must have an end: "engine 6" may be all that
 * is left of it in a file that was cut off, and number 6 need not keep to the rules. */
static bool take_engine(const char **line, ConvEngine *engine)
{
    static const char own[] = ": engine own";
    if (strncmp(*line, own, strlen(own)) == 0) {
        *line += strlen(own);
        engine->index = CONV_OWN_ENGINE;
    } else if (!take_number(line, ": engine ", &engine->index)) {
        return false;
    }
    while (**line == ' ' && engine->knobs < CONV_KNOBS) {
        if (!take_size(line, " ", &engine->knob[engine->knobs].type) ||
            !take_number(line, "=", &engine->knob[engine->knobs].value)) {
            return false;
        }
        engine->knobs++;
    }
    return **line == '\n';
}

static bool parse_line(const char *line, Kept *kept)
{
    ConvShape *s = &kept->shape;
    struct {
        const char *label;
        int *value;
    } const fields[] = {
        {"N=", &s->N},  {" H=", &s->H}, {" W=", &s->W},           {" C=", &s->C},
        {" K=", &s->K}, {" R=", &s->R}, {" stride=", &s->stride}, {" pad=", &s->pad},
    };
    if (!take_pass(&line, &kept->pass) ||
        !take_word(&line, kept->precision, sizeof kept->precision)) {
        return false;
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!take_size(&line, fields[i].label, fields[i].value)) {
            return false;
        }
    }
    return take_engine(&line, &kept->engine);
}

/* Takes the choices for convolutions that there is none for yet. */
static void read_file(CudaConvPlans *plans)
{
    char *text = path_is_file(plans->path) ? path_read(plans->path, NULL, NULL) : NULL;
    for (char *line = text; line != NULL && *line != '\0';) {
        Kept kept = {0};
        char *next = strchr(line, '\n');
        if (line[0] != '#' && parse_line(line, &kept) &&
            find_kept(plans, kept.pass, &kept.shape, kept.precision) == NULL) {
            keep(plans, &kept);
        }
        line = next ? next + 1 : NULL;
    }
    free(text);
}

/* ---- writing it --------------------------------------------------------------------------------
 */

static char *add_line(char *text, const Kept *k)
{
    const ConvShape *s = &k->shape;
    char knobs[CONV_KNOBS * 32] = "";
    for (int i = 0, used = 0; i < k->engine.knobs; i++) {
        used += snprintf(knobs + used, sizeof knobs - (size_t)used, " %d=%lld",
                         k->engine.knob[i].type, (long long)k->engine.knob[i].value);
    }
    char index[24] = "own";
    if (k->engine.index != CONV_OWN_ENGINE) {
        snprintf(index, sizeof index, "%lld", (long long)k->engine.index);
    }
    char *longer = mem_format("%s%s %s N=%d H=%d W=%d C=%d K=%d R=%d stride=%d pad=%d: engine "
                              "%s%s\n",
                              text, pass_names[k->pass], k->precision, s->N, s->H, s->W, s->C, s->K,
                              s->R, s->stride, s->pad, index, knobs);
    free(text);
    return longer;
}

static int write_file(const CudaConvPlans *plans)
{
    char *text =
        mem_format("# cuDNN's engines that were the fastest on this GPU, with their knobs, or "
                   "Rodeo's own kernels; written by Rodeo, which measures again what is missing "
                   "here.\n");
    for (int i = 0; i < plans->kept_count; i++) {
        text = add_line(text, &plans->kept[i]);
    }
    int rc = atomic_file_replace(plans->path, text, strlen(text), NULL);
    free(text);
    return rc;
}

/* The folder, locked, or -1; busy: because another process has the lock. */
static int lock_folder(const CudaConvPlans *plans, bool *busy)
{
    int folder = path_make_folders(plans->folder, NULL) == 0
                     ? open(plans->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                     : -1;
    *busy = folder >= 0 && flock(folder, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (*busy) {
        close(folder);
        folder = -1;
    }
    return folder;
}

static void end_turn(CudaConvPlans *plans)
{
    if (plans->turn >= 0) {
        close(plans->turn);
        plans->turn = -1;
    }
}

/* Other runs, of another batch size perhaps, write to the same file: what they have added since it
 * was read stays, or they would measure again when they are resumed, and go on with other bits.
 * While one of them is measuring, this is left to the next call, and where writing fails, to one a
 * while later. */
void cuda_conv_plans_save(CudaConvPlans *plans)
{
    if (plans->changed && plans->path && clock_seconds() >= plans->next_attempt) {
        bool busy = false;
        bool locked = plans->turn >= 0 || (plans->turn = lock_folder(plans, &busy)) >= 0;
        if (locked) {
            read_file(plans);
        }
        plans->changed = !(locked && write_file(plans) == 0);
        plans->next_attempt = !plans->changed || busy ? 0 : clock_seconds() + RETRY_SECONDS;
    }
    end_turn(plans);
}

static void tell_waiting(const CudaConvPlans *plans)
{
    if (plans->notice != NULL && plans->patience > 0) {
        plans->notice(plans->notice_user,
                      "Waiting for another run that times cuDNN's engines, to take its choices.");
    }
}

/* Of runs that begin together one measures, from here until it saves, and the others take its
 * choices: measured by each for itself they would differ, the file would have one run's, and the
 * others would go on with these when they are resumed. */
static void take_turn(CudaConvPlans *plans)
{
    if (!plans->path || plans->turn >= 0) {
        return;
    }
    bool busy;
    double begin = clock_seconds();
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    plans->turn = lock_folder(plans, &busy);
    if (busy) {
        tell_waiting(plans);
    }
    while (busy && clock_seconds() - begin < plans->patience) {
        nanosleep(&pause, NULL);
        plans->turn = lock_folder(plans, &busy);
    }
    plans->patience -= clock_seconds() - begin;
    read_file(plans);
}

/* ---- all plans ---------------------------------------------------------------------------------
 */

/* "NVIDIA H100 80GB" becomes "NVIDIA-H100-80GB". */
static char *file_path(const char *folder, const char *gpu)
{
    char name[160];
    snprintf(name, sizeof name, "rodeo-%s-cudnn-%zu.txt", gpu, cudnnGetVersion());
    for (char *c = name; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && *c != '.') {
            *c = '-';
        }
    }
    return path_join(folder, name);
}

CudaConvPlans *cuda_conv_plans_open(const DeviceOptions *options, const char *gpu)
{
    CudaConvPlans *plans = mem_zeroed(1, sizeof *plans);
    plans->turn = -1;
    plans->patience = WAIT_SECONDS;
    plans->notice = options->notice;
    plans->notice_user = options->notice_user;
    if (options->cache_dir) {
        plans->folder = mem_string(options->cache_dir);
        plans->path = file_path(options->cache_dir, gpu);
        read_file(plans);
    }
    return plans;
}

void cuda_conv_plans_close(CudaConvPlans *plans)
{
    plans->next_attempt = 0;
    cuda_conv_plans_save(plans);
    for (int i = 0; i < plans->count; i++) {
        conv_choice_close(&plans->ready[i].choice);
        conv_graph_close(plans->ready[i].graph);
    }
    conv_release_compiler(plans->compiler);
    free(plans->ready);
    free(plans->kept);
    free(plans->folder);
    free(plans->path);
    free(plans);
}

/* Opens a choice that was kept; false if there is none, or if it cannot be run so. */
static bool open_kept(const CudaBackend *cuda, const ConvProblem *problem, const ConvGraph *graph,
                      ConvChoice *choice)
{
    const Kept *known =
        find_kept(cuda->plans, problem->pass, &problem->shape, cuda->base.precision);
    return known != NULL && conv_choice_open(cuda, graph, problem, &known->engine, choice);
}

static void tell(CudaConvPlans *plans)
{
    if (plans->notice == NULL) {
        return;
    }
    char *text = mem_format("Timing cuDNN's engines for this GPU and batch size, which takes some "
                            "seconds%s%s.",
                            plans->path ? "; the next launch finds the choices in " : "",
                            plans->path ? plans->path : "");
    plans->notice(plans->notice_user, text);
    plans->notice = NULL;
    free(text);
}

static void measure(CudaBackend *cuda, const ConvProblem *problem, const ConvGraph *graph,
                    const ConvOperands *operands, ConvChoice *choice)
{
    const ConvShape *s = &problem->shape;
    if (cuda->capturing) {
        fatal("a convolution of a new shape was met while a step was being recorded");
    }
    tell(cuda->plans);
    if (cuda->plans->compiler == NULL) {
        cuda->plans->compiler = conv_hold_compiler();
    }
    if (!conv_choice_measure(cuda, graph, problem, operands, choice)) {
        fatal("cuDNN has no deterministic engine for %s of a convolution with N %d, H %d, W %d, C "
              "%d, "
              "K %d, R %d, stride %d, pad %d in %s",
              pass_names[problem->pass], s->N, s->H, s->W, s->C, s->K, s->R, s->stride, s->pad,
              cuda->base.precision);
    }
    Kept kept = {.pass = problem->pass, .shape = *s, .engine = choice->engine};
    snprintf(kept.precision, sizeof kept.precision, "%s", cuda->base.precision);
    Kept *useless = find_kept(cuda->plans, problem->pass, &problem->shape, cuda->base.precision);
    if (useless != NULL) {
        *useless = kept;
    } else {
        keep(cuda->plans, &kept);
    }
    cuda->plans->changed = true;
}

const ConvChoice *cuda_conv_plan(CudaBackend *cuda, const ConvProblem *problem,
                                 const ConvOperands *operands)
{
    CudaConvPlans *plans = cuda->plans;
    for (int i = 0; i < plans->count; i++) {
        const ConvProblem *p = &plans->ready[i].choice.problem;
        if (plans->ready[i].lane == cuda->lane &&
            same_convolution(p->pass, &p->shape, problem->pass, &problem->shape)) {
            return &plans->ready[i].choice;
        }
    }
    Ready ready = {.lane = cuda->lane};
    ConvTarget target = {.handle = cuda_lane(cuda)->cudnn};
    CUDNN_CHECK(conv_graph_open(&target, problem, &ready.graph));
    bool is_kept = open_kept(cuda, problem, ready.graph, &ready.choice);
    if (!is_kept) {
        take_turn(plans);
        is_kept = open_kept(cuda, problem, ready.graph, &ready.choice);
    }
    if (!is_kept) {
        measure(cuda, problem, ready.graph, operands, &ready.choice);
    }
    plans->ready = mem_resize(plans->ready, (size_t)(plans->count + 1) * sizeof *plans->ready);
    plans->ready[plans->count] = ready;
    return &plans->ready[plans->count++].choice;
}
