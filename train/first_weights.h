/* The weights that a fresh run's trunks start from: --pretrained. */
#ifndef RODEO_TRAIN_FIRST_WEIGHTS_H
#define RODEO_TRAIN_FIRST_WEIGHTS_H

#include "base/log.h"
#include "model/net.h"
#include "train/settings.h"

/* Finds their file: *path is a new string, or NULL for random weights. err: there is none, and how
 * to get it or do without. What is in it is not looked at. */
int first_weights_find(const Settings *settings, char **path, Err *err);

/* Loads both trunks from the file, if there is one, and notes what they start from. On an error the
 * network is unchanged. */
int first_weights_load(Net *net, const Settings *settings, const char *path, Log *log, Err *err);

/* For a run that goes on, and so looks at no such weights: settings->pretrained becomes what it
 * began with, that of `saved`. Where the settings ask for other weights a warning says so. */
void first_weights_keep(Settings *settings, const Settings *saved, Log *log);

#endif
