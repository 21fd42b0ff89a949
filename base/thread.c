#include "base/thread.h"

#include "base/err.h"

#include <signal.h>
#include <string.h>
#include <time.h>

void thread_start(pthread_t *thread, void *(*run)(void *context), void *context,
                  const char *purpose)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, context);
    if (error != 0) {
        fatal("cannot start the thread that %s: %s", purpose, strerror(error));
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void thread_condition_open(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}
