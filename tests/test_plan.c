/* The plan: an independent replay, its statistics, and that any batch can be had on its own. */
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "data/plan.h"
#include "data_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAIRS = 50, RESIZE = 256 };

static int set_up(void **state)
{
    char *root = fixture_create_folder();
    fixture_write_synrod(root, PAIRS);
    *state = fixture_pack(root, RESIZE);
    fixture_remove_folder(root); /* the pack stays mapped */
    return 0;
}

static int tear_down(void **state)
{
    pack_close(*state);
    return 0;
}

static Plan *open_plan(const PlanSettings *settings)
{
    Err err = {0};
    Plan *plan = plan_open(settings, &err);
    if (!plan) {
        fail_msg("%s", err.text);
    }
    return plan;
}

/* A pack of `pairs` pairs for `resize`, to free with pack_close. */
static Pack *make_pack(int pairs, int resize)
{
    char *root = fixture_create_folder();
    fixture_write_synrod(root, pairs);
    Pack *pack = fixture_pack(root, resize);
    fixture_remove_folder(root);
    return pack;
}

/* The next `count` numbers of a line. */
static void read_numbers(char **next, int count, unsigned long long *numbers)
{
    for (int i = 0; i < count; i++) {
        char *end;
        numbers[i] = strtoull(*next, &end, 10);
        assert_true(end > *next);
        *next = end;
    }
}

static void compare_pair(char **next, const PairPlan *pair)
{
    unsigned long long v[7];
    read_numbers(next, 7, v);
    assert_int_equal(pair->index, v[0]);
    assert_int_equal(pair->label, v[1]);
    assert_int_equal(pair->top, v[2]);
    assert_int_equal(pair->left, v[3]);
    assert_int_equal(pair->flip, v[4]);
    assert_int_equal(pair->quarter_turns[RGB], v[5]);
    assert_int_equal(pair->quarter_turns[DEPTH], v[6]);
}

static void a_python_replay_agrees(void **state)
{
    (void)state;
    Err err = {0};
    char *text = path_read(RODEO_TEST_DATA "/golden/plan.txt", NULL, &err);
    assert_non_null(text);
    int batches = 0;
    for (char *next = text; text_starts_with(next, "settings "); batches++) {
        unsigned long long v[12];
        next += strlen("settings ");
        read_numbers(&next, 12, v);
        Pack *pack = make_pack((int)v[3], (int)v[5]);
        PlanSettings settings = {.pack = pack,
                                 .seed = v[0],
                                 .epoch = (uint32_t)v[1],
                                 .loader = (LoaderId)v[2],
                                 .batch = (int)v[4],
                                 .crop = (int)v[6],
                                 .augment = v[7] != 0,
                                 .rotate = v[8] != 0,
                                 .drop_last = v[9] != 0};
        Plan *plan = open_plan(&settings);
        PairPlan pairs[16];
        assert_int_equal(plan_batch(plan, (int64_t)v[10], pairs), v[11]);
        for (unsigned i = 0; i < v[11]; i++) {
            compare_pair(&next, &pairs[i]);
        }
        plan_close(plan);
        pack_close(pack);
        next += strspn(next, "\n");
    }
    assert_int_equal(batches, 18);
    free(text);
}

/* Pearson's statistic against the uniform distribution over `cells`. */
static double chi_square(const int *counts, int cells)
{
    double total = 0;
    for (int i = 0; i < cells; i++) {
        total += counts[i];
    }
    double expected = total / cells;
    double sum = 0;
    for (int i = 0; i < cells; i++) {
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    return sum;
}

/* Bounds are the 99.9 % points of the distributions with cells - 1 degrees of freedom. The draws
 * are fixed by the seed, so this passes always or never. */
static void choices_are_uniform_and_independent(void **state)
{
    PlanSettings settings = {.pack = *state,
                             .seed = 12345,
                             .epoch = 2,
                             .loader = LOADER_TARGET_ROTATION,
                             .batch = PAIRS,
                             .crop = 224,
                             .augment = true,
                             .rotate = true,
                             .drop_last = true};
    Plan *plan = open_plan(&settings);
    int top[33] = {0};
    int left[33] = {0};
    int flip[2] = {0};
    int turns[16] = {0};
    int corner[9] = {0}; /* top and left together, in thirds */
    int flip_turn[8] = {0};
    for (int b = 0; b < 400; b++) {
        PairPlan pairs[PAIRS];
        assert_int_equal(plan_batch(plan, b, pairs), PAIRS);
        for (int i = 0; i < PAIRS; i++) {
            const PairPlan *p = &pairs[i];
            assert_in_range(p->top, 0, 32);
            assert_in_range(p->left, 0, 32);
            top[p->top]++;
            left[p->left]++;
            corner[p->top / 11 * 3 + p->left / 11]++;
            flip[p->flip]++;
            flip_turn[4 * p->flip + p->quarter_turns[RGB]]++;
            turns[4 * p->quarter_turns[RGB] + p->quarter_turns[DEPTH]]++;
        }
    }
    assert_true(chi_square(top, 33) < 62.5);
    assert_true(chi_square(left, 33) < 62.5);
    assert_true(chi_square(corner, 9) < 26.1);
    assert_true(chi_square(flip, 2) < 10.8);
    assert_true(chi_square(flip_turn, 8) < 24.3);
    assert_true(chi_square(turns, 16) < 37.7);
    plan_close(plan);
}

static void every_pair_of_turns_has_its_label(void **state)
{
    static const int expected[4][4] = {{0, 3, 2, 1}, {1, 0, 3, 2}, {2, 1, 0, 3}, {3, 2, 1, 0}};
    PlanSettings settings = {.pack = *state,
                             .loader = LOADER_SOURCE_ROTATION,
                             .batch = PAIRS,
                             .crop = 224,
                             .augment = true,
                             .rotate = true};
    Plan *plan = open_plan(&settings);
    bool seen[16] = {false};
    for (int b = 0; b < 10; b++) {
        PairPlan pairs[PAIRS];
        plan_batch(plan, b, pairs);
        for (int i = 0; i < PAIRS; i++) {
            int rgb = pairs[i].quarter_turns[RGB];
            int depth = pairs[i].quarter_turns[DEPTH];
            assert_int_equal(pairs[i].label, expected[rgb][depth]);
            seen[4 * rgb + depth] = true;
        }
    }
    for (int i = 0; i < 16; i++) {
        assert_true(seen[i]);
    }
    plan_close(plan);
}

static void order_of(PlanSettings settings, int64_t pass, int64_t order[PAIRS])
{
    settings.batch = PAIRS;
    Plan *plan = open_plan(&settings);
    PairPlan pairs[PAIRS];
    assert_int_equal(plan_batch(plan, pass, pairs), PAIRS);
    bool seen[PAIRS] = {false};
    for (int i = 0; i < PAIRS; i++) {
        assert_in_range(pairs[i].index, 0, PAIRS - 1);
        assert_false(seen[pairs[i].index]);
        seen[pairs[i].index] = true;
        order[i] = pairs[i].index;
    }
    plan_close(plan);
}

static void orders_are_permutations_that_differ(void **state)
{
    PlanSettings base = {.pack = *state, .seed = 3, .epoch = 1, .crop = 224, .drop_last = true};
    PlanSettings epoch = base;
    epoch.epoch = 2;
    PlanSettings loader = base;
    loader.loader = LOADER_TARGET;
    PlanSettings seed = base;
    seed.seed = 4;
    PlanSettings high_seed = base;
    high_seed.seed = 3 | 1ULL << 40;
    int64_t order[6][PAIRS];
    order_of(base, 0, order[0]);
    order_of(base, 1, order[1]);
    order_of(epoch, 0, order[2]);
    order_of(loader, 0, order[3]);
    order_of(seed, 0, order[4]);
    order_of(high_seed, 0, order[5]);
    for (int a = 0; a < 6; a++) {
        for (int b = 0; b < a; b++) {
            assert_memory_not_equal(order[a], order[b], sizeof order[a]);
        }
    }
}

static void any_batch_can_be_planned_on_its_own(void **state)
{
    PlanSettings settings = {.pack = *state,
                             .seed = 8,
                             .epoch = 5,
                             .batch = 7,
                             .crop = 200,
                             .augment = true,
                             .rotate = true};
    enum { BATCHES = 20 };
    PairPlan sequential[BATCHES][7];
    int counts[BATCHES];
    memset(sequential, 0, sizeof sequential);
    Plan *plan = open_plan(&settings);
    assert_int_equal(plan_batches(plan), 8);
    for (int b = 0; b < BATCHES; b++) {
        counts[b] = plan_batch(plan, b, sequential[b]);
        assert_int_equal(counts[b], b % 8 == 7 ? 1 : 7);
    }
    for (int b = BATCHES - 1; b >= 0; b--) {
        PairPlan again[7] = {0};
        assert_int_equal(plan_batch(plan, b, again), counts[b]);
        assert_memory_equal(again, sequential[b], sizeof again);
        PairPlan alone[7] = {0};
        Plan *fresh = open_plan(&settings);
        assert_int_equal(plan_batch(fresh, b, alone), counts[b]);
        assert_memory_equal(alone, sequential[b], sizeof alone);
        plan_close(fresh);
    }
    plan_close(plan);
}

static void without_augmentation_the_centre_is_taken(void **state)
{
    PlanSettings settings = {
        .pack = *state, .loader = LOADER_TARGET_TEST, .batch = PAIRS, .crop = 224};
    Plan *plan = open_plan(&settings);
    PairPlan pairs[PAIRS];
    assert_int_equal(plan_batch(plan, 0, pairs), PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        assert_int_equal(pairs[i].top, 16);
        assert_int_equal(pairs[i].left, 16);
        assert_int_equal(pairs[i].flip, 0);
        assert_int_equal(pairs[i].quarter_turns[RGB] + pairs[i].quarter_turns[DEPTH], 0);
        assert_int_equal(pairs[i].label, pairs[i].index % 7);
    }
    plan_close(plan);
}

static void impossible_settings_are_refused(void **state)
{
    Err err = {0};
    PlanSettings settings = {.pack = *state, .batch = PAIRS + 1, .crop = 224, .drop_last = true};
    assert_null(plan_open(&settings, &err));
    assert_non_null(strstr(err.text, "has 50 pairs, not enough for one batch of 51"));
    settings.drop_last = false;
    Plan *plan = open_plan(&settings);
    assert_int_equal(plan_batches(plan), 1);
    plan_close(plan);
    settings.crop = 257;
    assert_null(plan_open(&settings, &err));
    assert_non_null(strstr(err.text, "a crop of 257 pixels cannot be taken"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_python_replay_agrees),
        cmocka_unit_test(choices_are_uniform_and_independent),
        cmocka_unit_test(every_pair_of_turns_has_its_label),
        cmocka_unit_test(orders_are_permutations_that_differ),
        cmocka_unit_test(any_batch_can_be_planned_on_its_own),
        cmocka_unit_test(without_augmentation_the_centre_is_taken),
        cmocka_unit_test(impossible_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
