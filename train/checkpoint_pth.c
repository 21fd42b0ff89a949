#include "train/checkpoint_pth.h"

#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "model/pth_checkpoint.h"
#include "model/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NEWEST "checkpoint.pth"
#define OLD    NEWEST ".old"

/* The file to read, a new string, or NULL. */
static char *find(const char *folder)
{
    static const char *const names[] = {NEWEST, OLD};
    for (int i = 0; i < 2; i++) {
        char *path = path_join(folder, names[i]);
        if (!path_is_free(path)) {
            return path;
        }
        free(path);
    }
    return NULL;
}

bool checkpoint_pth_exists(const char *folder)
{
    char *path = find(folder);
    bool there = path != NULL;
    free(path);
    return there;
}

/* Opens the file, or the one before where the program was interrupted while it wrote the newest:
 * it keeps the old one until the new one is whole. *path: the file's; a new string. */
static int open_whole(const char *folder, PthCheckpoint *checkpoint, char **path, Log *log,
                      Err *err)
{
    *path = find(folder);
    if (pth_checkpoint_open(checkpoint, *path, err) == 0) {
        return 0;
    }
    char *old = path_join(folder, OLD);
    if (strcmp(*path, old) == 0 || path_is_free(old)) {
        free(old);
        return -1;
    }
    Err old_err = {""};
    int rc = pth_checkpoint_open(checkpoint, old, &old_err);
    if (rc == 0) {
        log_warning(log, "%s; falling back to the checkpoint before it, " OLD, err->text);
    } else {
        err_context(err, "neither checkpoint can be used: %s; and", old_err.text);
    }
    free(*path);
    *path = old;
    return rc;
}

/* A rate is computed from two settings, so it may differ in its last bit. NAN: the file does not
 * say. */
static int expect(const char *what, double saved, double wanted, Err *err)
{
    char before[TEXT_DOUBLE_SIZE];
    char after[TEXT_DOUBLE_SIZE];
    if (isnan(saved) || fabs(saved - wanted) <= 1e-12 * fabs(wanted)) {
        return 0;
    }
    return err_set(err,
                   "the PyTorch run has %s %s, this one %s: resume with the saved value, or name a "
                   "new run with --suffix",
                   what, text_double(saved, before), text_double(wanted, after));
}

static int check_optimizers(const PthCheckpoint *checkpoint, const Settings *s, Err *err)
{
    double decay = settings_weight_decay(s);
    for (int group = 0; group < PARAM_GROUPS; group++) {
        const PthOptimizer *saved = &checkpoint->optimizer[group];
        bool head = group == PARAM_MAIN_HEAD || group == PARAM_ROTATION_HEAD;
        double lr = head ? s->lr * s->lr_mult : s->lr;
        if (expect(head ? "lr times lr_mult" : "lr", saved->lr, lr, err) != 0 ||
            expect("momentum", saved->momentum, s->momentum, err) != 0 ||
            expect("weight_decay", saved->weight_decay, decay, err) != 0) {
            return -1;
        }
    }
    return 0;
}

int checkpoint_pth_restore(const char *folder, Net *net, const Settings *settings,
                           int64_t steps_per_epoch, CheckpointState *state, Log *log, Err *err)
{
    PthCheckpoint checkpoint;
    char *path;
    int rc = open_whole(folder, &checkpoint, &path, log, err);
    if (rc == 0) {
        rc = check_optimizers(&checkpoint, settings, err);
        if (rc == 0) {
            rc = weights_restore_list(net, &checkpoint.list, true, err);
        }
        if (rc != 0) {
            err_context(err, "%s", path);
        }
    }
    if (rc == 0) {
        state->epoch = checkpoint.epoch;
        state->steps = checkpoint.epoch * steps_per_epoch;
        state->saved = checkpoint.saved;
        state->classes = net->config.classes;
        log_note(log, "Going on from the PyTorch program's %s.", path);
    }
    pth_checkpoint_close(&checkpoint);
    free(path);
    return rc;
}
