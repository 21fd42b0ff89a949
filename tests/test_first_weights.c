/* The weights that a run starts from: what becomes of --pretrained where a run goes on, and what is
 * warned of. */
#include "train/first_weights.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static Settings settings_with(const char *pretrained, int width)
{
    Settings settings = settings_default();
    free(settings.pretrained);
    settings.pretrained = mem_string(pretrained);
    settings.arch_width = width;
    return settings;
}

/* Whether a run that began with `before` warns when it goes on under `now`; its record keeps what
 * it began with in any case. */
static bool warns(const char *now, const char *before, int width)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *notes = open_memstream(&text, &bytes);
    assert_non_null(notes);
    Log *log = log_open(notes, notes);
    Settings settings = settings_with(now, width);
    Settings saved = settings_with(before, width);
    first_weights_keep(&settings, &saved, log);
    assert_string_equal(settings.pretrained, before);
    log_close(log);
    fclose(notes);
    bool warned = strstr(text, "does not count") != NULL;
    assert_int_equal(warned, bytes > 0);
    settings_free(&settings);
    settings_free(&saved);
    free(text);
    return warned;
}

static void other_weights_are_warned_of_where_they_are_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *now, *before;
        bool of_torchvision, of_another_width; /* whether it warns in a network of that width */
    } cases[] = {
        {"auto", "auto", false, false},  {"auto", "none", true, false},
        {"auto", "a.pth", false, false}, {"none", "auto", false, false},
        {"none", "a.pth", false, false}, {"a.pth", "a.pth", false, false},
        {"a.pth", "b.pth", true, true},  {"a.pth", "none", true, true},
        {"a.pth", "auto", true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(warns(cases[i].now, cases[i].before, 64), cases[i].of_torchvision);
        assert_int_equal(warns(cases[i].now, cases[i].before, 16), cases[i].of_another_width);
    }
}

static void random_weights_need_no_file(void **state)
{
    (void)state;
    static const struct {
        const char *pretrained;
        int width;
    } cases[] = {{"none", 64}, {"none", 16}, {"auto", 16}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err err = {""};
        char *path = NULL;
        Settings settings = settings_with(cases[i].pretrained, cases[i].width);
        assert_int_equal(first_weights_find(&settings, &path, &err), 0);
        assert_null(path);
        settings_free(&settings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_weights_are_warned_of_where_they_are_asked_for),
        cmocka_unit_test(random_weights_need_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
