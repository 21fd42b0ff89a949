/* metrics.jsonl: the way there and back, what a crash leaves, resuming, errors. */
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

static void append(const char *path, const EpochMetrics *metrics)
{
    Err err = {0};
    int rc = metrics_append(path, metrics, &err);
    assert_string_equal(rc == 0 ? "" : err.text, "");
}

static void put_text(const char *path, const char *text)
{
    Err err;
    assert_int_equal(atomic_file_replace(path, text, strlen(text), &err), 0);
}

static void assert_epochs(const char *path, const char *epochs)
{
    Err err = {0};
    EpochMetrics *metrics;
    int count;
    char seen[64] = "";
    int rc = metrics_read(path, &metrics, &count, &err);
    assert_string_equal(rc == 0 ? "" : err.text, "");
    for (int i = 0; i < count; i++) {
        snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%d ", metrics[i].epoch);
    }
    assert_string_equal(seen, epochs);
    free(metrics);
}

static void lines_read_back_exactly(void **state)
{
    const Place *place = *state;
    EpochMetrics first = sample(1);
    EpochMetrics second = sample(2);
    second.target_rotation_accuracy = NAN;
    second.loss_rot = INFINITY;
    append(place->path, &first);
    append(place->path, &second);

    Err err;
    EpochMetrics *metrics;
    int count;
    assert_int_equal(metrics_read(place->path, &metrics, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_memory_equal(&metrics[0].loss_rec, &first.loss_rec,
                        sizeof first - offsetof(EpochMetrics, loss_rec));
    assert_int_equal(metrics[1].epoch, 2);
    assert_true(isnan(metrics[1].target_rotation_accuracy) && isnan(metrics[1].loss_rot));
    assert_true(metrics[1].target_accuracy == second.target_accuracy);
    free(metrics);

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
    EpochMetrics metrics = sample(1);
    append(place->path, &metrics);
    Err err;
    char *line = path_read(place->path, NULL, &err);
    char *torn = mem_format("%s{\"epoch\": 2, \"loss_r", line);
    put_text(place->path, torn);
    assert_epochs(place->path, "1 ");
    /* The next line takes its place. */
    metrics = sample(2);
    append(place->path, &metrics);
    assert_epochs(place->path, "1 2 ");
    /* Truncation removes it as well, even where it is all there is. */
    put_text(place->path, torn + strlen(line));
    assert_epochs(place->path, "");
    assert_int_equal(metrics_truncate(place->path, 5, &err), 0);
    char *rest = path_read(place->path, NULL, &err);
    assert_string_equal(rest, "");
    free(rest);
    free(torn);
    free(line);
}

static void truncation_drops_later_epochs(void **state)
{
    const Place *place = *state;
    Err err;
    assert_int_equal(metrics_truncate(place->path, 3, &err), 0);
    assert_false(path_is_file(place->path));
    for (int epoch = 1; epoch <= 5; epoch++) {
        EpochMetrics metrics = sample(epoch);
        append(place->path, &metrics);
    }
    assert_int_equal(metrics_truncate(place->path, 9, &err), 0);
    assert_epochs(place->path, "1 2 3 4 5 ");
    assert_int_equal(metrics_truncate(place->path, 3, &err), 0);
    assert_epochs(place->path, "1 2 3 ");
    assert_int_equal(metrics_truncate(place->path, 0, &err), 0);
    assert_epochs(place->path, "");
}

static void assert_unreadable(const char *path, const char *text, const char *why)
{
    put_text(path, text);
    Err err = {0};
    EpochMetrics *metrics;
    int count;
    assert_int_equal(metrics_read(path, &metrics, &count, &err), -1);
    assert_null(metrics);
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
    EpochMetrics metrics = sample(1);
    unlink(place->path);
    append(place->path, &metrics);
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
    EpochMetrics metrics = sample(1);
    EpochMetrics *read;
    int count;
    Err err;
    assert_int_equal(metrics_append("/no/such/metrics.jsonl", &metrics, &err), -1);
    assert_string_equal(err.text,
                        "/no/such/metrics.jsonl.tmp: cannot create: No such file or directory");
    assert_int_equal(metrics_read("/no/such/metrics.jsonl", &read, &count, &err), -1);
    assert_string_equal(err.text, "/no/such/metrics.jsonl: cannot open: No such file or directory");
    assert_int_equal(metrics_append("/tmp", &metrics, &err), -1);
    assert_string_equal(err.text, "/tmp: is not a file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_read_back_exactly, make_place, remove_place),
        cmocka_unit_test_setup_teardown(half_a_line_is_left_out, make_place, remove_place),
        cmocka_unit_test_setup_teardown(truncation_drops_later_epochs, make_place, remove_place),
        cmocka_unit_test_setup_teardown(wrong_lines_are_named, make_place, remove_place),
        cmocka_unit_test(files_out_of_reach_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
