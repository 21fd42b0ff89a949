/* The demo data set's files: names, lists, bytes, the tar file, and what can go wrong. */
#include "base/mem.h"
#include "base/path.h"
#include "data/demo/catalogue.h"
#include "data/demo/dataset.h"
#include "data/pairs.h"

#include <archive.h>
#include <archive_entry.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const DemoSettings small = {.classes = 6, .per_class = 4, .seed = 3};

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static void write_set(const DemoSettings *settings, const char *folder, int threads, int64_t *added)
{
    DemoSet *set = demo_open(settings);
    Pool *pool = pool_open(threads);
    Err err = {0};
    if (demo_write(set, folder, pool, NULL, added, &err) != 0) {
        fail_msg("%s", err.text);
    }
    pool_close(pool);
    demo_close(set);
}

/* A folder for all tests, with a data set in "set". */
static int make_folder(void **state)
{
    char *folder = mem_string("/tmp/rodeo-demo-XXXXXX");
    *state = folder;
    if (!mkdtemp(folder)) {
        return -1;
    }
    char *set = path_join(folder, "set");
    int64_t added;
    write_set(&small, set, 2, &added);
    free(set);
    return added == 6 * (4 + 1 + 4) ? 0 : -1;
}

static int remove_folder(void **state)
{
    int rc = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return rc;
}

/* How many of the set's pictures differ between two folders. */
static int differing(const DemoSet *set, const char *folder, const char *other)
{
    int count = 0;
    for (int split = 0; split < DEMO_SPLITS; split++) {
        for (int k = 0; k < set->count[split] * DEMO_PICTURES; k++) {
            const char *name = set->pairs[split][k / DEMO_PICTURES].path[k % DEMO_PICTURES];
            char *path[2] = {path_join(folder, name), path_join(other, name)};
            size_t bytes[2];
            char *data[2] = {path_read(path[0], &bytes[0], NULL),
                             path_read(path[1], &bytes[1], NULL)};
            assert_non_null(data[0]);
            assert_non_null(data[1]);
            count += bytes[0] != bytes[1] || memcmp(data[0], data[1], bytes[0]) != 0;
            for (int i = 0; i < 2; i++) {
                free(path[i]);
                free(data[i]);
            }
        }
    }
    return count;
}

static void the_seed_alone_makes_the_bytes(void **state)
{
    const DemoSettings settings[] = {{2, 4, 3}, {2, 4, 3}, {2, 4, 4}};
    char *folder[3];
    for (int i = 0; i < 3; i++) {
        folder[i] = mem_format("%s/%d", (char *)*state, i);
        int64_t added;
        write_set(&settings[i], folder[i], 1 + i % 2, &added);
        assert_int_equal(added, 18);
    }
    DemoSet *set = demo_open(&settings[0]);
    assert_int_equal(differing(set, folder[0], folder[1]), 0);
    assert_int_equal(differing(set, folder[0], folder[2]), 18 * DEMO_PICTURES);
    demo_close(set);
    for (int i = 0; i < 3; i++) {
        free(folder[i]);
    }
}

static void check_list(const char *folder, const char *dataset, Split split, bool smallset,
                       int pairs, int classes)
{
    Err err = {0};
    PairList list;
    if (pairs_read(&list, folder, dataset, split, smallset, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(list.count, pairs);
    assert_int_equal(list.classes, classes);
    char **names = pairs_class_names(&list);
    for (int i = 0; i < classes; i++) {
        assert_string_equal(names[i], catalogue[i].name);
        free(names[i]);
    }
    free(names);
    Pool *pool = pool_open(1);
    PairStats stats;
    if (pairs_stat(&list, pool, NULL, &stats, &err) != 0) {
        fail_msg("%s", err.text);
    }
    pool_close(pool);
    pairs_free(&list);
}

static void lists_name_every_picture(void **state)
{
    char *set = path_join(*state, "set");
    check_list(set, "synROD", SPLIT_TRAIN, false, 24, 6);
    check_list(set, "synROD", SPLIT_TEST, false, 6, 6);
    check_list(set, "ROD", SPLIT_TRAIN, false, 24, 6);
    check_list(set, "synROD", SPLIT_TRAIN, true, 20, 5);
    check_list(set, "synROD", SPLIT_TEST, true, 5, 5);
    check_list(set, "ROD", SPLIT_TEST, true, 20, 5);
    free(set);
}

static void small_lists_stop_at_200_of_a_class(void **state)
{
    (void)state;
    DemoSet *set = demo_open(&(DemoSettings){.classes = 2, .per_class = 230, .seed = 1});
    int lines = 0;
    for (const char *at = set->texts[3].text; (at = strchr(at, '\n')); at++) {
        lines++;
    }
    assert_string_equal(set->texts[3].path, "synROD/smallsynROD_train.txt");
    assert_int_equal(lines, 400);
    demo_close(set);
}

/* <class>_<model>_<view>_<frame>.png: no file twice, no test model in training. */
static void test_models_are_not_trained_on(void **state)
{
    (void)state;
    DemoSet *set = demo_open(&(DemoSettings){.classes = 16, .per_class = 60, .seed = 1});
    assert_int_equal(set->count[DEMO_TRAIN], 960);
    assert_int_equal(set->count[DEMO_TEST], 240);
    assert_string_equal(set->pairs[DEMO_TRAIN][0].path[DEMO_NORMALS],
                        "synROD/apple/depth/apple_1_01_00000001.png");
    assert_string_equal(set->pairs[DEMO_TRAIN][0].line, "apple/***/apple_1_01_00000001.png 0");
    for (int i = 0; i < set->count[DEMO_TEST]; i++) {
        const SceneAddress *test = &set->pairs[DEMO_TEST][i].address;
        for (int k = 0; k < set->count[DEMO_TRAIN]; k++) {
            const SceneAddress *train = &set->pairs[DEMO_TRAIN][k].address;
            assert_false(train->label == test->label && train->model == test->model);
        }
    }
    demo_close(set);
}

static void the_target_list_is_shuffled_and_without_doubles(void **state)
{
    (void)state;
    DemoSet *set = demo_open(&(DemoSettings){.classes = 5, .per_class = 70, .seed = 1});
    int falls = 0;
    for (int i = 0; i < set->count[DEMO_TARGET]; i++) {
        const DemoPair *pair = &set->pairs[DEMO_TARGET][i];
        int model;
        int again;
        int video;
        int frame;
        char format[64];
        const char *name = catalogue[pair->address.label].name;
        snprintf(format, sizeof format, "%s/%s_%%d/%s_%%d_%%d_%%d_*** %d", name, name, name,
                 pair->address.label);
        assert_int_equal(sscanf(pair->line, format, &model, &again, &video, &frame), 4);
        assert_int_equal(model, again);
        assert_true(video == 1 || video == 2 || video == 4);
        falls += i > 0 && pair->address.label < pair[-1].address.label;
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(pair->line, set->pairs[DEMO_TARGET][k].line);
        }
    }
    assert_true(falls > 50);
    demo_close(set);
}

static void an_interrupted_set_is_completed(void **state)
{
    int64_t added;
    char *folder = path_join(*state, "set");
    DemoSet *set = demo_open(&small);
    char *path = path_join(folder, set->pairs[DEMO_TARGET][7].path[DEMO_COLOUR]);
    size_t before;
    size_t after;
    char *old = path_read(path, &before, NULL);
    assert_non_null(old);
    assert_int_equal(unlink(path), 0);
    write_set(&small, folder, 2, &added);
    assert_int_equal(added, 1);
    char *new = path_read(path, &after, NULL);
    assert_non_null(new);
    assert_int_equal(before, after);
    assert_memory_equal(old, new, before);
    write_set(&small, folder, 2, &added);
    assert_int_equal(added, 0);
    free(old);
    free(new);
    free(path);
    free(folder);
    demo_close(set);
}

static void the_tar_file_holds_the_folder(void **state)
{
    Err err = {0};
    char *folder = path_join(*state, "set");
    char *path = path_join(*state, "ROD-synROD.tar");
    DemoSet *set = demo_open(&small);
    assert_int_equal(demo_write_tar(set, folder, path, NULL, &err), 0);
    struct archive *archive = archive_read_new();
    archive_read_support_format_tar(archive);
    assert_int_equal(archive_read_open_filename(archive, path, 65536), ARCHIVE_OK);
    int files = 0;
    for (struct archive_entry *entry; archive_read_next_header(archive, &entry) == ARCHIVE_OK;) {
        const char *name = archive_entry_pathname(entry);
        assert_memory_equal(name, "ROD-synROD/", 11);
        char *original = path_join(folder, name + 11);
        size_t bytes;
        char *data = path_read(original, &bytes, &err);
        assert_non_null(data);
        assert_int_equal(archive_entry_size(entry), bytes);
        char *packed = mem_alloc(bytes);
        assert_int_equal(archive_read_data(archive, packed, bytes), bytes);
        assert_memory_equal(packed, data, bytes);
        free(packed);
        free(data);
        free(original);
        files++;
    }
    assert_int_equal(files, DEMO_TEXTS + 54 * DEMO_PICTURES);
    archive_read_free(archive);
    demo_close(set);
    free(path);
    free(folder);
}

static void expect_refusal(const DemoSettings *settings, const char *folder, const char *words)
{
    DemoSet *set = demo_open(settings);
    Pool *pool = pool_open(1);
    Err err = {0};
    int64_t added;
    assert_int_equal(demo_write(set, folder, pool, NULL, &added, &err), -1);
    if (!strstr(err.text, words) || !strstr(err.text, folder)) {
        fail_msg("expected \"%s\" in \"%s\"", words, err.text);
    }
    pool_close(pool);
    demo_close(set);
}

static void others_folders_are_left_alone(void **state)
{
    Err err = {0};
    char *folder = path_join(*state, "photos");
    char *file = path_join(*state, "file");
    char *set = path_join(*state, "set");
    char *holiday = path_join(*state, "photos/holiday.jpg");
    assert_int_equal(path_make_folders(folder, &err), 0);
    FILE *stream = fopen(file, "w");
    assert_non_null(stream);
    assert_int_equal(fclose(stream), 0);
    stream = fopen(holiday, "w");
    assert_non_null(stream);
    assert_int_equal(fclose(stream), 0);
    expect_refusal(&small, folder, "is not empty, and what it holds is not a demo data set");
    expect_refusal(&small, file, "cannot create this folder");
    DemoSettings larger = small;
    larger.per_class++;
    expect_refusal(&larger, set, "holds a demo data set of other settings");
    free(folder);
    free(file);
    free(set);
    free(holiday);
}

/* A limit on the size of files stands in for a full disk; it holds for a child process, which ends
 * with 0 if `step` told of it in an error with the name of the file that did not fit. */
static void expect_full(int (*step)(const char *folder, Err *err), const char *folder,
                        const char *file)
{
    const struct rlimit limit = {3000, 3000};
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        Err err = {0};
        signal(SIGXFSZ, SIG_IGN);
        bool failed = setrlimit(RLIMIT_FSIZE, &limit) == 0 && step(folder, &err) == -1;
        _exit(failed && strstr(err.text, "File too large") && strstr(err.text, file) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static int write_pictures(const char *folder, Err *err)
{
    DemoSet *set = demo_open(&small);
    Pool *pool = pool_open(2);
    int64_t added;
    int rc = demo_write(set, folder, pool, NULL, &added, err);
    pool_close(pool);
    demo_close(set);
    return rc;
}

static int write_tar(const char *folder, Err *err)
{
    DemoSet *set = demo_open(&small);
    char *path = path_join(folder, "full.tar");
    int rc = demo_write_tar(set, folder, path, NULL, err);
    free(path);
    demo_close(set);
    return rc;
}

static void a_full_disk_is_told(void **state)
{
    char *folder = path_join(*state, "full");
    char *set = path_join(*state, "set");
    char *tar = path_join(*state, "set/full.tar");
    expect_full(write_pictures, folder, ".png");
    expect_full(write_tar, set, "full.tar");
    assert_false(path_is_file(tar));
    free(folder);
    free(set);
    free(tar);
}

static void the_sheet_is_a_wide_picture(void **state)
{
    Err err = {0};
    char *path = path_join(*state, "sheet.png");
    DemoSet *set = demo_open(&(DemoSettings){.classes = 9, .per_class = 4, .seed = 1});
    Pool *pool = pool_open(2);
    assert_int_equal(demo_write_sheet(set, path, pool, &err), 0);
    Picture picture;
    assert_int_equal(picture_read(&picture, path, &err), 0);
    assert_int_equal(picture.width, 1200);
    assert_in_range(picture.height, 1500, 2400);
    picture_free(&picture);
    assert_int_equal(demo_write_sheet(set, "/proc/no/sheet.png", pool, &err), -1);
    assert_non_null(strstr(err.text, "/proc/no/sheet.png"));
    pool_close(pool);
    demo_close(set);
    free(path);
}

static void expect_complaint(const char *options, const char *words)
{
    char *command = mem_format("%s/demo_data %s 2>&1", RODEO_TEST_PROGRAMS, options);
    FILE *pipe = popen(command, "r"); // NOLINT(cert-env33-c): a fixed command
    assert_non_null(pipe);
    char line[512] = "";
    char more[8];
    assert_non_null(fgets(line, sizeof line, pipe));
    assert_null(fgets(more, sizeof more, pipe));
    int status = pclose(pipe);
    if (!strstr(line, words) || !WIFEXITED(status) || WEXITSTATUS(status) != 1) {
        fail_msg("expected \"%s\" and status 1, found \"%s\" and %d", words, line, status);
    }
    free(command);
}

static void wrong_options_are_told_in_a_line(void **state)
{
    (void)state;
    expect_complaint("--out x --classes 17",
                     "--classes: '17' is not allowed: give a whole number from 2 to 16");
    expect_complaint("--out x --per_class 3",
                     "--per_class: '3' is not allowed: give a whole number from 4");
    expect_complaint("--out x --seed -1", "--seed: '-1' is not allowed: give a whole number");
    expect_complaint("--out x --threads 2x",
                     "--threads: '2x' is not allowed: give a whole number from 1");
    expect_complaint("--tar x", "--out DIR is missing");
    expect_complaint("--out x surplus", "'surplus' is not expected here");
    expect_complaint("--out /proc/x", "/proc/x: cannot create this folder");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seed_alone_makes_the_bytes),
        cmocka_unit_test(lists_name_every_picture),
        cmocka_unit_test(small_lists_stop_at_200_of_a_class),
        cmocka_unit_test(test_models_are_not_trained_on),
        cmocka_unit_test(the_target_list_is_shuffled_and_without_doubles),
        cmocka_unit_test(an_interrupted_set_is_completed),
        cmocka_unit_test(the_tar_file_holds_the_folder),
        cmocka_unit_test(others_folders_are_left_alone),
        cmocka_unit_test(a_full_disk_is_told),
        cmocka_unit_test(the_sheet_is_a_wide_picture),
        cmocka_unit_test(wrong_options_are_told_in_a_line),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
