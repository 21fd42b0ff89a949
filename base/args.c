#include "base/args.h"

#include "base/mem.h"
#include "base/number.h"
#include "base/streams.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keys of options; option i of the program has KEY_FIRST + i. None is a printable character, so
 * none is also a one-letter option. */
enum {
    KEY_VERSION = 0x100,
    KEY_FIRST,
};

enum { LABEL_SIZE = 64 };

typedef struct {
    const Args *args;
    const struct argp_option *options; /* the program's, and those that every program has */
    int next;                          /* the first element of argv that is not understood yet */
    bool failed;                       /* err says why */
    Err *err;
} Parse;

static const char *label_of(const ArgOption *option, char label[static LABEL_SIZE])
{
    snprintf(label, LABEL_SIZE, "--%s", option->name);
    return label;
}

static int take_flag(const ArgOption *option, const char *text, Err *err)
{
    (void)text;
    (void)err;
    *(bool *)option->into = true;
    return 0;
}

static int take_text(const ArgOption *option, const char *text, Err *err)
{
    (void)err;
    *(const char **)option->into = text;
    return 0;
}

static int take_int(const ArgOption *option, const char *text, Err *err)
{
    char label[LABEL_SIZE];
    return number_parse_int(label_of(option, label), text, (int)option->low, (int)option->high,
                            option->into, err);
}

static int take_int64(const ArgOption *option, const char *text, Err *err)
{
    char label[LABEL_SIZE];
    return number_parse_int64(label_of(option, label), text, option->low, option->high,
                              option->into, err);
}

static int take_uint64(const ArgOption *option, const char *text, Err *err)
{
    char label[LABEL_SIZE];
    return number_parse_uint64(label_of(option, label), text, option->into, err);
}

ArgOption arg_heading(const char *text)
{
    return (ArgOption){.help = text};
}

ArgOption arg_flag(const char *name, bool *into, const char *help)
{
    return (ArgOption){.name = name, .help = help, .take = take_flag, .into = into};
}

ArgOption arg_text(const char *name, const char *value, const char **into, const char *help)
{
    return (ArgOption){
        .name = name, .value = value, .help = help, .take = take_text, .into = (void *)into};
}

ArgOption arg_int(const char *name, const char *value, int *into, int low, int high,
                  const char *help)
{
    return (ArgOption){.name = name,
                       .value = value,
                       .help = help,
                       .take = take_int,
                       .into = into,
                       .low = low,
                       .high = high};
}

ArgOption arg_int64(const char *name, const char *value, int64_t *into, int64_t low, int64_t high,
                    const char *help)
{
    return (ArgOption){.name = name,
                       .value = value,
                       .help = help,
                       .take = take_int64,
                       .into = into,
                       .low = low,
                       .high = high};
}

ArgOption arg_uint64(const char *name, const char *value, uint64_t *into, const char *help)
{
    return (ArgOption){
        .name = name, .value = value, .help = help, .take = take_uint64, .into = into};
}

int args_explain(const Args *args, Err *err)
{
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, " (%s -h explains the options)",
             args->program);
    return -1;
}

static bool is_end(const struct argp_option *option)
{
    return !option->name && !option->key && !option->doc;
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

/* How many options the name could mean, 1 if it is whole; *match is one of them. */
static int match_name(const Parse *parse, const char *name, int length,
                      const struct argp_option **match)
{
    const struct argp_option *owner = parse->options; /* of the aliases that follow it */
    int matches = 0;
    for (const struct argp_option *o = parse->options; !is_end(o); o++) {
        owner = is_listed(o) ? o : owner;
        if (!o->name || strncmp(o->name, name, (size_t)length) != 0) {
            continue;
        }
        if (o->name[length] == '\0') {
            *match = owner;
            return 1;
        }
        if (is_listed(o)) {
            *match = o;
            matches++;
        }
    }
    return matches;
}

/* Explains why getopt stumbled over the element `given` of the command line. */
static void tell_bad_option(Parse *parse, const char *given)
{
    if (given[0] != '-' || given[1] != '-') {
        err_set(parse->err, "unknown option '%s': options begin with '--'", given);
        return;
    }
    const char *name = given + 2;
    int length = (int)strcspn(name, "=");
    const struct argp_option *match = NULL;
    int matches = match_name(parse, name, length, &match);
    if (matches == 0) {
        err_set(parse->err, "unknown option '--%.*s'", length, name);
    } else if (matches > 1) {
        tell_ambiguity(parse, name, length);
    } else if (!match->arg) {
        err_set(parse->err, "--%s takes no value, but '%s' gives one", match->name, given);
    } else {
        err_set(parse->err, "--%s needs a value: --%s %s", match->name, match->name, match->arg);
    }
}

static int fail(Parse *parse)
{
    parse->failed = true;
    args_explain(parse->args, parse->err);
    return EINVAL;
}

/* Ends the process if what was printed is out. */
static int end_printed(Parse *parse)
{
    if (streams_check_output(parse->err) == 0) {
        exit(EXIT_SUCCESS);
    }
    parse->failed = true;
    return EINVAL;
}

static int print_help(Parse *parse, struct argp_state *state)
{
    state->flags &= ~(unsigned)ARGP_NO_ERRS; /* or nothing would be printed */
    argp_state_help(state, stdout, ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK);
    return end_printed(parse);
}

static int print_version(Parse *parse)
{
    printf("rodeo %s\n", RODEO_VERSION);
    return end_printed(parse);
}

static int take_operand(Parse *parse, const char *text)
{
    const ArgOperands *operands = &parse->args->operands;
    if (operands->most == 0) {
        err_set(parse->err, "'%s' is not expected here: options begin with '--'", text);
        return fail(parse);
    }
    if (*operands->count == operands->most) {
        err_set(parse->err, "'%s' is one argument too many", text);
        return fail(parse);
    }
    operands->into[(*operands->count)++] = text;
    return 0;
}

static error_t take(int key, char *text, struct argp_state *state)
{
    Parse *parse = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
    case ARGP_KEY_SUCCESS:
    case ARGP_KEY_NO_ARGS:
    case ARGP_KEY_END:
    case ARGP_KEY_FINI:
        return 0;
    case ARGP_KEY_ERROR:
        if (!parse->failed && parse->next < state->argc) {
            tell_bad_option(parse, state->argv[parse->next]);
            fail(parse);
        }
        return 0;
    case 'h':
    case '?':
        return print_help(parse, state);
    case KEY_VERSION:
        return print_version(parse);
    case ARGP_KEY_ARG:
        parse->next = state->next;
        return take_operand(parse, text);
    default:
        break;
    }
    if (key < KEY_FIRST) {
        return ARGP_ERR_UNKNOWN;
    }
    const ArgOption *option = &parse->args->options[key - KEY_FIRST];
    parse->next = state->next;
    return option->take(option, text, parse->err) == 0 ? 0 : fail(parse);
}

/* The options as argp wants them; the caller's to free. */
static struct argp_option *make_options(const ArgOption *own)
{
    static const struct argp_option common[] = {
        {.name = "help", .key = 'h', .group = -1, .doc = "Print this text"},
        {.key = '?', .flags = OPTION_ALIAS | OPTION_HIDDEN},
        {.name = "version", .key = KEY_VERSION, .group = -1, .doc = "Print the program's version"},
    };
    size_t count = 0;
    while (own[count].name || own[count].help) {
        count++;
    }
    struct argp_option *options =
        mem_zeroed(2 * count + sizeof common / sizeof *common + 1, sizeof *options);
    struct argp_option *next = options;
    for (size_t i = 0; i < count; i++) {
        *next++ = (struct argp_option){.name = own[i].name,
                                       .key = own[i].name ? KEY_FIRST + (int)i : 0,
                                       .arg = own[i].value,
                                       .doc = own[i].help,
                                       .group = own[i].group};
        if (own[i].alias) {
            *next++ =
                (struct argp_option){.name = own[i].alias, .flags = OPTION_ALIAS | OPTION_HIDDEN};
        }
    }
    memcpy(next, common, sizeof common);
    return options;
}

int args_parse(const Args *args, int argc, char **argv, Err *err)
{
    struct argp_option *options = make_options(args->options);
    char *doc = mem_format("%s\v%s", args->summary, args->ending ? args->ending : "");
    const struct argp argp = {
        .options = options, .parser = take, .args_doc = args->operands.usage, .doc = doc};
    Parse parse = {.args = args, .options = options, .next = 1, .err = err};
    if (args->operands.count) {
        *args->operands.count = 0;
    }
    int rc =
        argp_parse(&argp, argc, argv, ARGP_NO_HELP | ARGP_NO_ERRS | ARGP_IN_ORDER, NULL, &parse);
    if (rc != 0 && !parse.failed) {
        err_set(err, "the command line cannot be read: %s", strerror(rc));
        args_explain(args, err);
    }
    free(doc);
    free(options);
    return rc == 0 ? 0 : -1;
}
