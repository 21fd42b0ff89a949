/* The hook that measures operators: who is told, when, and of how much work. */
#include "kernels/device.h"
#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    int before, after;
    char op[32];
    OpWork work;
} Seen;

static void saw_before(void *user)
{
    Seen *seen = user;
    assert_int_equal(seen->before, seen->after);
    seen->before++;
}

static void saw_after(void *user, const char *op, const OpWork *work)
{
    Seen *seen = user;
    seen->after++;
    assert_int_equal(seen->before, seen->after);
    int length = snprintf(seen->op, sizeof seen->op, "%s", op);
    assert_true(length > 0 && (size_t)length < sizeof seen->op);
    seen->work = *work;
}

static Backend *open_cpu(void)
{
    Err err = {""};
    Backend *be = device_open("cpu", &(DeviceOptions){.threads = 1}, &err);
    if (be == NULL) {
        fail_msg("%s", err.text);
    }
    return be;
}

static float *zeros(Backend *be, int64_t count)
{
    float *memory = device_alloc(be, (size_t)count * sizeof *memory);
    device_zero(be, memory, (size_t)count * sizeof *memory);
    return memory;
}

static void test_tells_of_every_call_until_it_is_taken_away(void **state)
{
    (void)state;
    Backend *be = open_cpu();
    Seen seen = {0};
    ProfileHook hook = {.before = saw_before, .after = saw_after, .user = &seen};
    float *x = zeros(be, 100);
    float *y = zeros(be, 100);
    op_cast(be, 100, x, y);
    assert_int_equal(seen.after, 0);
    device_profile(be, &hook);
    op_cast(be, 100, x, y);
    assert_int_equal(seen.after, 1);
    assert_string_equal(seen.op, "cast");
    assert_string_equal(seen.work.shape, "100");
    assert_true(seen.work.bytes == 800.0 && seen.work.flops == 0.0);
    op_avgpool_fprop(be, &(AvgPoolShape){.N = 2, .HW = 10, .C = 5}, x, y);
    assert_int_equal(seen.after, 2);
    assert_string_equal(seen.op, "avgpool_fprop");
    assert_true(seen.work.bytes == 4.0 * (100 + 10));
    device_profile(be, NULL);
    op_cast(be, 100, x, y);
    assert_int_equal(seen.after, 2);
    device_free(be, x);
    device_free(be, y);
    device_close(be);
}

/* The multiply-adds of a convolution, one by one; padding counts as if it were there. */
static double count_flops(const ConvShape *s)
{
    double count = 0;
    for (int top = -s->pad; top + s->R <= s->H + s->pad; top += s->stride) {
        for (int left = -s->pad; left + s->R <= s->W + s->pad; left += s->stride) {
            count += 2.0 * s->R * s->R * s->C * s->K * s->N;
        }
    }
    return count;
}

static void test_counts_a_convolution(void **state)
{
    (void)state;
    static const ConvShape shapes[] = {
        {.N = 2, .H = 9, .W = 8, .C = 4, .K = 3, .R = 3, .stride = 2, .pad = 1},
        {.N = 1, .H = 7, .W = 5, .C = 2, .K = 6, .R = 1, .stride = 1, .pad = 0},
        {.N = 3, .H = 16, .W = 15, .C = 3, .K = 2, .R = 7, .stride = 2, .pad = 3},
    };
    Backend *be = open_cpu();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const ConvShape *s = &shapes[i];
        int P = conv_out(s->H, s->R, s->stride, s->pad);
        int Q = conv_out(s->W, s->R, s->stride, s->pad);
        int64_t x_count = (int64_t)s->N * s->H * s->W * s->C;
        int64_t w_count = (int64_t)s->K * s->R * s->R * s->C;
        int64_t y_count = (int64_t)s->N * P * Q * s->K;
        float *x = zeros(be, x_count);
        float *w = zeros(be, w_count);
        float *y = zeros(be, y_count);
        Seen seen = {0};
        ProfileHook hook = {.before = saw_before, .after = saw_after, .user = &seen};
        device_profile(be, &hook);
        op_conv_fprop(be, s, x, w, NULL, y);
        assert_string_equal(seen.op, "conv_fprop");
        assert_true(seen.work.flops == count_flops(s));
        assert_true(seen.work.bytes == 4.0 * (double)(x_count + w_count + y_count));
        op_conv_dgrad(be, s, y, w, x);
        assert_true(seen.work.flops == count_flops(s));
        op_conv_wgrad(be, s, x, y, true, w, NULL);
        assert_true(seen.work.flops == count_flops(s));
        assert_true(seen.work.bytes == 4.0 * (double)(x_count + 2 * w_count + y_count));
        device_profile(be, NULL);
        device_free(be, x);
        device_free(be, w);
        device_free(be, y);
    }
    device_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tells_of_every_call_until_it_is_taken_away),
        cmocka_unit_test(test_counts_a_convolution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
