#include "train/step.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

/* What the losses leave in device memory. */
typedef struct {
    float cls, ent, rot_source, rot_target;
    int32_t correct, correct_rot_source, correct_rot_target;
} Losses;

struct Step {
    Net *net;
    Backend *be;
    Input *input;
    StepSettings settings;
    SgdShape sgd;
    uint64_t *dropout_key; /* device [2] */
    uint64_t key_host[2];
    Losses *losses; /* device */
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
    step->dropout_key = device_alloc(step->be, sizeof step->key_host);
    step->losses = device_alloc(step->be, sizeof *step->losses);
    device_zero(step->be, step->losses, sizeof *step->losses);
    return step;
}

void step_close(Step *step)
{
    if (!step) {
        return;
    }
    device_free(step->be, step->dropout_key);
    device_free(step->be, step->losses);
    free(step);
}

static void loss_classify(Step *step, const int32_t *labels)
{
    Net *net = step->net;
    LossShape shape = {.N = net->step.batch, .C = net->config.classes};
    op_cross_entropy(step->be, &shape, net_main_logits(net, 0), labels, 1.0f, &step->losses->cls,
                     &step->losses->correct, net_main_dlogits(net, 0));
}

static void loss_entropy(Step *step)
{
    Net *net = step->net;
    LossShape shape = {.N = net->step.batch, .C = net->config.classes};
    op_entropy(step->be, &shape, net_main_logits(net, 1), (float)step->settings.alpha,
               &step->losses->ent, net_main_dlogits(net, 1));
}

static void loss_rotation(Step *step, int group, const int32_t *labels, float *loss,
                          int32_t *correct)
{
    Net *net = step->net;
    LossShape shape = {.N = net->step.batch, .C = ROTATION_CLASSES};
    op_cross_entropy(step->be, &shape, net_rotation_logits(net, group), labels,
                     (float)step->settings.lambda, loss, correct, net_rotation_dlogits(net, group));
}

void step_learn(Step *step, const void *x_rgb, const void *x_depth, const int32_t *labels,
                uint64_t number)
{
    Net *net = step->net;
    Losses *losses = step->losses;
    step->key_host[0] = step->settings.seed;
    step->key_host[1] = number;
    device_copy_in(step->be, step->dropout_key, step->key_host, sizeof step->key_host);

    net_fprop(net, x_rgb, x_depth, step->dropout_key);
    loss_classify(step, labels);
    if (net->step.main_groups == 2) {
        loss_entropy(step);
    }
    if (net->step.rotation_groups == 2) {
        const int32_t *rotations = labels + (size_t)(net->step.main_groups * net->step.batch);
        loss_rotation(step, 0, rotations, &losses->rot_source, &losses->correct_rot_source);
        loss_rotation(step, 1, rotations + net->step.batch, &losses->rot_target,
                      &losses->correct_rot_target);
    }
    net_bprop(net, step->dropout_key);
    op_sgd(step->be, &step->sgd, net->params.dw, net->params.v, net->params.w);
}

void step_run(Step *step, const Batch *batch, uint64_t number)
{
    input_augment(step->input, batch);
    step_learn(step, step->input->x[RGB], step->input->x[DEPTH], batch->labels, number);
}

StepResult step_result(Step *step)
{
    Losses losses;
    device_copy_out(step->be, &losses, step->losses, sizeof losses);
    return (StepResult){.cls = losses.cls,
                        .ent = losses.ent,
                        .rot_source = losses.rot_source,
                        .rot_target = losses.rot_target,
                        .correct = losses.correct,
                        .correct_rot_source = losses.correct_rot_source,
                        .correct_rot_target = losses.correct_rot_target};
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
