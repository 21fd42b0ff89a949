#include "train/confusion.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "train/plot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void confusion_open(Confusion *confusion, int classes, int64_t pairs)
{
    *confusion = (Confusion){.classes = classes, .pairs = pairs};
    confusion->counts = mem_zeroed((size_t)classes * (size_t)classes, sizeof *confusion->counts);
    confusion->predictions = mem_alloc((size_t)pairs * sizeof *confusion->predictions);
    for (int64_t i = 0; i < pairs; i++) {
        confusion->predictions[i] = -1;
    }
}

void confusion_close(Confusion *confusion)
{
    free(confusion->counts);
    free(confusion->predictions);
    *confusion = (Confusion){0};
}

void confusion_add(Confusion *confusion, int64_t index, int32_t label, int32_t prediction)
{
    confusion->counts[(int64_t)label * confusion->classes + prediction]++;
    confusion->predictions[index] = prediction;
}

int64_t confusion_pairs(const Confusion *confusion, int label)
{
    int64_t sum = 0;
    for (int c = 0; c < confusion->classes; c++) {
        sum += confusion->counts[(int64_t)label * confusion->classes + c];
    }
    return sum;
}

int64_t confusion_hits(const Confusion *confusion, int label)
{
    return confusion->counts[(int64_t)label * confusion->classes + label];
}

/* ---- files
 * ------------------------------------------------------------------------------------------ */

/* A field of a CSV line, quoted where it has to be (RFC 4180). */
static void put_field(FILE *out, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') {
            fputc('"', out);
        }
        fputc(*text, out);
    }
    fputc('"', out);
}

static void put_confusion(FILE *out, const Confusion *confusion, char *const *names)
{
    fputs("true class", out);
    for (int c = 0; c < confusion->classes; c++) {
        fputc(',', out);
        put_field(out, names[c]);
    }
    fputc('\n', out);
    for (int r = 0; r < confusion->classes; r++) {
        put_field(out, names[r]);
        for (int c = 0; c < confusion->classes; c++) {
            fprintf(out, ",%lld",
                    (long long)confusion->counts[(int64_t)r * confusion->classes + c]);
        }
        fputc('\n', out);
    }
}

static void put_predictions(FILE *out, const Confusion *confusion, const PairList *list,
                            char *const *names)
{
    fputs("picture,true class,predicted class,correct\n", out);
    for (int64_t i = 0; i < confusion->pairs; i++) {
        int32_t prediction = confusion->predictions[i];
        if (prediction < 0) {
            continue;
        }
        const Pair *pair = &list->pairs[i];
        put_field(out, pair->path[RGB]);
        fputc(',', out);
        put_field(out, names[pair->label]);
        fputc(',', out);
        put_field(out, names[prediction]);
        fprintf(out, ",%d\n", prediction == pair->label);
    }
}

int confusion_write(const Confusion *confusion, const PairList *list, char *const *class_names,
                    const char *folder, const char *name, Err *err)
{
    char *text[2] = {NULL, NULL};
    size_t bytes[2];
    char *path[] = {mem_format("%s/%s-confusion.csv", folder, name),
                    mem_format("%s/%s-predictions.csv", folder, name),
                    mem_format("%s/%s-confusion.png", folder, name)};
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        FILE *out = open_memstream(&text[i], &bytes[i]);
        if (!out) {
            fatal("out of memory: could not write %s", path[i]);
        }
        if (i == 0) {
            put_confusion(out, confusion, class_names);
        } else {
            put_predictions(out, confusion, list, class_names);
        }
        if (fclose(out) != 0) {
            fatal("out of memory: could not write %s", path[i]);
        }
        rc = atomic_file_replace(path[i], text[i], bytes[i], err);
    }
    if (rc == 0) {
        char *title = mem_format("%s: true class (rows), predicted class (columns)", name);
        rc =
            plot_confusion(path[2], title, confusion->classes, class_names, confusion->counts, err);
        free(title);
    }
    for (int i = 0; i < 3; i++) {
        free(path[i]);
    }
    free(text[0]);
    free(text[1]);
    return rc;
}
