#include "data/plan.h"

#include "base/mem.h"
#include "base/rng.h"

#include <stdlib.h>

struct Plan {
    PlanSettings settings;
    int64_t count;   /* pairs of the pack */
    int64_t batches; /* of one pass */
    int64_t pass;    /* whose order is kept; -1: none yet */
    uint32_t *order; /* [count] */
};

Plan *plan_open(const PlanSettings *settings, Err *err)
{
    int64_t count = pack_count(settings->pack);
    int resize = pack_resize(settings->pack);
    if (settings->crop < 1 || settings->crop > resize) {
        err_set(err, "a crop of %d pixels cannot be taken from pictures of %d x %d", settings->crop,
                resize, resize);
        return NULL;
    }
    if (settings->batch < 1 || (settings->drop_last && count < settings->batch)) {
        err_set(err,
                "%s: has %lld pairs, not enough for one batch of %d: choose a smaller --batch_size",
                pack_path(settings->pack), (long long)count, settings->batch);
        return NULL;
    }
    Plan *plan = mem_zeroed(1, sizeof *plan);
    plan->settings = *settings;
    plan->count = count;
    plan->batches = count / settings->batch;
    if (!settings->drop_last && count % settings->batch != 0) {
        plan->batches++;
    }
    plan->pass = -1;
    plan->order = mem_alloc((size_t)count * sizeof *plan->order);
    return plan;
}

void plan_close(Plan *plan)
{
    if (plan) {
        free(plan->order);
        free(plan);
    }
}

int64_t plan_batches(const Plan *plan)
{
    return plan->batches;
}

static void shuffle(Plan *plan, int64_t pass)
{
    const PlanSettings *s = &plan->settings;
    Rng rng = rng_at(s->seed, RNG_SHUFFLE, (uint32_t)s->loader, s->epoch, (uint32_t)pass);
    for (int64_t i = 0; i < plan->count; i++) {
        plan->order[i] = (uint32_t)i;
    }
    for (int64_t i = plan->count - 1; i >= 1; i--) {
        uint32_t j = rng_below(&rng, (uint32_t)i + 1);
        uint32_t other = plan->order[j];
        plan->order[j] = plan->order[i];
        plan->order[i] = other;
    }
    plan->pass = pass;
}

static PairPlan plan_pair(const Plan *plan, int64_t visit, int64_t index)
{
    const PlanSettings *s = &plan->settings;
    int32_t margin = pack_resize(s->pack) - s->crop;
    PairPlan pair = {.index = index, .top = margin / 2, .left = margin / 2};
    Rng rng = rng_at(s->seed, RNG_AUGMENT, (uint32_t)s->loader, s->epoch, (uint32_t)visit);
    if (s->augment) {
        pair.top = (int32_t)rng_below(&rng, (uint32_t)margin + 1);
        pair.left = (int32_t)rng_below(&rng, (uint32_t)margin + 1);
        pair.flip = (int32_t)rng_below(&rng, 2);
    }
    if (s->rotate) {
        pair.quarter_turns[RGB] = (int32_t)rng_below(&rng, 4);
        pair.quarter_turns[DEPTH] = (int32_t)rng_below(&rng, 4);
        pair.label = (pair.quarter_turns[RGB] - pair.quarter_turns[DEPTH] + 4) % 4;
    } else {
        pair.label = pack_label(s->pack, index);
    }
    return pair;
}

int plan_batch(Plan *plan, int64_t b, PairPlan *pairs)
{
    int64_t pass = b / plan->batches;
    int64_t first = b % plan->batches * plan->settings.batch;
    int64_t left = plan->count - first;
    int count = left < plan->settings.batch ? (int)left : plan->settings.batch;
    if (pass != plan->pass) {
        shuffle(plan, pass);
    }
    for (int i = 0; i < count; i++) {
        int64_t visit = pass * plan->count + first + i;
        pairs[i] = plan_pair(plan, visit, plan->order[first + i]);
    }
    return count;
}
