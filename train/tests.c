/* The tests after an epoch. */
#include "base/text.h"
#include "train/evaluate.h"
#include "train/trainer.h"

#include <math.h>

typedef struct {
    LoaderId loader;
    const char *bar;         /* label of the progress bar */
    const char *line;        /* of the result line */
    bool capped;             /* stops behind test_batches batches */
    double *loss, *accuracy; /* where the results go */
} Test;

static bool is_rotation(LoaderId loader)
{
    return loader == LOADER_SOURCE_ROTATION_TEST || loader == LOADER_TARGET_ROTATION_TEST;
}

static bool should_stop(void *context)
{
    return trainer_should_stop(context);
}

/* Returns 1 when stopped, -1 on an error. */
static int run_test(Trainer *t, const Test *test, int epoch, Err *err)
{
    EvaluateSettings settings = {.plan = trainer_plan(t, test->loader, 0),
                                 .store = t->corpus.store,
                                 .task = is_rotation(test->loader) ? EVALUATE_ROTATIONS
                                                                   : EVALUATE_CLASSES,
                                 .max_batches = test->capped ? t->settings->test_batches : 0,
                                 .workers = trainer_workers(t),
                                 .label = test->bar,
                                 .stop = should_stop,
                                 .stop_context = t};
    EvaluateResult result;
    if (evaluate_run(t->net, &t->input, &settings, t->log, &result, err) != 0) {
        return -1;
    }
    if (result.stopped) {
        return 1;
    }
    char text[TEXT_DOUBLE_SIZE];
    *test->loss = result.loss;
    *test->accuracy = result.accuracy;
    log_result(t->log, "Epoch: %d - %s: %s", epoch, test->line, text_double(result.accuracy, text));
    return 0;
}

int trainer_test(Trainer *t, EpochMetrics *m, Err *err)
{
    const Test tests[] = {
        {LOADER_SOURCE_TEST, "Validation Classification: ",
         "Validation source accuracy (Classification)", true, &m->source_loss, &m->source_accuracy},
        {LOADER_SOURCE_ROTATION_TEST,
         "Validation Source Rotaion: ", "Validation source rotation accuracy", true,
         &m->source_rotation_loss, &m->source_rotation_accuracy},
        {LOADER_TARGET_ROTATION_TEST,
         "Validation Target Rotation: ", "Validation target rotation accuracy", true,
         &m->target_rotation_loss, &m->target_rotation_accuracy},
        {LOADER_TARGET_TEST, "Evaluation: ", "Evaluation Target classification accuracy", false,
         &m->target_loss, &m->target_accuracy},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (is_rotation(tests[i].loader) && t->net->step.rotation_groups == 0) {
            *tests[i].loss = NAN;
            *tests[i].accuracy = NAN;
            continue;
        }
        int rc = run_test(t, &tests[i], m->epoch, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
