/* How much memory there is, as systems with and without control groups tell it. */
#include "base/memory_limit.h"
#include "data_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define KB ((size_t)1024)

static void expect(const char *root, size_t free_bytes, size_t total_bytes)
{
    size_t found_free;
    size_t found_total;
    memory_limit_below(root, &found_free, &found_total);
    assert_int_equal(found_free, free_bytes);
    assert_int_equal(found_total, total_bytes);
}

static char *create_machine(void)
{
    char *root = fixture_create_folder();
    fixture_write(root, "proc/meminfo",
                  "MemTotal:       16000000 kB\nMemFree:  100 kB\nMemAvailable:   9000000 kB\n");
    expect(root, 9000000 * KB, 16000000 * KB);
    return root;
}

static void version_2_counts_every_group_above(void **state)
{
    (void)state;
    char *root = create_machine();
    fixture_write(root, "proc/self/cgroup", "0::/job/task\n");
    fixture_write(root, "sys/fs/cgroup/job/task/memory.max", "max\n");
    fixture_write(root, "sys/fs/cgroup/job/task/memory.current", "1000\n");
    expect(root, 9000000 * KB, 16000000 * KB);
    fixture_write(root, "sys/fs/cgroup/job/memory.max", "1000000000\n");
    fixture_write(root, "sys/fs/cgroup/job/memory.current", "700000000\n");
    expect(root, 300000000, 1000000000);
    fixture_write(root, "sys/fs/cgroup/job/memory.stat", "anon 5\ninactive_file 200000000\nx 1\n");
    expect(root, 500000000, 1000000000);
    fixture_write(root, "sys/fs/cgroup/job/memory.current", "1300000000\n");
    expect(root, 0, 1000000000);
    fixture_remove_folder(root);
}

/* Inside a container its own group is the root of all. */
static void a_container_sees_its_limit(void **state)
{
    (void)state;
    char *root = create_machine();
    fixture_write(root, "proc/self/cgroup", "0::/\n");
    fixture_write(root, "sys/fs/cgroup/memory.max", "500000000\n");
    fixture_write(root, "sys/fs/cgroup/memory.current", "100000000\n");
    expect(root, 400000000, 500000000);
    fixture_remove_folder(root);
}

static void version_1_is_read_too(void **state)
{
    (void)state;
    char *root = create_machine();
    fixture_write(root, "proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/x\n");
    fixture_write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "800000000\n");
    fixture_write(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "600000000\n");
    fixture_write(root, "sys/fs/cgroup/memory/memory.stat", "total_inactive_file 100000000\n");
    expect(root, 300000000, 800000000);
    fixture_remove_folder(root);
}

static void this_machine_has_memory(void **state)
{
    (void)state;
    size_t free_bytes;
    size_t total_bytes;
    memory_limit(&free_bytes, &total_bytes);
    assert_true(free_bytes > 1 << 20 && free_bytes <= total_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_2_counts_every_group_above),
        cmocka_unit_test(a_container_sees_its_limit),
        cmocka_unit_test(version_1_is_read_too),
        cmocka_unit_test(this_machine_has_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
