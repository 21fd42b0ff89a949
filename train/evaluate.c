#include "train/evaluate.h"

#include "base/mem.h"

#include <stdlib.h>

/* Device memory for the results of one batch, and their copies on the host. */
typedef struct {
    float *loss;
    int32_t *correct, *prediction;
    int32_t *prediction_host;
} Scores;

static void scores_open(Scores *scores, Backend *be, int samples)
{
    size_t bytes = (size_t)samples * sizeof *scores->prediction;
    scores->loss = device_alloc(be, sizeof *scores->loss);
    scores->correct = device_alloc(be, sizeof *scores->correct);
    scores->prediction = device_alloc(be, bytes);
    scores->prediction_host = mem_alloc(bytes);
}

static void scores_close(Scores *scores, Backend *be)
{
    device_free(be, scores->loss);
    device_free(be, scores->correct);
    device_free(be, scores->prediction);
    free(scores->prediction_host);
}

typedef struct {
    const EvaluateSettings *settings;
    Net *net;
    Scores scores;
    EvaluateResult *result;
    int64_t batches;
    double loss_sum;
} Evaluation;

static void score_group(Evaluation *e, const Batch *batch, int group, const float *logits,
                        int classes)
{
    Backend *be = e->net->be;
    int slot = group * batch->batch;
    LossShape shape = {.N = batch->pairs[group], .C = classes};
    logits += (size_t)slot * (size_t)classes;
    op_cross_entropy(be, &shape, logits, batch->labels + slot, 0.0f, e->scores.loss,
                     e->scores.correct, NULL);
    float loss;
    int32_t correct;
    device_copy_out(be, &loss, e->scores.loss, sizeof loss);
    device_copy_out(be, &correct, e->scores.correct, sizeof correct);
    e->loss_sum += (double)loss;
    e->batches++;
    e->result->pairs += shape.N;
    e->result->correct += correct;
    if (e->settings->predicted) {
        op_argmax(be, &shape, logits, e->scores.prediction);
        device_copy_out(be, e->scores.prediction_host, e->scores.prediction,
                        (size_t)shape.N * sizeof(int32_t));
        for (int i = 0; i < shape.N; i++) {
            e->settings->predicted(e->settings->context, &batch->plan[slot + i],
                                   e->scores.prediction_host[i]);
        }
    }
}

/* Returns how many pairs the batch had. */
static int score_batch(Evaluation *e, Input *input, const Batch *batch)
{
    bool rotations = e->settings->task == EVALUATE_ROTATIONS;
    int classes = rotations ? ROTATION_CLASSES : e->net->config.classes;
    input_augment(input, batch);
    const float *logits = rotations ? net_eval_rotation(e->net, input->x[RGB], input->x[DEPTH])
                                    : net_eval_main(e->net, input->x[RGB], input->x[DEPTH]);
    int pairs = 0;
    for (int group = 0; group < batch->groups; group++) {
        if (batch->pairs[group] > 0) {
            score_group(e, batch, group, logits, classes);
            pairs += batch->pairs[group];
        }
    }
    return pairs;
}

/* Batches that will run, and the pairs in them. */
static int count_work(const EvaluateSettings *s, int64_t *batches, int64_t *pairs, Err *err)
{
    Plan *plan = plan_open(&s->plan, err);
    if (!plan) {
        return -1;
    }
    *batches = plan_batches(plan);
    plan_close(plan);
    *pairs = pack_count(s->plan.pack);
    if (s->max_batches > 0 && s->max_batches < *batches) {
        *batches = s->max_batches;
    }
    int64_t capacity = *batches * s->plan.batch;
    *pairs = capacity < *pairs ? capacity : *pairs;
    return 0;
}

static bool is_stopped(const EvaluateSettings *settings)
{
    return settings->stop && settings->stop(settings->stop_context);
}

int evaluate_run(Net *net, Input *input, const EvaluateSettings *settings, Log *log,
                 EvaluateResult *result, Err *err)
{
    int64_t batches;
    int64_t pairs;
    *result = (EvaluateResult){0};
    if (count_work(settings, &batches, &pairs, err) != 0) {
        return -1;
    }
    int merged = net_samples(net) / settings->plan.batch;
    LoaderSettings loading = {.be = net->be,
                              .sources = 1,
                              .source = {settings->plan},
                              .consecutive = merged,
                              .steps = (batches + merged - 1) / merged,
                              .batches = batches,
                              .workers = settings->workers};
    Loader *loader = loader_open(&loading, err);
    if (!loader) {
        return -1;
    }
    Evaluation e = {.settings = settings, .net = net, .result = result};
    scores_open(&e.scores, net->be, settings->plan.batch);
    Progress *progress = progress_open(log, settings->label, "pairs", pairs);
    Batch batch;
    int rc = 0;
    while (!(result->stopped = is_stopped(settings)) &&
           (rc = loader_next(loader, &batch, err)) == 1) {
        progress_advance(progress, score_batch(&e, input, &batch), NULL);
    }
    progress_close(progress);
    scores_close(&e.scores, net->be);
    loader_close(loader);
    if (e.batches > 0) {
        result->accuracy = (double)result->correct / (double)result->pairs;
        result->loss = e.loss_sum / (double)e.batches;
    }
    return rc < 0 ? -1 : 0;
}
