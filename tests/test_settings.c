/* Settings: the command line and its abbreviations, error texts, order of the sources, run names,
 * what may change when a run is resumed. */
#include "base/mem.h"
#include "base/text.h"
#include "train/settings_table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST_WORDS = 16 };

/* Splits line at blanks and parses it into settings, as "train WORD ...". */
static int parse_line(Settings *settings, const char *line, Err *err)
{
    char *copy = mem_string(line);
    char program[] = "train";
    char *argv[MOST_WORDS + 2] = {program};
    int argc = 1;
    char *rest = copy;
    for (char *word; argc <= MOST_WORDS && (word = strtok_r(rest, " ", &rest));) {
        argv[argc++] = word;
    }
    *settings = settings_default();
    int rc = settings_parse(settings, argc, argv, err);
    free(copy);
    return rc;
}

static void assert_refused_with(const char *line, const char *text)
{
    Settings settings;
    Err err = {0};
    if (parse_line(&settings, line, &err) != -1) {
        fail_msg("'%s' was taken", line);
    }
    assert_string_equal(err.text, text);
    settings_free(&settings);
}

/* As every error in the options themselves, with the hint behind it. */
static void assert_refused(const char *line, const char *text)
{
    char *whole = mem_format("%s (train -h explains the options)", text);
    assert_refused_with(line, whole);
    free(whole);
}

/* Only `changed` may differ from the defaults, and data_root where it was needed. */
static void assert_only_change(const Settings *settings, const char *changed, const char *value)
{
    Settings initial = settings_default();
    const Setting *setting;
    for (size_t i = 0; (setting = setting_at(i)); i++) {
        char *before = setting_text(&initial, setting);
        char *after = setting_text(settings, setting);
        if (strcmp(setting->name, changed) == 0) {
            assert_string_equal(after, value);
        } else if (strcmp(setting->name, "data_root") != 0) {
            assert_string_equal(after ? after : "", before ? before : "");
        }
        free(before);
        free(after);
    }
    settings_free(&initial);
}

/* The options of the original program, each with a value that is not its default. */
static const struct {
    const char *name;
    const char *value; /* NULL: a flag */
} original[] = {
    {"data_root", "elsewhere"}, {"logdir", "logs"},
    {"resume", NULL},           {"epochs", "7"},
    {"batch_size", "8"},        {"lr", "0.01"},
    {"lr_mult", "2.0"},         {"weight_decay", "0.1"},
    {"dropout_p", "0.25"},      {"weight_rot", "3.0"},
    {"weight_ent", "0.5"},      {"test_batches", "50"},
    {"num_workers", "2"},       {"gpu", "1"},
    {"suffix", "again"},        {"smallset", NULL},
    {"sanitycheck", NULL},      {"help", NULL},
};

enum { ORIGINAL_COUNT = sizeof original / sizeof original[0] };

static bool original_takes(const char *prefix)
{
    int matches = 0;
    for (int i = 0; i < ORIGINAL_COUNT; i++) {
        if (strcmp(original[i].name, prefix) == 0) {
            return true;
        }
        matches += text_starts_with(original[i].name, prefix);
    }
    return matches == 1;
}

/* "lr" begins "lr_mult" but means itself. */
static bool is_another_option(int i, const char *prefix)
{
    for (int j = 0; j < ORIGINAL_COUNT; j++) {
        if (j != i && strcmp(original[j].name, prefix) == 0) {
            return true;
        }
    }
    return false;
}

static void check_prefix(int i, const char *prefix)
{
    const char *value = original[i].value;
    char *lines[2] = {
        mem_format("--data_root there --%s%s%s", prefix, value ? "=" : "", value ? value : ""),
        mem_format("--data_root there --%s %s", prefix, value ? value : ""),
    };
    for (int form = 0; form < 2; form++) {
        Settings settings;
        Err err = {0};
        int rc = parse_line(&settings, lines[form], &err);
        if (original_takes(prefix)) {
            assert_string_equal(err.text + (rc == 0 ? strlen(err.text) : 0), "");
            assert_only_change(&settings, original[i].name, value ? value : "true");
        } else {
            assert_int_equal(rc, -1);
            assert_non_null(strstr(err.text, "is ambiguous"));
        }
        settings_free(&settings);
        free(lines[form]);
    }
}

static void every_abbreviation_of_the_original_works(void **state)
{
    (void)state;
    int taken = 0;
    for (int i = 0; i < ORIGINAL_COUNT; i++) {
        if (strcmp(original[i].name, "help") == 0) {
            continue; /* ends the program: see help_explains_every_option */
        }
        for (size_t length = 1; length <= strlen(original[i].name); length++) {
            char *prefix = mem_format("%.*s", (int)length, original[i].name);
            if (!is_another_option(i, prefix)) {
                check_prefix(i, prefix);
                taken += original_takes(prefix);
            }
            free(prefix);
        }
    }
    assert_true(taken > 90);
}

/* Runs settings_parse in a child and returns what it printed; it must end with status 0. */
static char *printed_by(const char *line)
{
    FILE *out = tmpfile();
    assert_non_null(out);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        Settings settings;
        Err err;
        dup2(fileno(out), STDOUT_FILENO);
        parse_line(&settings, line, &err);
        _exit(9); /* help must not return */
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    char *text = mem_zeroed(1, 65536);
    rewind(out);
    assert_true(fread(text, 1, 65535, out) > 0);
    fclose(out);
    return text;
}

static void help_explains_every_option(void **state)
{
    (void)state;
    static const char *const ways[] = {"-h", "-?", "--help", "--hel", "--he", "--h"};
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        char *text = printed_by(ways[w]);
        const Setting *setting;
        for (size_t i = 0; (setting = setting_at(i)); i++) {
            char *option = mem_format("--%s%s", setting->name, setting->value ? "=" : " ");
            assert_non_null(strstr(text, option));
            free(option);
        }
        assert_non_null(strstr(text, "Learning rate (default: 0.0001)"));
        assert_non_null(strstr(text, "--data_root /content/datasets/ROD-synROD"));
        assert_null(strstr(text, "--t "));
        free(text);
    }
    char *version = printed_by("--version");
    assert_string_equal(version, "rodeo " RODEO_VERSION "\n");
    free(version);
}

static void bad_options_are_named(void **state)
{
    (void)state;
    assert_refused("", "--data_root is missing: name the folder that holds synROD/ and ROD/");
    assert_refused("--foo 1", "unknown option '--foo'");
    assert_refused("--resume --foo=1 --lr 1", "unknown option '--foo'");
    assert_refused("-lr 1", "unknown option '-lr': options begin with '--'");
    assert_refused("--lr", "--lr needs a value: --lr NUMBER");
    assert_refused("--resume --epo", "--epochs needs a value: --epochs COUNT");
    assert_refused("--resume=1", "--resume takes no value, but '--resume=1' gives one");
    assert_refused("--lr 1 --w 2", "--w is ambiguous: it could be --weight_decay, --weight_rot, "
                                   "--weight_ent");
    assert_refused("--resume runs", "'runs' is not expected here: options begin with '--'");
    assert_refused_with("--config /no/such.yaml",
                        "/no/such.yaml: cannot open: No such file or directory");
}

static void bad_values_are_named(void **state)
{
    (void)state;
    static const char *const not_counts[] = {"abc", "",      "5x",   "1",
                                             "-3",  "65537", "1e3",  "2.0",
                                             "8-8", "+",     "0x10", "99999999999999999999"};
    for (size_t i = 0; i < sizeof not_counts / sizeof not_counts[0]; i++) {
        char *line = mem_format("--batch_size=%s", not_counts[i]);
        char *text = mem_format("--batch_size: '%s' is not allowed: give a whole number from 2 to "
                                "65536",
                                not_counts[i]);
        assert_refused(line, text);
        free(line);
        free(text);
    }
    static const char *const not_rates[] = {"abc",   "",      "5x", "-1", "nan", "inf",
                                            "0x1p3", "1e999", ".",  "e5", "1-2", "1.2.3"};
    for (size_t i = 0; i < sizeof not_rates / sizeof not_rates[0]; i++) {
        char *line = mem_format("--lr=%s", not_rates[i]);
        char *text =
            mem_format("--lr: '%s' is not allowed: give a number of at least 0.0", not_rates[i]);
        assert_refused(line, text);
        free(line);
        free(text);
    }
    assert_refused("--dropout_p 1",
                   "--dropout_p: '1' is not allowed: give a number from 0.0 to below 1.0");
    assert_refused("--lr abc --lr 1", "--lr: 'abc' is not allowed: give a number of at least 0.0");
    assert_refused("--seed -1", "--seed: '-1' is not allowed: give a whole number from 0 to "
                                "18446744073709551615");
    assert_refused("--seed 18446744073709551616",
                   "--seed: '18446744073709551616' is not allowed: give a whole number from 0 to "
                   "18446744073709551615");
    assert_refused("--device tpu", "--device: 'tpu' is not allowed: give one of: auto cuda cpu");
    assert_refused("--arch resnet",
                   "--arch: 'resnet' is not allowed: give one of: resnet18 resnet50");
    assert_refused("--suffix a/b", "--suffix: 'a/b' is not allowed: give a name in UTF-8 without "
                                   "'/' (null and ~ are reserved)");
    assert_refused("--logdir=", "--logdir: '' is not allowed: give a text in UTF-8 (null and ~ are "
                                "reserved) that is not empty");
    assert_refused("--cache_dir \xE0\x80\x80",
                   "--cache_dir: '\xE0\x80\x80' is not allowed: give a text in UTF-8 (null and ~ "
                   "are reserved)");
}

static void check_looks_at_values_together(void **state)
{
    (void)state;
    assert_refused("--data_root d --arch_width 3",
                   "arch_width 3 is not possible: three channels are "
                   "taken for a picture's; give another number");
    assert_refused("--data_root d --weight_decay 1e39",
                   "weight_decay 1e+39 is not finite in single precision: give a smaller number");
    assert_refused(
        "--data_root d --lr 1e20 --lr_mult 1e20",
        "lr times lr_mult 1e+40 is not finite in single precision: give a smaller number");
    assert_refused("--data_root d --dropout_p 0.999999999",
                   "dropout_p 0.999999999 is 1 in single precision: give a smaller share");
    assert_refused("--data_root d --crop_size 300",
                   "crop_size 300 is larger than image_size 256: pictures of 256 pixels cannot be "
                   "cropped to more");
    char long_suffix[200];
    memset(long_suffix, 'x', sizeof long_suffix);
    char *line = mem_format("--data_root d --suffix %.*s", (int)sizeof long_suffix, long_suffix);
    assert_refused(line, "the run's name has 331 bytes, a folder's can have 255: use a shorter "
                         "--suffix");
    free(line);

    Settings settings = settings_default();
    settings.data_root = mem_string("d");
    Err err;
    assert_int_equal(settings_check(&settings, &err), 0);
    settings.lr = NAN;
    assert_int_equal(settings_check(&settings, &err), -1);
    assert_string_equal(err.text, "lr: 'nan' is not allowed: give a number of at least 0.0");
    settings.lr = 1e-4;
    settings.batch_size = 1;
    assert_int_equal(settings_check(&settings, &err), -1);
    settings_free(&settings);
}

static void numbers_are_read_exactly(void **state)
{
    (void)state;
    Settings settings;
    Err err;
    assert_int_equal(parse_line(&settings,
                                "--data_root d --lr 1e-4 --weight_d .05 --lr_mult +10 --seed "
                                "18446744073709551615 --test_batches 0",
                                &err),
                     0);
    assert_true(settings.lr == 1e-4 && settings.weight_decay == 0.05 && settings.lr_mult == 10);
    assert_true(settings.seed == UINT64_MAX);
    assert_int_equal(settings.test_batches, 0);
    settings_free(&settings);
    /* The last of several counts, and an empty text unsets what has no default. */
    assert_int_equal(
        parse_line(&settings, "--data_root d --lr 1 --lr 2 --suffix x --suffix=", &err), 0);
    assert_true(settings.lr == 2 && !settings.suffix);
    settings_free(&settings);
}

static void assert_run_name(const char *line, const char *name)
{
    Settings settings;
    Err err = {0};
    assert_int_equal(parse_line(&settings, line, &err), 0);
    char *actual = settings_run_name(&settings);
    assert_string_equal(actual, name);
    free(actual);
    settings_free(&settings);
}

static void run_names_are_the_originals(void **state)
{
    (void)state;
    assert_run_name("--data_root d",
                    "rgbd-rr_resnet18_lr=0.0001_lr_mult=1.0_batch_size=32_epoches=40_weight_decay="
                    "0.05_weight_rot=1.0_weight_ent=0.1_dataset=ROD-synROD");
    assert_run_name("--data_root d --lr 1e-5 --lr_mult 10 --weight_decay 0 --suffix test_2",
                    "rgbd-rr_resnet18_lr=1e-05_lr_mult=10.0_batch_size=32_epoches=40_weight_decay="
                    "0.0_weight_rot=1.0_weight_ent=0.1_dataset=ROD-synROD_test_2");
    assert_run_name(
        "--data_root d --lr 3e-4 --batch_size 64 --epoch=10 --weight_rot 0 --weight_ent "
        "0.25 --smallset --seed 3",
        "rgbd-rr_resnet18_lr=0.0003_lr_mult=1.0_batch_size=64_epoches=10_weight_decay="
        "0.05_weight_rot=0.0_weight_ent=0.25_dataset=smallset");
    /* It trains without weight decay, and must not take the place of a run with. */
    assert_run_name("--data_root d --sanitycheck",
                    "rgbd-rr_resnet18_lr=0.0001_lr_mult=1.0_batch_size=32_epoches=40_weight_decay="
                    "0.0_weight_rot=1.0_weight_ent=0.1_dataset=ROD-synROD");
    assert_run_name("--data_root d --source synHB --target valHB --arch resnet50",
                    "rgbd-rr_resnet50_lr=0.0001_lr_mult=1.0_batch_size=32_epoches=40_weight_decay="
                    "0.05_weight_rot=1.0_weight_ent=0.1_dataset=valHB-synHB");
}

static int compare(const char *saved_line, const char *now_line, Err *err)
{
    Settings saved;
    Settings now;
    assert_int_equal(parse_line(&saved, saved_line, err), 0);
    assert_int_equal(parse_line(&now, now_line, err), 0);
    int rc = settings_compatible(&saved, &now, err);
    settings_free(&saved);
    settings_free(&now);
    return rc;
}

static void a_resumed_run_keeps_what_it_learns_by(void **state)
{
    (void)state;
    static const char *const fixed[][3] = {
        {"arch", "resnet50", "resnet18"}, {"arch_width", "32", "64"},
        {"image_size", "300", "256"},     {"crop_size", "200", "224"},
        {"source", "synHB", "synROD"},    {"target", "valHB", "ROD"},
        {"batch_size", "64", "32"},       {"seed", "1", "0"},
        {"dropout_p", "0.1", "0.5"},      {"lr", "0.01", "0.0001"},
        {"lr_mult", "10.0", "1.0"},       {"weight_decay", "0.0", "0.05"},
        {"momentum", "0.5", "0.9"},       {"weight_rot", "0.0", "1.0"},
        {"weight_ent", "0.0", "0.1"},     {"smallset", "true", "false"},
        {"sanitycheck", "true", "false"},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        bool flag = strcmp(fixed[i][1], "true") == 0;
        char *line = mem_format("--data_root d --%s %s", fixed[i][0], flag ? "" : fixed[i][1]);
        char *text =
            mem_format("the saved run has %s %s, this one %s, and it cannot change within a run: ",
                       fixed[i][0], fixed[i][1], fixed[i][2]);
        Err err = {0};
        assert_int_equal(compare(line, line, &err), 0);
        assert_int_equal(compare(line, "--data_root d", &err), -1);
        assert_int_equal(strncmp(err.text, text, strlen(text)), 0);
        assert_non_null(strstr(err.text + strlen(text), ". Resume with the saved value, or name a "
                                                        "new run with --suffix"));
        free(line);
        free(text);
    }
    Err err;
    assert_int_equal(
        compare("--data_root d",
                "--data_root e --epochs 80 --logdir l --device cpu --threads 2 --gpu 1 "
                "--num_workers 0 --cache_dir c --test_batches 7 --resume --checkpoint_minutes 0.5 "
                "--max_hours 11.5 --keep 3",
                &err),
        0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_abbreviation_of_the_original_works),
        cmocka_unit_test(help_explains_every_option),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(check_looks_at_values_together),
        cmocka_unit_test(numbers_are_read_exactly),
        cmocka_unit_test(run_names_are_the_originals),
        cmocka_unit_test(a_resumed_run_keeps_what_it_learns_by),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
