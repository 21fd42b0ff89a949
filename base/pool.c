#include "base/pool.h"

#include "base/err.h"
#include "base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct Pool {
    int workers; /* threads beside the caller */
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t started; /* a loop has begun, or the pool closes */
    pthread_cond_t ended;   /* the last worker has left the loop */
    uint64_t loop;          /* number of the current loop */
    int active;             /* workers still inside it */
    bool running;           /* inside pool_run */
    bool closing;
    PoolTask *task;
    void *context;
    int64_t count;
    atomic_int_fast64_t next;
};

int pool_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return 1;
    }
    int cores = CPU_COUNT(&set);
    return cores > 0 ? cores : 1;
}

static void work(Pool *pool)
{
    int64_t index;
    while ((index = atomic_fetch_add(&pool->next, 1)) < pool->count) {
        pool->task(pool->context, index);
    }
}

static void *worker_main(void *argument)
{
    Pool *pool = argument;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->loop == seen && !pool->closing) {
            pthread_cond_wait(&pool->started, &pool->lock);
        }
        if (pool->closing) {
            break;
        }
        seen = pool->loop;
        pthread_mutex_unlock(&pool->lock);
        work(pool);
        pthread_mutex_lock(&pool->lock);
        if (--pool->active == 0) {
            pthread_cond_signal(&pool->ended);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

Pool *pool_open(int threads)
{
    Pool *pool = mem_zeroed(1, sizeof *pool);
    pool->workers = (threads > 0 ? threads : pool_cores()) - 1;
    pool->threads = mem_zeroed((size_t)pool->workers, sizeof *pool->threads);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->started, NULL);
    pthread_cond_init(&pool->ended, NULL);
    for (int i = 0; i < pool->workers; i++) {
        int error = pthread_create(&pool->threads[i], NULL, worker_main, pool);
        if (error != 0) {
            fatal("cannot start thread %d of %d: %s", i + 2, pool->workers + 1, strerror(error));
        }
    }
    return pool;
}

int pool_threads(const Pool *pool)
{
    return pool->workers + 1;
}

void pool_run(Pool *pool, int64_t count, PoolTask *task, void *context)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->running) {
        fatal("a loop was started in a pool that is running one already");
    }
    pool->running = true;
    pool->task = task;
    pool->context = context;
    pool->count = count;
    atomic_store(&pool->next, 0);
    pool->active = pool->workers;
    pool->loop++;
    pthread_cond_broadcast(&pool->started);
    pthread_mutex_unlock(&pool->lock);
    work(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->active > 0) {
        pthread_cond_wait(&pool->ended, &pool->lock);
    }
    pool->running = false;
    pthread_mutex_unlock(&pool->lock);
}

void pool_close(Pool *pool)
{
    if (!pool) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->started);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->workers; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pthread_cond_destroy(&pool->ended);
    pthread_cond_destroy(&pool->started);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}
