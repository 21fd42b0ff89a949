#include "train/settings.h"

#include "base/mem.h"
#include "base/text.h"
#include "train/settings_table.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Settings settings_default(void)
{
    Settings settings = {0};
    const Setting *setting;
    for (size_t i = 0; (setting = setting_at(i)); i++) {
        Err err;
        if (setting->initial &&
            setting_parse(&settings, setting, setting->name, setting->initial, &err) != 0) {
            fatal("the built-in default is wrong: %s", err.text);
        }
    }
    return settings;
}

void settings_free(Settings *settings)
{
    free(settings->data_root);
    free(settings->source);
    free(settings->target);
    free(settings->logdir);
    free(settings->suffix);
    free(settings->pretrained);
    free(settings->cache_dir);
    free(settings->tier);
    free(settings->device);
    free(settings->precision);
    free(settings->passes);
    free(settings->arch);
    free(settings->dump_plan);
    *settings = (Settings){0};
}

/* A value is right if it could have been typed: its own text is parsed into a copy that is thrown
 * away. */
static int check_one(const Settings *settings, Settings *scratch, const Setting *setting, Err *err)
{
    char *text = setting_text(settings, setting);
    int rc = setting_parse(scratch, setting, setting->name, text ? text : "", err);
    free(text);
    return rc;
}

static int check_each(const Settings *settings, Err *err)
{
    Settings scratch = {0};
    int rc = 0;
    const Setting *setting;
    for (size_t i = 0; rc == 0 && (setting = setting_at(i)); i++) {
        rc = check_one(settings, &scratch, setting, err);
    }
    settings_free(&scratch);
    return rc;
}

/* The network computes in single precision, where a number may be infinite or a share 1. */
static int check_single_precision(const Settings *settings, Err *err)
{
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"lr", settings->lr},
                   {"lr times lr_mult", settings->lr * settings->lr_mult},
                   {"weight_decay", settings->weight_decay},
                   {"weight_rot", settings->weight_rot},
                   {"weight_ent", settings->weight_ent}};
    char text[TEXT_DOUBLE_SIZE];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (!isfinite((float)numbers[i].value)) {
            return err_set(err, "%s %s is not finite in single precision: give a smaller number",
                           numbers[i].name, text_double(numbers[i].value, text));
        }
    }
    if ((float)settings->dropout_p >= 1) {
        return err_set(err, "dropout_p %s is 1 in single precision: give a smaller share",
                       text_double(settings->dropout_p, text));
    }
    return 0;
}

int settings_check(const Settings *settings, Err *err)
{
    if (check_each(settings, err) != 0) {
        return -1;
    }
    if (!settings->data_root) {
        return err_set(err, "--data_root is missing: name the folder that holds %s/ and %s/",
                       settings->source, settings->target);
    }
    if (settings->crop_size > settings->image_size) {
        return err_set(err,
                       "crop_size %d is larger than image_size %d: pictures of %d pixels cannot be "
                       "cropped to more",
                       settings->crop_size, settings->image_size, settings->image_size);
    }
    if (settings->arch_width == 3) {
        return err_set(err,
                       "arch_width 3 is not possible: three channels are taken for a picture's; "
                       "give another number");
    }
    if (check_single_precision(settings, err) != 0) {
        return -1;
    }
    char *name = settings_run_name(settings);
    size_t length = strlen(name);
    free(name);
    if (length > NAME_MAX) {
        return err_set(err,
                       "the run's name has %zu bytes, a folder's can have %d: use a shorter "
                       "--suffix",
                       length, NAME_MAX);
    }
    return 0;
}

int settings_depth(const Settings *settings)
{
    return strcmp(settings->arch, "resnet50") == 0 ? 50 : 18;
}

double settings_weight_decay(const Settings *settings)
{
    return settings->sanitycheck ? 0 : settings->weight_decay;
}

char *settings_run_name(const Settings *settings)
{
    char lr[TEXT_DOUBLE_SIZE];
    char lr_mult[TEXT_DOUBLE_SIZE];
    char weight_decay[TEXT_DOUBLE_SIZE];
    char weight_rot[TEXT_DOUBLE_SIZE];
    char weight_ent[TEXT_DOUBLE_SIZE];
    char *dataset = settings->smallset ? mem_string("smallset")
                                       : mem_format("%s-%s", settings->target, settings->source);
    /* "epoches" is how the original program spells it; its users look for that name. */
    char *name = mem_format(
        "rgbd-rr_%s_lr=%s_lr_mult=%s_batch_size=%d_epoches=%d_weight_decay=%s_weight_rot=%s_"
        "weight_ent=%s_dataset=%s%s%s",
        settings->arch, text_double(settings->lr, lr), text_double(settings->lr_mult, lr_mult),
        settings->batch_size, settings->epochs,
        text_double(settings_weight_decay(settings), weight_decay),
        text_double(settings->weight_rot, weight_rot),
        text_double(settings->weight_ent, weight_ent), dataset, settings->suffix ? "_" : "",
        settings->suffix ? settings->suffix : "");
    free(dataset);
    return name;
}

int settings_compatible(const Settings *saved, const Settings *now, Err *err)
{
    int rc = 0;
    const Setting *setting;
    for (size_t i = 0; rc == 0 && (setting = setting_at(i)); i++) {
        char *before = setting_text(saved, setting);
        char *after = setting_text(now, setting);
        if (setting->fixed && strcmp(before ? before : "", after ? after : "") != 0) {
            rc = err_set(err,
                         "the saved run has %s %s, this one %s, and it cannot change within a run: "
                         "%s. Resume with the saved value, or name a new run with --suffix",
                         setting->name, before ? before : "(none)", after ? after : "(none)",
                         setting->fixed);
        }
        free(before);
        free(after);
    }
    return rc;
}
