/* A run's folder: starting over moves every record of an earlier run out of the way, whole; going
 * on leaves TensorBoard what the run does not know itself. */
#include "train/run.h"

#include "base/mem.h"
#include "base/path.h"
#include "data_fixture.h"
#include "train/checkpoint.h"
#include "train/event_record.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const records[] = {"bad-step.txt",
                                      "checkpoint.safetensors",
                                      "checkpoint.safetensors.old",
                                      "config.yaml",
                                      "events.out.tfevents.1700000000.host.1.0",
                                      "metrics.jsonl",
                                      "weights-epoch-0001.safetensors"};
enum { RECORDS = sizeof records / sizeof *records };

static int renames_left; /* that go through; the one behind them fails */

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    if (renames_left-- == 0) {
        errno = EIO;
        return -1;
    }
    return __real_rename(from, to);
}

typedef struct {
    Run run;
    FILE *out;
} Place;

static int set_up(void **state)
{
    Place *place = mem_zeroed(1, sizeof *place);
    *state = place;
    place->out = fopen("/dev/null", "w");
    if (!place->out) {
        return -1;
    }
    char *folder = fixture_create_folder();
    place->run = (Run){.folder = folder,
                       .metrics_path = path_join(folder, "metrics.jsonl"),
                       .log = log_open(place->out, place->out)};
    renames_left = -1;
    return 0;
}

static int tear_down(void **state)
{
    Place *place = *state;
    fixture_remove_folder(place->run.folder);
    place->run.folder = NULL;
    log_close(place->run.log);
    fclose(place->out);
    run_close(&place->run);
    free(place);
    return 0;
}

/* Puts an earlier run into the folder; each of its records holds the run's number. */
static void leave_run(const Place *place, int number)
{
    for (int i = 0; i < RECORDS; i++) {
        char *path = path_join(place->run.folder, records[i]);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fprintf(file, "%d", number) > 0);
        assert_int_equal(fclose(file), 0);
        free(path);
    }
}

static bool is_there(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool there = path_is_file(path);
    free(path);
    return there;
}

/* How many records of that run are in the folders of earlier runs. */
static int count_aside(const Place *place, int number)
{
    int found = 0;
    DIR *entries = opendir(place->run.folder);
    assert_non_null(entries);
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        char *folder = path_join(place->run.folder, entry->d_name);
        for (int i = 0; i < RECORDS && strncmp(entry->d_name, "until-", 6) == 0; i++) {
            char *path = path_join(folder, records[i]);
            char *text = path_is_file(path) ? path_read(path, NULL, NULL) : NULL;
            found += text && strtol(text, NULL, 10) == number;
            free(text);
            free(path);
        }
        free(folder);
    }
    closedir(entries);
    return found;
}

/* However fast they follow each other. */
static void every_run_gets_a_folder_of_its_own(void **state)
{
    const Place *place = *state;
    Err err = {""};
    for (int number = 1; number <= 12; number++) {
        leave_run(place, number);
        assert_int_equal(run_set_aside(&place->run, &err), 0);
        assert_false(checkpoint_exists(place->run.folder));
    }
    for (int number = 1; number <= 12; number++) {
        assert_int_equal(count_aside(place, number), RECORDS);
    }
}

/* As long as a record is left, there is a checkpoint, too: so the next start moves the rest. */
static void an_interruption_loses_nothing(void **state)
{
    const Place *place = *state;
    for (int moved = 0; moved < RECORDS; moved++) {
        Err err = {""};
        leave_run(place, moved);
        renames_left = moved;
        assert_int_equal(run_set_aside(&place->run, &err), -1);
        assert_non_null(strstr(err.text, "cannot move to"));
        assert_int_equal(count_aside(place, moved), moved);
        assert_true(is_there(place->run.folder, "checkpoint.safetensors"));
        renames_left = -1;
        assert_int_equal(run_set_aside(&place->run, &err), 0);
        assert_int_equal(count_aside(place, moved), RECORDS);
    }
}

/* The first step that a file of events tells TensorBoard to drop from the files before it. */
static int64_t first_dropped(const char *path)
{
    enum { IN_FRONT = 12, BEHIND = 4 }; /* of a record's message: its length and the checksums */
    size_t bytes;
    uint64_t length;
    char *file = path_read(path, &bytes, NULL);
    assert_non_null(file);
    memcpy(&length, file, sizeof length);
    const uint8_t *second = (const uint8_t *)file + IN_FRONT + length + BEHIND;
    memcpy(&length, second, sizeof length);
    Tb__Event *event = tb__event__unpack(NULL, length, second + IN_FRONT);
    assert_non_null(event);
    assert_int_equal(event->what_case, TB__EVENT__WHAT_SESSION_LOG);
    int64_t step = event->step;
    tb__event__free_unpacked(event, NULL);
    free(file);
    return step;
}

/* Of a run that another program began, the events of its epochs are in that program's files. */
static void curves_of_epochs_before_the_history_stay(void **state)
{
    Place *place = *state;
    Settings settings = settings_default();
    static const struct {
        int64_t before, first;
    } cases[] = {{0, 0}, {5, 6}};
    for (int i = 0; i < 2; i++) {
        Err err = {""};
        place->run.before = cases[i].before;
        assert_int_equal(run_begin(&place->run, &settings, &err), 0);
        DIR *entries = opendir(place->run.folder);
        assert_non_null(entries);
        const struct dirent *entry;
        while ((entry = readdir(entries))) {
            char *path = path_join(place->run.folder, entry->d_name);
            if (strstr(entry->d_name, "tfevents")) {
                assert_int_equal(first_dropped(path), cases[i].first);
                assert_int_equal(unlink(path), 0);
            }
            free(path);
        }
        closedir(entries);
    }
    settings_free(&settings);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PLACE(every_run_gets_a_folder_of_its_own),
        IN_PLACE(an_interruption_loses_nothing),
        IN_PLACE(curves_of_epochs_before_the_history_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
