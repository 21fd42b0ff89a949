#include "train/train.h"

#include "train/keep.h"
#include "train/plan_dump.h"
#include "train/trainer.h"

#include <signal.h>

/* What the run came to. A best epoch of the target would have to be chosen by its labels, which the
 * method may not see: so the last epoch is the result. */
static void conclude(Trainer *t, bool anything_done)
{
    const MetricsHistory *history = &t->run.history;
    if (!anything_done) {
        log_note(t->log,
                 "All %d epochs are done already: nothing to do. For more, raise --epochs "
                 "(the number is part of the run's name: rename the folder as well, or it is a new "
                 "run).",
                 t->settings->epochs);
        return;
    }
    const EpochMetrics *last = &history->epoch[history->count - 1];
    log_note(t->log,
             "Done: target accuracy %.2f %% after epoch %d, the last one. Records and checkpoint: "
             "%s",
             100.0 * last->target_accuracy, last->epoch, t->run.folder);
    if (t->settings->keep > 0) {
        log_note(t->log, "The best epoch on the source's test set was %lld.",
                 (long long)keep_best_epoch(history));
    }
}

static const char *reason_to_stop(const Trainer *t)
{
    switch (*t->stop) {
    case 0:
        return "--max_hours is near";
    case SIGINT:
        return "SIGINT";
    case SIGTERM:
        return "SIGTERM";
    case SIGHUP:
        return "SIGHUP";
    default:
        return "a signal";
    }
}

static void tell_stopped(Trainer *t)
{
    char place[CHECKPOINT_PLACE_SIZE];
    if (t->state.steps == 0) {
        log_note(t->log, "Stopped before the first step (%s). The same command starts the run.",
                 reason_to_stop(t));
        return;
    }
    log_note(t->log,
             "Stopped behind %s (%s). The checkpoint is written: the same command with --resume "
             "goes on from there.",
             checkpoint_place(&t->state, place), reason_to_stop(t));
}

/* The last checkpoint and the records are not left to the background. */
static int finish(Trainer *t, Err *err)
{
    Err records = {""};
    int rc = saver_finish(t->saver, err);
    if (run_finish(&t->run, &records) != 0) {
        rc = rc == 0 ? err_set(err, "%s", records.text) : err_context(err, "%s; and", records.text);
    }
    return rc;
}

static int run(Trainer *t, Err *err)
{
    int rc = 0;
    int64_t before = t->state.epoch;
    while (rc == 0 && t->state.epoch < t->settings->epochs) {
        rc = trainer_epoch(t, err);
    }
    if (rc < 0) {
        Err unsaved;
        if (saver_finish(t->saver, &unsaved) != 0) {
            log_warning(t->log, "%s", unsaved.text);
        }
        return -1;
    }
    if (finish(t, err) != 0) {
        char last[CHECKPOINT_PLACE_SIZE];
        saver_last(t->saver, last);
        return err_context(err, "the run ended, but its end is not on the disk (%s%s)",
                           last[0] ? "--resume goes on from the last good checkpoint, that of "
                                   : "and there is no earlier checkpoint",
                           last);
    }
    if (rc == 1) {
        tell_stopped(t);
    } else {
        conclude(t, t->state.epoch > before);
    }
    return rc;
}

/* Packing the pictures and the rest of opening may take long; it ends early on a signal. */
static int stopped_while_opening(Trainer *t, const Err *err)
{
    log_note(t->log, "%s", err->text);
    tell_stopped(t);
    return 1;
}

int train_run(Settings *settings, volatile const int *stop, Log *log, Err *err)
{
    Trainer trainer;
    if (plan_dump_check(settings, err) != 0) {
        return -1;
    }
    int rc = trainer_open(&trainer, settings, stop, log, err);
    if (rc == 0) {
        rc = settings->dump_plan ? plan_dump(&trainer, err) : run(&trainer, err);
    } else if (*stop != 0) {
        rc = stopped_while_opening(&trainer, err);
    }
    trainer_close(&trainer);
    return rc;
}
