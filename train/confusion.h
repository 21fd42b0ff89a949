/* What a network answered, pair by pair: confusion matrix, per-class accuracy, and their files. */
#ifndef RODEO_TRAIN_CONFUSION_H
#define RODEO_TRAIN_CONFUSION_H

#include "base/err.h"
#include "data/pairs.h"

typedef struct {
    int classes;
    int64_t *counts;      /* [classes, classes]: row = true class, column = predicted */
    int32_t *predictions; /* [pairs], by the pair's index in its list; -1: not seen */
    int64_t pairs;
} Confusion;

void confusion_open(Confusion *confusion, int classes, int64_t pairs);
void confusion_close(Confusion *confusion);

void confusion_add(Confusion *confusion, int64_t index, int32_t label, int32_t prediction);

/* Pairs of a class, and how many of them were found. */
int64_t confusion_pairs(const Confusion *confusion, int label);
int64_t confusion_hits(const Confusion *confusion, int label);

/* Writes NAME-confusion.csv (a header of predicted classes, one row a true class),
 * NAME-confusion.png and NAME-predictions.csv (rgb path, true class, predicted class, in the list's
 * order) into folder. */
int confusion_write(const Confusion *confusion, const PairList *list, char *const *class_names,
                    const char *folder, const char *name, Err *err);

#endif
