#include "train/checkpoint.h"

#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEWEST       "checkpoint.safetensors"
#define OLD          NEWEST ".old"
#define DAMAGED      NEWEST ".damaged"
#define FORMAT       "rodeo-2"
#define FIRST_FORMAT "rodeo-1" /* checkpoints at the end of an epoch only */
#define KEPT_FORMAT  "weights-epoch-%04" PRId64 ".safetensors"

/* ---- the state as metadata
 * --------------------------------------------------------------------------- */

typedef enum { ENTRY_INT, ENTRY_HEX, ENTRY_REAL, ENTRY_TEXT } EntryKind;

typedef struct {
    const char *key;
    EntryKind kind;
    size_t offset; /* in CheckpointState */
    size_t size;   /* of a text's member */
    bool late;     /* the first format lacks it; it is then 0 or "" */
} Entry;

#define STATE(name, member, how, since)                                                            \
    {                                                                                              \
        .key = "rodeo." name, .kind = (how), .offset = offsetof(CheckpointState, member),          \
        .size = sizeof((CheckpointState *)0)->member, .late = (since)                              \
    }

static const Entry entries[] = {
    STATE("epoch", epoch, ENTRY_INT, false),
    STATE("steps", steps, ENTRY_INT, false),
    STATE("classes", classes, ENTRY_INT, false),
    STATE("saved", saved, ENTRY_REAL, false),
    STATE("step", step, ENTRY_INT, true),
    STATE("data", data, ENTRY_HEX, true),
    STATE("device", device, ENTRY_TEXT, true),
    STATE("passes", passes, ENTRY_INT, true),
    STATE("loss_scale", loss_scale, ENTRY_REAL, true),
    STATE("loss_scale.good_steps", loss_scale_good_steps, ENTRY_INT, true),
    STATE("loss_scale.skipped", loss_scale_skipped, ENTRY_INT, true),
    STATE("sums.learned", sums.learned, ENTRY_INT, true),
    STATE("sums.skipped", sums.skipped, ENTRY_INT, true),
    STATE("sums.skipped_in_a_row", sums.skipped_in_a_row, ENTRY_INT, true),
    STATE("sums.correct", sums.correct, ENTRY_INT, true),
    STATE("sums.cls", sums.cls, ENTRY_REAL, true),
    STATE("sums.ent", sums.ent, ENTRY_REAL, true),
    STATE("sums.rot_source", sums.rot_source, ENTRY_REAL, true),
    STATE("sums.rot_target", sums.rot_target, ENTRY_REAL, true),
    STATE("sums.last_cls", sums.last_cls, ENTRY_REAL, true),
    STATE("sums.last_rot_source", sums.last_rot_source, ENTRY_REAL, true),
    STATE("sums.last_rot_target", sums.last_rot_target, ENTRY_REAL, true),
    STATE("sums.feature_std", sums.feature_std, ENTRY_REAL, true),
    STATE("sums.seconds", sums.seconds, ENTRY_REAL, true),
};

enum { ENTRIES = sizeof entries / sizeof *entries, TEXTS = 3 };

/* An entry as a text that reads back exactly; a new string. */
static char *entry_text(const Entry *entry, const CheckpointState *state)
{
    const void *member = (const char *)state + entry->offset;
    char real[TEXT_DOUBLE_SIZE];
    switch (entry->kind) {
    case ENTRY_INT:
        return mem_format("%" PRId64, *(const int64_t *)member);
    case ENTRY_HEX:
        return mem_format("%016" PRIx64, *(const uint64_t *)member);
    case ENTRY_REAL:
        return mem_string(text_double(*(const double *)member, real));
    default:
        return mem_string(member);
    }
}

/* Returns false if text is not wholly what the entry takes. */
static bool entry_parse(const Entry *entry, const char *text, CheckpointState *state)
{
    void *member = (char *)state + entry->offset;
    char *end = NULL;
    switch (entry->kind) {
    case ENTRY_INT:
        *(int64_t *)member = strtoll(text, &end, 10);
        return end != text && *end == '\0' && *(int64_t *)member >= 0;
    case ENTRY_HEX:
        *(uint64_t *)member = strtoull(text, &end, 16);
        return end != text && *end == '\0';
    case ENTRY_REAL:
        *(double *)member = strtod(text, &end);
        return end != text && *end == '\0';
    default:
        return snprintf(member, entry->size, "%s", text) < (int)entry->size;
    }
}

int checkpoint_write(const char *path, const char *backup, const WeightList *weights,
                     const CheckpointState *state, const char *settings, const char *metrics,
                     Err *err)
{
    char *text[ENTRIES];
    SafeMetadata metadata[TEXTS + ENTRIES] = {
        {"rodeo.format", FORMAT}, {"rodeo.settings", settings}, {"rodeo.metrics", metrics}};
    for (int i = 0; i < ENTRIES; i++) {
        text[i] = entry_text(&entries[i], state);
        metadata[TEXTS + i] = (SafeMetadata){entries[i].key, text[i]};
    }
    int rc = safetensors_write(path, backup, weights->tensor, weights->count, metadata,
                               TEXTS + ENTRIES, err);
    for (int i = 0; i < ENTRIES; i++) {
        free(text[i]);
    }
    return rc;
}

static int read_state(const SafeFile *file, bool first_format, CheckpointState *state, Err *err)
{
    *state = (CheckpointState){0};
    for (int i = 0; i < ENTRIES; i++) {
        const char *text = safetensors_metadata(file, entries[i].key);
        if (!text && first_format && entries[i].late) {
            continue;
        }
        if (!text || !entry_parse(&entries[i], text, state)) {
            return err_set(err, "the checkpoint has no sound entry %s", entries[i].key);
        }
    }
    return 0;
}

static bool is_first_format(const SafeFile *file)
{
    const char *format = safetensors_metadata(file, "rodeo.format");
    return format && strcmp(format, FIRST_FORMAT) == 0;
}

int checkpoint_describe(const SafeFile *file, CheckpointState *state, Settings *saved_settings,
                        Err *err)
{
    const char *format = safetensors_metadata(file, "rodeo.format");
    const char *yaml = safetensors_metadata(file, "rodeo.settings");
    bool first = is_first_format(file);
    if (!format) {
        return err_set(err, "is a weight file, not a checkpoint of a run");
    }
    if (!yaml || (!first && strcmp(format, FORMAT) != 0)) {
        return err_set(err, "the checkpoint is of another version of the program (%s)", format);
    }
    if (read_state(file, first, state, err) != 0) {
        return -1;
    }
    if (saved_settings) {
        *saved_settings = settings_default();
        if (settings_parse_yaml(saved_settings, yaml, "the checkpoint's settings", err) != 0) {
            settings_free(saved_settings);
            return -1;
        }
    }
    return 0;
}

int checkpoint_history(const SafeFile *file, const char *metrics_path, MetricsHistory *history,
                       Err *err)
{
    const char *text = safetensors_metadata(file, "rodeo.metrics");
    CheckpointState state;
    *history = (MetricsHistory){0};
    if (text) {
        return metrics_parse(text, "the checkpoint's metrics", history, err);
    }
    if (!is_first_format(file)) {
        return err_set(err, "the checkpoint has no sound entry rodeo.metrics");
    }
    if (read_state(file, true, &state, err) != 0 ||
        (!path_is_free(metrics_path) && metrics_read(metrics_path, history, err) != 0)) {
        return -1;
    }
    while (history->count > 0 && history->epoch[history->count - 1].epoch > state.epoch) {
        history->count--;
    }
    return 0;
}

char *checkpoint_place(const CheckpointState *state, char text[static CHECKPOINT_PLACE_SIZE])
{
    if (state->step == 0) {
        snprintf(text, CHECKPOINT_PLACE_SIZE, "epoch %" PRId64, state->epoch);
    } else {
        snprintf(text, CHECKPOINT_PLACE_SIZE, "epoch %" PRId64 ", step %" PRId64, state->epoch + 1,
                 state->step);
    }
    return text;
}

/* ---- files
 * ------------------------------------------------------------------------------------------- */

char *checkpoint_path(const char *folder)
{
    return path_join(folder, NEWEST);
}

char *checkpoint_old_path(const char *folder)
{
    return path_join(folder, OLD);
}

char *checkpoint_kept_path(const char *folder, int64_t epoch)
{
    char *name = mem_format(KEPT_FORMAT, epoch);
    char *path = path_join(folder, name);
    free(name);
    return path;
}

int64_t checkpoint_kept_epoch(const char *name)
{
    static const char front[] = "weights-epoch-";
    if (!text_starts_with(name, front)) {
        return 0;
    }
    int64_t epoch = strtoll(name + strlen(front), NULL, 10);
    char *again = mem_format(KEPT_FORMAT, epoch);
    bool ours = strcmp(again, name) == 0;
    free(again);
    return ours && epoch > 0 ? epoch : 0;
}

static bool has(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool there = !path_is_free(path);
    free(path);
    return there;
}

bool checkpoint_exists(const char *folder)
{
    return has(folder, NEWEST) || has(folder, OLD);
}

static SafeFile *open_one(const char *folder, const char *name, Err *err)
{
    char *path = path_join(folder, name);
    SafeFile *file = safetensors_open(path, err);
    if (file && !safetensors_metadata(file, "rodeo.format")) {
        err_set(err, "%s: is a weight file, not a checkpoint of a run", path);
        safetensors_close(file);
        file = NULL;
    }
    free(path);
    return file;
}

/* *fell_back: the file is the old one. advice: what to do where there is none, or "". */
static SafeFile *open_whole(const char *folder, const char *advice, bool *fell_back, Log *log,
                            Err *err)
{
    *fell_back = false;
    SafeFile *file = open_one(folder, NEWEST, err);
    if (file) {
        return file;
    }
    if (!has(folder, OLD)) {
        err_context(err, "the checkpoint cannot be used and there is none before it%s", advice);
        return NULL;
    }
    Err old_err = {""};
    file = open_one(folder, OLD, &old_err);
    if (!file) {
        err_context(err, "neither checkpoint can be used%s: %s; and", advice, old_err.text);
        return NULL;
    }
    *fell_back = true;
    log_warning(log, "%s; falling back to the checkpoint before it, " OLD, err->text);
    return file;
}

SafeFile *checkpoint_open(const char *folder, Log *log, Err *err)
{
    bool fell_back;
    if (!checkpoint_exists(folder)) {
        err_set(err, "%s: there is no " NEWEST " in this folder: name the folder of a run", folder);
        return NULL;
    }
    return open_whole(folder, "", &fell_back, log, err);
}

SafeFile *checkpoint_open_to_resume(const char *folder, Log *log, Err *err)
{
    static const char advice[] =
        " (without --resume the run starts over and what is there is set aside)";
    bool fell_back;
    SafeFile *file = open_whole(folder, advice, &fell_back, log, err);
    if (!file || !fell_back || !has(folder, NEWEST)) {
        return file;
    }
    char *path = path_join(folder, NEWEST);
    char *damaged = path_join(folder, DAMAGED);
    if (rename(path, damaged) != 0) {
        err_set(err, "%s: cannot set the damaged checkpoint aside: %s", path, strerror(errno));
        safetensors_close(file);
        file = NULL;
    }
    free(damaged);
    free(path);
    return file;
}
