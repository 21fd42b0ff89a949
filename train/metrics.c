#include "train/metrics.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const char *key;
    size_t offset; /* of a double in EpochMetrics */
    bool late;     /* files of older versions lack it */
} Field;

#define FIELD(member)                                                                              \
    {                                                                                              \
#member, offsetof(EpochMetrics, member), false                                             \
    }
#define LATE_FIELD(member)                                                                         \
    {                                                                                              \
#member, offsetof(EpochMetrics, member), true                                              \
    }

/* In the order of the file. The epoch, which is a whole number, stands in front of them. */
static const Field fields[] = {
    FIELD(loss_rec),
    FIELD(loss_ent),
    FIELD(loss_rot),
    FIELD(loss_rot_source),
    FIELD(loss_rot_target),
    FIELD(lr),
    FIELD(train_accuracy),
    FIELD(source_loss),
    FIELD(source_accuracy),
    FIELD(source_rotation_loss),
    FIELD(source_rotation_accuracy),
    FIELD(target_rotation_loss),
    FIELD(target_rotation_accuracy),
    FIELD(target_loss),
    FIELD(target_accuracy),
    FIELD(seconds_train),
    FIELD(seconds_eval),
    FIELD(pairs_per_second),
    LATE_FIELD(skipped_steps),
    LATE_FIELD(feature_std),
    LATE_FIELD(last_loss_rec),
    LATE_FIELD(last_loss_rot_source),
    LATE_FIELD(last_loss_rot_target),
    LATE_FIELD(time),
};

enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

_Static_assert(offsetof(EpochMetrics, loss_rec) + FIELD_COUNT * sizeof(double) ==
                   sizeof(EpochMetrics),
               "every member must be in the table");

/* Bytes of text that are whole lines: a crash may have left half a line behind them. */
static size_t whole_lines(const char *text)
{
    const char *end = strrchr(text, '\n');
    return end ? (size_t)(end - text) + 1 : 0;
}

/* Written by hand rather than by jansson, which would print 0.1 as 0.10000000000000001. */
static void write_line(FILE *out, const EpochMetrics *metrics)
{
    fprintf(out, "{\"epoch\": %d", metrics->epoch);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        double value;
        char number[TEXT_DOUBLE_SIZE];
        memcpy(&value, (const char *)metrics + fields[i].offset, sizeof value);
        /* JSON has no word for infinity either. */
        fprintf(out, ", \"%s\": %s", fields[i].key,
                isfinite(value) ? text_double(value, number) : "null");
    }
    fputs("}\n", out);
}

void metrics_add(MetricsHistory *history, const EpochMetrics *metrics)
{
    size_t count = (size_t)history->count + 1;
    history->epoch = mem_resize(history->epoch, count * sizeof *history->epoch);
    history->epoch[history->count++] = *metrics;
}

void metrics_free(MetricsHistory *history)
{
    free(history->epoch);
    *history = (MetricsHistory){0};
}

char *metrics_to_text(const MetricsHistory *history)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) {
        fatal("no memory for the metrics");
    }
    for (int i = 0; i < history->count; i++) {
        write_line(out, &history->epoch[i]);
    }
    if (fclose(out) != 0) {
        fatal("no memory for the metrics");
    }
    return text;
}

int metrics_write(const char *path, const MetricsHistory *history, Err *err)
{
    char *text = metrics_to_text(history);
    int rc = atomic_file_replace(path, text, strlen(text), err);
    free(text);
    return rc;
}

/* Reads one number; null is NAN. */
static int take_number(const json_t *object, const Field *field, EpochMetrics *metrics, Err *err)
{
    const json_t *value = json_object_get(object, field->key);
    double number = NAN;
    if (json_is_number(value)) {
        number = json_number_value(value);
    } else if (value ? !json_is_null(value) : !field->late) {
        return err_set(err, "\"%s\" is not a number or null", field->key);
    }
    memcpy((char *)metrics + field->offset, &number, sizeof number);
    return 0;
}

static int parse_line(const char *line, size_t bytes, EpochMetrics *metrics, Err *err)
{
    json_error_t why;
    json_t *object = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &why);
    if (!object) {
        return err_set(err, "not a line of JSON (%s)", why.text);
    }
    json_int_t epoch = json_integer_value(json_object_get(object, "epoch"));
    int rc = 0;
    if (epoch < 1 || epoch > INT_MAX) {
        rc = err_set(err, "\"epoch\" is not a whole number of at least 1");
    }
    *metrics = (EpochMetrics){.epoch = rc == 0 ? (int)epoch : 0};
    for (size_t i = 0; rc == 0 && i < FIELD_COUNT; i++) {
        rc = take_number(object, &fields[i], metrics, err);
    }
    json_decref(object);
    return rc;
}

int metrics_parse(const char *text, const char *name, MetricsHistory *history, Err *err)
{
    size_t end = whole_lines(text);
    *history = (MetricsHistory){0};
    for (size_t at = 0; at < end;) {
        size_t bytes = strcspn(text + at, "\n");
        EpochMetrics metrics;
        if (parse_line(text + at, bytes, &metrics, err) != 0) {
            int line = history->count + 1;
            metrics_free(history);
            return err_context(err, "%s:%d", name, line);
        }
        metrics_add(history, &metrics);
        at += bytes + 1;
    }
    return 0;
}

int metrics_read(const char *path, MetricsHistory *history, Err *err)
{
    *history = (MetricsHistory){0};
    char *text = path_read(path, NULL, err);
    if (!text) {
        return -1;
    }
    int rc = metrics_parse(text, path, history, err);
    free(text);
    return rc;
}
