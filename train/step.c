#include "train/step.h"

#include "base/err.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

/* What a step leaves in device memory for the host to read. */
typedef struct {
    float cls, ent, rot_source, rot_target;
    int32_t correct, correct_rot_source, correct_rot_target;
    LossScale scale;
} Losses;

/* What one step in flight exchanges with the host: the key goes in, the losses come out. Lies in
 * memory that the device copies from and to while the host runs ahead. */
typedef struct {
    uint64_t key[2];
    Losses losses;
} Exchange;

/* The device memory that a step reads. A recorded step can be replayed on the same one only. */
typedef struct {
    const uint8_t *pixels; /* NULL: x holds network input already */
    const AugmentItem *items[MODALITIES];
    const void *x[MODALITIES];
    const int32_t *labels;
} Source;

struct Step {
    Net *net;
    Backend *be;
    Input *input;
    StepSettings settings;
    SgdShape sgd;
    uint64_t *dropout_key; /* device [2] */
    Losses *losses;        /* device */
    LossScale *scale;      /* within losses; NULL where the backend needs none */
    Exchange *exchange[STEP_MAX_PENDING];
    DeviceEvent *done[STEP_MAX_PENDING];
    int64_t enqueued, read;
    bool warm;          /* a step has run operator by operator: everything is allocated */
    DeviceGraph *graph; /* of `recorded`; NULL before the first */
    Source recorded;
};

NetStep step_groups(int batch, double alpha, double lambda)
{
    return (NetStep){
        .batch = batch, .main_groups = alpha > 0 ? 2 : 1, .rotation_groups = lambda > 0 ? 2 : 0};
}

/* Four optimizers that differ in their rate. A head that never gets a gradient is left alone,
 * weight decay included. */
static SgdShape sgd_shape(const Net *net, const StepSettings *s)
{
    SgdShape sgd = {.momentum = (float)s->momentum, .weight_decay = (float)s->weight_decay};
    for (int group = 0; group < PARAM_GROUPS; group++) {
        bool head = group == PARAM_MAIN_HEAD || group == PARAM_ROTATION_HEAD;
        if (group == PARAM_ROTATION_HEAD && s->lambda <= 0) {
            continue;
        }
        SgdRange *range = &sgd.range[sgd.ranges++];
        range->lr = (float)(head ? s->lr * s->lr_mult : s->lr);
        param_group_range(&net->params.weights, group, &range->offset, &range->count);
    }
    return sgd;
}

Step *step_open(Net *net, const StepSettings *settings, Input *input)
{
    Step *step = mem_zeroed(1, sizeof *step);
    step->net = net;
    step->be = net->be;
    step->input = input;
    step->settings = *settings;
    step->sgd = sgd_shape(net, settings);
    step->dropout_key = device_alloc(step->be, sizeof step->exchange[0]->key);
    step->losses = device_alloc(step->be, sizeof *step->losses);
    device_zero(step->be, step->losses, sizeof *step->losses);
    for (int i = 0; i < STEP_MAX_PENDING; i++) {
        step->exchange[i] = device_host_alloc(step->be, sizeof *step->exchange[i]);
        step->done[i] = device_event_open(step->be);
    }
    if (device_needs_loss_scale(step->be)) {
        step->scale = &step->losses->scale;
        step_restore_loss_scale(step, &(LossScale){.scale = LOSS_SCALE_INITIAL});
    }
    return step;
}

void step_close(Step *step)
{
    if (!step) {
        return;
    }
    device_synchronize(step->be);
    device_graph_close(step->be, step->graph);
    for (int i = 0; i < STEP_MAX_PENDING; i++) {
        device_event_close(step->be, step->done[i]);
        device_host_free(step->be, step->exchange[i]);
    }
    device_free(step->be, step->dropout_key);
    device_free(step->be, step->losses);
    free(step);
}

LossScale step_loss_scale(const Step *step)
{
    LossScale scale = {0};
    if (step->scale) {
        device_copy_out(step->be, &scale, step->scale, sizeof scale);
    }
    return scale;
}

void step_restore_loss_scale(Step *step, const LossScale *scale)
{
    if (step->scale) {
        device_copy_in(step->be, step->scale, scale, sizeof *scale);
        device_synchronize(step->be);
    }
}

static void loss_classify(Step *step, const int32_t *labels)
{
    Net *net = step->net;
    LossShape shape = {.N = net->step.batch, .C = net->config.classes};
    op_cross_entropy(step->be, &shape, net_main_logits(net, 0), labels, 1.0f, step->scale,
                     &step->losses->cls, &step->losses->correct, net_main_dlogits(net, 0));
}

static void loss_entropy(Step *step)
{
    Net *net = step->net;
    LossShape shape = {.N = net->step.batch, .C = net->config.classes};
    op_entropy(step->be, &shape, net_main_logits(net, 1), (float)step->settings.alpha, step->scale,
               &step->losses->ent, net_main_dlogits(net, 1));
}

/* group 0: source, 1: target; labels of the whole step */
static void loss_rotation(Step *step, int group, const int32_t *labels)
{
    Net *net = step->net;
    Losses *losses = step->losses;
    float *loss = group == 0 ? &losses->rot_source : &losses->rot_target;
    int32_t *correct = group == 0 ? &losses->correct_rot_source : &losses->correct_rot_target;
    LossShape shape = {.N = net->step.batch, .C = ROTATION_CLASSES};
    op_cross_entropy(step->be, &shape, net_rotation_logits(net, group),
                     labels + (size_t)((net->step.main_groups + group) * net->step.batch),
                     (float)step->settings.lambda, step->scale, loss, correct,
                     net_rotation_dlogits(net, group));
}

static void losses_of_pass(Step *step, int pass, const int32_t *labels)
{
    NetPassGroups g = net_pass_groups(step->net, pass);
    if (g.main_first == 0 && g.main_end > 0) {
        loss_classify(step, labels);
    }
    if (g.main_end == 2) {
        loss_entropy(step);
    }
    for (int group = g.rotation_first; group < g.rotation_end; group++) {
        loss_rotation(step, group, labels);
    }
}

/* The whole step, operator by operator. */
static void enqueue(Step *step, const Source *source)
{
    Net *net = step->net;
    if (source->pixels) {
        input_augment(step->input, source->pixels, source->items);
    }
    for (int pass = 0; pass < net_passes(net); pass++) {
        net_fprop(net, pass, source->x[RGB], source->x[DEPTH], step->dropout_key);
        losses_of_pass(step, pass, source->labels);
        net_bprop(net, pass, step->dropout_key);
    }
    void *w_act = net->params.w_act != net->params.w ? net->params.w_act : NULL;
    op_sgd(step->be, &step->sgd, step->scale, net->params.dw, net->params.v, net->params.w, w_act);
}

static bool same_source(const Source *a, const Source *b)
{
    return a->pixels == b->pixels && a->items[RGB] == b->items[RGB] &&
           a->items[DEPTH] == b->items[DEPTH] && a->x[RGB] == b->x[RGB] &&
           a->x[DEPTH] == b->x[DEPTH] && a->labels == b->labels;
}

/* Records the step, unless the record is there already. Returns false where it has to be enqueued
 * operator by operator: the first one, and on backends that cannot record. */
static bool record(Step *step, const Source *source)
{
    if (step->graph && same_source(&step->recorded, source)) {
        return true;
    }
    if (step->settings.eager || !step->warm || !device_capture_begin(step->be)) {
        return false;
    }
    enqueue(step, source);
    DeviceGraph *graph = device_capture_end(step->be);
    if (step->graph) {
        device_synchronize(step->be);
        device_graph_close(step->be, step->graph);
    }
    step->graph = graph;
    step->recorded = *source;
    return true;
}

static void run(Step *step, const Source *source, uint64_t number)
{
    if (step_pending(step) >= STEP_MAX_PENDING) {
        fatal("%d results of steps are unread: no more steps may be enqueued", STEP_MAX_PENDING);
    }
    int slot = (int)(step->enqueued % STEP_MAX_PENDING);
    Exchange *exchange = step->exchange[slot];
    exchange->key[0] = step->settings.seed;
    exchange->key[1] = number;
    device_copy_in(step->be, step->dropout_key, exchange->key, sizeof exchange->key);
    if (record(step, source)) {
        device_graph_launch(step->be, step->graph);
    } else {
        enqueue(step, source);
        step->warm = true;
    }
    device_copy_out_async(step->be, &exchange->losses, step->losses, sizeof exchange->losses);
    device_event_record(step->be, step->done[slot]);
    net_count_step(step->net);
    step->enqueued++;
}

void step_learn(Step *step, const void *x_rgb, const void *x_depth, const int32_t *labels,
                uint64_t number)
{
    Source source = {.x = {x_rgb, x_depth}, .labels = labels};
    run(step, &source, number);
}

void step_run(Step *step, const Batch *batch, uint64_t number)
{
    Source source = {.pixels = batch->pixels,
                     .items = {batch->items[RGB], batch->items[DEPTH]},
                     .x = {step->input->x[RGB], step->input->x[DEPTH]},
                     .labels = batch->labels};
    run(step, &source, number);
}

int step_pending(const Step *step)
{
    return (int)(step->enqueued - step->read);
}

StepResult step_result(Step *step)
{
    if (step_pending(step) == 0) {
        fatal("no step has run whose result could be read");
    }
    int slot = (int)(step->read++ % STEP_MAX_PENDING);
    device_event_wait(step->be, step->done[slot]);
    Losses losses = step->exchange[slot]->losses;
    return (StepResult){.cls = losses.cls,
                        .ent = losses.ent,
                        .rot_source = losses.rot_source,
                        .rot_target = losses.rot_target,
                        .correct = losses.correct,
                        .correct_rot_source = losses.correct_rot_source,
                        .correct_rot_target = losses.correct_rot_target,
                        .skipped = losses.scale.overflow,
                        .loss_scale = step->scale ? (double)losses.scale.scale : 1.0};
}

double step_logits_std(const Step *step)
{
    const Net *net = step->net;
    size_t count = (size_t)net->step.batch * (size_t)net->config.classes;
    float *logits = mem_alloc(count * sizeof *logits);
    device_copy_out(step->be, logits, net_main_logits(net, 0), count * sizeof *logits);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)logits[i];
    }
    double mean = sum / (double)count;
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        squares += ((double)logits[i] - mean) * ((double)logits[i] - mean);
    }
    free(logits);
    return sqrt(squares / (double)(count - 1));
}
