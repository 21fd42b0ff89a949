/* Writes event files for check_events.py to read with TensorBoard's own reader: a run of five
 * epochs, then one that was resumed after the third. */
#include "train/events.h"

#include <stdio.h>

static int write_epochs(EventWriter *writer, int first, int last, double offset, Err *err)
{
    for (int epoch = first; epoch <= last; epoch++) {
        events_scalar(writer, "Loss/train_cls", 1.0 / epoch + offset, epoch);
        events_scalar(writer, "Accuracy/eval_target", epoch == 2 ? 0 : 0.1 * epoch, epoch);
    }
    return events_flush(writer, err);
}

static int write_run(const char *folder, int64_t purge_from, int first, int last, double offset,
                     const char *text, Err *err)
{
    EventWriter *writer = events_open(folder, purge_from, err);
    int rc = -1;
    if (writer) {
        events_text(writer, "settings", text, first);
        rc = write_epochs(writer, first, last, offset, err);
    }
    events_close(writer);
    return rc;
}

int main(int argc, char **argv)
{
    Err err;
    if (argc != 2) {
        fprintf(stderr, "usage: write_events FOLDER\n");
        return 1;
    }
    if (write_run(argv[1], -1, 1, 5, 0, "**first** run", &err) != 0 ||
        write_run(argv[1], 4, 4, 6, 100, "resumed", &err) != 0) {
        fprintf(stderr, "write_events: %s\n", err.text);
        return 1;
    }
    return 0;
}
