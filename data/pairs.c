#include "data/pairs.h"

#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LABEL_MAX 65535 /* far above any class count: a slip in a list must not cost memory */

const char *const pairs_dataset_names[] = {"synROD", "ROD", "synHB", "valHB", NULL};

/* What is known of one data set. */
typedef struct {
    const char *name;
    const char *folder;               /* below the data root; holds the lists */
    const char *list[2];              /* by Split; one list for both where they are equal */
    const char *small_list[2];        /* of --smallset; NULL: there is none */
    const char *modality[MODALITIES]; /* what *** stands for */
    bool modality_folders;            /* paths begin with a folder for the modality (???) */
} Dataset;

static const Dataset datasets[] = {
    {.name = "synROD",
     .folder = "synROD",
     .list = {"synARID_50k-split_sync_train1.txt", "synARID_50k-split_sync_test1.txt"},
     .small_list = {"smallsynROD_train.txt", "smallsynROD_test.txt"},
     .modality = {"rgb", "depth"}},
    {.name = "ROD",
     .folder = "ROD",
     .list = {"wrgbd_40k-split_sync.txt", "wrgbd_40k-split_sync.txt"},
     .small_list = {"smallROD.txt", "smallROD.txt"},
     .modality = {"crop", "depthcrop"},
     .modality_folders = true},
    {.name = "synHB",
     .folder = "HB_Syn_crops_square",
     .list = {"HB_Syn_crops_25k-split_sync_train1.txt", "HB_Syn_crops_25k-split_sync_test1.txt"},
     .modality = {"rgb", "depth"}},
    {.name = "valHB",
     .folder = "HB_val_crops_square",
     .list = {"HB_val_crops_25k-split_sync.txt", "HB_val_crops_25k-split_sync.txt"},
     .modality = {"rgb", "depth"}},
};

static const char *const modality_folder[MODALITIES] = {"rgb", "surfnorm"};

static const Dataset *find_dataset(const char *name, Err *err)
{
    for (size_t i = 0; i < sizeof datasets / sizeof *datasets; i++) {
        if (strcmp(datasets[i].name, name) == 0) {
            return &datasets[i];
        }
    }
    err_set(err, "unknown data set '%s': it is one of synROD, ROD, synHB, valHB", name);
    return NULL;
}

/* text with every `from` replaced by `to`, as a new string. */
static char *replace_all(const char *text, const char *from, const char *to)
{
    size_t from_bytes = strlen(from);
    size_t to_bytes = strlen(to);
    size_t hits = 0;
    for (const char *at = text; (at = strstr(at, from)) != NULL; at += from_bytes) {
        hits++;
    }
    char *result = mem_alloc(strlen(text) + hits * to_bytes + 1);
    char *out = result;
    for (const char *at; (at = strstr(text, from)) != NULL; text = at + from_bytes) {
        memcpy(out, text, (size_t)(at - text));
        out += at - text;
        memcpy(out, to, to_bytes);
        out += to_bytes;
    }
    memcpy(out, text, strlen(text) + 1);
    return result;
}

static bool has_picture_ending(const char *path, size_t bytes)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".ppm", ".bmp",
                                          ".JPG", ".JPEG", ".PNG", ".PPM", ".BMP"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t length = strlen(endings[i]);
        if (bytes > length && memcmp(path + bytes - length, endings[i], length) == 0) {
            return true;
        }
    }
    return false;
}

bool pairs_is_picture(const char *path)
{
    return has_picture_ending(path, strlen(path));
}

/* Puts the folder of the modality in front of a target path that has none, or the usual one in the
 * place of one that is not there. */
static char *with_modality_folder(const char *path, const char *dataset_folder,
                                  const RootFiles *files)
{
    const char *slash = strchr(path, '/');
    char *first = slash ? strndup(path, (size_t)(slash - path)) : NULL;
    char *result;
    if (!first || !strstr(first, "???")) {
        result = mem_format("\?\?\?-washington/%s", path);
    } else {
        char *spelt = replace_all(first, "???", modality_folder[RGB]);
        char *folder = path_join(dataset_folder, spelt);
        result = files->has_folder(files->context, folder)
                     ? mem_string(path)
                     : mem_format("\?\?\?-washington%s", slash);
        free(folder);
        free(spelt);
    }
    free(first);
    return result;
}

static void expand_path(Pair *pair, const Dataset *dataset, const char *folder,
                        const RootFiles *files, const char *path)
{
    char *pattern =
        dataset->modality_folders ? with_modality_folder(path, folder, files) : mem_string(path);
    for (int m = 0; m < MODALITIES; m++) {
        char *spelt = replace_all(pattern, "***", dataset->modality[m]);
        pair->path[m] = replace_all(spelt, "???", modality_folder[m]);
        free(spelt);
    }
    free(pattern);
}

/* A whole number from 0 to LABEL_MAX, and nothing else. */
static int parse_label(const char *text, int32_t *label)
{
    if (text[0] < '0' || text[0] > '9') {
        return -1;
    }
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (*end != '\0' || errno != 0 || value > LABEL_MAX) {
        return -1;
    }
    *label = (int32_t)value;
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static char *strip(char *line)
{
    while (is_blank(*line)) {
        line++;
    }
    size_t bytes = strlen(line);
    while (bytes > 0 && is_blank(line[bytes - 1])) {
        bytes--;
    }
    line[bytes] = '\0';
    return line;
}

/* Splits a stripped line into path and label, cutting it after the path. Returns 1 if the line is
 * to be used, 0 if it is skipped because it names no picture, -1 if its label is not one. */
static int split_line(char *line, int32_t *label)
{
    size_t bytes = strlen(line);
    size_t label_at = bytes;
    while (label_at > 0 && !is_blank(line[label_at - 1])) {
        label_at--;
    }
    size_t path_bytes = label_at;
    while (path_bytes > 0 && is_blank(line[path_bytes - 1])) {
        path_bytes--;
    }
    if (!has_picture_ending(line, path_bytes)) {
        /* A picture with a label missing or behind the wrong column is a slip worth telling. */
        return has_picture_ending(line, strcspn(line, " \t")) ? -1 : 0;
    }
    line[path_bytes] = '\0';
    return parse_label(line + label_at, label) == 0 ? 1 : -1;
}

static Pair *append_pair(PairList *list, int64_t *capacity)
{
    if (list->count == *capacity) {
        *capacity = *capacity > 0 ? 2 * *capacity : 1024;
        list->pairs = mem_resize(list->pairs, (size_t)*capacity * sizeof *list->pairs);
    }
    Pair *pair = &list->pairs[list->count++];
    *pair = (Pair){0};
    return pair;
}

/* Cuts text into lines and takes each of them. */
static int parse_list(PairList *list, const Dataset *dataset, const RootFiles *files, char *text,
                      Err *err)
{
    static const char byte_order_mark[] = "\xEF\xBB\xBF"; /* some editors put it in front */
    int64_t capacity = 0;
    int64_t number = 0;
    text += text_starts_with(text, byte_order_mark) ? strlen(byte_order_mark) : 0;
    for (char *next = text; next;) {
        char *line = next;
        next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        number++;
        line = strip(line);
        int32_t label = 0;
        char *whole = mem_string(line);
        int used = split_line(line, &label);
        if (used < 0) {
            err_set(err,
                    "%s, line %lld: '%s' does not end in a label, a whole number from 0 to %d: "
                    "every line is PATH LABEL",
                    list->file, (long long)number, whole, LABEL_MAX);
        }
        free(whole);
        if (used < 0) {
            return -1;
        }
        if (used > 0) {
            Pair *pair = append_pair(list, &capacity);
            expand_path(pair, dataset, list->folder, files, line);
            pair->label = label;
            list->classes = label >= list->classes ? label + 1 : list->classes;
        }
    }
    if (list->count == 0) {
        return err_set(err, "%s: no line of it names a picture and its label", list->file);
    }
    return 0;
}

/* The data root or a data set's folder is not there: says which, and what it should look like. */
static int explain_missing_folder(const char *data_root, const Dataset *dataset, Err *err)
{
    static const char layout[] =
        "a data root for synROD and ROD holds synROD/synARID_50k-split_sync_train1.txt, "
        "synROD/<class>/{rgb,depth}/, ROD/wrgbd_40k-split_sync.txt and "
        "ROD/{rgb,surfnorm}-washington/";
    if (!path_is_folder(data_root)) {
        return err_set(err,
                       "%s: there is no such folder or tar file: name the data root with "
                       "--data_root (%s)",
                       data_root, layout);
    }
    char *nested = mem_format("%s/ROD-synROD/%s", data_root, dataset->folder);
    if (path_is_folder(nested)) {
        err_set(
            err,
            "%s: no folder %s in it, but there is one in ROD-synROD: use --data_root %s/ROD-synROD",
            data_root, dataset->folder, data_root);
    } else {
        err_set(err, "%s: no folder %s in it: %s", data_root, dataset->folder, layout);
    }
    free(nested);
    return -1;
}

static char *list_name(const Dataset *dataset, Split split, bool smallset)
{
    bool shared = dataset->list[SPLIT_TRAIN] == dataset->list[SPLIT_TEST] ||
                  strcmp(dataset->list[SPLIT_TRAIN], dataset->list[SPLIT_TEST]) == 0;
    const char *part = shared ? "" : split == SPLIT_TRAIN ? "-train" : "-test";
    return mem_format("%s%s%s", dataset->name, smallset ? "-smallset" : "", part);
}

static bool disk_has_folder(void *context, const char *path)
{
    (void)context;
    return path_is_folder(path);
}

static char *disk_read(void *context, const char *path, size_t *bytes, Err *err)
{
    (void)context;
    return path_read(path, bytes, err);
}

static int disk_stamp(void *context, const char *path, FileStamp *stamp)
{
    (void)context;
    struct stat status;
    if (stat(path, &status) != 0) {
        return errno;
    }
    *stamp = (FileStamp){.bytes = status.st_size,
                         .seconds = status.st_mtim.tv_sec,
                         .nanoseconds = status.st_mtim.tv_nsec};
    return S_ISREG(status.st_mode) ? 0 : EISDIR;
}

const RootFiles root_files_on_disk = {
    .has_folder = disk_has_folder,
    .read = disk_read,
    .stamp = disk_stamp,
    .advice = "unpack the data set again, or take their lines out of the list",
};

/* The file of a set's list, NULL and err if it has none. */
static const char *list_file(const Dataset *dataset, const PairSet *set, Err *err)
{
    const char *file = set->smallset ? dataset->small_list[set->split] : dataset->list[set->split];
    if (!file) {
        err_set(err, "%s has no small list: leave --smallset out", dataset->name);
    }
    return file;
}

char *pairs_list_name(const PairSet *set, Err *err)
{
    const Dataset *dataset = find_dataset(set->dataset, err);
    bool exists = dataset && list_file(dataset, set, err);
    return exists ? list_name(dataset, set->split, set->smallset) : NULL;
}

char *pairs_list_path(const PairSet *set, Err *err)
{
    const Dataset *dataset = find_dataset(set->dataset, err);
    const char *file = dataset ? list_file(dataset, set, err) : NULL;
    return file ? path_join(dataset->folder, file) : NULL;
}

const char *pairs_folder(const char *dataset_name)
{
    const Dataset *dataset = find_dataset(dataset_name, NULL);
    return dataset ? dataset->folder : NULL;
}

int pairs_read_from(PairList *list, const RootFiles *files, const char *data_root,
                    const PairSet *set, Err *err)
{
    *list = (PairList){0};
    const Dataset *dataset = find_dataset(set->dataset, err);
    const char *file = dataset ? list_file(dataset, set, err) : NULL;
    if (!file) {
        return -1;
    }
    int rc = -1;
    char *text = NULL;
    size_t bytes = 0;
    list->name = list_name(dataset, set->split, set->smallset);
    list->folder = path_join(data_root, dataset->folder);
    list->file = path_join(list->folder, file);
    if (!files->has_folder(files->context, list->folder)) {
        explain_missing_folder(data_root, dataset, err);
        goto done;
    }
    text = files->read(files->context, list->file, &bytes, err);
    if (!text) {
        goto done;
    }
    if (strlen(text) != bytes) {
        err_set(err, "%s: is not a text file (a zero byte in it)", list->file);
        goto done;
    }
    rc = parse_list(list, dataset, files, text, err);
done:
    free(text);
    if (rc != 0) {
        pairs_free(list);
    }
    return rc;
}

int pairs_read(PairList *list, const char *data_root, const char *dataset_name, Split split,
               bool smallset, Err *err)
{
    PairSet set = {.dataset = dataset_name, .split = split, .smallset = smallset};
    return pairs_read_from(list, &root_files_on_disk, data_root, &set, err);
}

void pairs_free(PairList *list)
{
    for (int64_t i = 0; i < list->count; i++) {
        for (int m = 0; m < MODALITIES; m++) {
            free(list->pairs[i].path[m]);
        }
    }
    free(list->pairs);
    free(list->name);
    free(list->file);
    free(list->folder);
    *list = (PairList){0};
}

/* The class folder is the first component that both modalities' paths share. */
static char *class_of(const Pair *pair)
{
    const char *a = pair->path[RGB];
    const char *b = pair->path[DEPTH];
    for (;;) {
        size_t a_bytes = strcspn(a, "/");
        size_t b_bytes = strcspn(b, "/");
        if (a[a_bytes] == '\0' || b[b_bytes] == '\0') {
            return mem_string("");
        }
        if (a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0) {
            return mem_format("%.*s", (int)a_bytes, a);
        }
        a += a_bytes + 1;
        b += b_bytes + 1;
    }
}

char **pairs_class_names(const PairList *list)
{
    char **names = mem_zeroed((size_t)list->classes, sizeof *names);
    for (int64_t i = 0; i < list->count; i++) {
        char **name = &names[list->pairs[i].label];
        if (!*name) {
            *name = class_of(&list->pairs[i]);
        }
    }
    for (int label = 0; label < list->classes; label++) {
        if (!names[label]) {
            names[label] = mem_string("");
        }
    }
    return names;
}

void pairs_warn_of_gaps(const PairList *list, Log *log)
{
    bool *seen = mem_zeroed((size_t)list->classes, sizeof *seen);
    const Pair *highest = &list->pairs[0];
    int missing = list->classes;
    int first = 0;
    for (int64_t i = 0; i < list->count; i++) {
        const Pair *pair = &list->pairs[i];
        missing -= !seen[pair->label];
        seen[pair->label] = true;
        highest = pair->label > highest->label ? pair : highest;
    }
    while (first < list->classes && seen[first]) {
        first++;
    }
    free(seen);
    if (missing > 0 && log) {
        log_warning(log,
                    "%s: of the labels 0 to %d, each of which is a class, %d have no picture, the "
                    "first is %d; the highest is that of %s: correct the list if it is a slip",
                    list->name, list->classes - 1, missing, first, highest->path[RGB]);
    }
}
