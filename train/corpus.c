#include "train/corpus.h"

#include "base/mem.h"
#include "base/path.h"
#include "data/tar.h"
#include "data/tar_packs.h"

#include <stdlib.h>

static void describe_sets(const CorpusSettings *s, PairSet sets[CORPUS_SETS])
{
    sets[CORPUS_SOURCE_TRAIN] = (PairSet){s->source, SPLIT_TRAIN, s->smallset};
    sets[CORPUS_SOURCE_TEST] = (PairSet){s->source, SPLIT_TEST, s->smallset};
    sets[CORPUS_TARGET] = (PairSet){s->target, SPLIT_TRAIN, s->smallset};
}

static PackSettings pack_settings(const CorpusSettings *s, Pool *pool, Log *log)
{
    return (PackSettings){
        .resize = s->resize, .skip_bad = s->skip_bad, .stop = s->stop, .pool = pool, .log = log};
}

static char *cache_dir(const CorpusSettings *s)
{
    return s->cache_dir ? mem_string(s->cache_dir) : pack_default_cache_dir(s->data_root);
}

static int check_labels(const PairList *list, int classes, const char *source, Err *err)
{
    for (int64_t i = 0; i < list->count; i++) {
        if (list->pairs[i].label >= classes) {
            return err_set(err,
                           "%s: the label %d of %s is out of range: the training set of %s has the "
                           "classes 0 to %d; the two lists do not belong together",
                           list->file, list->pairs[i].label, list->pairs[i].path[RGB], source,
                           classes - 1);
        }
    }
    return 0;
}

/* Gives the classes that have no name yet those that they have in a list. */
static void take_names(Corpus *corpus, const PairList *list)
{
    char **names = pairs_class_names(list);
    for (int c = 0; c < list->classes; c++) {
        if (c < corpus->classes && corpus->class_names[c][0] == '\0') {
            free(corpus->class_names[c]);
            corpus->class_names[c] = names[c];
        } else {
            free(names[c]);
        }
    }
    free(names);
}

/* The training set's names; a class without pictures in it has its name in another set, or a
 * number. */
static void name_classes(Corpus *corpus)
{
    corpus->class_names = pairs_class_names(&corpus->list[CORPUS_SOURCE_TRAIN]);
    for (int set = CORPUS_SOURCE_TRAIN + 1; set < CORPUS_SETS; set++) {
        take_names(corpus, &corpus->list[set]);
    }
    for (int c = 0; c < corpus->classes; c++) {
        if (corpus->class_names[c][0] == '\0') {
            free(corpus->class_names[c]);
            corpus->class_names[c] = mem_format("class %d", c);
        }
    }
}

static int check_lists(Corpus *corpus, const CorpusSettings *settings, Err *err)
{
    corpus->classes = corpus->list[CORPUS_SOURCE_TRAIN].classes;
    name_classes(corpus);
    for (int set = 0; set < CORPUS_SETS; set++) {
        if (check_labels(&corpus->list[set], corpus->classes, settings->source, err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The packs know what their lists were. */
static int take_lists(Corpus *corpus, const CorpusSettings *settings, Err *err)
{
    for (int set = 0; set < CORPUS_SETS; set++) {
        pack_list(corpus->pack[set], &corpus->list[set]);
    }
    return check_lists(corpus, settings, err);
}

static int read_tar_lists(Corpus *corpus, const CorpusSettings *settings, Err *err)
{
    PairSet sets[CORPUS_SETS];
    PackSettings pack = pack_settings(settings, NULL, NULL);
    char *cache = cache_dir(settings);
    describe_sets(settings, sets);
    bool packed =
        tar_find_packs(settings->data_root, sets, CORPUS_SETS, cache, &pack, corpus->pack);
    free(cache);
    return packed ? take_lists(corpus, settings, err) : tar_check(settings->data_root, err);
}

int corpus_read(Corpus *corpus, const CorpusSettings *settings, Err *err)
{
    PairSet sets[CORPUS_SETS];
    *corpus = (Corpus){0};
    if (path_is_file(settings->data_root)) {
        return read_tar_lists(corpus, settings, err);
    }
    describe_sets(settings, sets);
    for (int set = 0; set < CORPUS_SETS; set++) {
        if (pairs_read_from(&corpus->list[set], &root_files_on_disk, settings->data_root,
                            &sets[set], err) != 0) {
            return -1;
        }
    }
    return check_lists(corpus, settings, err);
}

/* A pack without the pairs whose pictures are bad: the list loses them too. Its place stays what it
 * was, for messages. */
static void drop_skipped_pairs(PairList *list, const Pack *pack)
{
    PairList kept;
    pack_list(pack, &kept);
    char *file = kept.file;
    char *folder = kept.folder;
    kept.file = list->file;
    kept.folder = list->folder;
    list->file = file;
    list->folder = folder;
    pairs_free(list);
    *list = kept;
}

static int pack_folder(Corpus *corpus, const PackSettings *settings, CorpusSet first,
                       const char *cache, Err *err)
{
    for (int set = (int)first; set < CORPUS_SETS; set++) {
        PairList *list = &corpus->list[set];
        corpus->pack[set] = pack_open_or_build(list, settings, cache, err);
        if (!corpus->pack[set]) {
            return -1;
        }
        if (pack_count(corpus->pack[set]) != list->count) {
            drop_skipped_pairs(list, corpus->pack[set]);
        }
    }
    return 0;
}

static int pack_tar(Corpus *corpus, const CorpusSettings *settings, const PackSettings *pack,
                    const char *cache, Err *err)
{
    PairSet sets[CORPUS_SETS];
    if (corpus->classes > 0) {
        return 0; /* the packs were there before */
    }
    describe_sets(settings, sets);
    if (tar_open_packs(settings->data_root, sets, CORPUS_SETS, cache, pack, corpus->pack, err) !=
        0) {
        return -1;
    }
    return take_lists(corpus, settings, err);
}

int corpus_pack(Corpus *corpus, const CorpusSettings *settings, CorpusSet first, Pool *pool,
                Log *log, Err *err)
{
    PackSettings pack = pack_settings(settings, pool, log);
    char *cache = cache_dir(settings);
    int rc = path_is_file(settings->data_root) ? pack_tar(corpus, settings, &pack, cache, err)
                                               : pack_folder(corpus, &pack, first, cache, err);
    free(cache);
    if (rc == 0 && first == CORPUS_SOURCE_TRAIN) {
        pairs_warn_of_gaps(&corpus->list[CORPUS_SOURCE_TRAIN], log);
    }
    return rc;
}

int corpus_place(Corpus *corpus, Backend *be, const char *tier, Log *log, Err *err)
{
    StoreSettings settings = {.be = be, .warm = true, .log = log};
    if (tier_parse(tier, &settings.tier, err) != 0) {
        return -1;
    }
    for (int set = 0; set < CORPUS_SETS; set++) {
        if (corpus->pack[set]) {
            settings.packs[settings.count++] = corpus->pack[set];
        }
    }
    corpus->store = store_open(&settings, err);
    return corpus->store ? 0 : -1;
}

void corpus_close(Corpus *corpus)
{
    store_close(corpus->store);
    for (int i = 0; corpus->class_names && i < corpus->classes; i++) {
        free(corpus->class_names[i]);
    }
    free(corpus->class_names);
    for (int set = 0; set < CORPUS_SETS; set++) {
        pack_close(corpus->pack[set]);
        pairs_free(&corpus->list[set]);
    }
    *corpus = (Corpus){0};
}
