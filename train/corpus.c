#include "train/corpus.h"

#include "base/mem.h"

#include <stdlib.h>

static int read_lists(Corpus *corpus, const CorpusSettings *s, Err *err)
{
    PairList *list = corpus->list;
    if (pairs_read(&list[CORPUS_SOURCE_TRAIN], s->data_root, s->source, SPLIT_TRAIN, s->smallset,
                   err) != 0 ||
        pairs_read(&list[CORPUS_SOURCE_TEST], s->data_root, s->source, SPLIT_TEST, s->smallset,
                   err) != 0 ||
        pairs_read(&list[CORPUS_TARGET], s->data_root, s->target, SPLIT_TRAIN, s->smallset, err) !=
            0) {
        return -1;
    }
    corpus->classes = list[CORPUS_SOURCE_TRAIN].classes;
    corpus->class_names = pairs_class_names(&list[CORPUS_SOURCE_TRAIN]);
    return 0;
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

int corpus_read(Corpus *corpus, const CorpusSettings *settings, Err *err)
{
    *corpus = (Corpus){0};
    if (read_lists(corpus, settings, err) != 0) {
        return -1;
    }
    for (int set = 0; set < CORPUS_SETS; set++) {
        if (check_labels(&corpus->list[set], corpus->classes, settings->source, err) != 0) {
            return -1;
        }
    }
    return 0;
}

int corpus_pack(Corpus *corpus, const CorpusSettings *settings, CorpusSet first, Pool *pool,
                Log *log, Err *err)
{
    char *cache_dir = settings->cache_dir ? mem_string(settings->cache_dir)
                                          : pack_default_cache_dir(settings->data_root);
    int rc = 0;
    for (int set = (int)first; set < CORPUS_SETS && rc == 0; set++) {
        corpus->pack[set] =
            pack_open_or_build(&corpus->list[set], settings->resize, cache_dir, pool, log, err);
        rc = corpus->pack[set] ? 0 : -1;
    }
    free(cache_dir);
    return rc;
}

void corpus_close(Corpus *corpus)
{
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
