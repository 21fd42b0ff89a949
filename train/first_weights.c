#include "train/first_weights.h"

#include "base/mem.h"
#include "base/path.h"
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

static bool are_torchvision_s(const Settings *s)
{
    return strcmp(s->pretrained, "auto") == 0 && s->arch_width == WEIGHTS_TORCHVISION_WIDTH;
}

static bool are_random(const Settings *s)
{
    return strcmp(s->pretrained, "none") == 0 ||
           (strcmp(s->pretrained, "auto") == 0 && !are_torchvision_s(s));
}

int first_weights_find(const Settings *settings, char **path, Err *err)
{
    *path = NULL;
    if (are_random(settings)) {
        return 0;
    }
    if (are_torchvision_s(settings)) {
        *path = weights_find_pretrained(settings_depth(settings), err);
        return *path ? 0 : err_context(err, "--pretrained auto, the default");
    }
    *path = mem_string(settings->pretrained);
    return path_is_file(*path) ? 0 : err_set(err, "--pretrained: there is no file %s", *path);
}

int first_weights_load(Net *net, const Settings *settings, const char *path, Log *log, Err *err)
{
    if (!path) {
        log_note(log, "The trunks start from random weights%s.",
                 strcmp(settings->pretrained, "none") == 0
                     ? ""
                     : ": torchvision has none of this width (--arch_width)");
        return 0;
    }
    if (weights_load_pretrained(net, path, err) != 0) {
        return err_context(err, "--pretrained");
    }
    log_note(log, "Both trunks start from %s.", path);
    return 0;
}

/* Whether other weights than the saved run's are asked for. Torchvision's are the default, so they
 * say nothing against those of a file. */
static bool asks_for_others(const Settings *now, const Settings *saved)
{
    return are_torchvision_s(now)
               ? are_random(saved)
               : !are_random(now) && strcmp(now->pretrained, saved->pretrained) != 0;
}

void first_weights_keep(Settings *settings, const Settings *saved, Log *log)
{
    if (asks_for_others(settings, saved)) {
        log_warning(log,
                    "--pretrained %s does not count: the run goes on from its checkpoint, and it "
                    "began with --pretrained %s. For these weights start over without --resume, or "
                    "name a new run with --suffix.",
                    settings->pretrained, saved->pretrained);
    }
    char *kept = mem_string(saved->pretrained);
    free(settings->pretrained);
    settings->pretrained = kept;
}
