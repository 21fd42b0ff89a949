/* Lists of RGB-D pairs: which pictures a data set has, from its split files.
 *
 * Known data sets, by the names that --source and --target take, and what they read below the data
 * root (`???` and `***` stand for the modality's spelling):
 *   synROD  synROD/<list>   list synARID_50k-split_sync_{train1,test1}.txt, smallset
 * smallsynROD_{train, test}.txt; *** is rgb / depth ROD     ROD/<list>      list
 * wrgbd_40k-split_sync.txt, smallset smallROD.txt; *** is crop / depthcrop; the first component of
 * a path is taken in all three published forms: a component with ??? (rgb / surfnorm) is kept if
 * its folder exists, else replaced by
 *           ???-washington; a path without one gets ???-washington/ in front
 *   synHB   HB_Syn_crops_square/<list>   list HB_Syn_crops_25k-split_sync_{train1,test1}.txt; rgb /
 * depth valHB   HB_val_crops_square/<list>   list HB_val_crops_25k-split_sync.txt; rgb / depth ROD
 * and valHB have one list for training and test. */
#ifndef RODEO_DATA_PAIRS_H
#define RODEO_DATA_PAIRS_H

#include "base/err.h"
#include "base/log.h"
#include "base/pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RGB = 0, DEPTH = 1, MODALITIES = 2 };

typedef enum { SPLIT_TRAIN, SPLIT_TEST } Split;

typedef struct {
    char *path[MODALITIES]; /* of the RGB and the depth picture, relative to PairList.folder */
    int32_t label;
} Pair;

typedef struct {
    char *name;    /* for messages and file names: "synROD-train" */
    char *file;    /* path of the list */
    char *folder;  /* what the pictures' paths are relative to */
    int64_t count; /* pairs, >= 1 */
    Pair *pairs;
    int classes; /* highest label + 1 */
} PairList;

/* The names of the known data sets, NULL behind the last. */
extern const char *const pairs_dataset_names[];

/* Size and modification time of a file. */
typedef struct {
    int64_t bytes, seconds, nanoseconds;
} FileStamp;

/* How the files below a data root are reached: on the disk, or in an archive. Every path begins
 * with the data root as it was given. */
typedef struct {
    bool (*has_folder)(void *context, const char *path);
    /* A file's content with a zero byte behind it, new memory; NULL and err. */
    char *(*read)(void *context, const char *path, size_t *bytes, Err *err);
    /* 0, or an errno value where there is no such file. Several threads call it at once. */
    int (*stamp)(void *context, const char *path, FileStamp *stamp);
    const char *advice; /* what to do where pictures are missing */
    void *context;
} RootFiles;

extern const RootFiles root_files_on_disk;

#define PAIR_SETS_MAX 8 /* lists that are asked for together */

/* Which list: of a data set, by split, the small one or not. */
typedef struct {
    const char *dataset;
    Split split;
    bool smallset;
} PairSet;

/* The set's name, "synROD-train". A new string; NULL and err where the data set is not known or has
 * no small list. */
char *pairs_list_name(const PairSet *set, Err *err);

/* The path of its list below the data root. A new string; NULL and err as above. */
char *pairs_list_path(const PairSet *set, Err *err);

/* The folder of a known data set below the data root: "synROD". */
const char *pairs_folder(const char *dataset);

/* Whether a path ends as a picture does that a list may name. */
bool pairs_is_picture(const char *path);

/* Reads a list. Lines whose path does not end in .jpg .jpeg .png .ppm .bmp (all lower or all upper
 * case) are skipped, blanks around a line are stripped. Errors, each with the file and the line: a
 * folder or list that is not there, a line without a whole-number label >= 0, a list without a
 * single usable line. Where several folders are missing the message says what a data root looks
 * like. */
int pairs_read(PairList *list, const char *data_root, const char *dataset, Split split,
               bool smallset, Err *err);

/* The same through `files`. */
int pairs_read_from(PairList *list, const RootFiles *files, const char *data_root,
                    const PairSet *set, Err *err);
void pairs_free(PairList *list);

/* The class names in label order, taken from the paths' class folders: classes strings, each ""
 * where no pair has that label. Free each and the array. */
char **pairs_class_names(const PairList *list);

/* Warns on log (NULL: not) where labels between 0 and the highest have no pair: a network for the
 * list gets an output for each, and a slip in a single line can make it thousands. */
void pairs_warn_of_gaps(const PairList *list, Log *log);

/* Size and modification time of every picture, and a digest over list and pictures that changes
 * whenever one of them does. */
typedef struct {
    int64_t pictures; /* pairs * MODALITIES */
    int64_t bytes;    /* of all files together */
    uint64_t digest;  /* XXH3 over paths, labels, sizes and modification times */
} PairStats;

/* Looks at every picture file, in parallel, with a progress bar on log (NULL: none): a mounted
 * drive may take milliseconds for each. Missing ones are an error that names the first five and
 * says how many there are in all. */
int pairs_stat(const PairList *list, Pool *pool, Log *log, PairStats *stats, Err *err);

/* The same through `files`. */
int pairs_stat_from(const PairList *list, const RootFiles *files, Pool *pool, Log *log,
                    PairStats *stats, Err *err);

#endif
