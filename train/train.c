#include "train/train.h"

#include "train/plan_dump.h"
#include "train/trainer.h"

/* Trains, records and saves one epoch. Returns as trainer_epoch. */
static int run_epoch(Trainer *t, int epoch, EpochRecord *record, Err *err)
{
    int rc = trainer_epoch(t, epoch, record, err);
    if (rc != 0) {
        return rc;
    }
    if (run_record(&t->run, record, err) != 0 ||
        checkpoint_save(t->run.folder, t->net, t->settings, &t->state, err) != 0) {
        return -1;
    }
    log_result(t->log, "Checkpoint saved");
    return 0;
}

/* What the run came to. A best epoch would have to be chosen by the target's labels, which the
 * method may not see: so the last epoch is the result. */
static void conclude(Trainer *t, const EpochRecord *record)
{
    if (record->metrics.epoch > 0) {
        log_note(t->log,
                 "Done: target accuracy %.2f %% after epoch %d, the last one. Records and "
                 "checkpoint: %s",
                 100.0 * record->metrics.target_accuracy, record->metrics.epoch, t->run.folder);
    } else {
        log_note(t->log,
                 "All %d epochs are done already: nothing to do. For more, raise --epochs "
                 "(the number is part of the run's name, so that is a new run).",
                 t->settings->epochs);
    }
}

static int run(Trainer *t, Err *err)
{
    EpochRecord record = {0};
    for (int epoch = t->state.epoch + 1; epoch <= t->settings->epochs; epoch++) {
        int rc = run_epoch(t, epoch, &record, err);
        if (rc == 1) {
            log_note(t->log, "Stopped in epoch %d. The same command with --resume goes on %s.",
                     epoch, epoch > 1 ? "behind the last checkpoint" : "from the start");
        }
        if (rc != 0) {
            return rc;
        }
    }
    conclude(t, &record);
    return 0;
}

int train_run(const Settings *settings, volatile const int *stop, Log *log, Err *err)
{
    Trainer trainer;
    int rc = trainer_open(&trainer, settings, stop, log, err);
    if (rc == 0) {
        rc = settings->dump_plan ? plan_dump(&trainer, err) : run(&trainer, err);
    }
    trainer_close(&trainer);
    return rc;
}
