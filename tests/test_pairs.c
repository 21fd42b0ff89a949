/* Lists: every published form, every slip a list can have, and what is said about missing files. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "data/pairs.h"
#include "data_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utime.h>

#include <cmocka.h>

#define TRAIN_LIST "synROD/synARID_50k-split_sync_train1.txt"
#define ROD_LIST   "ROD/wrgbd_40k-split_sync.txt"

static int set_up(void **state)
{
    *state = fixture_create_folder();
    return 0;
}

static int tear_down(void **state)
{
    fixture_remove_folder(*state);
    return 0;
}

static PairList read_list(const char *root, const char *dataset, Split split, bool small)
{
    PairList list;
    Err err = {0};
    if (pairs_read(&list, root, dataset, split, small, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return list;
}

static void assert_pair(const PairList *list, int64_t i, const char *rgb, const char *depth,
                        int label)
{
    assert_string_equal(list->pairs[i].path[RGB], rgb);
    assert_string_equal(list->pairs[i].path[DEPTH], depth);
    assert_int_equal(list->pairs[i].label, label);
}

static void expect_error(const char *root, const char *dataset, bool small, const char *part)
{
    PairList list;
    Err err = {0};
    assert_int_equal(pairs_read(&list, root, dataset, SPLIT_TRAIN, small, &err), -1);
    if (!strstr(err.text, part)) {
        fail_msg("'%s' does not say '%s'", err.text, part);
    }
}

static void synrod_is_read(void **state)
{
    fixture_write(*state, TRAIN_LIST, "apple/***/a_1.png 0\nball/***/b_***.png 1\n");
    fixture_write(*state, "synROD/synARID_50k-split_sync_test1.txt", "ball/***/t.png 1\n");
    PairList list = read_list(*state, "synROD", SPLIT_TRAIN, false);
    assert_string_equal(list.name, "synROD-train");
    assert_int_equal(list.count, 2);
    assert_int_equal(list.classes, 2);
    assert_pair(&list, 0, "apple/rgb/a_1.png", "apple/depth/a_1.png", 0);
    assert_pair(&list, 1, "ball/rgb/b_rgb.png", "ball/depth/b_depth.png", 1);
    pairs_free(&list);
    list = read_list(*state, "synROD", SPLIT_TEST, false);
    assert_string_equal(list.name, "synROD-test");
    assert_pair(&list, 0, "ball/rgb/t.png", "ball/depth/t.png", 1);
    pairs_free(&list);
}

static void check_rod_form(const char *root, const char *line, const char *rgb, const char *depth)
{
    fixture_write(root, ROD_LIST, line);
    PairList list = read_list(root, "ROD", SPLIT_TRAIN, false);
    assert_string_equal(list.name, "ROD");
    assert_int_equal(list.count, 1);
    assert_pair(&list, 0, rgb, depth, 38);
    pairs_free(&list);
}

static void rod_is_read_in_its_three_forms(void **state)
{
    const char *rgb = "rgb-washington/er/er_4/er_4_1_crop.png";
    const char *depth = "surfnorm-washington/er/er_4/er_4_1_depthcrop.png";
    check_rod_form(*state, "er/er_4/er_4_1_***.png 38\n", rgb, depth);
    check_rod_form(*state, "\?\?\?-washington/er/er_4/er_4_1_***.png 38\n", rgb, depth);
    /* The folder that the list names is not there: the usual one is taken. */
    check_rod_form(*state, "ROD_\?\?\?/er/er_4/er_4_1_***.png 38\n", rgb, depth);
    fixture_write(*state, "ROD/ROD_rgb/er/x", "");
    check_rod_form(*state, "ROD_\?\?\?/er/er_4/er_4_1_***.png 38\n",
                   "ROD_rgb/er/er_4/er_4_1_crop.png", "ROD_surfnorm/er/er_4/er_4_1_depthcrop.png");
}

static void hb_is_read(void **state)
{
    fixture_write(*state, "HB_Syn_crops_square/HB_Syn_crops_25k-split_sync_train1.txt",
                  "o/***/1.png 3\n");
    fixture_write(*state, "HB_val_crops_square/HB_val_crops_25k-split_sync.txt", "o/***/2.png 4\n");
    PairList list = read_list(*state, "synHB", SPLIT_TRAIN, false);
    assert_string_equal(list.name, "synHB-train");
    assert_pair(&list, 0, "o/rgb/1.png", "o/depth/1.png", 3);
    pairs_free(&list);
    list = read_list(*state, "valHB", SPLIT_TEST, false);
    assert_string_equal(list.name, "valHB");
    assert_pair(&list, 0, "o/rgb/2.png", "o/depth/2.png", 4);
    assert_int_equal(list.classes, 5);
    pairs_free(&list);
    expect_error(*state, "synHB", true, "leave --smallset out");
}

static void small_lists_are_read(void **state)
{
    fixture_write(*state, "synROD/smallsynROD_train.txt", "a/***/1.png 0\n");
    fixture_write(*state, "synROD/smallsynROD_test.txt", "a/***/2.png 0\n");
    fixture_write(*state, "ROD/smallROD.txt", "a/a_1/3_***.png 0\n");
    PairList list = read_list(*state, "synROD", SPLIT_TRAIN, true);
    assert_string_equal(list.name, "synROD-smallset-train");
    pairs_free(&list);
    list = read_list(*state, "synROD", SPLIT_TEST, true);
    assert_string_equal(list.name, "synROD-smallset-test");
    assert_pair(&list, 0, "a/rgb/2.png", "a/depth/2.png", 0);
    pairs_free(&list);
    list = read_list(*state, "ROD", SPLIT_TEST, true);
    assert_string_equal(list.name, "ROD-smallset");
    pairs_free(&list);
}

static void blanks_endings_and_line_ends_are_tolerated(void **state)
{
    fixture_write(*state, TRAIN_LIST,
                  "\xEF\xBB\xBF"
                  "a/***/0.png 0\r\n"
                  "\r\n  a/***/1.png 0\r\n\n\ta/***/2.JPG \t 1  \r\na/***/3.Png 2\na/***/4.txt 3\n"
                  "a comment\na/***/my apple.bmp 4\na/***/5.jpeg 5");
    PairList list = read_list(*state, "synROD", SPLIT_TRAIN, false);
    assert_int_equal(list.count, 5);
    assert_int_equal(list.classes, 6);
    assert_pair(&list, 0, "a/rgb/0.png", "a/depth/0.png", 0);
    assert_pair(&list, 1, "a/rgb/1.png", "a/depth/1.png", 0);
    assert_pair(&list, 2, "a/rgb/2.JPG", "a/depth/2.JPG", 1);
    assert_pair(&list, 3, "a/rgb/my apple.bmp", "a/depth/my apple.bmp", 4);
    assert_pair(&list, 4, "a/rgb/5.jpeg", "a/depth/5.jpeg", 5);
    pairs_free(&list);
}

static void bad_labels_are_named(void **state)
{
    static const char *const lines[] = {"a.png",
                                        "a.png -1",
                                        "a.png x",
                                        "a.png 1x",
                                        "a.png 1.5",
                                        "a.png +1",
                                        "a.png 3 4",
                                        "a.png 65536",
                                        "a.png 0x1",
                                        "a.png 1e3",
                                        "a.png 9999999999999999999999"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char *text = mem_format("a/***/1.png 0\n\n%s\n", lines[i]);
        char *part = mem_format("train1.txt, line 3: '%s' does not end in a label", lines[i]);
        fixture_write(*state, TRAIN_LIST, text);
        expect_error(*state, "synROD", false, part);
        free(part);
        free(text);
    }
}

static void missing_lists_and_folders_are_named(void **state)
{
    char *nowhere = path_join(*state, "nowhere");
    expect_error(nowhere, "synROD", false, "nowhere: there is no such folder");
    expect_error(nowhere, "synROD", false, "ROD/wrgbd_40k-split_sync.txt");
    free(nowhere);
    expect_error(*state, "synROD", false, "no folder synROD in it: a data root for");
    expect_error(*state, "synARID", false, "unknown data set 'synARID': it is one of synROD, ROD");
    fixture_write(*state, "ROD-synROD/synROD/x", "");
    expect_error(*state, "synROD", false, "/ROD-synROD");
    fixture_write(*state, "synROD/x", "");
    expect_error(*state, "synROD", false, "synARID_50k-split_sync_train1.txt: cannot open");
    fixture_write(*state, TRAIN_LIST, "nothing here\n");
    expect_error(*state, "synROD", false, "train1.txt: no line of it names a picture");
    fixture_write(*state, TRAIN_LIST, "");
    expect_error(*state, "synROD", false, "train1.txt: no line of it names a picture");
}

static void every_data_set_is_known(void **state)
{
    int count = 0;
    for (; pairs_dataset_names[count]; count++) {
        PairList list;
        Err err = {0};
        assert_int_equal(
            pairs_read(&list, *state, pairs_dataset_names[count], SPLIT_TEST, false, &err), -1);
        assert_non_null(strstr(err.text, ": no folder "));
    }
    assert_int_equal(count, 4);
}

static void class_names_come_from_the_folders(void **state)
{
    fixture_write(*state, TRAIN_LIST, "apple/***/1.png 0\nbell_papper/***/1.png 2\n");
    PairList list = read_list(*state, "synROD", SPLIT_TRAIN, false);
    char **names = pairs_class_names(&list);
    assert_string_equal(names[0], "apple");
    assert_string_equal(names[1], "");
    assert_string_equal(names[2], "bell_papper");
    for (int i = 0; i < 3; i++) {
        free(names[i]);
    }
    free(names);
    pairs_free(&list);
    fixture_write(*state, ROD_LIST, "lemon/lemon_1/1_***.png 0\n");
    list = read_list(*state, "ROD", SPLIT_TRAIN, false);
    names = pairs_class_names(&list);
    assert_string_equal(names[0], "lemon");
    free(names[0]);
    free(names);
    pairs_free(&list);
}

static PairStats stat_list(const char *root, Pool *pool)
{
    PairList list = read_list(root, "synROD", SPLIT_TRAIN, false);
    PairStats stats;
    Err err = {0};
    assert_int_equal(pairs_stat(&list, pool, NULL, &stats, &err), 0);
    pairs_free(&list);
    return stats;
}

static void the_digest_follows_every_change(void **state)
{
    Pool *pool = pool_open(3);
    fixture_write(*state, "synROD/a/rgb/1.png", "0123");
    fixture_write(*state, "synROD/a/depth/1.png", "01234567");
    fixture_write(*state, "synROD/b/rgb/1.png", "0123");
    fixture_write(*state, "synROD/b/depth/1.png", "01234567");
    char *picture = path_join(*state, "synROD/a/rgb/1.png");
    char *other = path_join(*state, "synROD/b/rgb/1.png");
    struct utimbuf time = {.actime = 1000000000, .modtime = 1000000000};
    assert_int_equal(utime(picture, &time), 0);
    assert_int_equal(utime(other, &time), 0);
    fixture_write(*state, TRAIN_LIST, "a/***/1.png 0\n");
    PairStats first = stat_list(*state, pool);
    assert_int_equal(first.pictures, 2);
    assert_int_equal(first.bytes, 12);
    assert_true(stat_list(*state, pool).digest == first.digest);

    fixture_write(*state, TRAIN_LIST, "a/***/1.png 1\n");
    assert_true(stat_list(*state, pool).digest != first.digest); /* label */
    fixture_write(*state, TRAIN_LIST, "b/***/1.png 0\n");
    assert_true(stat_list(*state, pool).digest != first.digest); /* path */
    fixture_write(*state, TRAIN_LIST, "a/***/1.png 0\n");
    assert_true(stat_list(*state, pool).digest == first.digest);

    time.modtime++;
    assert_int_equal(utime(picture, &time), 0);
    assert_true(stat_list(*state, pool).digest != first.digest); /* time */
    fixture_write(*state, "synROD/a/rgb/1.png", "01234");
    time.modtime--;
    assert_int_equal(utime(picture, &time), 0);
    assert_true(stat_list(*state, pool).digest != first.digest); /* size */
    free(picture);
    free(other);
    pool_close(pool);
}

/* Every look at the clock is a second later than the one before. */
double clock_seconds(void)
{
    static atomic_int now;
    return atomic_fetch_add(&now, 1);
}

double clock_unix(void)
{
    return clock_seconds();
}

static void slow_files_are_looked_at_with_progress(void **state)
{
    char *text = NULL;
    size_t bytes;
    FILE *notes = open_memstream(&text, &bytes);
    assert_non_null(notes);
    Log *log = log_open(stdout, notes);
    fixture_write(*state, "synROD/a/rgb/1.png", "x");
    fixture_write(*state, "synROD/a/depth/1.png", "x");
    fixture_write(*state, TRAIN_LIST,
                  "a/***/1.png 0\na/***/1.png 0\na/***/1.png 0\na/***/1.png 0\n");
    PairList list = read_list(*state, "synROD", SPLIT_TRAIN, false);
    Pool *pool = pool_open(2);
    PairStats stats;
    Err err = {0};
    assert_int_equal(pairs_stat(&list, pool, log, &stats, &err), 0);
    log_close(log);
    assert_int_equal(fclose(notes), 0);
    assert_non_null(strstr(text, "Looking at the files of synROD-train: "));
    assert_non_null(strstr(text, "/8 ["));
    assert_non_null(strstr(text, " files/s]\n"));
    pool_close(pool);
    pairs_free(&list);
    free(text);
}

/* What is said about the labels of a training list with these lines. A new string. */
static char *labels_told(const char *root, const char *lines)
{
    char *text = NULL;
    size_t bytes;
    FILE *notes = open_memstream(&text, &bytes);
    assert_non_null(notes);
    Log *log = log_open(stdout, notes);
    fixture_write(root, TRAIN_LIST, lines);
    PairList list = read_list(root, "synROD", SPLIT_TRAIN, false);
    pairs_warn_of_gaps(&list, log);
    pairs_free(&list);
    log_close(log);
    assert_int_equal(fclose(notes), 0);
    return text;
}

static void gaps_between_labels_are_told(void **state)
{
    char *whole = labels_told(*state, "a/***/1.png 2\nb/***/1.png 0\nc/***/1.png 1\n");
    assert_string_equal(whole, "");
    free(whole);
    char *slip = labels_told(*state, "a/***/1.png 0\nb/***/1.png 1\nc/***/1.png 470\n");
    assert_non_null(strstr(slip, "of the labels 0 to 470, each of which is a class, 468 have no "
                                 "picture, the first is 2; the highest is that of c/rgb/1.png: "));
    free(slip);
}

static void missing_pictures_are_named_and_counted(void **state)
{
    char *text = mem_string("");
    for (int i = 0; i < 10; i++) {
        char *longer = mem_format("%sa/***/%d.png 0\n", text, i);
        free(text);
        text = longer;
        char *name = mem_format("synROD/a/rgb/%d.png", i);
        fixture_write(*state, name, "x");
        free(name);
    }
    fixture_write(*state, TRAIN_LIST, text);
    free(text);
    fixture_write(*state, "synROD/a/depth/0.png", "x");
    fixture_write(*state, "synROD/a/depth/2.png/is/a/folder", "x");
    PairList list = read_list(*state, "synROD", SPLIT_TRAIN, false);
    Pool *pool = pool_open(2);
    PairStats stats;
    Err err = {0};
    assert_int_equal(pairs_stat(&list, pool, NULL, &stats, &err), -1);
    assert_non_null(strstr(err.text, "9 of the 20 pictures in this list are missing"));
    assert_non_null(strstr(err.text, "(No such file or directory): a/depth/1.png, a/depth/2.png, "
                                     "a/depth/3.png, a/depth/4.png, a/depth/5.png, ...; unpack"));
    pool_close(pool);
    pairs_free(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(synrod_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rod_is_read_in_its_three_forms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hb_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_lists_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(blanks_endings_and_line_ends_are_tolerated, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(bad_labels_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_lists_and_folders_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_data_set_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(class_names_come_from_the_folders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_digest_follows_every_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slow_files_are_looked_at_with_progress, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gaps_between_labels_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_pictures_are_named_and_counted, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
