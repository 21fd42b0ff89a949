#include "train/saver.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "train/keep.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LAST_ATTEMPTS = 3, /* when the run waits for the last checkpoint */
    FIRST_PAUSE = 5,   /* seconds before the second attempt; doubled for each further one */
    LONGEST_PAUSE = 300,
};
#define LAST_PAUSE     0.5 /* seconds between the last attempts */
#define SLOW_DISK_RATE 2e7 /* bytes a second, for the first guess */

/* What one request wants. */
typedef struct {
    SaveKind kind;
    CheckpointState state;
    char *metrics; /* text of the history */
    int64_t best;  /* best epoch on the source's test set so far, 0: none */
} Job;

struct Saver {
    SaverSettings settings;
    char *yaml;
    size_t bytes; /* of a checkpoint, about */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* for the thread */
    pthread_cond_t done; /* for who waits for it */

    /* Guarded by the lock. The snapshot belongs to the requester while `next_full` and `reading`
     * are false, to the thread otherwise. */
    NetSnapshot snapshot;
    Job next;
    bool next_full, reading, active, writing, closing, hurry;
    int attempts; /* failed ones in a row */
    bool last_failed;
    Err why; /* the last failure */
    double slowest;
    CheckpointState on_disk;
    bool any_on_disk;
    double written; /* clock_seconds() of on_disk */

    /* The thread's own. */
    Job job;
    WeightList weights;
    bool checkpoint_done, kept;
    double next_attempt;
};

static void free_job(Job *job)
{
    free(job->metrics);
    *job = (Job){0};
}

/* ---- the thread
 * -------------------------------------------------------------------------------------- */

static bool keeps(const Saver *s, const Job *job)
{
    return job->kind == SAVE_EPOCH && s->settings.settings->keep > 0;
}

static void tell_not_kept(const Saver *s, const Job *job)
{
    log_warning(s->settings.log, "the weights of epoch %lld are not kept: %s",
                (long long)job->state.epoch, s->why.text);
}

static void drop_current(Saver *s)
{
    weights_free(&s->weights);
    free_job(&s->job);
    s->active = false;
}

/* Turns the snapshot into tensors in the file's order. Called and left with the lock held. */
static void take_next(Saver *s)
{
    drop_current(s);
    s->job = s->next;
    s->next = (Job){0};
    s->next_full = false;
    s->reading = true;
    pthread_mutex_unlock(&s->lock);
    bool finite = snapshot_is_finite(&s->snapshot);
    if (finite) {
        s->weights = weights_collect_snapshot(&s->snapshot);
    }
    pthread_mutex_lock(&s->lock);
    s->reading = false;
    s->active = true;
    s->checkpoint_done = s->kept = false;
    if (!finite) {
        char place[CHECKPOINT_PLACE_SIZE];
        err_set(&s->why,
                "the weights of %s are not all finite numbers: no checkpoint is made of them",
                checkpoint_place(&s->job.state, place));
        log_warning(s->settings.log, "%s", s->why.text);
        s->last_failed = true;
        drop_current(s);
    }
    pthread_cond_broadcast(&s->done);
}

static int write_checkpoint(const Saver *s, Err *err)
{
    char *path = checkpoint_path(s->settings.folder);
    char *old = checkpoint_old_path(s->settings.folder);
    int rc = checkpoint_write(path, old, &s->weights, &s->job.state, s->yaml, s->job.metrics, err);
    free(old);
    free(path);
    return rc;
}

static int write_kept(Saver *s, Err *err)
{
    const KeepSettings keep = {s->settings.folder, s->settings.settings->keep, s->job.best};
    int rc = keep_epoch(&keep, &s->weights, &s->job.state, s->yaml, s->job.metrics, err);
    s->kept = rc == 0;
    return rc;
}

/* The kept weights come first: an epoch whose checkpoint is there has them. If they fail, the
 * checkpoint is written all the same. */
static int write_job(Saver *s, Err *err)
{
    int rc = 0;
    if (keeps(s, &s->job) && !s->kept) {
        rc = write_kept(s, err);
    }
    if (!s->checkpoint_done) {
        s->checkpoint_done = write_checkpoint(s, err) == 0;
    }
    return s->checkpoint_done ? rc : -1;
}

static void tell_success(const Saver *s)
{
    char place[CHECKPOINT_PLACE_SIZE];
    checkpoint_place(&s->job.state, place);
    if (s->job.kind == SAVE_EPOCH) {
        log_result(s->settings.log, "Checkpoint saved");
    } else {
        log_passing(s->settings.log, "Checkpoint of %s saved.", place);
    }
    if (s->attempts > 0) {
        log_note(s->settings.log, "The checkpoint of %s is written, at attempt %d.", place,
                 s->attempts + 1);
    }
}

/* pause: seconds to the next attempt; < 0: this was the last one. */
static void tell_failure(const Saver *s, const Err *err, double pause)
{
    char place[CHECKPOINT_PLACE_SIZE];
    char last[CHECKPOINT_PLACE_SIZE] = "";
    if (pause < 0) {
        return; /* saver_finish reports it */
    }
    if (s->any_on_disk) {
        checkpoint_place(&s->on_disk, last);
    }
    log_warning(s->settings.log,
                "the checkpoint of %s could not be written: %s. %s%s%s. Next attempt in %.1f s.",
                checkpoint_place(&s->job.state, place), err->text,
                s->any_on_disk ? "The last good checkpoint is that of " : "There is none yet", last,
                s->any_on_disk ? "" : ": a run that is killed now is lost", pause);
}

static double pause_before_next(const Saver *s)
{
    if (s->hurry) {
        return s->attempts >= LAST_ATTEMPTS ? -1 : LAST_PAUSE;
    }
    double pause = FIRST_PAUSE;
    for (int i = 1; i < s->attempts && pause < LONGEST_PAUSE; i++) {
        pause *= 2;
    }
    return pause < LONGEST_PAUSE ? pause : LONGEST_PAUSE;
}

/* One attempt at the current job. Called and left with the lock held. */
static void attempt(Saver *s)
{
    Err err = {""};
    double start = clock_seconds();
    s->writing = true;
    pthread_mutex_unlock(&s->lock);
    int rc = write_job(s, &err);
    pthread_mutex_lock(&s->lock);
    s->writing = false;
    double seconds = clock_seconds() - start;
    if (s->checkpoint_done) {
        s->on_disk = s->job.state;
        s->any_on_disk = true;
    }
    if (rc == 0) {
        s->slowest = seconds > s->slowest ? seconds : s->slowest;
        s->last_failed = false;
        tell_success(s);
        s->attempts = 0;
        drop_current(s);
    } else {
        s->attempts++;
        s->why = err;
        s->last_failed = true;
        double pause = pause_before_next(s);
        tell_failure(s, &err, pause);
        s->next_attempt = clock_seconds() + pause;
        if (pause < 0) {
            drop_current(s);
        }
    }
    pthread_cond_broadcast(&s->done);
}

/* A newer request takes the place of a job that fails. Its checkpoint is worth less than the newer
 * one, but weights to be kept are tried once more. Called and left with the lock held. */
static void give_up_current(Saver *s)
{
    if (!s->active || !keeps(s, &s->job) || s->kept) {
        return;
    }
    Err err = {""};
    s->writing = true;
    pthread_mutex_unlock(&s->lock);
    int rc = write_kept(s, &err);
    pthread_mutex_lock(&s->lock);
    s->writing = false;
    if (rc != 0) {
        s->why = err;
        tell_not_kept(s, &s->job);
    }
}

/* Until the next attempt is due, or somebody wants something. */
static void wait_a_while(Saver *s)
{
    if (s->active) {
        struct timespec until = clock_from_now(s->next_attempt - clock_seconds());
        pthread_cond_timedwait(&s->wake, &s->lock, &until);
    } else {
        pthread_cond_wait(&s->wake, &s->lock);
    }
}

static void *work(void *context)
{
    Saver *s = context;
    snapshot_touch(&s->snapshot);
    pthread_mutex_lock(&s->lock);
    s->reading = false;
    pthread_cond_broadcast(&s->done);
    while (!s->closing) {
        if (s->next_full) {
            give_up_current(s);
        }
        if (s->next_full) {
            take_next(s);
        } else if (s->active && clock_seconds() >= s->next_attempt) {
            attempt(s);
        } else {
            wait_a_while(s);
        }
    }
    drop_current(s);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- requests
 * ---------------------------------------------------------------------------------------- */

Saver *saver_open(const SaverSettings *settings, const CheckpointState *last)
{
    Saver *s = mem_zeroed(1, sizeof *s);
    const Params *params = &settings->net->params;
    s->settings = *settings;
    s->yaml = settings_to_yaml(settings->settings);
    s->bytes = sizeof(float) * (size_t)(2 * params->weights.elements + params->running.elements);
    if (last) {
        s->on_disk = *last;
        s->any_on_disk = true;
    }
    pthread_mutex_init(&s->lock, NULL);
    thread_condition_open(&s->wake);
    pthread_cond_init(&s->done, NULL);
    snapshot_open(&s->snapshot, settings->net);
    s->reading = true; /* until the thread has touched the memory */
    thread_start(&s->thread, work, s, "writes checkpoints");
    return s;
}

/* A request within an epoch gives way to what is under way. */
static bool gives_way(const Saver *s)
{
    return s->next_full || s->reading || s->writing ||
           (s->active && (s->attempts == 0 || (keeps(s, &s->job) && !s->kept)));
}

bool saver_request(Saver *s, SaveKind kind, const CheckpointState *state,
                   const MetricsHistory *history)
{
    pthread_mutex_lock(&s->lock);
    if (kind == SAVE_STEP && gives_way(s)) {
        pthread_mutex_unlock(&s->lock);
        return false;
    }
    while (s->reading || (s->next_full && keeps(s, &s->next) && s->attempts == 0)) {
        pthread_cond_wait(&s->done, &s->lock);
    }
    if (s->next_full && keeps(s, &s->next)) {
        tell_not_kept(s, &s->next);
    }
    free_job(&s->next);
    s->next_full = false; /* while the snapshot is filled, the thread leaves it alone */
    pthread_mutex_unlock(&s->lock);

    snapshot_take(&s->snapshot);

    pthread_mutex_lock(&s->lock);
    s->next = (Job){.kind = kind,
                    .state = *state,
                    .metrics = metrics_to_text(history),
                    .best = keep_best_epoch(history)};
    s->next.state.saved = clock_unix();
    s->next_full = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    return true;
}

int saver_finish(Saver *s, Err *err)
{
    pthread_mutex_lock(&s->lock);
    s->hurry = true;
    s->attempts = 0;
    s->next_attempt = 0; /* also of a job that the thread is about to begin */
    pthread_cond_signal(&s->wake);
    while (s->next_full || s->reading || s->active) {
        pthread_cond_wait(&s->done, &s->lock);
    }
    s->hurry = false;
    int rc = 0;
    if (s->last_failed) {
        rc = err_set(err, "%s", s->why.text);
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

double saver_write_seconds(Saver *s)
{
    pthread_mutex_lock(&s->lock);
    double seconds = s->slowest > 0 ? s->slowest : (double)s->bytes / SLOW_DISK_RATE;
    pthread_mutex_unlock(&s->lock);
    return seconds;
}

void saver_last(Saver *s, char text[static CHECKPOINT_PLACE_SIZE])
{
    pthread_mutex_lock(&s->lock);
    text[0] = '\0';
    if (s->any_on_disk) {
        checkpoint_place(&s->on_disk, text);
    }
    pthread_mutex_unlock(&s->lock);
}

void saver_close(Saver *s)
{
    if (!s) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    snapshot_close(&s->snapshot);
    free_job(&s->next);
    pthread_cond_destroy(&s->done);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s->yaml);
    free(s);
}
