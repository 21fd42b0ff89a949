#include "train/keep.h"

#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int64_t keep_best_epoch(const MetricsHistory *history)
{
    const EpochMetrics *best = NULL;
    for (int i = 0; i < history->count; i++) {
        const EpochMetrics *m = &history->epoch[i];
        if (!best || m->source_accuracy > best->source_accuracy ||
            (m->source_accuracy == best->source_accuracy && m->source_loss < best->source_loss)) {
            best = m;
        }
    }
    return best ? best->epoch : 0;
}

/* Only the newest COUNT and the best stay. Files of epochs that are still to come, left by a run
 * that was further, are replaced when their turn comes. */
static int remove_others(const KeepSettings *settings, int64_t newest, Err *err)
{
    DIR *entries = opendir(settings->folder);
    if (!entries) {
        return err_set(err, "%s: cannot list: %s", settings->folder, strerror(errno));
    }
    int rc = 0;
    const struct dirent *entry;
    while (rc == 0 && (entry = readdir(entries))) {
        int64_t epoch = checkpoint_kept_epoch(entry->d_name);
        if (epoch == 0 || epoch == settings->best || epoch > newest - settings->count) {
            continue;
        }
        char *path = path_join(settings->folder, entry->d_name);
        if (unlink(path) != 0 && errno != ENOENT) {
            rc = err_set(err, "%s: cannot remove: %s", path, strerror(errno));
        }
        free(path);
    }
    closedir(entries);
    return rc;
}

int keep_epoch(const KeepSettings *settings, const WeightList *weights,
               const CheckpointState *state, const char *yaml, const char *metrics, Err *err)
{
    /* The tensors without momentum; names and data stay the list's. */
    WeightList kept = {.tensor = mem_zeroed((size_t)weights->count, sizeof *kept.tensor)};
    for (int i = 0; i < weights->count; i++) {
        if (!text_starts_with(weights->tensor[i].name, WEIGHTS_MOMENTUM)) {
            kept.tensor[kept.count++] = weights->tensor[i];
        }
    }
    char *path = checkpoint_kept_path(settings->folder, state->epoch);
    int rc = checkpoint_write(path, NULL, &kept, state, yaml, metrics, err);
    free(path);
    free(kept.tensor);
    return rc == 0 ? remove_others(settings, state->epoch, err) : -1;
}
