/* TensorBoard event files: the bytes of known records, the structure of a file, write errors. */
#include "base/mem.h"
#include "base/path.h"
#include "train/event_record.h"
#include "train/events.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_record(const Tb__Event *event, const char *hex)
{
    size_t bytes;
    uint8_t *record = event_record_pack(event, &bytes);
    char *actual = mem_zeroed(2 * bytes + 1, 1);
    for (size_t i = 0; i < bytes; i++) {
        snprintf(actual + 2 * i, 3, "%02x", record[i]);
    }
    assert_string_equal(actual, hex);
    free(actual);
    free(record);
}

/* The bytes that TensorFlow's writer gives for these two events. */
static void records_have_the_known_bytes(void **state)
{
    (void)state;
    char version[] = "brain.Event:2";
    Tb__Event first = TB__EVENT__INIT;
    first.wall_time = 1;
    first.what_case = TB__EVENT__WHAT_FILE_VERSION;
    first.file_version = version;
    assert_record(&first, "1800000000000000a37f4b22"
                          "09000000000000f03f1a0d627261696e2e4576656e743a32"
                          "86bf577a");

    char tag[] = "loss";
    Tb__Value value = TB__VALUE__INIT;
    value.tag = tag;
    value.value_case = TB__VALUE__VALUE_SIMPLE_VALUE;
    value.simple_value = 0.5F;
    Tb__Value *values = &value;
    Tb__Summary summary = TB__SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = &values;
    Tb__Event scalar = TB__EVENT__INIT;
    scalar.wall_time = 2;
    scalar.step = 7;
    scalar.what_case = TB__EVENT__WHAT_SUMMARY;
    scalar.summary = &summary;
    assert_record(&scalar, "1a00000000000000129bd82d"
                           "09000000000000004010072a0d0a0b0a046c6f7373150000003f"
                           "c33fc24a");
}

typedef struct {
    char folder[64];
} Place;

static int make_place(void **state)
{
    Place *place = mem_zeroed(1, sizeof *place);
    snprintf(place->folder, sizeof place->folder, "/tmp/rodeo-events-XXXXXX");
    *state = place;
    return mkdtemp(place->folder) ? 0 : -1;
}

/* The path of the nth file (by name) of the folder, NULL if there are fewer. */
static char *nth_file(const char *folder, int n)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    assert_true(count >= 2);
    char *path = count > n + 2 ? path_join(folder, entries[n + 2]->d_name) : NULL;
    for (int i = 0; i < count; i++) {
        free(entries[i]);
    }
    free((void *)entries);
    return path;
}

static int remove_place(void **state)
{
    Place *place = *state;
    for (char *path; (path = nth_file(place->folder, 0));) {
        unlink(path);
        free(path);
    }
    int rc = rmdir(place->folder);
    free(place);
    return rc;
}

/* Unpacks the record at *at of a file and moves on to the next. */
static Tb__Event *next_event(const uint8_t *file, size_t bytes, size_t *at)
{
    assert_true(*at + 16 <= bytes);
    uint64_t length;
    memcpy(&length, file + *at, sizeof length); /* little-endian, as every machine here */
    assert_true(*at + 16 + length <= bytes);
    Tb__Event *event = tb__event__unpack(NULL, length, file + *at + 12);
    assert_non_null(event);
    *at += 16 + length;
    return event;
}

static void a_resumed_file_purges_first(void **state)
{
    const Place *place = *state;
    Err err = {0};
    EventWriter *old = events_open(place->folder, -1, &err);
    EventWriter *resumed = events_open(place->folder, 3, &err); /* the same second: another name */
    assert_non_null(old);
    assert_non_null(resumed);
    events_set_time(resumed, 1234.5);
    events_scalar(resumed, "Loss/val_cls", 0.0, 3);
    assert_int_equal(events_flush(resumed, &err), 0);
    events_close(old);
    events_close(resumed);

    char *path = nth_file(place->folder, 1);
    assert_non_null(path);
    assert_non_null(strstr(path, "/events.out.tfevents."));
    size_t bytes;
    size_t at = 0;
    char *file = path_read(path, &bytes, &err);
    assert_non_null(file);
    Tb__Event *version = next_event((uint8_t *)file, bytes, &at);
    Tb__Event *purge = next_event((uint8_t *)file, bytes, &at);
    Tb__Event *scalar = next_event((uint8_t *)file, bytes, &at);
    assert_int_equal(at, bytes);
    assert_string_equal(version->file_version, "brain.Event:2");
    assert_true(version->wall_time > 1.7e9);
    assert_true(scalar->wall_time == 1234.5);
    assert_int_equal(purge->what_case, TB__EVENT__WHAT_SESSION_LOG);
    assert_int_equal(purge->session_log->status, 1);
    assert_int_equal(purge->step, 3);
    /* A zero is written, not left out as proto3 leaves out plain fields that are zero. */
    assert_int_equal(scalar->summary->value[0]->value_case, TB__VALUE__VALUE_SIMPLE_VALUE);
    assert_string_equal(scalar->summary->value[0]->tag, "Loss/val_cls");
    tb__event__free_unpacked(version, NULL);
    tb__event__free_unpacked(purge, NULL);
    tb__event__free_unpacked(scalar, NULL);
    free(file);
    free(path);
}

static void a_missing_folder_is_an_error(void **state)
{
    (void)state;
    Err err = {0};
    assert_null(events_open("/no/such/folder", -1, &err));
    assert_non_null(strstr(err.text, "/no/such/folder/events.out.tfevents."));
    assert_non_null(strstr(err.text, ": cannot create: No such file or directory"));
    events_close(NULL);
}

/* A file that may not grow behaves as on a full disk. */
static void a_full_disk_is_an_error(void **state)
{
    const Place *place = *state;
    Err err = {0};
    EventWriter *writer = events_open(place->folder, -1, &err);
    assert_non_null(writer);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct rlimit small = {.rlim_cur = 60, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    events_scalar(writer, "Loss/train_cls", 1, 1);
    int rc = events_flush(writer, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(err.text, ": cannot write: File too large"));
    events_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_have_the_known_bytes),
        cmocka_unit_test_setup_teardown(a_resumed_file_purges_first, make_place, remove_place),
        cmocka_unit_test(a_missing_folder_is_an_error),
        cmocka_unit_test_setup_teardown(a_full_disk_is_an_error, make_place, remove_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
