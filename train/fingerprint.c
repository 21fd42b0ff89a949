#include "train/fingerprint.h"

#include <string.h>
#include <xxhash.h>

static uint64_t add(uint64_t hash, const void *data, size_t bytes)
{
    return XXH3_64bits_withSeed(data, bytes, hash);
}

uint64_t corpus_fingerprint(const Corpus *corpus)
{
    uint64_t hash = 0;
    for (int set = 0; set < CORPUS_SETS; set++) {
        const PairList *list = &corpus->list[set];
        hash = add(hash, &list->count, sizeof list->count);
        for (int64_t i = 0; i < list->count; i++) {
            const Pair *pair = &list->pairs[i];
            for (int m = 0; m < MODALITIES; m++) {
                hash = add(hash, pair->path[m], strlen(pair->path[m]) + 1);
            }
            hash = add(hash, &pair->label, sizeof pair->label);
        }
    }
    return hash ? hash : 1;
}
