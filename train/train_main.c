/* build/train: trains the two-stream network on a source and a target data set. */
#include "train/train.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    if (stop_signal != 0) { /* the second time: at once */
        signal(number, SIG_DFL);
        raise(number);
    }
    stop_signal = number;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

int main(int argc, char **argv)
{
    Err err = {""};
    Settings settings = settings_default();
    int status = 1;
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
        status = rc < 0 ? 1 : rc == 1 ? 128 + stop_signal : 0;
        log_close(log);
    }
    settings_free(&settings);
    return status;
}
