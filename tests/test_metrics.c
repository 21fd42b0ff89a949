/* metrics.jsonl: the way there and back, what a crash leaves, older files, errors. */
#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "train/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    char folder[64];
    char *path;
} Place;

static int make_place(void **state)
{
    Place *place = mem_zeroed(1, sizeof *place);
    snprintf(place->folder, sizeof place->folder, "/tmp/rodeo-metrics-XXXXXX");
    *state = place;
    if (!mkdtemp(place->folder)) {
        return -1;
    }
    place->path = path_join(place->folder, "metrics.jsonl");
    return 0;
}

static int remove_place(void **state)
{
    Place *place = *state;
    unlink(place->path);
    int rc = rmdir(place->folder);
    free(place->path);
    free(place);
    return rc;
}

/* Every member differs from every other, and none is a short decimal. */
static EpochMetrics sample(int epoch)
{
    EpochMetrics metrics = {.epoch = epoch};
    double *values = &metrics.loss_rec;
    size_t count = (sizeof metrics - offsetof(EpochMetrics, loss_rec)) / sizeof *values;
    for (size_t i = 0; i < count; i++) {
        values[i] = exp(-(double)i) / 3 + epoch;
    }
    return metrics;
}

/* The file of the epochs first..last. */
static void write_epochs(const char *path, int first, int last)
{
    Err err = {0};
    MetricsHistory history = {0};
    for (int epoch = first; epoch <= last; epoch++) {
        EpochMetrics metrics = sample(epoch);
        metrics_add(&history, &metrics);
    }
    int rc = metrics_write(path, &history, &err);
    assert_string_equal(rc == 0 ? "" : err.text, "");
    metrics_free(&history);
}

static void put_text(const char *path, const char *text)
{
    Err err;
    assert_int_equal(atomic_file_replace(path, text, strlen(text), &err), 0);
}

static void assert_epochs(const char *path, const char *epochs)
{
    Err err = {0};
    MetricsHistory history;
    char seen[64] = "";
    int rc = metrics_read(path, &history, &err);
    assert_string_equal(rc == 0 ? "" : err.text, "");
    for (int i = 0; i < history.count; i++) {
        snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%d ", history.epoch[i].epoch);
    }
    assert_string_equal(seen, epochs);
    metrics_free(&history);
}

static void lines_read_back_exactly(void **state)
{
    const Place *place = *state;
    EpochMetrics first = sample(1);
    EpochMetrics second = sample(2);
    second.target_rotation_accuracy = NAN;
    second.loss_rot = INFINITY;
    MetricsHistory history = {0};
    metrics_add(&history, &first);
    metrics_add(&history, &second);
    Err err;
    assert_int_equal(metrics_write(place->path, &history, &err), 0);
    metrics_free(&history);

    assert_int_equal(metrics_read(place->path, &history, &err), 0);
    assert_int_equal(history.count, 2);
    assert_memory_equal(&history.epoch[0].loss_rec, &first.loss_rec,
                        sizeof first - offsetof(EpochMetrics, loss_rec));
    const EpochMetrics *read = &history.epoch[1];
    assert_int_equal(read->epoch, 2);
    assert_true(isnan(read->target_rotation_accuracy) && isnan(read->loss_rot));
    assert_true(read->target_accuracy == second.target_accuracy);
    metrics_free(&history);

    char *text = path_read(place->path, NULL, &err);
    assert_int_equal(strncmp(text, "{\"epoch\": 1, \"loss_rec\": 1.333", 30), 0);
    assert_non_null(strstr(text, "\"target_rotation_accuracy\": null"));
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    free(text);
}

static void half_a_line_is_left_out(void **state)
{
    const Place *place = *state;
    write_epochs(place->path, 1, 1);
    Err err;
    char *line = path_read(place->path, NULL, &err);
    char *torn = mem_format("%s{\"epoch\": 2, \"loss_r", line);
    put_text(place->path, torn);
    assert_epochs(place->path, "1 ");
    put_text(place->path, torn + strlen(line));
    assert_epochs(place->path, "");
    free(torn);
    free(line);
}

static void a_file_is_replaced_by_the_history(void **state)
{
    const Place *place = *state;
    write_epochs(place->path, 1, 5);
    assert_epochs(place->path, "1 2 3 4 5 ");
    write_epochs(place->path, 1, 3);
    assert_epochs(place->path, "1 2 3 ");
    write_epochs(place->path, 1, 0);
    assert_epochs(place->path, "");
}

/* Files of the first versions end with pairs_per_second. */
static void what_older_files_lack_is_nan(void **state)
{
    const Place *place = *state;
    write_epochs(place->path, 1, 1);
    Err err;
    MetricsHistory history;
    char *text = path_read(place->path, NULL, &err);
    char *late = strstr(text, ", \"skipped_steps\"");
    assert_non_null(late);
    memcpy(late, "}\n", 3);
    put_text(place->path, text);
    assert_int_equal(metrics_read(place->path, &history, &err), 0);
    assert_true(isnan(history.epoch[0].skipped_steps) && isnan(history.epoch[0].time));
    assert_true(history.epoch[0].pairs_per_second == sample(1).pairs_per_second);
    metrics_free(&history);
    free(text);
}

static void assert_unreadable(const char *path, const char *text, const char *why)
{
    put_text(path, text);
    Err err = {0};
    MetricsHistory history;
    assert_int_equal(metrics_read(path, &history, &err), -1);
    assert_null(history.epoch);
    assert_int_equal(history.count, 0);
    char *expected = mem_format("%s%s", path, why);
    assert_string_equal(err.text, expected);
    free(expected);
}

static void wrong_lines_are_named(void **state)
{
    const Place *place = *state;
    assert_unreadable(place->path, "{\"epoch\": 0}\n",
                      ":1: \"epoch\" is not a whole number of at least 1");
    assert_unreadable(place->path, "[1]\n", ":1: \"epoch\" is not a whole number of at least 1");
    assert_unreadable(place->path, "{\"epoch\": 1}\n", ":1: \"loss_rec\" is not a number or null");
    assert_unreadable(place->path, "{\"epoch\": 1, \"loss_rec\": \"x\"}\n",
                      ":1: \"loss_rec\" is not a number or null");
    write_epochs(place->path, 1, 1);
    Err err;
    char *line = path_read(place->path, NULL, &err);
    char *text = mem_format("%s\n", line);
    assert_unreadable(place->path, text,
                      ":2: not a line of JSON ('[' or '{' expected near end of "
                      "file)");
    free(text);
    free(line);
}

static void files_out_of_reach_are_named(void **state)
{
    (void)state;
    MetricsHistory history = {0};
    Err err;
    assert_int_equal(metrics_write("/no/such/metrics.jsonl", &history, &err), -1);
    assert_string_equal(err.text,
                        "/no/such/metrics.jsonl.tmp: cannot create: No such file or directory");
    assert_int_equal(metrics_read("/no/such/metrics.jsonl", &history, &err), -1);
    assert_string_equal(err.text, "/no/such/metrics.jsonl: cannot open: No such file or directory");
    assert_int_equal(metrics_read("/tmp", &history, &err), -1);
    assert_string_equal(err.text, "/tmp: is not a file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_read_back_exactly, make_place, remove_place),
        cmocka_unit_test_setup_teardown(half_a_line_is_left_out, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_file_is_replaced_by_the_history, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(what_older_files_lack_is_nan, make_place, remove_place),
        cmocka_unit_test_setup_teardown(wrong_lines_are_named, make_place, remove_place),
        cmocka_unit_test(files_out_of_reach_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
