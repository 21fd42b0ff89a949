/* build/train: trains the two-stream network on a source and a target data set. */
#include "base/streams.h"
#include "data/pack.h"
#include "train/train.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    STATUS_STOPPED = EX_TEMPFAIL, /* 75, "try again later": --resume goes on */
    /* Seconds from a signal to the end, whatever is under way: who sends signals kills after ten.
     */
    PATIENCE = 8,
};

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    if (stop_signal != 0 && number == SIGINT) { /* at once */
        signal(number, SIG_DFL);
        raise(number);
    }
    if (stop_signal == 0) {
        stop_signal = number;
        alarm(PATIENCE);
    }
}

/* What is under way takes too long: a step of a large network on a CPU, packing, a drive that
 * hangs.
 */
static void on_alarm(int number)
{
    static const char text[] = "\ntrain: what is under way cannot end in time: leaving without "
                               "another checkpoint. The same "
                               "command with --resume goes on behind the last one.\n";
    (void)number;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(STATUS_STOPPED);
}

static void on_bus_error(int number)
{
    (void)number;
    pack_die_lost(PACK_LOST("train",
                            " --cache_dir names another place; the same command with --resume goes "
                            "on behind the last checkpoint."));
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void catch_signals(void)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
        struct sigaction before;
        /* What nohup and "&" have made it ignore stays ignored. */
        if (sigaction(caught[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            handle(caught[i], on_signal);
        }
    }
    handle(SIGALRM, on_alarm);
    handle(SIGBUS, on_bus_error);
    handle(SIGPIPE, SIG_IGN); /* `| tee` may be gone before the last checkpoint is written */
    handle(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like a full disk */
}

int main(int argc, char **argv)
{
    Err err = {""};
    Settings settings = settings_default();
    int status = 1;
    streams_complete();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (settings_parse(&settings, argc, argv, &err) != 0) {
        fprintf(stderr, "train: %s\n", err.text);
    } else {
        catch_signals();
        Log *log = log_open(stdout, stderr);
        int rc = train_run(&settings, &stop_signal, log, &err);
        if (rc < 0) {
            log_note(log, "train: %s", err.text);
        }
        status = rc < 0 ? 1 : rc == 1 ? STATUS_STOPPED : 0;
        log_close(log);
    }
    settings_free(&settings);
    return status;
}
