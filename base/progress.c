#include "base/progress.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDRAW_SECONDS 0.1
#define LINE_SECONDS   5.0
#define BAR_COLUMNS    20

struct Progress {
    Log *log;
    const char *label;
    const char *unit;
    int64_t total;
    atomic_int_fast64_t done; /* written under the lock, read by progress_rate without it */
    double start;
    double shown; /* when it was last drawn or printed */
    bool printed; /* a plain line has been printed */
    bool behind;  /* there is progress that was not shown yet */
    char extra[128];
    pthread_mutex_t lock;
};

Progress *progress_open(Log *log, const char *label, const char *unit, int64_t total)
{
    Progress *progress = mem_zeroed(1, sizeof *progress);
    progress->log = log;
    progress->label = label;
    progress->unit = unit;
    progress->total = total > 0 ? total : 1;
    progress->start = clock_seconds();
    progress->shown = progress->start;
    pthread_mutex_init(&progress->lock, NULL);
    return progress;
}

static char *describe(const Progress *progress, double now, bool with_bar)
{
    double elapsed = now - progress->start;
    int64_t done = atomic_load(&progress->done);
    double share = (double)done / (double)progress->total;
    double rate = elapsed > 0 ? (double)done / elapsed : 0;
    double left = rate > 0 ? (double)(progress->total - done) / rate : -1;
    char elapsed_text[TEXT_DURATION_SIZE];
    char left_text[TEXT_DURATION_SIZE];
    text_duration(elapsed, elapsed_text);
    text_duration(left, left_text);
    char bar[BAR_COLUMNS + 3] = "";
    if (with_bar) {
        int filled = (int)(share * BAR_COLUMNS);
        filled = filled > BAR_COLUMNS ? BAR_COLUMNS : filled;
        bar[0] = '|';
        memset(bar + 1, '#', (size_t)filled);
        memset(bar + 1 + filled, ' ', (size_t)(BAR_COLUMNS - filled));
        bar[BAR_COLUMNS + 1] = '|';
        bar[BAR_COLUMNS + 2] = '\0';
    }
    return mem_format("%s%3.0f%%%s %lld/%lld [%s<%s, %.*f %s/s%s%s]", progress->label, 100 * share,
                      bar, (long long)done, (long long)progress->total, elapsed_text, left_text,
                      rate < 10 ? 2 : 0, rate, progress->unit, progress->extra[0] ? ", " : "",
                      progress->extra);
}

static void show(Progress *progress, double now)
{
    bool terminal = log_has_terminal(progress->log);
    char *text = describe(progress, now, terminal);
    if (terminal) {
        log_status(progress->log, text);
    } else {
        log_passing(progress->log, "%s", text);
        progress->printed = true;
    }
    free(text);
    progress->shown = now;
    progress->behind = false;
}

void progress_advance(Progress *progress, int64_t more, const char *extra)
{
    pthread_mutex_lock(&progress->lock);
    atomic_fetch_add(&progress->done, more);
    if (progress->log) {
        progress->behind = true;
        if (extra) {
            snprintf(progress->extra, sizeof progress->extra, "%s", extra);
        }
        double now = clock_seconds();
        double pause = log_has_terminal(progress->log) ? REDRAW_SECONDS : LINE_SECONDS;
        if (now - progress->shown >= pause) {
            show(progress, now);
        }
    }
    pthread_mutex_unlock(&progress->lock);
}

double progress_rate(const Progress *progress)
{
    double elapsed = clock_seconds() - progress->start;
    return elapsed > 0 ? (double)atomic_load(&progress->done) / elapsed : 0;
}

void progress_close(Progress *progress)
{
    if (!progress) {
        return;
    }
    if (progress->log && progress->printed && progress->behind) {
        show(progress, clock_seconds());
    }
    if (progress->log) {
        log_status(progress->log, NULL);
    }
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}
