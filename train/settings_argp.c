#include "base/mem.h"
#include "train/settings_table.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keys of options; the table's entry i has KEY_SETTING + i. None is a printable character, so
 * none is a short option. */
enum {
    KEY_VERSION = 0x100,
    KEY_CONFIG,
    KEY_SETTING,
};

/* One option as it was given. */
typedef struct {
    const Setting *setting;
    const char *text; /* belongs to argv */
} Given;

typedef struct {
    const struct argp_option *options;
    const char *config; /* belongs to argv */
    Given *given;
    size_t given_count;
    int next;    /* the first element of argv that is not understood yet */
    bool failed; /* err says why */
    Err *err;
} Parse;

static int fail_on_argument(Parse *parse, const char *argument)
{
    parse->failed = true;
    err_set(parse->err, "'%s' is not expected here: options begin with '--' (--help lists them)",
            argument);
    return EINVAL;
}

static bool is_end(const struct argp_option *option)
{
    return !option->name && !option->key && !option->doc;
}

static bool is_flag(const struct argp_option *option)
{
    return option->arg == NULL;
}

static bool is_listed(const struct argp_option *option)
{
    return option->name && !(option->flags & OPTION_ALIAS);
}

/* An abbreviation that could mean several options: names them all. */
static void tell_ambiguity(Parse *parse, const char *name, int length)
{
    char list[512] = "";
    for (const struct argp_option *o = parse->options; !is_end(o); o++) {
        if (is_listed(o) && strncmp(o->name, name, (size_t)length) == 0) {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s--%s", used ? ", " : "", o->name);
        }
    }
    err_set(parse->err, "--%.*s is ambiguous: it could be %s", length, name, list);
}

/* Explains why getopt stumbled over the element `given` of the command line. */
static void tell_bad_option(Parse *parse, const char *given)
{
    if (given[0] != '-' || given[1] != '-') {
        err_set(parse->err, "unknown option '%s': options begin with '--' (--help lists them)",
                given);
        return;
    }
    const char *name = given + 2;
    int length = (int)strcspn(name, "=");
    const struct argp_option *match = NULL;
    int matches = 0;
    for (const struct argp_option *o = parse->options; !is_end(o); o++) {
        if (!is_listed(o) || strncmp(o->name, name, (size_t)length) != 0) {
            continue;
        }
        match = o;
        matches++;
        if (o->name[length] == '\0') {
            matches = 1;
            break;
        }
    }
    if (matches == 0) {
        err_set(parse->err, "unknown option '--%.*s' (--help lists all)", length, name);
    } else if (matches > 1) {
        tell_ambiguity(parse, name, length);
    } else if (is_flag(match)) {
        err_set(parse->err, "--%s takes no value, but '%s' gives one", match->name, given);
    } else {
        err_set(parse->err, "--%s needs a value: --%s %s", match->name, match->name, match->arg);
    }
}

static void print_help(struct argp_state *state)
{
    state->flags &= ~(unsigned)ARGP_NO_ERRS; /* or nothing would be printed */
    argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
}

static error_t take_option(int key, char *argument, struct argp_state *state)
{
    Parse *parse = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
    case ARGP_KEY_SUCCESS:
    case ARGP_KEY_NO_ARGS:
    case ARGP_KEY_END:
    case ARGP_KEY_FINI:
        return 0;
    case ARGP_KEY_ARG:
        return fail_on_argument(parse, argument);
    case ARGP_KEY_ERROR:
        if (!parse->failed && parse->next < state->argc) {
            tell_bad_option(parse, state->argv[parse->next]);
        }
        return 0;
    case 'h':
    case '?':
        print_help(state);
        return 0;
    case KEY_VERSION:
        printf("rodeo %s\n", RODEO_VERSION);
        exit(EXIT_SUCCESS);
    case KEY_CONFIG:
        parse->config = argument;
        break;
    default: {
        const Setting *setting =
            key >= KEY_SETTING ? setting_at((size_t)(key - KEY_SETTING)) : NULL;
        if (!setting) {
            return ARGP_ERR_UNKNOWN;
        }
        parse->given[parse->given_count++] = (Given){setting, argument ? argument : "true"};
        break;
    }
    }
    parse->next = state->next;
    return 0;
}

static char *describe(const Setting *setting)
{
    bool told = !setting->initial || setting->kind == SETTING_FLAG;
    return told ? mem_string(setting->help)
                : mem_format("%s (default: %s)", setting->help, setting->initial);
}

/* The table as argp wants it, a heading before each group. Entry i of docs (one a setting)
 * becomes that setting's text. Both are the caller's to free. */
static struct argp_option *make_options(char **docs)
{
    static const struct argp_option first[] = {
        {.doc = "Data:", .group = GROUP_DATA},
        {.doc = "Run:", .group = GROUP_RUN},
        {.doc = "Optimisation:", .group = GROUP_OPTIMISATION},
        {.doc = "Network:", .group = GROUP_NETWORK},
        {.doc = "Machine:", .group = GROUP_MACHINE},
        {.name = "config",
         .key = KEY_CONFIG,
         .arg = "FILE",
         .group = GROUP_RUN,
         .doc = "Read settings from a YAML file, such as configs/default.yaml; options on the "
                "command line win over it"},
        {.name = "help", .key = 'h', .group = -1, .doc = "Print this text"},
        {.key = '?', .flags = OPTION_ALIAS | OPTION_HIDDEN},
        {.name = "version", .key = KEY_VERSION, .group = -1, .doc = "Print the program's version"},
    };
    size_t start = sizeof first / sizeof first[0];
    /* Behind the settings: an alias, and the end of the list. */
    struct argp_option *options = mem_zeroed(start + setting_count() + 2, sizeof *options);
    struct argp_option *next = options + start;
    memcpy(options, first, sizeof first);
    const Setting *setting;
    for (size_t i = 0; (setting = setting_at(i)); i++) {
        docs[i] = describe(setting);
        *next++ = (struct argp_option){.name = setting->name,
                                       .key = KEY_SETTING + (int)i,
                                       .arg = setting->value,
                                       .doc = docs[i],
                                       .group = setting->group};
        if (strcmp(setting->name, "test_batches") == 0) {
            /* The original program had no other option with this letter, so its users may write
             * --t; every other abbreviation of its options is still unambiguous. */
            *next++ = (struct argp_option){.name = "t", .flags = OPTION_ALIAS | OPTION_HIDDEN};
        }
    }
    return options;
}

static int apply(Settings *settings, const Parse *parse, Err *err)
{
    if (parse->config && settings_read_yaml(settings, parse->config, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < parse->given_count; i++) {
        const Given *given = &parse->given[i];
        char label[64];
        snprintf(label, sizeof label, "--%s", given->setting->name);
        if (setting_parse(settings, given->setting, label, given->text, err) != 0) {
            return -1;
        }
    }
    return settings_check(settings, err);
}

int settings_parse(Settings *settings, int argc, char **argv, Err *err)
{
    char **docs = mem_zeroed(setting_count(), sizeof *docs);
    struct argp_option *options = make_options(docs);
    Parse parse = {.options = options,
                   .given = mem_zeroed((size_t)argc + 1, sizeof *parse.given),
                   .next = 1,
                   .err = err};
    const struct argp argp = {
        .options = options,
        .parser = take_option,
        .doc = "Trains an RGB-D object recogniser on labelled pictures of one data set so that it "
               "works on another one without labels.\v"
               "Options may be shortened as long as they stay unambiguous (--epoch=40).\n\n"
               "In a Colab cell, with the data set unpacked on the machine and Drive mounted:\n\n"
               "  !./build/train --data_root /content/datasets/ROD-synROD --logdir "
               "/content/drive/MyDrive/ --resume | tee synRODtoROD.txt -a\n",
    };
    int rc = -1;
    err_set(err, "the command line cannot be read");
    if (argp_parse(&argp, argc, argv, ARGP_NO_HELP | ARGP_NO_ERRS | ARGP_IN_ORDER, NULL, &parse) ==
        0) {
        rc = apply(settings, &parse, err);
    }
    free(parse.given);
    free(options);
    for (size_t i = 0; i < setting_count(); i++) {
        free(docs[i]);
    }
    free((void *)docs);
    return rc;
}
