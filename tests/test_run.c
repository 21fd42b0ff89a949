/* A run's folder: starting over moves every record of an earlier run out of the way, whole. */
#include "train/run.h"

#include "base/mem.h"
#include "base/path.h"
#include "train/checkpoint.h"

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

static const char *const records[] = {"checkpoint.safetensors",
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
    char folder[] = "/tmp/rodeo-run-XXXXXX";
    Place *place = mem_zeroed(1, sizeof *place);
    *state = place;
    place->out = fopen("/dev/null", "w");
    if (!place->out || !mkdtemp(folder)) {
        return -1;
    }
    place->run = (Run){.folder = mem_string(folder), .log = log_open(place->out, place->out)};
    return 0;
}

static int tear_down(void **state)
{
    Place *place = *state;
    char *remove = mem_format("rm -r %s", place->run.folder);
    int rc = system(remove);
    free(remove);
    log_close(place->run.log);
    fclose(place->out);
    run_close(&place->run);
    free(place);
    return rc;
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
            found += text && atoi(text) == number;
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
    renames_left = -1;
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

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PLACE(every_run_gets_a_folder_of_its_own),
        IN_PLACE(an_interruption_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
