#include "data/read_ahead.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>

#define WINDOW_BYTES ((int64_t)64 << 20) /* of pictures that are sorted together, about */
#define MERGED_GAP   ((int64_t)64 << 10) /* bytes: a smaller gap is read along */

typedef struct {
    const Pack *pack;
    int64_t offset, end;
} Range;

struct ReadAhead {
    const LoaderSettings *settings;
    int64_t end;    /* behind the last step */
    int64_t window; /* steps */
    Plan *plans[LOADER_MAX_GROUPS];
    PairPlan *pairs; /* [batch] */
    Range *ranges;   /* [steps of a window * pictures of a step] */
    pthread_t thread;
    bool started;
    /* Under the lock: */
    pthread_mutex_t lock;
    pthread_cond_t advanced;
    int64_t step; /* where the loader is */
    bool closing;
};

static int by_place(const void *a, const void *b)
{
    const Range *first = a;
    const Range *second = b;
    if (first->pack != second->pack) {
        return first->pack < second->pack ? -1 : 1;
    }
    return (first->offset > second->offset) - (first->offset < second->offset);
}

/* Adds the pictures of one batch of a source that the device does not have. A pair's two pictures
 * lie side by side. */
static size_t add_batch(ReadAhead *ahead, int source, int64_t batch, size_t count)
{
    const LoaderSettings *s = ahead->settings;
    const Pack *pack = s->source[source].pack;
    int pairs = s->batches == 0 || batch < s->batches
                    ? plan_batch(ahead->plans[source], batch, ahead->pairs)
                    : 0;
    for (int i = 0; i < pairs; i++) {
        for (int m = 0; m < MODALITIES; m++) {
            if (store_has(s->store, pack, ahead->pairs[i].index, m)) {
                continue;
            }
            PackedPicture picture = pack_picture(pack, ahead->pairs[i].index, m);
            int64_t bytes = (int64_t)picture.width * picture.height * 3;
            ahead->ranges[count++] = (Range){pack, picture.offset, picture.offset + bytes};
        }
    }
    return count;
}

static void request(const Range *ranges, size_t count)
{
    for (size_t i = 0; i < count;) {
        Range merged = ranges[i++];
        while (i < count && ranges[i].pack == merged.pack &&
               ranges[i].offset - merged.end <= MERGED_GAP) {
            merged.end = ranges[i].end > merged.end ? ranges[i].end : merged.end;
            i++;
        }
        pack_read_ahead(merged.pack, merged.offset, merged.end - merged.offset);
    }
}

static void read_window(ReadAhead *ahead, int64_t first, int64_t last)
{
    const LoaderSettings *s = ahead->settings;
    size_t count = 0;
    for (int source = 0; source < s->sources; source++) {
        for (int64_t b = first * s->consecutive; b < last * s->consecutive; b++) {
            count = add_batch(ahead, source, b, count);
        }
    }
    qsort(ahead->ranges, count, sizeof *ahead->ranges, by_place);
    request(ahead->ranges, count);
}

/* Stays one window ahead: the next is requested when the loader comes to the one before. */
static void *run(void *argument)
{
    ReadAhead *ahead = argument;
    int64_t requested = ahead->settings->first_step;
    pthread_mutex_lock(&ahead->lock);
    while (!ahead->closing && requested < ahead->end) {
        if (requested - ahead->step > ahead->window) {
            pthread_cond_wait(&ahead->advanced, &ahead->lock);
            continue;
        }
        pthread_mutex_unlock(&ahead->lock);
        int64_t last = requested + ahead->window;
        last = last < ahead->end ? last : ahead->end;
        read_window(ahead, requested, last);
        requested = last;
        pthread_mutex_lock(&ahead->lock);
    }
    pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

/* Steps whose pictures have WINDOW_BYTES together. */
static int64_t choose_window(const LoaderSettings *s)
{
    int64_t step_bytes = 0;
    for (int i = 0; i < s->sources; i++) {
        size_t bytes;
        pack_pixels(s->source[i].pack, &bytes);
        step_bytes +=
            (int64_t)bytes / pack_count(s->source[i].pack) * s->source[i].batch * s->consecutive;
    }
    int64_t steps = WINDOW_BYTES / (step_bytes > 0 ? step_bytes : 1);
    return steps < 1 ? 1 : steps;
}

ReadAhead *read_ahead_open(const LoaderSettings *settings, int64_t end, Err *err)
{
    ReadAhead *ahead = mem_zeroed(1, sizeof *ahead);
    ahead->settings = settings;
    ahead->end = end;
    ahead->step = settings->first_step;
    ahead->window = choose_window(settings);
    size_t batch = (size_t)settings->source[0].batch;
    size_t pictures = batch * (size_t)(settings->sources * settings->consecutive) * MODALITIES;
    ahead->pairs = mem_zeroed(batch, sizeof *ahead->pairs);
    ahead->ranges = mem_zeroed((size_t)ahead->window * pictures, sizeof *ahead->ranges);
    pthread_mutex_init(&ahead->lock, NULL);
    pthread_cond_init(&ahead->advanced, NULL);
    for (int i = 0; i < settings->sources; i++) {
        ahead->plans[i] = plan_open(&settings->source[i], err);
        if (!ahead->plans[i]) {
            read_ahead_close(ahead);
            return NULL;
        }
    }
    /* Without the thread every picture is read when its step is gathered. */
    ahead->started = pthread_create(&ahead->thread, NULL, run, ahead) == 0;
    return ahead;
}

void read_ahead_advance(ReadAhead *ahead, int64_t step)
{
    pthread_mutex_lock(&ahead->lock);
    ahead->step = step;
    pthread_cond_signal(&ahead->advanced);
    pthread_mutex_unlock(&ahead->lock);
}

void read_ahead_close(ReadAhead *ahead)
{
    if (!ahead) {
        return;
    }
    pthread_mutex_lock(&ahead->lock);
    ahead->closing = true;
    pthread_cond_signal(&ahead->advanced);
    pthread_mutex_unlock(&ahead->lock);
    if (ahead->started) {
        pthread_join(ahead->thread, NULL);
    }
    for (int i = 0; i < LOADER_MAX_GROUPS; i++) {
        plan_close(ahead->plans[i]);
    }
    pthread_cond_destroy(&ahead->advanced);
    pthread_mutex_destroy(&ahead->lock);
    free(ahead->ranges);
    free(ahead->pairs);
    free(ahead);
}
