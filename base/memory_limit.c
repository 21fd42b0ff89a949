#include "base/memory_limit.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The files of one version of control groups. A missing file, or "max" in it, is no limit. */
typedef struct {
    const char *mount;                    /* below which the groups' folders are */
    const char *limit, *usage, *inactive; /* inactive: the line of memory.stat */
} GroupFiles;

static const GroupFiles version2 = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                    "inactive_file"};
static const GroupFiles version1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                    "memory.usage_in_bytes", "total_inactive_file"};

/* The number behind `name` at the start of a line; with name "" the number that the file begins
 * with. SIZE_MAX where there is none. */
static size_t read_number(const char *path, const char *name)
{
    FILE *file = fopen(path, "re");
    size_t number = SIZE_MAX;
    char line[512];
    size_t bytes = strlen(name);
    while (file && fgets(line, sizeof line, file)) {
        const char *value = line + bytes;
        if (strncmp(line, name, bytes) == 0 && (bytes == 0 || *value == ' ' || *value == ':')) {
            value += strspn(value, ": \t");
            if (*value >= '0' && *value <= '9') {
                number = strtoull(value, NULL, 10);
            }
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return number;
}

static size_t read_group_number(const char *folder, const char *file, const char *name)
{
    char *path = mem_format("%s/%s", folder, file);
    size_t number = read_number(path, name);
    free(path);
    return number;
}

/* Lowers *free_bytes and *total_bytes to what one group allows. */
static void apply_group(const GroupFiles *files, const char *folder, size_t *free_bytes,
                        size_t *total_bytes)
{
    size_t limit = read_group_number(folder, files->limit, "");
    size_t usage = read_group_number(folder, files->usage, "");
    if (limit == SIZE_MAX || usage == SIZE_MAX) {
        return;
    }
    size_t inactive = read_group_number(folder, "memory.stat", files->inactive);
    usage -= inactive == SIZE_MAX || inactive > usage ? 0 : inactive;
    size_t left = limit > usage ? limit - usage : 0;
    *total_bytes = limit < *total_bytes ? limit : *total_bytes;
    *free_bytes = left < *free_bytes ? left : *free_bytes;
}

/* The group and every group above it. */
static void apply_groups(const char *root, const GroupFiles *files, const char *group,
                         size_t *free_bytes, size_t *total_bytes)
{
    char *path = mem_string(group);
    for (;;) {
        char *folder = mem_format("%s%s%s", root, files->mount, path);
        apply_group(files, folder, free_bytes, total_bytes);
        free(folder);
        char *slash = strrchr(path, '/');
        if (!slash) {
            break;
        }
        *slash = '\0';
    }
    free(path);
}

/* A line of /proc/self/cgroup: "0::/group" in version 2, "4:memory:/group" in version 1. */
static void apply_line(const char *root, char *line, size_t *free_bytes, size_t *total_bytes)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) {
        return;
    }
    *group++ = '\0';
    controllers++;
    if (controllers[0] == '\0') {
        apply_groups(root, &version2, group, free_bytes, total_bytes);
    } else if (text_starts_with(controllers, "memory") || text_ends_with(controllers, ",memory")) {
        apply_groups(root, &version1, group, free_bytes, total_bytes);
    }
}

void memory_limit_below(const char *root, size_t *free_bytes, size_t *total_bytes)
{
    char *meminfo = mem_format("%s/proc/meminfo", root);
    size_t total = read_number(meminfo, "MemTotal");
    size_t available = read_number(meminfo, "MemAvailable");
    *total_bytes = total == SIZE_MAX ? 0 : total * 1024;
    *free_bytes = available == SIZE_MAX ? 0 : available * 1024;
    free(meminfo);
    char *groups = mem_format("%s/proc/self/cgroup", root);
    FILE *file = fopen(groups, "re");
    char line[4096];
    while (file && fgets(line, sizeof line, file)) {
        apply_line(root, line, free_bytes, total_bytes);
    }
    if (file) {
        fclose(file);
    }
    free(groups);
}

void memory_limit(size_t *free_bytes, size_t *total_bytes)
{
    memory_limit_below("", free_bytes, total_bytes);
}
