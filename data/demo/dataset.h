/* The demo data set: procedural RGB-D pictures of household things in two domains, in exactly the
 * files and names of ROD-synROD.
 *
 *     DemoSettings settings = {.classes = 8, .per_class = 60, .seed = 1};
 *     DemoSet *set = demo_open(&settings);
 *     ... demo_write(set, "demo", pool, log, &added, err) ...
 *     demo_close(set);
 *
 * The same settings give the same bytes, whatever the number of threads. */
#ifndef RODEO_DATA_DEMO_DATASET_H
#define RODEO_DATA_DEMO_DATASET_H

#include "base/err.h"
#include "base/log.h"
#include "base/pool.h"
#include "data/demo/scene.h"
#include "data/picture.h"

#define DEMO_MIN_PER_CLASS 4
#define DEMO_MAX_PER_CLASS 5000

typedef struct {
    int classes;   /* 2..CATALOGUE_CLASSES: the first of the catalogue */
    int per_class; /* pairs of a class in synROD's training list, and in ROD's; the synROD test
                      list has a quarter of it */
    uint64_t seed;
} DemoSettings;

enum { DEMO_COLOUR = 0, DEMO_NORMALS = 1, DEMO_PICTURES = 2 };
enum { DEMO_TRAIN = 0, DEMO_TEST = 1, DEMO_TARGET = 2, DEMO_SPLITS = 3 };

/* One pair: a scene and its files. */
typedef struct {
    SceneAddress address;
    char *path[DEMO_PICTURES]; /* below the data set's folder */
    char *line;                /* in its list, without the line's end */
} DemoPair;

/* A small text file: the lists, and the one that says what the folder holds. */
typedef struct {
    const char *path; /* below the data set's folder */
    char *text;
} DemoText;

#define DEMO_TEXTS 7

typedef struct {
    DemoSettings settings;
    int count[DEMO_SPLITS];
    DemoPair *pairs[DEMO_SPLITS]; /* in the order of the lists */
    DemoText texts[DEMO_TEXTS];   /* the first says what the folder holds */
} DemoSet;

/* Plans the data set; settings must be in range. */
DemoSet *demo_open(const DemoSettings *settings);
void demo_close(DemoSet *set);

/* Renders a pair at the size that its address draws (side 0) or at side x side. Free both pictures
 * with picture_free. */
void demo_render(const SceneAddress *address, int side, Picture picture[DEMO_PICTURES]);

/* Writes the data set into a folder that is new, empty, or holds this very set; in the last case
 * only missing pictures are added. *added: how many pairs were rendered. log may be NULL. Errors: a
 * folder with anything else in it, whatever cannot be written. What was written stays. */
int demo_write(const DemoSet *set, const char *folder, Pool *pool, Log *log, int64_t *added,
               Err *err);

/* Packs a data set that was written into one tar file, below the folder ROD-synROD/, as the
 * original is distributed. log may be NULL. */
int demo_write_tar(const DemoSet *set, const char *folder, const char *path, Log *log, Err *err);

/* Draws a contact sheet of all classes, 1200 pixels wide, and writes it as a PNG file. */
int demo_write_sheet(const DemoSet *set, const char *path, Pool *pool, Err *err);

#endif
