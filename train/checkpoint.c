#include "train/checkpoint.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "model/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEWEST "checkpoint.safetensors"
#define OLD    NEWEST ".old"
#define FORMAT "rodeo-1"

int checkpoint_save(const char *folder, const Net *net, const Settings *settings,
                    CheckpointState *state, Err *err)
{
    state->saved = clock_unix();
    char epoch[24];
    char steps[24];
    char classes[24];
    char saved[TEXT_DOUBLE_SIZE];
    snprintf(epoch, sizeof epoch, "%d", state->epoch);
    snprintf(steps, sizeof steps, "%" PRId64, state->steps);
    snprintf(classes, sizeof classes, "%d", state->classes);
    text_double(state->saved, saved);
    char *yaml = settings_to_yaml(settings);
    const SafeMetadata metadata[] = {
        {"rodeo.format", FORMAT},   {"rodeo.epoch", epoch}, {"rodeo.steps", steps},
        {"rodeo.classes", classes}, {"rodeo.saved", saved}, {"rodeo.settings", yaml},
    };
    WeightList weights = weights_collect(net);
    char *path = path_join(folder, NEWEST);
    char *old = path_join(folder, OLD);
    int rc = safetensors_write(path, old, weights.tensor, weights.count, metadata,
                               sizeof metadata / sizeof *metadata, err);
    free(old);
    free(path);
    weights_free(&weights);
    free(yaml);
    return rc;
}

static bool has(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool there = path_is_file(path);
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

SafeFile *checkpoint_open(const char *folder, Log *log, Err *err)
{
    SafeFile *file = open_one(folder, NEWEST, err);
    if (file || !has(folder, OLD)) {
        return file;
    }
    Err old_err = {""};
    SafeFile *old = open_one(folder, OLD, &old_err);
    if (!old) {
        err_context(err, "neither checkpoint can be used (%s)", old_err.text);
        return NULL;
    }
    log_warning(log, "%s; falling back to the checkpoint before it, " OLD, err->text);
    return old;
}

static int read_number(const SafeFile *file, const char *key, double *value, Err *err)
{
    const char *text = safetensors_metadata(file, key);
    char *end = NULL;
    *value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end != '\0') {
        return err_set(err, "the checkpoint has no sound entry %s", key);
    }
    return 0;
}

int checkpoint_describe(const SafeFile *file, CheckpointState *state, Settings *saved_settings,
                        Err *err)
{
    double epoch;
    double steps;
    double classes;
    const char *format = safetensors_metadata(file, "rodeo.format");
    const char *yaml = safetensors_metadata(file, "rodeo.settings");
    if (!format || strcmp(format, FORMAT) != 0 || !yaml) {
        return err_set(err, "the checkpoint is of another version of the program (%s)",
                       format ? format : "no format given");
    }
    if (read_number(file, "rodeo.epoch", &epoch, err) != 0 ||
        read_number(file, "rodeo.steps", &steps, err) != 0 ||
        read_number(file, "rodeo.classes", &classes, err) != 0 ||
        read_number(file, "rodeo.saved", &state->saved, err) != 0) {
        return -1;
    }
    state->epoch = (int)epoch;
    state->steps = (int64_t)steps;
    state->classes = (int)classes;
    if (saved_settings) {
        *saved_settings = settings_default();
        if (settings_parse_yaml(saved_settings, yaml, "the checkpoint's settings", err) != 0) {
            settings_free(saved_settings);
            return -1;
        }
    }
    return 0;
}
