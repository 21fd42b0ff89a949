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
} Field;

#define FIELD(member)                                                                              \
    {                                                                                              \
#member, offsetof(EpochMetrics, member)                                                    \
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

/* The file's text, "" if there is no such file; NULL and err if it cannot be read. */
static char *read_or_empty(const char *path, Err *err)
{
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        return mem_string("");
    }
    return path_read(path, NULL, err);
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

int metrics_append(const char *path, const EpochMetrics *metrics, Err *err)
{
    char *before = read_or_empty(path, err);
    if (!before) {
        return -1;
    }
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) {
        fatal("no memory for a line of metrics");
    }
    fwrite(before, 1, whole_lines(before), out);
    write_line(out, metrics);
    if (fclose(out) != 0) {
        fatal("no memory for a line of metrics");
    }
    int rc = atomic_file_replace(path, text, bytes, err);
    free(text);
    free(before);
    return rc;
}

/* Reads one number; null is NAN. */
static int take_number(const json_t *object, const Field *field, EpochMetrics *metrics, Err *err)
{
    const json_t *value = json_object_get(object, field->key);
    double number = NAN;
    if (json_is_number(value)) {
        number = json_number_value(value);
    } else if (!json_is_null(value)) {
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

/* Parses all whole lines of text, line i into (*metrics)[i]. */
static int parse_text(const char *path, const char *text, EpochMetrics **metrics, int *count,
                      Err *err)
{
    size_t end = whole_lines(text);
    for (size_t at = 0; at < end;) {
        size_t bytes = strcspn(text + at, "\n");
        *metrics = mem_resize(*metrics, ((size_t)*count + 1) * sizeof **metrics);
        if (parse_line(text + at, bytes, *metrics + *count, err) != 0) {
            free(*metrics);
            *metrics = NULL;
            return err_context(err, "%s:%d", path, *count + 1);
        }
        ++*count;
        at += bytes + 1;
    }
    return 0;
}

int metrics_read(const char *path, EpochMetrics **metrics, int *count, Err *err)
{
    *metrics = NULL;
    *count = 0;
    char *text = path_read(path, NULL, err);
    if (!text) {
        return -1;
    }
    int rc = parse_text(path, text, metrics, count, err);
    free(text);
    return rc;
}

/* Moves the lines of epochs that stay to the front of text; returns their bytes. */
static size_t keep_epochs(char *text, const EpochMetrics *metrics, int count, int last_epoch)
{
    size_t kept = 0;
    char *line = text;
    for (int i = 0; i < count; i++) {
        size_t bytes = strcspn(line, "\n") + 1;
        if (metrics[i].epoch <= last_epoch) {
            memmove(text + kept, line, bytes);
            kept += bytes;
        }
        line += bytes;
    }
    return kept;
}

int metrics_truncate(const char *path, int last_epoch, Err *err)
{
    char *text = read_or_empty(path, err);
    if (!text) {
        return -1;
    }
    EpochMetrics *metrics = NULL;
    int count = 0;
    int rc = parse_text(path, text, &metrics, &count, err);
    size_t before = strlen(text);
    if (rc == 0 && before > 0) {
        size_t kept = metrics ? keep_epochs(text, metrics, count, last_epoch) : 0;
        rc = kept == before ? 0 : atomic_file_replace(path, text, kept, err);
    }
    free(metrics);
    free(text);
    return rc;
}
