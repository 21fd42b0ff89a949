/* The command line: what is taken in which spelling, what is refused in which words, help and
 * version; numbers at the ends of their ranges. */
#include "base/args.h"
#include "base/mem.h"
#include "base/number.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST_WORDS = 12, MOST_FILES = 2 };

/* What the made-up program "cook" is told. */
typedef struct {
    const char *dish;
    int heat;
    int64_t grains;
    uint64_t seed;
    bool salt, salted_water;
    const char *file[MOST_FILES];
    int files;
} Order;

static int parse_words(Order *order, int most_files, int argc, char **argv, Err *err)
{
    ArgOption dish = arg_text("dish", "NAME", &order->dish, "What to cook");
    dish.alias = "p";
    const ArgOption list[] = {
        arg_heading("Kitchen:"),
        dish,
        arg_int("heat", "LEVEL", &order->heat, -2, 9, "How hot"),
        arg_int64("grains", "COUNT", &order->grains, INT64_MIN, INT64_MAX, "How many"),
        arg_uint64("seed", "N", &order->seed, "Chance"),
        arg_flag("salt", &order->salt, "With salt"),
        arg_flag("salted_water", &order->salted_water, "In salted water"),
        {0},
    };
    const Args args = {
        .program = "cook",
        .summary = "Cooks a dish.",
        .ending = "Example: cook --dish soup",
        .options = list,
        .operands = {
            .usage = "[FILE...]", .into = order->file, .count = &order->files, .most = most_files}};
    return args_parse(&args, argc, argv, err);
}

/* Splits line at blanks and parses it as "cook WORD ...". */
static int parse_line(Order *order, int most_files, const char *line, Err *err)
{
    static char words[512]; /* the order points into it */
    char program[] = "cook";
    char *argv[MOST_WORDS + 2] = {program};
    int argc = 1;
    snprintf(words, sizeof words, "%s", line);
    char *rest = words;
    for (char *word; argc <= MOST_WORDS && (word = strtok_r(rest, " ", &rest));) {
        argv[argc++] = word;
    }
    *order = (Order){.heat = 5};
    return parse_words(order, most_files, argc, argv, err);
}

static Order taken(const char *line)
{
    Order order;
    Err err = {""};
    if (parse_line(&order, MOST_FILES, line, &err) != 0) {
        fail_msg("'%s' was refused: %s", line, err.text);
    }
    return order;
}

static void assert_refused(int most_files, const char *line, const char *text)
{
    Order order;
    Err err = {""};
    char *whole = mem_format("%s (cook -h explains the options)", text);
    assert_int_equal(parse_line(&order, most_files, line, &err), -1);
    assert_string_equal(err.text, whole);
    free(whole);
}

/* Parses line in a child whose standard output is `out`. Returns its status: the one it ended with,
 * or 9 if args_parse came back. */
static int status_of(const char *line, int out)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        Order order;
        Err err;
        dup2(out, STDOUT_FILENO);
        parse_line(&order, MOST_FILES, line, &err);
        _exit(9);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void values_arrive_in_every_spelling(void **state)
{
    (void)state;
    static const char *const lines[] = {"--dish soup --heat 9", "--dish=soup --heat=9",
                                        "--d soup --hea=9", "--p soup --heat +9",
                                        "--dish stew --heat 1 --dish=soup --heat 9"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        Order order = taken(lines[i]);
        assert_string_equal(order.dish, "soup");
        assert_int_equal(order.heat, 9);
        assert_false(order.salt);
    }
    assert_string_equal(taken("--dish=--salt").dish, "--salt");
    assert_int_equal(taken("--heat -2").heat, -2);
    assert_string_equal(taken("--dish=").dish, "");
    /* A name that begins another one means itself. */
    Order salt = taken("--salt");
    assert_true(salt.salt && !salt.salted_water);
    assert_true(taken("--salte").salted_water);
}

static void nothing_given_changes_nothing(void **state)
{
    (void)state;
    Order order = taken("");
    assert_null(order.dish);
    assert_int_equal(order.heat, 5);
    assert_int_equal(order.files, 0);
}

static void operands_stand_anywhere(void **state)
{
    (void)state;
    Order order = taken("one --salt two");
    assert_int_equal(order.files, 2);
    assert_string_equal(order.file[0], "one");
    assert_string_equal(order.file[1], "two");
    assert_true(order.salt);
    order = taken("-- --salt -x");
    assert_int_equal(order.files, 2);
    assert_string_equal(order.file[0], "--salt");
    assert_false(order.salt);
    assert_refused(2, "one two --salt three", "'three' is one argument too many");
    assert_refused(0, "--salt one", "'one' is not expected here: options begin with '--'");
}

static void bad_options_are_named(void **state)
{
    (void)state;
    assert_refused(2, "--spice", "unknown option '--spice'");
    assert_refused(2, "file --salt --spice=1 --heat 1", "unknown option '--spice'");
    assert_refused(2, "--sal", "--sal is ambiguous: it could be --salt, --salted_water");
    assert_refused(2, "--salt=1", "--salt takes no value, but '--salt=1' gives one");
    assert_refused(2, "--salt --dis", "--dish needs a value: --dish NAME");
    assert_refused(2, "--salt --p", "--dish needs a value: --dish NAME");
    assert_refused(2, "--help=1", "--help takes no value, but '--help=1' gives one");
    /* No option has a letter of its own but help. */
    for (int c = '!'; c <= '~'; c++) {
        if (!strchr("h?-", c)) {
            char *line = mem_format("-%c", c);
            char *text = mem_format("unknown option '-%c': options begin with '--'", c);
            assert_int_equal(status_of(line, STDOUT_FILENO), 9);
            assert_refused(2, line, text);
            free(line);
            free(text);
        }
    }
}

static void bad_values_are_named(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "abc", "", "1x", "10", "-3", "0x1", "1.0", "1e1", "+", "--1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *line = mem_format("--heat=%s --heat=1", wrong[i]);
        char *text =
            mem_format("--heat: '%s' is not allowed: give a whole number from -2 to 9", wrong[i]);
        assert_refused(2, line, text);
        free(line);
        free(text);
    }
    assert_refused(2, "--seed -1",
                   "--seed: '-1' is not allowed: give a whole number from 0 to "
                   "18446744073709551615");
    assert_refused(2, "--seed 18446744073709551616",
                   "--seed: '18446744073709551616' is not allowed: give a whole number from 0 to "
                   "18446744073709551615");
    assert_refused(2, "--grains 9223372036854775808",
                   "--grains: '9223372036854775808' is not allowed: give a whole number from "
                   "-9223372036854775808 to 9223372036854775807");
}

static void wide_numbers_are_exact(void **state)
{
    (void)state;
    assert_true(taken("--seed 18446744073709551615").seed == UINT64_MAX);
    assert_true(taken("--grains 9223372036854775807").grains == INT64_MAX);
    assert_true(taken("--grains -9223372036854775808").grains == INT64_MIN);
    assert_true(taken("--grains 9007199254740993").grains == 9007199254740993); /* 2^53 + 1 */
}

static void blanks_are_no_part_of_a_number(void **state)
{
    (void)state;
    static const char *const wrong[] = {" 5", "5 ", "\t5", " "};
    int whole = 7;
    uint64_t wide = 7;
    Err err;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(number_parse_int("n", wrong[i], 0, 9, &whole, &err), -1);
        assert_int_equal(number_parse_uint64("n", wrong[i], &wide, &err), -1);
    }
    assert_true(whole == 7 && wide == 7);
}

static void reals_keep_to_their_range(void **state)
{
    (void)state;
    const NumberRange share = {.low = 0, .high = 1, .below_high = true};
    const NumberRange closed = {.low = 0, .high = 1};
    const NumberRange open = {.low = 0, .high = INFINITY};
    double value = 7;
    Err err;
    assert_int_equal(number_parse_double("p", "1e-4", share, &value, &err), 0);
    assert_true(value == 1e-4);
    assert_int_equal(number_parse_double("p", "1", closed, &value, &err), 0);
    assert_true(value == 1);
    assert_int_equal(number_parse_double("p", "1", share, &value, &err), -1);
    assert_string_equal(err.text, "p: '1' is not allowed: give a number from 0.0 to below 1.0");
    assert_int_equal(number_parse_double("p", "1.5", closed, &value, &err), -1);
    assert_string_equal(err.text, "p: '1.5' is not allowed: give a number from 0.0 to 1.0");
    static const char *const wrong[] = {"", " 1", "1 ", "nan", "inf", "0x1p3", "1e999", "-1", "."};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(number_parse_double("p", wrong[i], open, &value, &err), -1);
        char *text = mem_format("p: '%s' is not allowed: give a number of at least 0.0", wrong[i]);
        assert_string_equal(err.text, text);
        free(text);
    }
    assert_true(value == 1); /* as it was */
}

/* What a line prints that ends the program well. */
static char *printed_by(const char *line)
{
    FILE *out = tmpfile();
    assert_non_null(out);
    assert_int_equal(status_of(line, fileno(out)), 0);
    char *text = mem_zeroed(1, 8192);
    rewind(out);
    assert_true(fread(text, 1, 8191, out) > 0);
    fclose(out);
    return text;
}

static void help_is_complete(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "[FILE...]",   "Cooks a dish.", "Kitchen:",
        "--dish=NAME", "--heat=LEVEL",  "--salt ",
        "-h, --help",  "--version",     "Example: cook --dish soup"};
    static const char *const ways[] = {"-h", "-?", "--help", "--hel", "--salt file -h --spice"};
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        char *text = printed_by(ways[w]);
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            if (!strstr(text, parts[i])) {
                fail_msg("%s: no '%s' in: %s", ways[w], parts[i], text);
            }
        }
        assert_null(strstr(text, "--p=")); /* an alias is not shown */
        free(text);
    }
    char *version = printed_by("--version");
    assert_string_equal(version, "rodeo " RODEO_VERSION "\n");
    free(version);
}

static void help_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(full >= 0);
    assert_int_equal(status_of("--help", full), 9);
    assert_int_equal(status_of("--version", full), 9);
    close(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_arrive_in_every_spelling),
        cmocka_unit_test(nothing_given_changes_nothing),
        cmocka_unit_test(operands_stand_anywhere),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(wide_numbers_are_exact),
        cmocka_unit_test(blanks_are_no_part_of_a_number),
        cmocka_unit_test(reals_keep_to_their_range),
        cmocka_unit_test(help_is_complete),
        cmocka_unit_test(help_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
