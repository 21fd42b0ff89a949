/* Any bytes as a data set's list of pairs. The first byte says which data set. */
#include "base/err.h"
#include "base/mem.h"
#include "base/path.h"
#include "data/pairs.h"
#include "input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *dataset, *list;
} sets[] = {
    {"synROD", "synROD/synARID_50k-split_sync_train1.txt"},
    {"ROD", "ROD/wrgbd_40k-split_sync.txt"},
    {"synHB", "HB_Syn_crops_square/HB_Syn_crops_25k-split_sync_train1.txt"},
    {"valHB", "HB_val_crops_square/HB_val_crops_25k-split_sync.txt"},
};

enum { SETS = sizeof sets / sizeof *sets };

/* A data root with the folders that the lists lie in, and one that a path's first component may
 * name. */
static const char *data_root(void)
{
    static char root[] = "/tmp/rodeo-fuzz-pairs.XXXXXX";
    static const char *const folders[] = {
        "synROD",      "ROD/rgb-washington",  "ROD/surfnorm-washington",
        "ROD/ROD_rgb", "HB_Syn_crops_square", "HB_val_crops_square"};
    static int made;
    for (size_t i = 0; !made && i < sizeof folders / sizeof *folders; i++) {
        Err err;
        if (i == 0 && !mkdtemp(root)) {
            fatal("%s cannot be made", root);
        }
        char *folder = path_join(root, folders[i]);
        if (path_make_folders(folder, &err) != 0) {
            fatal("%s", err.text);
        }
        free(folder);
    }
    made = 1;
    return root;
}

static void touch(const PairList *list)
{
    for (int64_t i = 0; i < list->count; i++) {
        for (int m = 0; m < MODALITIES; m++) {
            input_touch(list->pairs[i].path[m], strlen(list->pairs[i].path[m]) + 1);
        }
    }
    /* A label may be as large as an integer; nobody has that many classes. */
    if (list->classes <= 10000) {
        char **names = pairs_class_names(list);
        for (int c = 0; c < list->classes; c++) {
            input_touch(names[c], strlen(names[c]) + 1);
            free(names[c]);
        }
        free(names);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0) {
        return 0;
    }
    const char *root = data_root();
    int set = data[0] % SETS;
    char *path = path_join(root, sets[set].list);
    input_write(path, data + 1, bytes - 1);
    Err err;
    PairList list;
    if (pairs_read(&list, root, sets[set].dataset, SPLIT_TRAIN, false, &err) == 0) {
        touch(&list);
        pairs_free(&list);
    }
    free(path);
    return 0;
}
