#include "base/mem.h"
#include "base/path.h"
#include "model/pth.h"
#include "model/weights.h"
#include "model/weights_read.h"

#include <stdlib.h>
#include <string.h>

/* ---- finding torchvision's file -------------------------------------------------------------- */

/* What torchvision's versions named their ImageNet weights, the one to prefer first. A name ends in
 * the beginning of its file's SHA-256. */
static const struct {
    int depth;
    const char *file;
} torchvision_files[] = {
    {18, "resnet18-f37072fd.pth"}, {18, "resnet18-5c106cde.pth"}, {50, "resnet50-0676ba61.pth"},
    {50, "resnet50-19c8e357.pth"}, {50, "resnet50-11ad3fa6.pth"},
};

/* Below PyTorch's folder; before version 1.6 there was no hub/. */
static const char *const download_folders[] = {"hub/checkpoints", "checkpoints"};

/* PyTorch's own folder, as torch.hub finds it. A new string; NULL if there is no home. */
static char *torch_folder(void)
{
    const char *torch_home = getenv("TORCH_HOME");
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (torch_home && torch_home[0]) {
        return mem_string(torch_home);
    }
    if (cache && cache[0]) {
        return path_join(cache, "torch");
    }
    return home && home[0] ? path_join(home, ".cache/torch") : NULL;
}

/* The first of torchvision's files in one folder, a new string, or NULL. */
static char *find_in(const char *folder, int depth)
{
    for (size_t i = 0; i < sizeof torchvision_files / sizeof *torchvision_files; i++) {
        if (torchvision_files[i].depth == depth) {
            char *path = path_join(folder, torchvision_files[i].file);
            if (path_is_file(path)) {
                return path;
            }
            free(path);
        }
    }
    return NULL;
}

char *weights_find_pretrained(int depth, Err *err)
{
    char *torch = torch_folder();
    char *found = NULL;
    for (size_t i = 0; torch && !found && i < sizeof download_folders / sizeof *download_folders;
         i++) {
        char *folder = path_join(torch, download_folders[i]);
        found = find_in(folder, depth);
        free(folder);
    }
    if (!found) {
        err_set(
            err,
            "torchvision's weights are not in PyTorch's folder %s: fetch them once with "
            "python3 -c 'import torchvision; torchvision.models.resnet%d(weights=\"DEFAULT\")', "
            "name a file, set TORCH_HOME, or start from random ones with --pretrained none",
            torch ? torch : "(HOME is not set)", depth);
    }
    free(torch);
    return found;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Training scripts often save a dict that holds the state dict beside other things. */
static const PickleValue *find_state_dict(const PickleValue *root)
{
    static const char *const keys[] = {"state_dict", "model"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const PickleValue *inner = pickle_get(root, keys[i]);
        if (inner && inner->kind == PICKLE_DICT) {
            return inner;
        }
    }
    return root;
}

static int load_list(Net *net, const TensorList *file, Err *err)
{
    static const char *const streams[] = {"rgb.", "depth."};
    const Params *params = &net->params;
    Problems problems = {0};
    HostState state = host_state(net);
    /* Both trunks are alike: what is wrong with one is told once. */
    Problems again = {0};
    for (int i = 0; i < 2; i++) {
        Problems *p = i == 0 ? &problems : &again;
        read_table(&params->weights, file, "", streams[i], state.w, p);
        read_table(&params->running, file, "", streams[i], state.running, p);
        /* Weights saved by old versions of PyTorch have no counters. */
        read_counters(params, file, streams[i], true, state.batches, p);
    }
    /* What a deeper ResNet has beyond this one shows here; the classifier is expected. */
    find_unknown(params, file, streams[0], "fc.", &problems);
    int rc = problems_report(&problems, err);
    if (rc == 0) {
        host_state_apply(net, &state);
    }
    host_state_free(&state);
    return rc;
}

static int load_pth(Net *net, const char *path, char *content, size_t bytes, Err *err)
{
    PthFile *file = pth_open_content(path, content, bytes, err);
    if (!file) {
        return -1;
    }
    TensorList list;
    int rc;
    if (pickle_get(pth_root(file), "modules")) {
        rc = err_set(err,
                     "%s: is the checkpoint of a whole run: put it into the run's folder as "
                     "checkpoint.pth and give --resume",
                     path);
    } else {
        rc = pth_state_dict(file, find_state_dict(pth_root(file)), &list, err);
        if (rc == 0 && load_list(net, &list, err) != 0) {
            rc = err_context(err, "%s", path);
        }
    }
    pth_close(file);
    return rc;
}

int weights_load_pretrained(Net *net, const char *path, Err *err)
{
    size_t bytes;
    char *content = path_read(path, &bytes, err);
    if (!content) {
        return -1;
    }
    if (pth_is_content(content, bytes)) {
        return load_pth(net, path, content, bytes, err);
    }
    SafeFile *file = safetensors_open_content(path, content, bytes, err);
    if (!file) {
        return -1;
    }
    TensorList list = safetensors_list(file);
    int rc = load_list(net, &list, err);
    if (rc != 0) {
        err_context(err, "%s", path);
    }
    safetensors_close(file);
    return rc;
}
