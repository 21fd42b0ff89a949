#include "base/args.h"
#include "base/mem.h"
#include "train/settings_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One setting as an option. */
typedef struct {
    Settings *settings;
    const Setting *setting;
    const char *text; /* the last value given, in argv; NULL: none */
    char *help;
} Given;

static int apply(const Given *given, Err *err)
{
    char label[64];
    snprintf(label, sizeof label, "--%s", given->setting->name);
    return setting_parse(given->settings, given->setting, label, given->text, err);
}

static int take_setting(const ArgOption *option, const char *text, Err *err)
{
    Given *given = option->into;
    given->text = text ? text : "true";
    return apply(given, err);
}

static char *describe(const Setting *setting)
{
    bool told = !setting->initial || setting->kind == SETTING_FLAG;
    return told ? mem_string(setting->help)
                : mem_format("%s (default: %s)", setting->help, setting->initial);
}

/* The table as options that fill given, an entry a setting, and --config, which fills *config. The
 * array is the caller's to free, and so is each entry's help. */
static ArgOption *make_options(Settings *settings, Given *given, const char **config)
{
    ArgOption config_option =
        arg_text("config", "FILE", config,
                 "Read settings from a YAML file, such as configs/default.yaml; options on the "
                 "command line win over it");
    config_option.group = GROUP_RUN;
    const ArgOption first[] = {
        {.help = "Data:", .group = GROUP_DATA},
        {.help = "Run:", .group = GROUP_RUN},
        {.help = "Optimisation:", .group = GROUP_OPTIMISATION},
        {.help = "Network:", .group = GROUP_NETWORK},
        {.help = "Machine:", .group = GROUP_MACHINE},
        config_option,
    };
    size_t start = sizeof first / sizeof first[0];
    ArgOption *options = mem_zeroed(start + setting_count() + 1, sizeof *options);
    memcpy(options, first, sizeof first);
    const Setting *setting;
    for (size_t i = 0; (setting = setting_at(i)); i++) {
        given[i] = (Given){settings, setting, NULL, describe(setting)};
        /* The original program had no other option with a t, so its users may write --t; every
         * other abbreviation of its options is still unambiguous. */
        bool has_alias = strcmp(setting->name, "test_batches") == 0;
        options[start + i] = (ArgOption){.name = setting->name,
                                         .alias = has_alias ? "t" : NULL,
                                         .value = setting->value,
                                         .help = given[i].help,
                                         .group = setting->group,
                                         .take = take_setting,
                                         .into = &given[i]};
    }
    return options;
}

/* Puts the file's settings below those of the command line. */
static int merge_config(Settings *settings, const char *config, const Given *given, Err *err)
{
    if (settings_read_yaml(settings, config, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < setting_count(); i++) {
        if (given[i].text && apply(&given[i], err) != 0) {
            return -1;
        }
    }
    return 0;
}

int settings_parse(Settings *settings, int argc, char **argv, Err *err)
{
    const char *config = NULL;
    Given *given = mem_zeroed(setting_count(), sizeof *given);
    ArgOption *options = make_options(settings, given, &config);
    const Args args = {
        .program = "train",
        .summary = "Trains an RGB-D object recogniser on labelled pictures of one data set so "
                   "that it works on another one without labels.",
        .ending =
            "Options may be shortened as long as they stay unambiguous (--epoch=40).\n\n"
            "In a Colab cell, with the data set unpacked on the machine and Drive mounted:\n\n"
            "  !./build/train --data_root /content/datasets/ROD-synROD \\\n"
            "      --logdir /content/drive/MyDrive/ --resume | tee synRODtoROD.txt -a\n",
        .options = options,
    };
    int rc = args_parse(&args, argc, argv, err);
    if (rc == 0 && config) {
        rc = merge_config(settings, config, given, err);
    }
    if (rc == 0 && settings_check(settings, err) != 0) {
        rc = args_explain(&args, err);
    }
    free(options);
    for (size_t i = 0; i < setting_count(); i++) {
        free(given[i].help);
    }
    free(given);
    return rc;
}
