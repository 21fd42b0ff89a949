/* Steps whose numbers went wrong. */
#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A loss scale that is halved for each of this many steps has left the range of half precision:
 * what overflows then is not the scale's fault. */
enum { SKIPPED_TOO_MANY = 50 };

static const char *const group_names[] = {
    [LOADER_SOURCE] = "source",
    [LOADER_TARGET] = "target",
    [LOADER_SOURCE_ROTATION] = "source rotated",
    [LOADER_TARGET_ROTATION] = "target rotated",
};

static const PairList *list_of(const Trainer *t, LoaderId loader)
{
    bool source = loader == LOADER_SOURCE || loader == LOADER_SOURCE_ROTATION;
    return &t->corpus.list[source ? CORPUS_SOURCE_TRAIN : CORPUS_TARGET];
}

static int print_group(const Trainer *t, LoaderId loader, int64_t step, FILE *out, Err *err)
{
    PlanSettings settings = trainer_plan(t, loader, t->state.epoch + 1);
    Plan *plan = plan_open(&settings, err);
    if (!plan) {
        return -1;
    }
    PairPlan *pairs = mem_zeroed((size_t)settings.batch, sizeof *pairs);
    int count = plan_batch(plan, step, pairs);
    for (int i = 0; i < count; i++) {
        const PairPlan *p = &pairs[i];
        const PairList *list = list_of(t, loader);
        const Pair *pair = &list->pairs[p->index];
        char *rgb = path_join(list->folder, pair->path[RGB]);
        char *depth = path_join(list->folder, pair->path[DEPTH]);
        fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", group_names[loader], (int)p->label,
                (int)p->top, (int)p->left, (int)p->flip, (int)p->quarter_turns[RGB] * 90,
                (int)p->quarter_turns[DEPTH] * 90, rgb, depth);
        free(rgb);
        free(depth);
    }
    free(pairs);
    plan_close(plan);
    return 0;
}

/* The report, as new text; NULL and err where the plan cannot be made again. */
static char *describe(const Trainer *t, const char *what, int64_t step, Err *err)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) {
        fatal("out of memory: could not describe a step");
    }
    fprintf(out,
            "%s\n\nThe pictures of that step:\ngroup\tlabel\ttop\tleft\tflip\tturned RGB\t"
            "turned depth\tRGB\tdepth\n",
            what);
    LoaderId loaders[LOADER_MAX_GROUPS];
    int count = trainer_loaders(t, loaders);
    int rc = 0;
    for (int i = 0; i < count && rc == 0; i++) {
        rc = print_group(t, loaders[i], step, out, err);
    }
    if (fclose(out) != 0) {
        fatal("out of memory: could not describe a step");
    }
    if (rc != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* Writes RUN/bad-step.txt; where that fails, its lines become notes. */
static void report(const Trainer *t, const char *what, int64_t step)
{
    Err err = {""};
    char *text = describe(t, what, step, &err);
    char *path = path_join(t->run.folder, "bad-step.txt");
    if (!text) {
        log_warning(t->log, "the pictures of that step cannot be listed: %s", err.text);
    } else if (atomic_file_replace(path, text, strlen(text), &err) != 0) {
        log_warning(t->log, "%s; this is what it would hold:", err.text);
        log_note(t->log, "%s", text);
    } else {
        log_note(t->log, "The pictures of that step are listed in %s", path);
    }
    free(path);
    free(text);
}

static bool is_finite(const StepResult *r)
{
    return isfinite(r->cls) && isfinite(r->ent) && isfinite(r->rot_source) &&
           isfinite(r->rot_target);
}

/* What is wrong with a step; "" if nothing. */
static void diagnose(const Trainer *t, const StepResult *r, int64_t step, char *text, size_t size)
{
    char cls[TEXT_DOUBLE_SIZE];
    char ent[TEXT_DOUBLE_SIZE];
    char source[TEXT_DOUBLE_SIZE];
    char target[TEXT_DOUBLE_SIZE];
    const char *problem = "";
    text[0] = '\0';
    if (!r->skipped && !is_finite(r)) {
        problem = "the loss is not a finite number";
    } else if (r->skipped && t->state.sums.skipped_in_a_row >= SKIPPED_TOO_MANY) {
        problem = "half precision has overflowed too many times in a row";
    } else {
        return;
    }
    snprintf(text, size,
             "step %" PRId64 " of epoch %" PRId64
             ": %s (classification %s, entropy %s, rotation on the source %s, on the target %s)",
             step + 1, t->state.epoch + 1, problem, text_double(r->cls, cls),
             text_double(r->ent, ent), text_double(r->rot_source, source),
             text_double(r->rot_target, target));
}

int trainer_check_step(Trainer *t, const StepResult *result, int64_t step, Err *err)
{
    char what[512];
    diagnose(t, result, step, what, sizeof what);
    if (what[0] == '\0') {
        return 0;
    }
    report(t, what, step);
    Err unsaved;
    char last[CHECKPOINT_PLACE_SIZE];
    if (saver_finish(t->saver, &unsaved) != 0) {
        log_warning(t->log, "%s", unsaved.text);
    }
    saver_last(t->saver, last);
    return err_set(
        err,
        "%s. The last good checkpoint is %s%s. Resuming comes to the same step again: a "
        "smaller --lr under another --suffix may help, or a look at the pictures of that "
        "step in %s/bad-step.txt",
        what, last[0] ? "that of " : "none: there was no time for one", last[0] ? last : "",
        t->run.folder);
}
