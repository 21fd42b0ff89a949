/* What identifies the data of a run. */
#ifndef RODEO_TRAIN_FINGERPRINT_H
#define RODEO_TRAIN_FINGERPRINT_H

#include "train/corpus.h"

/* A hash of the three lists: paths relative to their data set, labels, order. Moving, copying or
 * unpacking the pictures again does not change it. Never 0. */
uint64_t corpus_fingerprint(const Corpus *corpus);

#endif
