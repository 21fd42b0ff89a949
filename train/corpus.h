/* The pictures of an experiment: source training and test set, target set (one list for training
 * and test), each checked and packed. */
#ifndef RODEO_TRAIN_CORPUS_H
#define RODEO_TRAIN_CORPUS_H

#include "base/log.h"
#include "data/store.h"

typedef enum { CORPUS_SOURCE_TRAIN, CORPUS_SOURCE_TEST, CORPUS_TARGET, CORPUS_SETS } CorpusSet;

typedef struct {
    const char *data_root;       /* a folder, or a tar file */
    const char *source, *target; /* names of data sets: pairs.h */
    const char *cache_dir;       /* NULL: pack_default_cache_dir */
    bool smallset;
    int resize;
    int skip_bad;             /* pictures of a list that may be left out: pack.h */
    volatile const int *stop; /* packing ends with an error when this becomes non-zero, or NULL */
} CorpusSettings;

typedef struct {
    PairList list[CORPUS_SETS]; /* once packed, pair i of a list is pair i of its pack */
    Pack *pack[CORPUS_SETS];
    Store *store;       /* where the packs' pictures are; NULL before corpus_place */
    int classes;        /* of the source training set; 0: its list is not known yet */
    char **class_names; /* [classes], none of them empty */
} Corpus;

/* Reads and checks the lists. err: the first thing that is wrong with the data root, as pairs.h
 * describes it, or a label in the test or target set that the source training set does not have. Of
 * a tar file that is not packed yet only the beginning is looked at: its lists are known, and
 * checked in the same way, after corpus_pack. */
int corpus_read(Corpus *corpus, const CorpusSettings *settings, Err *err);

/* Looks for every picture of the sets from `first` on, and opens or builds their packs. All sets of
 * a tar file are packed, because it is read only once. Of a training set with gaps between its
 * labels a warning says so. */
int corpus_pack(Corpus *corpus, const CorpusSettings *settings, CorpusSet first, Pool *pool,
                Log *log, Err *err);

/* Places the pictures of all packs for the run, once the network has the memory that it needs: tier
 * is "auto", "device", "ram" or "disk" (store.h). */
int corpus_place(Corpus *corpus, Backend *be, const char *tier, Log *log, Err *err);

/* Safe on a corpus that is {0} or half open. Comes before its device is closed. */
void corpus_close(Corpus *corpus);

#endif
