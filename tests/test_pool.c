/* The thread pool: every index exactly once, over many loops and pool sizes; misuse is caught. */
#include "base/mem.h"
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void count_visit(void *context, int64_t index)
{
    atomic_int *visits = context;
    atomic_fetch_add(&visits[index], 1);
}

static void every_index_is_visited_once(void **state)
{
    (void)state;
    const int sizes[] = {1, 2, 3, 8};
    const int64_t counts[] = {0, 1, 2, 7, 1000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        Pool *pool = pool_open(sizes[s]);
        assert_int_equal(pool_threads(pool), sizes[s]);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            atomic_int *visits = mem_zeroed((size_t)counts[c] + 1, sizeof *visits);
            pool_run(pool, counts[c], count_visit, visits);
            for (int64_t i = 0; i < counts[c]; i++) {
                assert_int_equal(visits[i], 1);
            }
            assert_int_equal(visits[counts[c]], 0);
            free(visits);
        }
        pool_close(pool);
    }
}

/* Plain, not atomic, memory: what a loop wrote must be visible to the caller and to the next loop.
 */
static void add_one(void *context, int64_t index)
{
    int *values = context;
    values[index]++;
}

static void loops_follow_each_other(void **state)
{
    (void)state;
    enum { LOOPS = 3000, COUNT = 16 };
    int values[COUNT] = {0};
    Pool *pool = pool_open(4);
    for (int loop = 0; loop < LOOPS; loop++) {
        pool_run(pool, COUNT, add_one, values);
        assert_int_equal(values[loop % COUNT], loop + 1);
    }
    pool_close(pool);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(values[i], LOOPS);
    }
}

static void set_late(void *context, int64_t index)
{
    int *values = context;
    usleep(1000);
    values[index] = 1;
}

static void run_waits_for_the_slowest(void **state)
{
    (void)state;
    enum { COUNT = 8 };
    Pool *pool = pool_open(COUNT);
    for (int loop = 0; loop < 20; loop++) {
        int values[COUNT] = {0};
        pool_run(pool, COUNT, set_late, values);
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(values[i], 1);
        }
    }
    pool_close(pool);
}

static void default_is_one_thread_a_core(void **state)
{
    (void)state;
    assert_true(pool_cores() >= 1);
    Pool *pool = pool_open(0);
    assert_int_equal(pool_threads(pool), pool_cores());
    pool_close(pool);
    pool_close(NULL);
}

static void start_nested_loop(void *context, int64_t index)
{
    (void)index;
    pool_run(context, 1, start_nested_loop, context);
}

static void nested_loop_ends_the_program(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) {
            _exit(3);
        }
        Pool *pool = pool_open(1);
        pool_run(pool, 1, start_nested_loop, pool);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_is_visited_once),
        cmocka_unit_test(loops_follow_each_other),
        cmocka_unit_test(run_waits_for_the_slowest),
        cmocka_unit_test(default_is_one_thread_a_core),
        cmocka_unit_test(nested_loop_ends_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
