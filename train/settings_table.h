/* The table behind settings.h: one entry a setting. The command line, the YAML file, the defaults,
 * the range checks and the comparison of two runs all go by it. */
#ifndef RODEO_TRAIN_SETTINGS_TABLE_H
#define RODEO_TRAIN_SETTINGS_TABLE_H

#include "train/settings.h"

#include <stddef.h>

typedef enum {
    SETTING_TEXT,     /* char *, may be NULL */
    SETTING_NAMEPART, /* char * that becomes part of a folder's name: no slash */
    SETTING_FLAG,     /* bool */
    SETTING_INT,      /* int */
    SETTING_REAL,     /* double */
    SETTING_SEED,     /* uint64_t */
} SettingKind;

typedef enum {
    GROUP_DATA = 1,
    GROUP_RUN,
    GROUP_OPTIMISATION,
    GROUP_NETWORK,
    GROUP_MACHINE,
} SettingGroup;

typedef struct {
    const char *name; /* the member of Settings, the YAML key and the option behind "--" */
    SettingKind kind;
    SettingGroup group;
    size_t offset;       /* in Settings */
    const char *initial; /* the default, as a user would type it; NULL: not given */
    const char *value;   /* what stands for the value in the help; NULL for a flag */
    const char *help;
    const char *choices; /* the words that are allowed, separated by spaces; NULL: any */
    double low, high;    /* range of a number; high may be INFINITY */
    bool below_high;     /* high itself is not allowed */
    const char *fixed;   /* why it must not change when a run is resumed; NULL: it may */
} Setting;

/* Entry i of the table, in the order of the help; NULL behind the last. */
const Setting *setting_at(size_t i);

size_t setting_count(void);

/* Reads text as the setting's kind, checks it and stores it. An empty text unsets a text that has
 * no default. label is how the error names the setting ("--lr", "lr"). On error settings is as it
 * was. */
int setting_parse(Settings *settings, const Setting *setting, const char *label, const char *text,
                  Err *err);

/* The value as setting_parse takes it, a new string; NULL for a text that is not given. */
char *setting_text(const Settings *settings, const Setting *setting);

#endif
