#include "train/evaluate.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* What scoring one loader's batch gives: the groups' mean losses and hits, the pairs' predictions.
 */
typedef struct {
    float loss[LOADER_MAX_GROUPS];
    int32_t correct[LOADER_MAX_GROUPS];
    int32_t prediction[]; /* [samples] */
} Scores;

/* A batch whose scores are on their way to the host. */
typedef struct {
    Scores *scores; /* in memory that the device copies to */
    DeviceEvent *done;
    int groups, batch, pairs[LOADER_MAX_GROUPS];
    PairPlan *plan; /* [samples] */
} Scored;

#define SCORED 2 /* the host scores one batch while it waits for the one before */

typedef struct {
    const EvaluateSettings *settings;
    Net *net;
    EvaluateResult *result;
    int64_t batches;
    double loss_sum;
    Scores *scores; /* device */
    size_t scores_bytes;
    Scored scored[SCORED];
    int64_t enqueued, read;
} Evaluation;

static void scores_open(Evaluation *e, int samples)
{
    Backend *be = e->net->be;
    e->scores_bytes = sizeof *e->scores + (size_t)samples * sizeof *e->scores->prediction;
    e->scores = device_alloc(be, e->scores_bytes);
    device_zero(be, e->scores, e->scores_bytes);
    for (int i = 0; i < SCORED; i++) {
        e->scored[i].scores = device_host_alloc(be, e->scores_bytes);
        e->scored[i].done = device_event_open(be);
        e->scored[i].plan = mem_zeroed((size_t)samples, sizeof(PairPlan));
    }
}

static void scores_close(Evaluation *e)
{
    Backend *be = e->net->be;
    device_synchronize(be);
    for (int i = 0; i < SCORED; i++) {
        device_host_free(be, e->scored[i].scores);
        device_event_close(be, e->scored[i].done);
        free(e->scored[i].plan);
    }
    device_free(be, e->scores);
}

/* Enqueues forward pass and scores of a batch. */
static void score_batch(Evaluation *e, Input *input, const Batch *batch)
{
    Backend *be = e->net->be;
    bool rotations = e->settings->task == EVALUATE_ROTATIONS;
    int classes = rotations ? ROTATION_CLASSES : e->net->config.classes;
    input_augment(input, batch->pixels, batch->items);
    const float *logits = rotations ? net_eval_rotation(e->net, input->x[RGB], input->x[DEPTH])
                                    : net_eval_main(e->net, input->x[RGB], input->x[DEPTH]);
    Scored *scored = &e->scored[e->enqueued++ % SCORED];
    scored->groups = batch->groups;
    scored->batch = batch->batch;
    memcpy(scored->pairs, batch->pairs, sizeof scored->pairs);
    memcpy(scored->plan, batch->plan, (size_t)(batch->groups * batch->batch) * sizeof(PairPlan));
    for (int g = 0; g < batch->groups; g++) {
        int slot = g * batch->batch;
        LossShape shape = {.N = batch->pairs[g], .C = classes};
        const float *of_group = logits + (size_t)slot * (size_t)classes;
        if (shape.N > 0) {
            op_cross_entropy(be, &shape, of_group, batch->labels + slot, 0.0f, NULL,
                             &e->scores->loss[g], &e->scores->correct[g], NULL);
            op_argmax(be, &shape, of_group, e->scores->prediction + slot);
        }
    }
    device_copy_out_async(be, scored->scores, e->scores, e->scores_bytes);
    device_event_record(be, scored->done);
}

/* Waits for the scores of the oldest batch under way and counts them. Returns its pairs. */
static int take_scores(Evaluation *e)
{
    Scored *scored = &e->scored[e->read++ % SCORED];
    device_event_wait(e->net->be, scored->done);
    int pairs = 0;
    for (int g = 0; g < scored->groups; g++) {
        if (scored->pairs[g] == 0) {
            continue;
        }
        e->loss_sum += (double)scored->scores->loss[g];
        e->batches++;
        e->result->correct += scored->scores->correct[g];
        pairs += scored->pairs[g];
        int slot = g * scored->batch;
        for (int i = slot; e->settings->predicted && i < slot + scored->pairs[g]; i++) {
            e->settings->predicted(e->settings->context, &scored->plan[i],
                                   scored->scores->prediction[i]);
        }
    }
    e->result->pairs += pairs;
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
                              .store = settings->store,
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
    scores_open(&e, net_samples(net));
    Progress *progress = progress_open(log, settings->label, "pairs", pairs);
    Batch batch;
    int rc = 0;
    while (!(result->stopped = is_stopped(settings)) &&
           (rc = loader_next(loader, &batch, err)) == 1) {
        score_batch(&e, input, &batch);
        if (e.enqueued - e.read == SCORED) {
            progress_advance(progress, take_scores(&e), NULL);
        }
    }
    while (e.read < e.enqueued) {
        progress_advance(progress, take_scores(&e), NULL);
    }
    progress_close(progress);
    scores_close(&e);
    loader_close(loader);
    if (e.batches > 0) {
        result->accuracy = (double)result->correct / (double)result->pairs;
        result->loss = e.loss_sum / (double)e.batches;
    }
    return rc < 0 ? -1 : 0;
}
