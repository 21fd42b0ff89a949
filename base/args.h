/* The command line, read in one way by all programs, on top of argp.
 *
 * A program lists its options and where their values go. Options are long (--name VALUE,
 * --name=VALUE) and may be shortened as long as they stay unambiguous.
 * -h, -?, --help and --version are there by themselves. Nothing is printed but help and version:
 * an error comes back as an Err, for main to print behind the program's name. */
#ifndef RODEO_BASE_ARGS_H
#define RODEO_BASE_ARGS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ArgOption ArgOption;

/* Reads one value and stores it at option->into. text belongs to argv and is NULL for an option
 * that takes no value. Returns 0, or -1 with an err that names the option. */
typedef int ArgTake(const ArgOption *option, const char *text, Err *err);

/* One option, made by a function below or by hand; or, without a name, a heading (help). */
struct ArgOption {
    const char *name;  /* behind "--" */
    const char *alias; /* another name, which the help does not show; NULL: none */
    const char *value; /* what stands for the value in the help; NULL: a flag */
    const char *help;
    int group; /* which heading's; 0: that of the entry before */
    ArgTake *take;
    void *into;
    int64_t low, high; /* range of a whole number */
};

/* A heading in the help, above the options that follow it. */
ArgOption arg_heading(const char *text);

/* Options that store their last value in *into, which keeps what it has if they are not given.
 * value stands for it in the help. A flag stores true, a text points into argv, a whole number is
 * from low to high. */
ArgOption arg_flag(const char *name, bool *into, const char *help);
ArgOption arg_text(const char *name, const char *value, const char **into, const char *help);
ArgOption arg_int(const char *name, const char *value, int *into, int low, int high,
                  const char *help);
ArgOption arg_int64(const char *name, const char *value, int64_t *into, int64_t low, int64_t high,
                    const char *help);
ArgOption arg_uint64(const char *name, const char *value, uint64_t *into, const char *help);

/* Arguments that belong to no option, such as files. */
typedef struct {
    const char *usage; /* how the help shows them, a line for each form; NULL: nothing */
    const char **into; /* room for `most` of them; they belong to argv */
    int *count;        /* how many there were; need not be set before. NULL if most is 0 */
    int most;
} ArgOperands;

typedef struct {
    const char *program;      /* name in messages */
    const char *summary;      /* text above the options */
    const char *ending;       /* text below them; NULL: none */
    const ArgOption *options; /* the last one is followed by an entry of zeros */
    ArgOperands operands;
} Args;

/* Reads a command line. -h and --version print and end the process with status 0. An error (an
 * unknown or ambiguous option, a value that is missing, superfluous or wrong, an argument too many)
 * is one sentence that ends as args_explain ends it. */
int args_parse(const Args *args, int argc, char **argv, Err *err);

/* Adds " (PROGRAM -h explains the options)" to err, for what a program itself finds wrong with its
 * options. Returns -1. */
int args_explain(const Args *args, Err *err);

#endif
