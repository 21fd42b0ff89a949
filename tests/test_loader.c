/* The loader: its batches against the plan and the packs, whatever the number of workers and
 * wherever it starts; partial and merged batches; damage; closing at any moment. */
#include "base/mem.h"
#include "data/loader.h"
#include "data_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAIRS = 23, BATCH = 5, RESIZE = 32, CROP = 24 };

typedef struct {
    char *root;
    Pack *pack;
    Backend *be;
    Store *store; /* of the loaders that the functions below open; NULL: none */
} Fixture;

static int set_up(void **state)
{
    Err err = {0};
    Fixture *fixture = mem_zeroed(1, sizeof *fixture);
    fixture->root = fixture_create_folder();
    fixture_write_synrod(fixture->root, PAIRS);
    fixture->pack = fixture_pack(fixture->root, RESIZE);
    fixture->be = device_open("cpu", &(DeviceOptions){.threads = 1}, &err);
    assert_non_null(fixture->be);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    device_close(fixture->be);
    pack_close(fixture->pack);
    fixture_remove_folder(fixture->root);
    free(fixture);
    return 0;
}

/* Source and source rotation, as in training. */
static LoaderSettings training(const Fixture *fixture, int64_t steps, int workers)
{
    PlanSettings source = {.pack = fixture->pack,
                           .seed = 6,
                           .epoch = 2,
                           .loader = LOADER_SOURCE,
                           .batch = BATCH,
                           .crop = CROP,
                           .augment = true,
                           .drop_last = true};
    PlanSettings rotation = source;
    rotation.loader = LOADER_SOURCE_ROTATION;
    rotation.rotate = true;
    return (LoaderSettings){.be = fixture->be,
                            .store = fixture->store,
                            .sources = 2,
                            .source = {source, rotation},
                            .consecutive = 1,
                            .steps = steps,
                            .workers = workers};
}

/* The target's test loader, which keeps the last partial batch. */
static LoaderSettings evaluation(const Fixture *fixture, int consecutive, int64_t batches)
{
    return (LoaderSettings){.be = fixture->be,
                            .store = fixture->store,
                            .sources = 1,
                            .source = {{.pack = fixture->pack,
                                        .loader = LOADER_TARGET_TEST,
                                        .batch = BATCH,
                                        .crop = CROP}},
                            .consecutive = consecutive,
                            .steps = (batches + consecutive - 1) / consecutive,
                            .batches = batches,
                            .workers = 2};
}

static Loader *open_loader(const LoaderSettings *settings)
{
    Err err = {0};
    Loader *loader = loader_open(settings, &err);
    if (!loader) {
        fail_msg("%s", err.text);
    }
    return loader;
}

static Store *open_store(const Fixture *fixture, Tier tier)
{
    Err err = {0};
    StoreSettings settings = {
        .be = fixture->be, .packs = {fixture->pack}, .count = 1, .tier = tier, .warm = true};
    Store *store = store_open(&settings, &err);
    if (!store) {
        fail_msg("%s", err.text);
    }
    return store;
}

/* What one batch holds, copied back from the device. */
typedef struct {
    PairPlan plan[8 * BATCH];
    AugmentItem items[MODALITIES][8 * BATCH];
    int32_t labels[8 * BATCH];
} Seen;

static void copy_batch(Backend *be, const Batch *batch, Seen *seen)
{
    size_t pairs = (size_t)batch->groups * (size_t)batch->batch;
    *seen = (Seen){0};
    memcpy(seen->plan, batch->plan, pairs * sizeof(PairPlan));
    for (int m = 0; m < MODALITIES; m++) {
        device_copy_out(be, seen->items[m], batch->items[m], pairs * sizeof(AugmentItem));
    }
    device_copy_out(be, seen->labels, batch->labels, pairs * sizeof(int32_t));
}

/* Items, labels and pixels of every slot belong to the pair that the plan names. */
static void check_contents(const Fixture *fixture, const Batch *batch, const Seen *seen)
{
    uint8_t *pixels = mem_alloc(pack_largest_picture(fixture->pack));
    for (int i = 0; i < batch->groups * batch->batch; i++) {
        const PairPlan *plan = &seen->plan[i];
        assert_int_equal(seen->labels[i], plan->label);
        for (int m = 0; m < MODALITIES; m++) {
            const AugmentItem *item = &seen->items[m][i];
            PackedPicture picture = pack_picture(fixture->pack, plan->index, m);
            assert_int_equal(item->width, picture.width);
            assert_int_equal(item->height, picture.height);
            assert_int_equal(item->top, plan->top);
            assert_int_equal(item->left, plan->left);
            assert_int_equal(item->flip, plan->flip);
            assert_int_equal(item->quarter_turns, plan->quarter_turns[m]);
            assert_int_equal((uintptr_t)(batch->pixels + item->offset) % 64, 0);
            size_t bytes = (size_t)picture.width * (size_t)picture.height * 3;
            device_copy_out(fixture->be, pixels, batch->pixels + item->offset, bytes);
            assert_memory_equal(pixels, picture.pixels, bytes);
        }
    }
    free(pixels);
}

/* Where pixels lie depends on the tier. */
static void forget_offsets(Seen *seen)
{
    for (int m = 0; m < MODALITIES; m++) {
        for (int i = 0; i < 8 * BATCH; i++) {
            seen->items[m][i].offset = 0;
        }
    }
}

/* Runs a loader from first_step on and compares with the steps of an earlier run. */
static void compare_run(const Fixture *fixture, LoaderSettings settings, const Seen *expected)
{
    Err err = {0};
    Batch batch;
    Seen *seen = mem_zeroed(1, sizeof *seen);
    Loader *loader = open_loader(&settings);
    for (int64_t t = settings.first_step; t < settings.steps; t++) {
        assert_int_equal(loader_next(loader, &batch, &err), 1);
        copy_batch(fixture->be, &batch, seen);
        check_contents(fixture, &batch, seen);
        forget_offsets(seen);
        assert_memory_equal(seen, &expected[t], sizeof *seen);
    }
    assert_int_equal(loader_next(loader, &batch, &err), 0);
    assert_int_equal(loader_next(loader, &batch, &err), 0);
    loader_close(loader);
    free(seen);
}

static void batches_do_not_depend_on_workers_or_start(void **state)
{
    const Fixture *fixture = *state;
    enum { STEPS = 11 };
    Err err = {0};
    Seen *expected = mem_zeroed(STEPS, sizeof *expected);
    LoaderSettings settings = training(fixture, STEPS, 1);
    Plan *plans[2] = {plan_open(&settings.source[0], &err), plan_open(&settings.source[1], &err)};
    Loader *loader = open_loader(&settings);
    for (int t = 0; t < STEPS; t++) {
        Batch batch;
        PairPlan planned[BATCH];
        assert_int_equal(loader_next(loader, &batch, &err), 1);
        assert_int_equal(batch.groups, 2);
        assert_int_equal(batch.batch, BATCH);
        copy_batch(fixture->be, &batch, &expected[t]);
        check_contents(fixture, &batch, &expected[t]);
        for (int g = 0; g < 2; g++) {
            assert_int_equal(batch.pairs[g], BATCH);
            assert_int_equal(plan_batch(plans[g], t, planned), BATCH);
            assert_memory_equal(planned, expected[t].plan + (size_t)g * BATCH, sizeof planned);
        }
        forget_offsets(&expected[t]);
    }
    loader_close(loader);
    plan_close(plans[0]);
    plan_close(plans[1]);
    compare_run(fixture, training(fixture, STEPS, 2), expected);
    compare_run(fixture, training(fixture, STEPS, 5), expected);
    settings = training(fixture, STEPS, 3);
    settings.first_step = 6;
    compare_run(fixture, settings, expected);
    settings.first_step = STEPS;
    compare_run(fixture, settings, expected);
    Fixture placed = *fixture;
    for (int tier = TIER_DEVICE; tier <= TIER_DISK; tier++) {
        placed.store = open_store(fixture, (Tier)tier);
        assert_int_equal(store_tier(placed.store), tier);
        compare_run(&placed, training(&placed, STEPS, 2), expected);
        settings = training(&placed, STEPS, 1);
        settings.first_step = 3;
        compare_run(&placed, settings, expected);
        store_close(placed.store);
    }
    free(expected);
}

/* What a loader had prepared but not handed out is not on the device: the next one brings it. */
static void a_closed_loader_leaves_no_gaps(void **state)
{
    Fixture fixture = *(Fixture *)*state;
    enum { STEPS = 9 };
    Err err = {0};
    Batch batch;
    Seen *seen = mem_zeroed(1, sizeof *seen);
    for (int taken = 0; taken < 4; taken++) {
        fixture.store = open_store(&fixture, TIER_DEVICE);
        for (int run = 0; run < 2; run++) {
            LoaderSettings settings = training(&fixture, STEPS, 2);
            Loader *loader = open_loader(&settings);
            for (int t = 0; t < (run == 0 ? taken : STEPS); t++) {
                assert_int_equal(loader_next(loader, &batch, &err), 1);
                copy_batch(fixture.be, &batch, seen);
                check_contents(&fixture, &batch, seen);
            }
            loader_close(loader);
        }
        store_close(fixture.store);
    }
    free(seen);
}

/* Steps of one loader, and loaders of one shape that follow each other, use the same addresses; two
 * at once do not. */
static void a_store_keeps_the_addresses(void **state)
{
    Fixture fixture = *(Fixture *)*state;
    for (int tier = TIER_DEVICE; tier <= TIER_DISK; tier++) {
        Err err = {0};
        Batch first;
        Batch again;
        Batch other;
        fixture.store = open_store(&fixture, (Tier)tier);
        LoaderSettings settings = training(&fixture, 9, 2);
        Loader *loader = open_loader(&settings);
        assert_int_equal(loader_next(loader, &first, &err), 1);
        assert_int_equal(loader_next(loader, &again, &err), 1);
        assert_ptr_equal(first.pixels, again.pixels);
        assert_ptr_equal(first.items[DEPTH], again.items[DEPTH]);
        Loader *beside = open_loader(&settings);
        assert_int_equal(loader_next(beside, &other, &err), 1);
        assert_ptr_not_equal(first.labels, other.labels);
        assert_true((first.pixels == other.pixels) == (tier == TIER_DEVICE));
        loader_close(beside);
        loader_close(loader);
        settings.source[0].epoch++;
        settings.source[1].epoch++;
        loader = open_loader(&settings);
        assert_int_equal(loader_next(loader, &again, &err), 1);
        assert_ptr_equal(first.pixels, again.pixels);
        assert_ptr_equal(first.items[RGB], again.items[RGB]);
        assert_ptr_equal(first.labels, again.labels);
        loader_close(loader);
        store_close(fixture.store);
    }
}

/* The same list twice costs its bytes once. */
static void equal_packs_share_their_pixels(void **state)
{
    const Fixture *fixture = *state;
    Err err = {0};
    Pack *again = pack_open(pack_path(fixture->pack), &err);
    assert_non_null(again);
    StoreSettings settings = {
        .be = fixture->be, .packs = {fixture->pack, again}, .count = 2, .tier = TIER_DEVICE};
    Store *store = store_open(&settings, &err);
    assert_non_null(store);
    assert_int_equal(store_offset(store, fixture->pack), 0);
    assert_int_equal(store_offset(store, again), 0);
    store_close(store);
    pack_close(again);
}

/* 23 pairs in batches of 5: the fifth has 3. Merged by two, the sixth does not exist. */
static void partial_batches_repeat_a_valid_pair(void **state)
{
    const Fixture *fixture = *state;
    LoaderSettings settings = evaluation(fixture, 2, 5);
    Loader *loader = open_loader(&settings);
    Err err = {0};
    Batch batch;
    Seen *seen = mem_zeroed(1, sizeof *seen);
    bool visited[PAIRS] = {false};
    static const int expected[3][2] = {{5, 5}, {5, 5}, {3, 0}};
    for (int t = 0; t < 3; t++) {
        assert_int_equal(loader_next(loader, &batch, &err), 1);
        assert_int_equal(batch.groups, 2);
        copy_batch(fixture->be, &batch, seen);
        check_contents(fixture, &batch, seen);
        for (int g = 0; g < 2; g++) {
            assert_int_equal(batch.pairs[g], expected[t][g]);
            for (int i = 0; i < batch.pairs[g]; i++) {
                int64_t index = seen->plan[g * BATCH + i].index;
                assert_false(visited[index]);
                visited[index] = true;
            }
            for (int i = batch.pairs[g]; i < BATCH; i++) {
                assert_int_equal(seen->plan[g * BATCH + i].index, seen->plan[0].index);
            }
        }
    }
    assert_int_equal(loader_next(loader, &batch, &err), 0);
    for (int i = 0; i < PAIRS; i++) {
        assert_true(visited[i]);
    }
    loader_close(loader);
    free(seen);
}

/* A cap on the batches ends the run, however many steps were asked for. */
static void the_cap_ends_the_run(void **state)
{
    LoaderSettings settings = evaluation(*state, 2, 3);
    settings.steps = 100;
    Loader *loader = open_loader(&settings);
    Err err = {0};
    Batch batch;
    assert_int_equal(loader_next(loader, &batch, &err), 1);
    assert_int_equal(loader_next(loader, &batch, &err), 1);
    assert_int_equal(batch.pairs[0], BATCH);
    assert_int_equal(batch.pairs[1], 0);
    assert_int_equal(loader_next(loader, &batch, &err), 0);
    loader_close(loader);
}

static void closing_early_is_clean(void **state)
{
    for (int taken = 0; taken < 6; taken++) {
        LoaderSettings settings = training(*state, 1000, 1 + taken % 3);
        Loader *loader = open_loader(&settings);
        Err err = {0};
        Batch batch;
        for (int t = 0; t < taken; t++) {
            assert_int_equal(loader_next(loader, &batch, &err), 1);
        }
        loader_close(loader);
    }
    loader_close(NULL);
}

static void a_batch_that_does_not_fit_is_refused(void **state)
{
    Err err = {0};
    LoaderSettings settings = training(*state, 10, 2);
    settings.source[1].batch = PAIRS + 1;
    assert_null(loader_open(&settings, &err));
    assert_non_null(strstr(err.text, "not enough for one batch of 24"));
}

/* All pairs of the pack, each time. */
static void evaluate_all(const Fixture *fixture)
{
    LoaderSettings settings = evaluation(fixture, 1, 5);
    Loader *loader = open_loader(&settings);
    Err err = {0};
    Batch batch;
    for (int t = 0; t < 5; t++) {
        assert_int_equal(loader_next(loader, &batch, &err), 1);
    }
    loader_close(loader);
}

/* A run ends at the damaged picture, and not before. */
static void expect_damage(const Fixture *fixture)
{
    LoaderSettings settings = evaluation(fixture, 1, 5);
    Loader *loader = open_loader(&settings);
    Err err = {0};
    Batch batch;
    int rc;
    int good = 0;
    while ((rc = loader_next(loader, &batch, &err)) == 1) {
        for (int i = 0; i < batch.pairs[0]; i++) {
            assert_int_not_equal(batch.plan[i].index, 11);
        }
        good++;
    }
    assert_int_equal(rc, -1);
    assert_true(good < 5);
    assert_non_null(strstr(err.text, "synROD-train-32.pack: the depth picture of pair 11, "
                                     "thing4/depth/p11.png, does not match its checksum"));
    assert_int_equal(loader_next(loader, &batch, &err), -1);
    loader_close(loader);
}

/* Damages the pixels of pair 11's depth picture in the mapped file. A device that has all pictures
 * does not look there again. */
static void damaged_pixels_are_named(void **state)
{
    const Fixture *fixture = *state;
    PackedPicture picture = pack_picture(fixture->pack, 11, DEPTH);
    FILE *reader = fopen(pack_path(fixture->pack), "rb");
    assert_non_null(reader);
    static uint8_t bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, reader);
    fclose(reader);
    size_t picture_bytes = (size_t)picture.width * (size_t)picture.height * 3;
    uint8_t *at = memmem(bytes, size, picture.pixels, picture_bytes);
    assert_non_null(at);
    Fixture placed = *fixture;
    placed.store = open_store(fixture, TIER_DEVICE);
    evaluate_all(&placed);
    FILE *writer = fopen(pack_path(fixture->pack), "r+b");
    assert_non_null(writer);
    assert_int_equal(fseek(writer, (long)(at - bytes) + (long)picture_bytes - 1, SEEK_SET), 0);
    assert_int_equal(fputc(at[picture_bytes - 1] ^ 1, writer), at[picture_bytes - 1] ^ 1);
    assert_int_equal(fclose(writer), 0);

    evaluate_all(&placed);
    store_close(placed.store);
    placed.store = NULL;
    expect_damage(&placed);
    for (int tier = TIER_DEVICE; tier <= TIER_DISK; tier += TIER_DISK - TIER_DEVICE) {
        placed.store = open_store(fixture, (Tier)tier);
        expect_damage(&placed);
        store_close(placed.store);
    }
}

static void the_tier_is_named_as_typed(void **state)
{
    (void)state;
    Err err = {0};
    Tier tier = TIER_AUTO;
    assert_int_equal(tier_parse("disk", &tier, &err), 0);
    assert_int_equal(tier, TIER_DISK);
    assert_int_equal(tier_parse("tape", &tier, &err), -1);
    assert_string_equal(err.text, "'tape' is no tier: it is one of auto, device, ram, disk");
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_do_not_depend_on_workers_or_start),
        cmocka_unit_test(a_closed_loader_leaves_no_gaps),
        cmocka_unit_test(partial_batches_repeat_a_valid_pair),
        cmocka_unit_test(the_cap_ends_the_run),
        cmocka_unit_test(closing_early_is_clean),
        cmocka_unit_test(a_batch_that_does_not_fit_is_refused),
        cmocka_unit_test(a_store_keeps_the_addresses),
        cmocka_unit_test(equal_packs_share_their_pixels),
        cmocka_unit_test(the_tier_is_named_as_typed),
        cmocka_unit_test(damaged_pixels_are_named), /* last: it spoils the pack */
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
