/* Threads that write files in the background. */
#ifndef RODEO_BASE_THREAD_H
#define RODEO_BASE_THREAD_H

#include <pthread.h>

/* Starts a thread that no signal reaches: there it would interrupt a write. Ends the program where
 * that fails, with what the thread is for. */
void thread_start(pthread_t *thread, void *(*run)(void *context), void *context,
                  const char *purpose);

/* A condition whose timed waits go by clock_from_now. */
void thread_condition_open(pthread_cond_t *condition);

#endif
