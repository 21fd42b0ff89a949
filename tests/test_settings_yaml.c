/* Settings as YAML files: errors with their line, what wins over what, and the way there and back.
 */
#include "base/mem.h"
#include "base/path.h"
#include "train/settings.h"
#include "train/settings_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char *write_bytes(const char *content, size_t bytes)
{
    char *path = mem_string("/tmp/rodeo-settings-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, bytes), (ssize_t)bytes);
    assert_int_equal(close(fd), 0);
    return path;
}

static char *write_file(const char *content)
{
    return write_bytes(content, strlen(content));
}

static int read_text(Settings *settings, const char *yaml, char **path, Err *err)
{
    *path = write_file(yaml);
    *settings = settings_default();
    int rc = settings_read_yaml(settings, *path, err);
    unlink(*path);
    return rc;
}

/* where: ":LINE: ..." or ": ...", behind the file's name. */
static void assert_refused(const char *yaml, const char *where)
{
    Settings settings;
    Err err = {0};
    char *path;
    if (read_text(&settings, yaml, &path, &err) != -1) {
        fail_msg("this was taken:\n%s", yaml);
    }
    char *text = mem_format("%s%s", path, where);
    assert_string_equal(err.text, text);
    free(text);
    free(path);
    settings_free(&settings);
}

static void errors_name_file_and_line(void **state)
{
    (void)state;
    static const char unknown[] = ":2: unknown setting 'learning_rate'; configs/default.yaml lists "
                                  "all of them";
    assert_refused("lr: 1\nlearning_rate: 2\n", unknown);
    assert_refused("# learning_rate: 3\n{learning_rate: [2]}\n", unknown);
    assert_refused("lr: 1\n# lr: 2\nlr_mult: 2\nlr: 3\n", ":4: lr is set a second time: keep one");
    assert_refused("epochs: 3\nlr: [1, 2]\n", ":2: lr: takes one value, not a list or a mapping");
    assert_refused("lr: {a: 1}\n", ":1: lr: takes one value, not a list or a mapping");
    assert_refused("epochs: 3\n\nlr: abc\n",
                   ":3: lr: 'abc' is not allowed: give a number of at least 0.0");
    assert_refused("epochs: 3\nlr:\n", ":2: lr: '' is not allowed: give a number of at least 0.0");
    assert_refused("'batch_size' : 1\n",
                   ":1: batch_size: '1' is not allowed: give a whole number from 2 to 65536");
    assert_refused("resume: maybe\n", ":1: resume: 'maybe' is not allowed: give true or false");
    assert_refused("suffix: null\n", ":1: suffix: 'null' is not allowed: give a name in UTF-8 "
                                     "without '/' (null and ~ are reserved)");
    assert_refused("lr: 1\n suffix: x\n", ":1: not a line 'setting: value' (libyaml: mapping "
                                          "values are not allowed in this context)");
    assert_refused("lr: 1\nsuffix: \"x\n",
                   ":2: not a line 'setting: value' (libyaml: found unexpected end of stream)");
    assert_refused("? lr\n: -1\n", ": lr: '-1' is not allowed: give a number of at least 0.0");
    assert_refused("- lr\n", ": not a YAML file of lines 'setting: value' (Expecting MAPPING, got "
                             "event: SEQUENCE_START)");
    assert_refused("lr: 1\n---\nlr: 2\n", ":2: a second document begins here ('---'): keep one");
}

/* What stands behind it must not be left out in silence. */
static void a_zero_byte_is_an_error(void **state)
{
    (void)state;
    static const char content[] = "epochs: 3\n\0lr: -5\n";
    char *path = write_bytes(content, sizeof content - 1);
    Settings settings = settings_default();
    Err err = {0};
    assert_int_equal(settings_read_yaml(&settings, path, &err), -1);
    assert_non_null(strstr(err.text, ": not a text file: it holds a zero byte"));
    settings_free(&settings);
    unlink(path);
    free(path);
}

static void a_missing_file_is_an_error(void **state)
{
    (void)state;
    Settings settings = settings_default();
    Err err;
    assert_int_equal(settings_read_yaml(&settings, "/no/such.yaml", &err), -1);
    assert_string_equal(err.text, "/no/such.yaml: cannot open: No such file or directory");
    settings_free(&settings);
}

static void an_empty_file_changes_nothing(void **state)
{
    (void)state;
    static const char *const nothing[] = {"", "\n", "# only a comment\n"};
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++) {
        Settings settings;
        Settings initial = settings_default();
        Err err = {0};
        char *path;
        assert_int_equal(read_text(&settings, nothing[i], &path, &err), 0);
        char *actual = settings_to_yaml(&settings);
        char *expected = settings_to_yaml(&initial);
        assert_string_equal(actual, expected);
        free(actual);
        free(expected);
        free(path);
        settings_free(&settings);
        settings_free(&initial);
    }
}

static void the_command_line_wins_over_the_file(void **state)
{
    (void)state;
    char *path = write_file("data_root: d\nlr: 0.5\nepochs: 3\nresume: true\nsuffix: file\n");
    for (int config_at = 0; config_at < 3; config_at++) {
        char program[] = "train";
        char lr[] = "--lr=0.25";
        char suffix[] = "--suffix=";
        char *config = mem_format("--config=%s", path);
        char *argv[5] = {program, lr, suffix, NULL, NULL};
        memmove(argv + config_at + 2, argv + config_at + 1,
                sizeof(char *) * (size_t)(2 - config_at));
        argv[config_at + 1] = config;
        Settings settings = settings_default();
        Err err = {0};
        assert_int_equal(settings_parse(&settings, 4, argv, &err), 0);
        assert_true(settings.lr == 0.25);          /* command line over file over default */
        assert_int_equal(settings.epochs, 3);      /* file over default */
        assert_int_equal(settings.batch_size, 32); /* default */
        assert_true(settings.resume);
        assert_null(settings.suffix);
        settings_free(&settings);
        free(config);
    }
    unlink(path);
    free(path);
}

static void replace(char **member, const char *text)
{
    free(*member);
    *member = mem_string(text);
}

static void a_file_of_all_settings_reads_back_exactly(void **state)
{
    (void)state;
    Settings settings = settings_default();
    replace(&settings.data_root, "/data/with blank: # \"quoted\" \\ and \t tab\nnew line ");
    replace(&settings.logdir, " \xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xC2\x85\xE2\x80\xA8'~'");
    replace(&settings.suffix, "- [x]: {true}");
    settings.lr = 0.1 + 0.2;
    settings.weight_decay = 5e-324;
    settings.lr_mult = 1.7976931348623157e308;
    settings.seed = UINT64_MAX;
    settings.resume = true;
    char *yaml = settings_to_yaml(&settings);
    Settings back;
    Err err = {0};
    char *path;
    assert_int_equal(read_text(&back, yaml, &path, &err), 0);
    char *again = settings_to_yaml(&back);
    assert_string_equal(again, yaml);
    assert_string_equal(back.data_root, settings.data_root);
    assert_string_equal(back.logdir, settings.logdir);
    assert_string_equal(back.suffix, settings.suffix);
    assert_null(back.cache_dir);
    assert_true(back.lr == settings.lr && back.weight_decay == settings.weight_decay);
    assert_true(back.lr_mult == settings.lr_mult && back.seed == settings.seed && back.resume);
    free(again);
    free(yaml);
    free(path);
    settings_free(&settings);
    settings_free(&back);
}

static Settings read_config(const char *name)
{
    Settings settings = settings_default();
    Err err = {0};
    char *path = mem_format("%s/../configs/%s", RODEO_TEST_DATA, name);
    int rc = settings_read_yaml(&settings, path, &err);
    assert_string_equal(rc == 0 ? "" : err.text, "");
    free(path);
    free(settings.data_root);
    settings.data_root = mem_string("d");
    assert_int_equal(settings_check(&settings, &err), 0);
    return settings;
}

static void the_configurations_are_right(void **state)
{
    (void)state;
    Settings initial = settings_default();
    initial.data_root = mem_string("d");
    Settings listed = read_config("default.yaml");
    char *path = mem_format("%s/../configs/default.yaml", RODEO_TEST_DATA);
    char *text = path_read(path, NULL, NULL);
    assert_non_null(text);
    for (size_t i = 0; i < setting_count(); i++) {
        char *line = mem_format("\n%s:", setting_at(i)->name);
        if (!strstr(text, line)) {
            fail_msg("%s does not list %s", path, setting_at(i)->name);
        }
        free(line);
    }
    free(text);
    free(path);
    char *expected = settings_to_yaml(&initial);
    char *actual = settings_to_yaml(&listed);
    assert_string_equal(actual, expected);
    free(expected);
    free(actual);
    Settings paper = read_config("paper.yaml");
    assert_true(paper.lr == 3e-4 && paper.weight_decay == 0.05 && paper.batch_size == 64);
    Settings demo = read_config("demo.yaml");
    assert_true(demo.arch_width < 64 && demo.crop_size < demo.image_size);
    settings_free(&initial);
    settings_free(&listed);
    settings_free(&paper);
    settings_free(&demo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_file_and_line),
        cmocka_unit_test(a_zero_byte_is_an_error),
        cmocka_unit_test(a_missing_file_is_an_error),
        cmocka_unit_test(an_empty_file_changes_nothing),
        cmocka_unit_test(the_command_line_wins_over_the_file),
        cmocka_unit_test(a_file_of_all_settings_reads_back_exactly),
        cmocka_unit_test(the_configurations_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
