/* The log and the progress bar, as a pipe sees them and as a terminal sees them. The clock is
 * replaced by one that the test turns. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/progress.h"

#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

static double now;

double clock_seconds(void)
{
    return now;
}

double clock_unix(void)
{
    return now;
}

/* ---- what a reader at the other end gets -------------------------------------------------------
 */

typedef struct {
    int reader;    /* pipe or the master side of a terminal */
    FILE *results; /* both streams lead to the same reader */
    FILE *notes;
    Log *log;
} Ends;

static Ends ends_over(int reader, int writer)
{
    Ends ends = {
        .reader = reader, .results = fdopen(writer, "w"), .notes = fdopen(dup(writer), "w")};
    assert_non_null(ends.results);
    assert_non_null(ends.notes);
    assert_int_equal(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
    ends.log = log_open(ends.results, ends.notes);
    return ends;
}

static Ends ends_of_pipe(void)
{
    int pair[2];
    assert_int_equal(pipe(pair), 0);
    return ends_over(pair[0], pair[1]);
}

static Ends ends_of_terminal(int columns)
{
    int master;
    int slave;
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
    struct termios mode;
    assert_int_equal(tcgetattr(slave, &mode), 0);
    cfmakeraw(&mode); /* newlines arrive as they were written */
    assert_int_equal(tcsetattr(slave, TCSANOW, &mode), 0);
    return ends_over(master, slave);
}

static void ends_close(Ends *ends)
{
    log_close(ends->log);
    assert_int_equal(fclose(ends->results), 0);
    assert_int_equal(fclose(ends->notes), 0);
    close(ends->reader);
}

/* What has arrived since the last look, at most 4095 bytes. */
static const char *arrived(const Ends *ends, char text[static 4096])
{
    size_t length = 0;
    ssize_t got;
    while (length < 4095 && (got = read(ends->reader, text + length, 4095 - length)) > 0) {
        length += (size_t)got;
    }
    text[length] = '\0';
    return text;
}

/* ---- log ---------------------------------------------------------------------------------------
 */

static void pipe_gets_plain_lines_at_once(void **state)
{
    (void)state;
    char text[4096];
    Ends ends = ends_of_pipe();
    assert_false(log_has_terminal(ends.log));
    log_status(ends.log, "a bar");
    log_result(ends.log, "Epoch: %d", 1);
    assert_string_equal(arrived(&ends, text), "Epoch: 1\n");
    log_note(ends.log, "a note");
    log_warning(ends.log, "disk is %s", "slow");
    log_status(ends.log, NULL);
    assert_string_equal(arrived(&ends, text), "a note\nwarning: disk is slow\n");
    ends_close(&ends);
}

static void terminal_keeps_the_status_below(void **state)
{
    (void)state;
    char text[4096];
    Ends ends = ends_of_terminal(80);
    assert_true(log_has_terminal(ends.log));
    log_status(ends.log, "50%");
    assert_string_equal(arrived(&ends, text), "\r50%\033[K");
    log_result(ends.log, "line");
    assert_string_equal(arrived(&ends, text), "\r\033[Kline\n\r50%\033[K");
    log_status(ends.log, "");
    assert_string_equal(arrived(&ends, text), "\r\033[K");
    log_note(ends.log, "done");
    log_status(ends.log, NULL);
    assert_string_equal(arrived(&ends, text), "done\n");
    ends_close(&ends);
}

static void status_never_wraps(void **state)
{
    (void)state;
    char text[4096];
    Ends ends = ends_of_terminal(10);
    log_status(ends.log, "0123456789abcdef");
    assert_string_equal(arrived(&ends, text), "\r012345678\033[K");
    ends_close(&ends);
}

static void closing_removes_the_status(void **state)
{
    (void)state;
    char text[4096];
    Ends ends = ends_of_terminal(80);
    log_status(ends.log, "50%");
    arrived(&ends, text);
    log_close(ends.log);
    ends.log = NULL;
    assert_string_equal(arrived(&ends, text), "\r\033[K");
    ends_close(&ends);
}

static void file_gets_lines_but_nothing_passing(void **state)
{
    (void)state;
    char path[] = "/tmp/rodeo-log-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "earlier\n", 8), 8);
    assert_int_equal(close(fd), 0);
    Err err = {0};
    Ends ends = ends_of_terminal(80);
    log_note(ends.log, "before");
    assert_int_equal(log_tee(ends.log, path, &err), 0);
    log_status(ends.log, "50%");
    log_passing(ends.log, "half done");
    log_result(ends.log, "result");
    log_warning(ends.log, "careful");
    ends_close(&ends);
    char *content = path_read(path, NULL, &err);
    assert_string_equal(content, "earlier\nresult\nwarning: careful\n");
    free(content);
    assert_int_equal(unlink(path), 0);
}

static void log_file_errors_are_told_once(void **state)
{
    (void)state;
    char text[4096];
    Err err = {0};
    Ends ends = ends_of_pipe();
    assert_int_equal(log_tee(ends.log, "/nonexistent/log.txt", &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent/log.txt"));
    assert_int_equal(log_tee(ends.log, "/dev/full", &err), 0);
    log_result(ends.log, "one");
    log_result(ends.log, "two");
    arrived(&ends, text);
    const char *warning = strstr(text, "warning: /dev/full: cannot write the log");
    assert_non_null(warning);
    assert_null(strstr(warning + 1, "warning"));
    assert_non_null(strstr(text, "one\n"));
    assert_non_null(strstr(text, "two\n"));
    ends_close(&ends);
}

/* ---- progress ----------------------------------------------------------------------------------
 */

static void short_work_is_silent_in_a_pipe(void **state)
{
    (void)state;
    char text[4096];
    now = 100;
    Ends ends = ends_of_pipe();
    Progress *progress = progress_open(ends.log, "Training: ", "pairs", 10);
    now += 4;
    progress_advance(progress, 10, "loss 1.5");
    progress_close(progress);
    assert_string_equal(arrived(&ends, text), "");
    ends_close(&ends);
}

static void long_work_leaves_lines_in_a_pipe(void **state)
{
    (void)state;
    char text[4096];
    now = 100;
    Ends ends = ends_of_pipe();
    Progress *progress = progress_open(ends.log, "Training: ", "pairs", 400);
    assert_true(progress_rate(progress) == 0);
    now += 5;
    progress_advance(progress, 100, "loss 1.5");
    assert_true(progress_rate(progress) == 20);
    assert_string_equal(arrived(&ends, text),
                        "Training:  25% 100/400 [00:05<00:15, 20 pairs/s, loss 1.5]\n");
    now += 1;
    progress_advance(progress, 100, NULL);
    assert_string_equal(arrived(&ends, text), "");
    now += 4;
    progress_advance(progress, 100, NULL);
    assert_string_equal(arrived(&ends, text),
                        "Training:  75% 300/400 [00:10<00:03, 30 pairs/s, loss 1.5]\n");
    now += 2;
    progress_advance(progress, 100, NULL);
    assert_string_equal(arrived(&ends, text), "");
    progress_close(progress);
    assert_string_equal(arrived(&ends, text),
                        "Training: 100% 400/400 [00:12<00:00, 33 pairs/s, loss 1.5]\n");
    ends_close(&ends);
}

static void the_last_line_is_printed_once(void **state)
{
    (void)state;
    char text[4096];
    now = 100;
    Ends ends = ends_of_pipe();
    Progress *progress = progress_open(ends.log, "Training: ", "pairs", 400);
    now += 10;
    progress_advance(progress, 400, NULL);
    progress_close(progress);
    assert_string_equal(arrived(&ends, text), "Training: 100% 400/400 [00:10<00:00, 40 pairs/s]\n");
    ends_close(&ends);
}

static void terminal_shows_a_bar(void **state)
{
    (void)state;
    char text[4096];
    now = 100;
    Ends ends = ends_of_terminal(120);
    Progress *progress = progress_open(ends.log, "Training: ", "pairs", 400);
    now += 0.05;
    progress_advance(progress, 1, NULL);
    assert_string_equal(arrived(&ends, text), "");
    now += 49.95;
    progress_advance(progress, 99, NULL);
    assert_string_equal(
        arrived(&ends, text),
        "\rTraining:  25%|#####               | 100/400 [00:50<02:30, 2.00 pairs/s]\033[K");
    progress_close(progress);
    assert_string_equal(arrived(&ends, text), "\r\033[K");
    ends_close(&ends);
}

static void progress_without_a_log_counts(void **state)
{
    (void)state;
    now = 100;
    Progress *progress = progress_open(NULL, "", "pairs", 0);
    now += 10;
    progress_advance(progress, 50, "text");
    assert_true(progress_rate(progress) == 5);
    progress_close(progress);
    progress_close(NULL);
}

static void long_extra_text_is_cut(void **state)
{
    (void)state;
    char text[4096];
    now = 100;
    Ends ends = ends_of_pipe();
    Progress *progress = progress_open(ends.log, "", "pairs", 10);
    char extra[301];
    memset(extra, 'x', 300);
    extra[300] = '\0';
    now += 6;
    progress_advance(progress, 1, extra);
    arrived(&ends, text);
    assert_non_null(strstr(text, "xxx]\n"));
    assert_true(strlen(text) < 250);
    progress_close(progress);
    ends_close(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipe_gets_plain_lines_at_once),
        cmocka_unit_test(terminal_keeps_the_status_below),
        cmocka_unit_test(status_never_wraps),
        cmocka_unit_test(closing_removes_the_status),
        cmocka_unit_test(file_gets_lines_but_nothing_passing),
        cmocka_unit_test(log_file_errors_are_told_once),
        cmocka_unit_test(short_work_is_silent_in_a_pipe),
        cmocka_unit_test(long_work_leaves_lines_in_a_pipe),
        cmocka_unit_test(the_last_line_is_printed_once),
        cmocka_unit_test(terminal_shows_a_bar),
        cmocka_unit_test(progress_without_a_log_counts),
        cmocka_unit_test(long_extra_text_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
