#include "bench/profile.h"

#include "base/mem.h"
#include "bench/mark.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *op;
    OpWork work;
} Call;

struct Profile {
    Backend *be;
    ProfileHook hook;
    int calls, most;
    bool timed;
    Call *call;
    Mark *before, *after;
};

typedef struct {
    const char *op, *shape; /* shape: "" where all are taken together */
    int calls;
    double ms, flops, bytes;
} Row;

static void before(void *user)
{
    Profile *p = user;
    if (p->calls == p->most) {
        fatal("a step calls more than the %d operators that there is room for", p->most);
    }
    if (p->timed) {
        mark_set(p->be, &p->before[p->calls]);
    }
}

static void after(void *user, const char *op, const OpWork *work)
{
    Profile *p = user;
    if (p->timed) {
        mark_set(p->be, &p->after[p->calls]);
    }
    p->call[p->calls++] = (Call){.op = op, .work = *work};
}

Profile *profile_open(Backend *be, int most, bool timed)
{
    Profile *p = mem_zeroed(1, sizeof *p);
    *p = (Profile){.be = be, .most = most, .timed = timed};
    p->call = mem_zeroed((size_t)most, sizeof *p->call);
    p->before = marks_open(be, most);
    p->after = marks_open(be, most);
    p->hook = (ProfileHook){.before = before, .after = after, .user = p, .one_lane = timed};
    device_profile(be, &p->hook);
    return p;
}

void profile_stop(Profile *profile)
{
    device_profile(profile->be, NULL);
}

void profile_restart(Profile *profile)
{
    profile->calls = 0;
    device_profile(profile->be, &profile->hook);
}

void profile_close(Profile *profile)
{
    profile_stop(profile);
    marks_close(profile->be, profile->before, profile->most);
    marks_close(profile->be, profile->after, profile->most);
    free(profile->call);
    free(profile);
}

double profile_flops(const Profile *profile)
{
    double flops = 0;
    for (int i = 0; i < profile->calls; i++) {
        flops += profile->call[i].work.flops;
    }
    return flops;
}

int profile_calls(const Profile *profile)
{
    return profile->calls;
}

static Row *find_row(Row *rows, int *count, const char *op, const char *shape)
{
    for (int i = 0; i < *count; i++) {
        if (strcmp(rows[i].op, op) == 0 && strcmp(rows[i].shape, shape) == 0) {
            return &rows[i];
        }
    }
    rows[*count] = (Row){.op = op, .shape = shape};
    return &rows[(*count)++];
}

static int by_time(const void *a, const void *b)
{
    double x = ((const Row *)a)->ms;
    double y = ((const Row *)b)->ms;
    return (x < y) - (x > y);
}

static void print_row(const Row *row, double total, FILE *out)
{
    double seconds = row->ms / 1e3;
    fprintf(out, "%-16s %-28s %5d %9.3f %6.1f %9.1f %9.2f %9.2f %9.1f\n", row->op, row->shape,
            row->calls, row->ms, 100.0 * row->ms / total, row->flops / 1e9,
            row->flops / seconds / 1e12, row->bytes / 1e9, row->bytes / seconds / 1e9);
}

void profile_print(const Profile *profile, bool by_shape, FILE *out)
{
    Row *rows = mem_zeroed((size_t)profile->calls + 1, sizeof *rows);
    Row sum = {.op = "all", .shape = "", .calls = profile->calls};
    int count = 0;
    for (int i = 0; i < profile->calls; i++) {
        const Call *call = &profile->call[i];
        Row *row = find_row(rows, &count, call->op, by_shape ? call->work.shape : "");
        double ms = mark_ms(profile->be, &profile->before[i], &profile->after[i]);
        row->calls++;
        row->ms += ms;
        row->flops += call->work.flops;
        row->bytes += call->work.bytes;
        sum.ms += ms;
        sum.flops += call->work.flops;
        sum.bytes += call->work.bytes;
    }
    qsort(rows, (size_t)count, sizeof *rows, by_time);
    fprintf(out, "%-16s %-28s %5s %9s %6s %9s %9s %9s %9s\n", "operator", by_shape ? "shape" : "",
            "calls", "ms", "%", "GFLOP", "TFLOP/s", "GB", "GB/s");
    for (int i = 0; i < count; i++) {
        print_row(&rows[i], sum.ms, out);
    }
    print_row(&sum, sum.ms, out);
    free(rows);
}
