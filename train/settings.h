/* Every setting of a run, from three places: built-in defaults, then the YAML file that --config
 * names, then the command line. Names and defaults are those of the experiment's original program;
 * abbreviations of long options work as long as they are unambiguous. */
#ifndef RODEO_TRAIN_SETTINGS_H
#define RODEO_TRAIN_SETTINGS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Strings are owned by the Settings; NULL means not given. */
typedef struct {
    char *data_root;  /* folder that holds the data sets, or a tar file of it; needed */
    char *source;     /* "synROD" */
    char *target;     /* "ROD" */
    char *logdir;     /* "experiments" */
    char *suffix;     /* ending of the run name */
    char *pretrained; /* "none", "auto", or a safetensors or .pth file */
    char *cache_dir;  /* where packed data goes; NULL: pack_default_cache_dir */
    char *tier;       /* "auto", "device", "ram" or "disk" */
    char *device;     /* "auto", "cuda" or "cpu" */
    char *precision;  /* "auto", "fp32", "tf32", "fp16" or "bf16" */
    char *passes;     /* "auto", "merged" or "separate" */
    char *arch;       /* "resnet18" or "resnet50" */
    bool resume, smallset, sanitycheck;
    char *dump_plan; /* folder for some steps written out (plan_dump.h); NULL: train */
    int steps;       /* how many */
    int epochs, batch_size;
    double lr, lr_mult, weight_decay, momentum, dropout_p;
    double weight_rot, weight_ent;
    double checkpoint_minutes; /* between two checkpoints within an epoch; 0: after every step */
    double max_hours;          /* stop before this time; 0: no limit */
    int keep;                  /* epochs whose weights are kept; 0: none */
    int test_batches;          /* 0: all */
    int skip_bad;              /* pictures of a list that may be left out: they cannot be decoded */
    int num_workers;           /* loader threads; never more than the cores */
    int gpu;                   /* which CUDA device */
    int threads;               /* CPU threads for the operators; 0: all cores */
    uint64_t seed;
    int arch_width; /* channels of the stem and of the first stage; 64 */
    int image_size; /* pictures are resized to this square; 256 */
    int crop_size;  /* and cropped to this one; 224 */
} Settings;

/* The defaults. */
Settings settings_default(void);
void settings_free(Settings *settings);

/* Reads `train`'s command line (argp; -h and --help print every option with its default and end the
 * program, as does --version). A wrong option, a bad value, an unknown key in the YAML file: err
 * says which, and where. */
int settings_parse(Settings *settings, int argc, char **argv, Err *err);

/* Merges a YAML file into settings (libcyaml). Keys are the members' names above; all are optional.
 */
int settings_read_yaml(Settings *settings, const char *path, Err *err);

/* The same from a text; name stands for the file in messages. */
int settings_parse_yaml(Settings *settings, const char *yaml, const char *name, Err *err);

/* Checks every value against its range (batch_size >= 2, 0 <= dropout_p < 1, crop_size <=
 * image_size, and so on). */
int settings_check(const Settings *settings, Err *err);

/* All settings in force as a YAML file that settings_read_yaml takes; a new string. */
char *settings_to_yaml(const Settings *settings);

/* Depth of the two trunks: 18 or 50. */
int settings_depth(const Settings *settings);

/* The weight decay that the optimizers get: none in a sanity check. */
double settings_weight_decay(const Settings *settings);

/* The run's name, joined as the original program joins it, e.g.
 * rgbd-rr_resnet18_lr=0.0001_lr_mult=1.0_batch_size=32_epoches=40_weight_decay=0.05_weight_rot=1.0_
 * weight_ent=0.1_dataset=ROD-synROD[_SUFFIX]; dataset is TARGET-SOURCE, or "smallset". A new
 * string. weight_decay is the one in force, 0.0 in a sanity check. */
char *settings_run_name(const Settings *settings);

/* What must be the same when a run is resumed (network, classes, data sets, batch size, seed, ...):
 * compares two settings and fills err with the first difference, why it matters and what to do.
 * Returns 0 if a run saved under `saved` may go on under `now`. */
int settings_compatible(const Settings *saved, const Settings *now, Err *err);

#endif
