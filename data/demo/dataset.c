#include "data/demo/dataset.h"

#include "base/mem.h"
#include "data/demo/catalogue.h"
#include "data/demo/render.h"
#include "data/demo/sensor.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Goes into the file that says what a folder holds; raise it whenever a picture changes. */
#define DEMO_VERSION 1

#define SOURCE_MODELS 13 /* of a class; one of them is for testing only */
#define TARGET_MODELS 8
#define SMALL_CLASSES 5 /* of the small lists */
#define SMALL_PAIRS   200

static const int washington_videos[] = {1, 2, 4}; /* as the RGB-D Object Dataset numbers them */

/* First counter words of draws that belong to no scene; scenes have 0 and 1 in the low bits. */
enum { DRAW_ORDER = 2, DRAW_SENSOR = 3 };

/* Fills a synthetic pair: number `k` of its class in its split, `frame` of its class in all. */
static DemoPair source_pair(const DemoSettings *settings, int label, int k, int frame, bool test)
{
    const char *name = catalogue[label].name;
    int reserved = label % SOURCE_MODELS;
    int models = SOURCE_MODELS - 1;
    int model = test ? reserved : (reserved + 1 + k % models) % SOURCE_MODELS;
    int view = test ? k : k / models;
    DemoPair pair = {.address = {settings->seed, DOMAIN_SYNTHETIC, label, model, view}};
    char *file = mem_format("%s_%d_%02d_%08d.png", name, model, 1 + view % 99, frame);
    pair.path[DEMO_COLOUR] = mem_format("synROD/%s/rgb/%s", name, file);
    pair.path[DEMO_NORMALS] = mem_format("synROD/%s/depth/%s", name, file);
    pair.line = mem_format("%s/***/%s %d", name, file, label);
    free(file);
    return pair;
}

static DemoPair target_pair(const DemoSettings *settings, int label, int k)
{
    const char *name = catalogue[label].name;
    int model = k % TARGET_MODELS;
    int view = k / TARGET_MODELS;
    DemoPair pair = {.address = {settings->seed, DOMAIN_REAL, label, model, view}};
    char *file = mem_format("%s/%s_%d/%s_%d_%d_%d", name, name, model + 1, name, model + 1,
                            washington_videos[view % 3], 1 + 5 * (view / 3));
    pair.path[DEMO_COLOUR] = mem_format("ROD/rgb-washington/%s_crop.png", file);
    pair.path[DEMO_NORMALS] = mem_format("ROD/surfnorm-washington/%s_depthcrop.png", file);
    pair.line = mem_format("%s_***.png %d", file, label);
    free(file);
    return pair;
}

static void shuffle_target(DemoSet *set)
{
    Rng rng = rng_at(set->settings.seed, RNG_DEMO, DRAW_ORDER, 0, 0);
    DemoPair *pairs = set->pairs[DEMO_TARGET];
    for (int i = set->count[DEMO_TARGET] - 1; i > 0; i--) {
        uint32_t other = rng_below(&rng, (uint32_t)i + 1);
        DemoPair kept = pairs[i];
        pairs[i] = pairs[other];
        pairs[other] = kept;
    }
}

static void plan_pairs(DemoSet *set)
{
    const DemoSettings *settings = &set->settings;
    int per[DEMO_SPLITS] = {settings->per_class, settings->per_class / 4, settings->per_class};
    for (int split = 0; split < DEMO_SPLITS; split++) {
        set->pairs[split] = mem_zeroed((size_t)(settings->classes * per[split]), sizeof(DemoPair));
        for (int label = 0; label < settings->classes; label++) {
            for (int k = 0; k < per[split]; k++) {
                int frame = 1 + k + (split == DEMO_TEST ? settings->per_class : 0);
                set->pairs[split][set->count[split]++] =
                    split == DEMO_TARGET
                        ? target_pair(settings, label, k)
                        : source_pair(settings, label, k, frame, split == DEMO_TEST);
            }
        }
    }
    shuffle_target(set);
}

/* The list of a split; a small one has the first pairs of the first classes only. */
static char *list_text(const DemoSet *set, int split, bool small)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    int taken[SMALL_CLASSES] = {0};
    for (int i = 0; i < set->count[split]; i++) {
        const DemoPair *pair = &set->pairs[split][i];
        int label = pair->address.label;
        if (!small || (label < SMALL_CLASSES && taken[label]++ < SMALL_PAIRS)) {
            fprintf(stream, "%s\n", pair->line);
        }
    }
    if (fclose(stream) != 0) {
        fatal("no memory for a list of %d pairs", set->count[split]);
    }
    return text;
}

static void plan_texts(DemoSet *set)
{
    const DemoSettings *settings = &set->settings;
    char *marker = mem_format("demo data set of rodeo, version %d\nclasses %d\nper_class %d\n"
                              "seed %llu\n",
                              DEMO_VERSION, settings->classes, settings->per_class,
                              (unsigned long long)settings->seed);
    DemoText *text = set->texts;
    text[0] = (DemoText){"rodeo-demo.txt", marker};
    text[1] =
        (DemoText){"synROD/synARID_50k-split_sync_train1.txt", list_text(set, DEMO_TRAIN, false)};
    text[2] =
        (DemoText){"synROD/synARID_50k-split_sync_test1.txt", list_text(set, DEMO_TEST, false)};
    text[3] = (DemoText){"synROD/smallsynROD_train.txt", list_text(set, DEMO_TRAIN, true)};
    text[4] = (DemoText){"synROD/smallsynROD_test.txt", list_text(set, DEMO_TEST, true)};
    text[5] = (DemoText){"ROD/wrgbd_40k-split_sync.txt", list_text(set, DEMO_TARGET, false)};
    text[6] = (DemoText){"ROD/smallROD.txt", list_text(set, DEMO_TARGET, true)};
}

DemoSet *demo_open(const DemoSettings *settings)
{
    DemoSet *set = mem_zeroed(1, sizeof *set);
    set->settings = *settings;
    plan_pairs(set);
    plan_texts(set);
    return set;
}

void demo_close(DemoSet *set)
{
    if (!set) {
        return;
    }
    for (int split = 0; split < DEMO_SPLITS; split++) {
        for (int i = 0; i < set->count[split]; i++) {
            DemoPair *pair = &set->pairs[split][i];
            free(pair->path[DEMO_COLOUR]);
            free(pair->path[DEMO_NORMALS]);
            free(pair->line);
        }
        free(set->pairs[split]);
    }
    for (int i = 0; i < DEMO_TEXTS; i++) {
        free(set->texts[i].text);
    }
    free(set);
}

void demo_render(const SceneAddress *address, int side, Picture picture[DEMO_PICTURES])
{
    Scene scene;
    scene_compose(&scene, address, side);
    Frame frame = frame_render(&scene);
    uint32_t place = (uint32_t)address->label << 8 | (uint32_t)address->domain << 4 | DRAW_SENSOR;
    Rng rng =
        rng_at(address->seed, RNG_DEMO, place, (uint32_t)address->model, (uint32_t)address->view);
    picture[DEMO_COLOUR] = sensor_develop_colour(&scene.sensor, &frame, &rng);
    picture[DEMO_NORMALS] = sensor_develop_normals(&scene.sensor, &frame, &scene.camera, &rng);
    frame_free(&frame);
    scene_free(&scene);
}
