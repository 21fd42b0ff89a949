/* Checkpoints: what goes in comes out, damage is found, the newest whole one is used, and the
 * background writer saves no weights that are no numbers. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/rng.h"
#include "train/keep.h"
#include "train/saver.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    char folder[64];
    char *path, *old;
    Backend *be;
    Net *net;
    Settings settings;
    Log *log;
    char *printed; /* what the log's notes hold, after fflush(notes) */
    size_t printed_bytes;
    FILE *notes, *results;
} Place;

static int set_up(void **state)
{
    static const DeviceOptions options = {.threads = 1};
    NetConfig config = {.trunk = {.depth = 18, .width = 4, .crop = 65}, .classes = 5};
    NetStep step = {.batch = 2, .main_groups = 1, .rotation_groups = 2};
    Place *p = mem_zeroed(1, sizeof *p);
    Err err;
    snprintf(p->folder, sizeof p->folder, "/tmp/rodeo-checkpoint-XXXXXX");
    if (!mkdtemp(p->folder)) {
        return -1;
    }
    p->path = checkpoint_path(p->folder);
    p->old = checkpoint_old_path(p->folder);
    p->be = device_open("cpu", &options, &err);
    p->net = net_open(p->be, &config, &step, 1, &err);
    p->settings = settings_default();
    p->notes = open_memstream(&p->printed, &p->printed_bytes);
    p->results = fopen("/dev/null", "w");
    p->log = log_open(p->results, p->notes);
    *state = p;
    return p->net && p->results ? 0 : -1;
}

static void remove_all(const char *folder)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    assert_non_null(entries);
    while ((entry = readdir(entries))) {
        char *path = path_join(folder, entry->d_name);
        unlink(path);
        free(path);
    }
    closedir(entries);
}

static int tear_down(void **state)
{
    Place *p = *state;
    remove_all(p->folder);
    int rc = rmdir(p->folder);
    log_close(p->log);
    fclose(p->notes);
    fclose(p->results);
    free(p->printed);
    settings_free(&p->settings);
    net_close(p->net);
    device_close(p->be);
    free(p->path);
    free(p->old);
    free(p);
    return rc;
}

static CheckpointState sample(void)
{
    return (CheckpointState){.epoch = 3,
                             .step = 17,
                             .steps = 5000000000,
                             .classes = 5,
                             .data = 0xFEDCBA9876543210,
                             .saved = 1795554616.1390445,
                             .device = "cpu",
                             .sums = {.learned = 15,
                                      .skipped = 2,
                                      .skipped_in_a_row = 1,
                                      .correct = 44,
                                      .cls = 0.1 + 0.2,
                                      .ent = 1.0 / 3,
                                      .rot_source = 4e-320,
                                      .rot_target = 12345.678901234567,
                                      .last_cls = 2.5,
                                      .last_rot_source = -0.0,
                                      .last_rot_target = 7,
                                      .feature_std = 1e300,
                                      .seconds = 3.25}};
}

static void write_state(const Place *p, const CheckpointState *state, const char *metrics)
{
    Err err = {""};
    WeightList weights = weights_collect(p->net);
    char *yaml = settings_to_yaml(&p->settings);
    int rc = checkpoint_write(p->path, p->old, &weights, state, yaml, metrics, &err);
    assert_string_equal(rc == 0 ? "" : err.text, "");
    free(yaml);
    weights_free(&weights);
}

static void the_state_comes_back_exactly(void **state)
{
    const Place *p = *state;
    Err err = {""};
    CheckpointState before = sample();
    CheckpointState after;
    Settings settings;
    MetricsHistory history = {0};
    EpochMetrics epoch = {.epoch = 1, .loss_rec = 0.1, .source_accuracy = 0.7};
    metrics_add(&history, &epoch);
    char *metrics = metrics_to_text(&history);
    metrics_free(&history);
    write_state(p, &before, metrics);
    free(metrics);

    SafeFile *file = checkpoint_open(p->folder, p->log, &err);
    assert_non_null(file);
    assert_int_equal(checkpoint_describe(file, &after, &settings, &err), 0);
    settings_free(&settings);
    /* Member by member: padding may differ. */
    assert_memory_equal(&after.sums, &before.sums, sizeof after.sums);
    assert_true(after.epoch == before.epoch && after.step == before.step);
    assert_true(after.steps == before.steps && after.classes == before.classes);
    assert_true(after.data == before.data && after.saved == before.saved);
    assert_string_equal(after.device, before.device);
    assert_int_equal(checkpoint_history(file, "/no/such/file", &history, &err), 0);
    assert_int_equal(history.count, 1);
    assert_true(history.epoch[0].loss_rec == 0.1);
    metrics_free(&history);
    safetensors_close(file);
}

static void flip(const char *path, off_t place, int bit)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, place), 1);
    byte ^= (unsigned char)(1 << bit);
    assert_int_equal(pwrite(fd, &byte, 1, place), 1);
    close(fd);
}

/* Two of five are in the header, which is a small part of the file. */
static void every_flipped_bit_is_found(void **state)
{
    enum { FLIPS = 1000 };
    const Place *p = *state;
    Err err = {""};
    CheckpointState before = sample();
    write_state(p, &before, "");
    struct stat status;
    assert_int_equal(stat(p->path, &status), 0);
    char *content = path_read(p->path, NULL, &err);
    uint64_t header;
    memcpy(&header, content, sizeof header);
    free(content);
    Rng rng = rng_at(20, RNG_DEMO, 0, 0, 0);
    for (int i = 0; i < FLIPS; i++) {
        uint32_t range = i % 5 < 2 ? (uint32_t)header + 8 : (uint32_t)status.st_size;
        off_t place = rng_below(&rng, range);
        int bit = (int)rng_below(&rng, 8);
        flip(p->path, place, bit);
        SafeFile *file = checkpoint_open(p->folder, p->log, &err);
        if (file) {
            fail_msg("bit %d of byte %lld is flipped, and nobody noticed", bit, (long long)place);
        }
        assert_non_null(strstr(err.text, p->path));
        flip(p->path, place, bit);
    }
    SafeFile *file = checkpoint_open(p->folder, p->log, &err);
    assert_non_null(file);
    safetensors_close(file);
}

static int64_t epoch_of(SafeFile *file)
{
    Err err;
    CheckpointState state = {0};
    if (file) {
        assert_int_equal(checkpoint_describe(file, &state, NULL, &err), 0);
        safetensors_close(file);
    }
    return state.epoch;
}

/* Going on from the old one must not let the damaged one push it out. */
static void a_damaged_checkpoint_is_set_aside(void **state)
{
    const Place *p = *state;
    Err err = {""};
    CheckpointState s = sample();
    for (s.epoch = 1; s.epoch <= 2; s.epoch++) {
        write_state(p, &s, "");
    }
    flip(p->path, 5000, 3);
    assert_int_equal(epoch_of(checkpoint_open(p->folder, p->log, &err)), 1);
    assert_true(path_is_file(p->path)); /* looking changes nothing */
    assert_int_equal(epoch_of(checkpoint_open_to_resume(p->folder, p->log, &err)), 1);
    assert_false(path_is_file(p->path));
    s.epoch = 2;
    write_state(p, &s, "");
    assert_int_equal(epoch_of(checkpoint_open(p->folder, p->log, &err)), 2);
    assert_int_equal(unlink(p->path), 0);
    assert_int_equal(epoch_of(checkpoint_open(p->folder, p->log, &err)), 1);
}

static void truncated_and_foreign_files_are_named(void **state)
{
    const Place *p = *state;
    Err err = {""};
    CheckpointState s = sample();
    write_state(p, &s, "");
    struct stat status;
    assert_int_equal(stat(p->path, &status), 0);
    for (off_t bytes = status.st_size - 1; bytes > 0; bytes = bytes * 2 / 3) {
        assert_int_equal(truncate(p->path, bytes), 0);
        assert_null(checkpoint_open(p->folder, p->log, &err));
        assert_non_null(strstr(err.text, p->path));
    }
    WeightList weights = weights_collect(p->net);
    assert_int_equal(safetensors_write(p->path, NULL, weights.tensor, weights.count, NULL, 0, &err),
                     0);
    weights_free(&weights);
    assert_null(checkpoint_open(p->folder, p->log, &err));
    assert_non_null(strstr(err.text, "is a weight file, not a checkpoint of a run"));
}

/* Checkpoints of the first format, which were written at the end of epochs only. */
static void the_first_format_is_read(void **state)
{
    const Place *p = *state;
    Err err = {""};
    WeightList weights = weights_collect(p->net);
    char *yaml = settings_to_yaml(&p->settings);
    const SafeMetadata metadata[] = {{"rodeo.format", "rodeo-1"}, {"rodeo.epoch", "4"},
                                     {"rodeo.steps", "80"},       {"rodeo.classes", "5"},
                                     {"rodeo.saved", "12.5"},     {"rodeo.settings", yaml}};
    assert_int_equal(
        safetensors_write(p->path, NULL, weights.tensor, weights.count, metadata, 6, &err), 0);
    weights_free(&weights);
    free(yaml);
    SafeFile *file = checkpoint_open(p->folder, p->log, &err);
    CheckpointState s;
    MetricsHistory history = {0};
    char *metrics = path_join(p->folder, "metrics.jsonl");
    assert_non_null(file);
    assert_int_equal(checkpoint_describe(file, &s, NULL, &err), 0);
    assert_true(s.epoch == 4 && s.steps == 80 && s.step == 0 && s.data == 0);
    for (int epoch = 1; epoch <= 6; epoch++) {
        EpochMetrics m = {.epoch = epoch};
        metrics_add(&history, &m);
    }
    assert_int_equal(metrics_write(metrics, &history, &err), 0);
    metrics_free(&history);
    assert_int_equal(checkpoint_history(file, metrics, &history, &err), 0);
    assert_int_equal(history.count, 4);
    metrics_free(&history);
    free(metrics);
    safetensors_close(file);
}

/* ---- the background writer
 * --------------------------------------------------------------------------- */

/* How long the saver's thread looks through a snapshot: that of a large network takes a while. */
static atomic_uint look_microseconds;

bool __real_snapshot_is_finite(const NetSnapshot *snapshot);
bool __wrap_snapshot_is_finite(const NetSnapshot *snapshot);
bool __wrap_snapshot_is_finite(const NetSnapshot *snapshot)
{
    usleep(look_microseconds);
    return __real_snapshot_is_finite(snapshot);
}

static Saver *open_saver(Place *p)
{
    SaverSettings settings = {
        .folder = p->folder, .net = p->net, .settings = &p->settings, .log = p->log};
    return saver_open(&settings, NULL);
}

static void weights_that_are_no_numbers_are_not_saved(void **state)
{
    Place *p = *state;
    Err err = {""};
    CheckpointState s = sample();
    MetricsHistory history = {0};
    Saver *saver = open_saver(p);
    assert_true(saver_request(saver, SAVE_TRAINED, &s, &history));
    assert_int_equal(saver_finish(saver, &err), 0);
    float *arenas[] = {p->net->params.w, p->net->params.v, p->net->params.running_stats};
    const float values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        float before = arenas[i][0]; /* the CPU's device memory is ordinary memory */
        arenas[i][0] = values[i];
        s.step = 18;
        assert_true(saver_request(saver, SAVE_TRAINED, &s, &history));
        assert_int_equal(saver_finish(saver, &err), -1);
        assert_non_null(strstr(err.text, "not all finite"));
        arenas[i][0] = before;
    }
    char place[CHECKPOINT_PLACE_SIZE];
    saver_last(saver, place);
    assert_string_equal(place, "epoch 4, step 17");
    saver_close(saver);
    assert_int_equal(epoch_of(checkpoint_open(p->folder, p->log, &err)), 3);
}

static void weights_of_the_last_and_the_best_epoch_are_kept(void **state)
{
    Place *p = *state;
    Err err = {""};
    CheckpointState s = sample();
    MetricsHistory history = {0};
    static const double accuracies[] = {0.1, 0.8, 0.8, 0.3, 0.4};
    p->settings.keep = 2;
    Saver *saver = open_saver(p);
    for (int i = 0; i < 5; i++) {
        EpochMetrics m = {.epoch = i + 1, .source_accuracy = accuracies[i], .source_loss = 5 - i};
        metrics_add(&history, &m);
        s.epoch = i + 1;
        s.step = 0;
        assert_true(saver_request(saver, SAVE_EPOCH, &s, &history));
    }
    assert_int_equal(keep_best_epoch(&history), 3); /* as accurate as 2, with a lower loss */
    assert_int_equal(saver_finish(saver, &err), 0);
    saver_close(saver);
    metrics_free(&history);
    for (int64_t epoch = 1; epoch <= 5; epoch++) {
        char *path = checkpoint_kept_path(p->folder, epoch);
        assert_int_equal(path_is_file(path), epoch >= 3);
        assert_int_equal(checkpoint_kept_epoch(strrchr(path, '/') + 1), epoch);
        free(path);
    }
    assert_int_equal(checkpoint_kept_epoch("weights-epoch-12.safetensors"), 0);
    assert_int_equal(checkpoint_kept_epoch("weights-epoch-0012.safetensors.tmp"), 0);
    char *path = checkpoint_kept_path(p->folder, 3);
    SafeFile *file = safetensors_open(path, &err);
    assert_non_null(file);
    assert_null(safetensors_find(file, "momentum.rgb.conv1.weight"));
    assert_non_null(safetensors_find(file, "rgb.conv1.weight"));
    safetensors_close(file);
    free(path);
}

/* Puts a folder where the new file is to be written. */
static char *block_writing(const Place *p)
{
    char *temporary = mem_format("%s.tmp", p->path);
    assert_int_equal(mkdir(temporary, 0777), 0);
    return temporary;
}

static void unblock_writing(char *temporary)
{
    assert_int_equal(rmdir(temporary), 0);
    free(temporary);
}

/* A folder that cannot be written to, then one that can. */
static void a_failing_write_is_told_and_made_up_for(void **state)
{
    Place *p = *state;
    Err err = {""};
    CheckpointState s = sample();
    MetricsHistory history = {0};
    char *temporary = block_writing(p);
    Saver *saver = open_saver(p);
    saver_request(saver, SAVE_TRAINED, &s, &history);
    assert_int_equal(saver_finish(saver, &err), -1);
    assert_non_null(strstr(err.text, "Is a directory"));
    unblock_writing(temporary);
    saver_request(saver, SAVE_TRAINED, &s, &history);
    assert_int_equal(saver_finish(saver, &err), 0);
    saver_close(saver);
    fflush(p->notes);
    assert_non_null(strstr(p->printed, "warning: the checkpoint of epoch 4, step 17 could not be "
                                       "written: "));
    assert_non_null(strstr(p->printed, "There is none yet: a run that is killed now is lost"));
    assert_int_equal(epoch_of(checkpoint_open(p->folder, p->log, &err)), 3);
}

/* Without anybody waiting for it, and with the newest state. */
static void a_failing_write_is_tried_again_by_itself(void **state)
{
    Place *p = *state;
    Err err = {""};
    CheckpointState s = sample();
    MetricsHistory history = {0};
    char *temporary = block_writing(p);
    Saver *saver = open_saver(p);
    saver_request(saver, SAVE_TRAINED, &s, &history);
    usleep(300000);
    s.step = 18;
    assert_true(saver_request(saver, SAVE_STEP, &s, &history));
    unblock_writing(temporary);
    char place[CHECKPOINT_PLACE_SIZE] = "";
    for (int i = 0; i < 150 && !place[0]; i++) {
        usleep(100000);
        saver_last(saver, place);
    }
    assert_string_equal(place, "epoch 4, step 18");
    saver_close(saver);
    fflush(p->notes);
    assert_non_null(strstr(p->printed, "is written, at attempt 2"));
    assert_int_equal(epoch_of(checkpoint_open(p->folder, p->log, &err)), 3);
}

/* While the thread still looks through a snapshot, too: the pause behind earlier failures, which
 * grows to minutes, must not count any more. */
static void the_last_write_does_not_wait_for_a_pause(void **state)
{
    Place *p = *state;
    Err err = {""};
    CheckpointState s = sample();
    MetricsHistory history = {0};
    char *temporary = block_writing(p);
    Saver *saver = open_saver(p);
    saver_request(saver, SAVE_TRAINED, &s, &history);
    usleep(300000);
    unblock_writing(temporary);
    s.step = 18;
    look_microseconds = 300000;
    saver_request(saver, SAVE_TRAINED, &s, &history);
    usleep(100000);
    double start = clock_seconds();
    assert_int_equal(saver_finish(saver, &err), 0);
    assert_true(clock_seconds() - start < 2);
    look_microseconds = 0;
    saver_close(saver);
    fflush(p->notes);
    assert_non_null(strstr(p->printed, "Next attempt in 5.0 s."));
}

static void skipped_steps_are_not_in_the_sums(void **state)
{
    (void)state;
    EpochSums sums = {0};
    StepResult good = {.cls = 1, .ent = 2, .rot_source = 3, .rot_target = 4, .correct = 5};
    StepResult skipped = {.cls = NAN, .ent = INFINITY, .correct = 7, .skipped = 1};
    sums_add(&sums, &good);
    sums_add(&sums, &skipped);
    sums_add(&sums, &skipped);
    assert_int_equal(sums.skipped_in_a_row, 2);
    EpochSums next = sums;
    sums_begin_epoch(&next);
    assert_true(next.learned == 0 && next.skipped == 0 && next.cls == 0 && next.seconds == 0);
    sums_add(&next, &skipped);
    assert_int_equal(next.skipped_in_a_row, 3); /* an epoch may be shorter than what is too many */
    sums_add(&sums, &good);
    assert_true(sums.learned == 2 && sums.skipped == 2 && sums.skipped_in_a_row == 0);
    assert_true(sums.cls == 2 && sums.ent == 4 && sums.rot_target == 8 && sums.correct == 10);
    assert_true(sums.last_cls == 1 && sums.last_rot_source == 3);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PLACE(the_state_comes_back_exactly),
        IN_PLACE(every_flipped_bit_is_found),
        IN_PLACE(a_damaged_checkpoint_is_set_aside),
        IN_PLACE(truncated_and_foreign_files_are_named),
        IN_PLACE(the_first_format_is_read),
        IN_PLACE(weights_that_are_no_numbers_are_not_saved),
        IN_PLACE(weights_of_the_last_and_the_best_epoch_are_kept),
        IN_PLACE(a_failing_write_is_told_and_made_up_for),
        IN_PLACE(a_failing_write_is_tried_again_by_itself),
        IN_PLACE(the_last_write_does_not_wait_for_a_pause),
        cmocka_unit_test(skipped_steps_are_not_in_the_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
