#include "train/settings_table.h"

#include "base/mem.h"
#include "base/number.h"
#include "base/text.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) .name = #member, .offset = offsetof(Settings, member)

/* Why a setting may not change in a run, where it is one of the numbers that steer the descent. */
#define LEARNED "what was learned so far followed from it"

static const Setting table[] = {
    {AT(data_root), .kind = SETTING_TEXT, .group = GROUP_DATA, .value = "FOLDER|TAR",
     .help = "Folder that holds the data sets, each in a folder of its name, or a tar file of it, "
             "plain, .gz or .zst, which is read once and never unpacked (needed)"},
    {AT(source), .kind = SETTING_NAMEPART, .group = GROUP_DATA, .value = "NAME",
     .fixed = "the run has learned from the pictures of one data set", .initial = "synROD",
     .help = "Data set with labels to learn from"},
    {AT(target), .kind = SETTING_NAMEPART, .group = GROUP_DATA, .value = "NAME",
     .fixed = "the run has adapted to one data set", .initial = "ROD",
     .help = "Data set to adapt to; its labels serve for testing only"},
    {AT(smallset), .kind = SETTING_FLAG, .group = GROUP_DATA, .initial = "false",
     .fixed = "the place in the epoch is a place in one list of pictures",
     .help = "Train and test on the small lists of the first five classes"},
    {AT(image_size), .kind = SETTING_INT, .group = GROUP_DATA, .value = "PIXELS",
     .fixed = "the network has learned on pictures of one size", .initial = "256", .low = 65,
     .high = 4096, .help = "Pictures are resized to a square of this side"},
    /* The network halves a picture five times, and a 3x3 window must still fit: ceil(65/32) = 3. */
    {AT(crop_size), .kind = SETTING_INT, .group = GROUP_DATA, .value = "PIXELS",
     .fixed = "the last layers have the size that follows from it", .initial = "224", .low = 65,
     .high = 4096,
     .help = "A square of this side is cut out of each, at a random place in training"},
    {AT(cache_dir), .kind = SETTING_TEXT, .group = GROUP_DATA, .value = "FOLDER",
     .help = "Where decoded pictures are kept in one packed file a data set (default: beside the "
             "data, or the working directory if that is read-only or a mounted Drive)"},
    {AT(tier), .kind = SETTING_TEXT, .group = GROUP_DATA, .value = "NAME", .initial = "auto",
     .choices = "auto device ram disk",
     .help =
         "Where decoded pictures are while training: device (in the GPU's memory, from their first "
         "use on), ram, disk (read ahead of every step), or auto: the first that has room"},
    {AT(skip_bad), .kind = SETTING_INT, .group = GROUP_DATA, .value = "COUNT", .initial = "0",
     .low = 0, .high = 1000000,
     .help = "Leave out up to this many pictures of a list that cannot be decoded, each with its "
             "partner, instead of stopping; they are listed in the pack (pack --info)"},
    {AT(logdir), .kind = SETTING_TEXT, .group = GROUP_RUN, .value = "FOLDER",
     .initial = "experiments",
     .help = "Where the run's own folder goes, with checkpoint, logs and TensorBoard events"},
    {AT(suffix), .kind = SETTING_NAMEPART, .group = GROUP_RUN, .value = "TEXT",
     .help = "Ending of the run's name, to tell apart runs with equal settings (default: none)"},
    {AT(resume), .kind = SETTING_FLAG, .group = GROUP_RUN, .initial = "false",
     .help = "Go on from the run's checkpoint if there is one, else start anew"},
    {AT(epochs), .kind = SETTING_INT, .group = GROUP_RUN, .value = "COUNT", .initial = "40",
     .low = 1, .high = 1000000, .help = "How many times the source data set is passed through"},
    /* A longer word, and argp would put the text's first line at the margin. */
    {AT(checkpoint_minutes), .kind = SETTING_REAL, .group = GROUP_RUN, .value = "MIN",
     .initial = "5.0", .low = 0, .high = INFINITY,
     .help = "Besides at the end of every epoch, write a checkpoint this often, in the background; "
             "fractions are allowed, 0 means after every step"},
    {AT(max_hours), .kind = SETTING_REAL, .group = GROUP_RUN, .value = "HOURS", .initial = "0.0",
     .low = 0, .high = INFINITY,
     .help =
         "Stop in time to have written a checkpoint within this many hours of the start, as for "
         "a signal (status 75); fractions are allowed, 0 means no limit"},
    {AT(keep), .kind = SETTING_INT, .group = GROUP_RUN, .value = "COUNT", .initial = "0", .low = 0,
     .high = 1000000,
     .help = "Keep the weights of the last COUNT epochs in files of their own, and those of the "
             "best epoch on the source's test set (choosing by the target's accuracy would use "
             "labels that the method may not see: an oracle); 0 keeps none"},
    {AT(test_batches), .kind = SETTING_INT, .group = GROUP_RUN, .value = "COUNT", .initial = "100",
     .low = 0, .high = INT_MAX,
     .help = "After an epoch, test on at most this many batches of the source set and of the "
             "rotation tasks; 0 means all. The target set is always tested whole"},
    {AT(sanitycheck), .kind = SETTING_FLAG, .group = GROUP_RUN, .initial = "false",
     .fixed = "it changes what is learned",
     .help = "Train without weight decay and print the mean classification loss after every "
             "batch: it must fall"},
    {AT(dump_plan), .kind = SETTING_TEXT, .group = GROUP_RUN, .value = "FOLDER",
     .help =
         "Instead of training, run --steps steps and write them to this folder: pictures, "
         "crops, flips, rotations, dropout keys, losses, gradients' norms, and the weights "
         "before and after; tests/reference/replay.py repeats them in PyTorch. --precision auto "
         "means fp32 here"},
    {AT(steps), .kind = SETTING_INT, .group = GROUP_RUN, .value = "COUNT", .initial = "20",
     .low = 0, .high = 1000000, .help = "Steps that --dump_plan runs; 0 writes the weights alone"},
    {AT(seed), .kind = SETTING_SEED, .group = GROUP_RUN, .value = "NUMBER", .initial = "0",
     .fixed = "every random choice follows from it, also those that were made already",
     .help = "Every random choice follows from this number"},
    {AT(batch_size), .kind = SETTING_INT, .group = GROUP_OPTIMISATION, .value = "PAIRS",
     .initial = "32", .low = 2, .high = 65536,
     .fixed = "the place in the epoch is counted in batches",
     .help = "Picture pairs in a batch; a step takes four batches"},
    {AT(lr), .kind = SETTING_REAL, .group = GROUP_OPTIMISATION, .value = "NUMBER",
     .initial = "0.0001", .low = 0, .high = INFINITY, .fixed = LEARNED, .help = "Learning rate"},
    {AT(lr_mult), .kind = SETTING_REAL, .group = GROUP_OPTIMISATION, .value = "NUMBER",
     .initial = "1.0", .low = 0, .high = INFINITY, .fixed = LEARNED,
     .help = "The two heads learn at --lr times this"},
    {AT(momentum), .kind = SETTING_REAL, .group = GROUP_OPTIMISATION, .value = "NUMBER",
     .initial = "0.9", .low = 0, .high = 1, .below_high = true, .fixed = LEARNED,
     .help = "Momentum of the gradient descent"},
    {AT(weight_decay), .kind = SETTING_REAL, .group = GROUP_OPTIMISATION, .value = "NUMBER",
     .initial = "0.05", .low = 0, .high = INFINITY, .fixed = LEARNED,
     .help = "L2 term on every parameter"},
    {AT(dropout_p), .kind = SETTING_REAL, .group = GROUP_OPTIMISATION, .value = "NUMBER",
     .initial = "0.5", .low = 0, .high = 1, .below_high = true, .fixed = LEARNED,
     .help = "Share of features that the main head drops in training"},
    {AT(weight_rot), .kind = SETTING_REAL, .group = GROUP_OPTIMISATION, .value = "NUMBER",
     .initial = "1.0", .low = 0, .high = INFINITY, .fixed = LEARNED,
     .help = "Weight of the relative rotation losses; 0 leaves the task out"},
    {AT(weight_ent), .kind = SETTING_REAL, .group = GROUP_OPTIMISATION, .value = "NUMBER",
     .initial = "0.1", .low = 0, .high = INFINITY, .fixed = LEARNED,
     .help = "Weight of the entropy loss on target pictures; 0 leaves it out"},
    {AT(arch), .kind = SETTING_TEXT, .group = GROUP_NETWORK, .value = "NAME", .initial = "resnet18",
     .choices = "resnet18 resnet50", .fixed = "the saved weights are those of another network",
     .help = "The two trunks: resnet18 or resnet50"},
    {AT(arch_width), .kind = SETTING_INT, .group = GROUP_NETWORK, .value = "CHANNELS",
     .initial = "64", .low = 1, .high = 1024,
     .fixed = "the saved weights are those of another network",
     .help = "Channels of the trunks' first stage; the later ones grow with it"},
    {AT(pretrained), .kind = SETTING_TEXT, .group = GROUP_NETWORK, .value = "FILE",
     .initial = "auto",
     .help =
         "Weights that both trunks start from: a safetensors or .pth file with torchvision's "
         "names, auto (torchvision's own ImageNet weights, in PyTorch's download folder; random "
         "ones if --arch_width is not 64, for which there are none), or none: random ones"},
    {AT(device), .kind = SETTING_TEXT, .group = GROUP_MACHINE, .value = "NAME", .initial = "auto",
     .choices = "auto cuda cpu", .help = "Where to compute: auto, cuda or cpu"},
    {AT(precision), .kind = SETTING_TEXT, .group = GROUP_MACHINE, .value = "NAME",
     .initial = "auto", .choices = "auto fp32 tf32 fp16 bf16",
     .help = "Number format of the computation: fp32, tf32, fp16 with a dynamic loss scale, bf16, "
             "or auto: fp16 on GPUs with tensor cores, else fp32"},
    {AT(passes), .kind = SETTING_TEXT, .group = GROUP_MACHINE, .value = "NAME", .initial = "auto",
     .choices = "auto merged separate",
     .help = "Run a step's four batches through the network merged into one, or one after the "
             "other in less memory; auto: merged where the GPU's memory suffices"},
    {AT(gpu), .kind = SETTING_INT, .group = GROUP_MACHINE, .value = "NUMBER", .initial = "0",
     .low = 0, .high = 1023, .help = "Which CUDA device"},
    {AT(num_workers), .kind = SETTING_INT, .group = GROUP_MACHINE, .value = "COUNT", .initial = "4",
     .low = 0, .high = 1024,
     .help = "Threads that prepare pictures; never more than there are cores"},
    {AT(threads), .kind = SETTING_INT, .group = GROUP_MACHINE, .value = "COUNT", .initial = "0",
     .low = 0, .high = 1024, .help = "Threads that compute on the CPU; 0 means one a core"},
};

size_t setting_count(void)
{
    return sizeof table / sizeof table[0];
}

const Setting *setting_at(size_t i)
{
    return i < setting_count() ? &table[i] : NULL;
}

static bool is_text(const Setting *setting)
{
    return setting->kind == SETTING_TEXT || setting->kind == SETTING_NAMEPART;
}

/* Says in words what a setting that is no number takes. */
static int refuse(const Setting *setting, const char *label, const char *text, Err *err)
{
    if (setting->kind == SETTING_FLAG) {
        return err_set(err, "%s: '%s' is not allowed: give true or false", label, text);
    }
    if (setting->choices) {
        return err_set(err, "%s: '%s' is not allowed: give one of: %s", label, text,
                       setting->choices);
    }
    if (setting->kind == SETTING_NAMEPART) {
        return err_set(err,
                       "%s: '%s' is not allowed: give a name in UTF-8 without '/' (null and ~ "
                       "are reserved)",
                       label, text);
    }
    return err_set(err, "%s: '%s' is not allowed: give a text in UTF-8 (null and ~ are reserved)%s",
                   label, text, setting->initial ? " that is not empty" : "");
}

static bool is_utf8(const char *text)
{
    uint32_t point;
    int bytes = 1;
    for (; *text && bytes > 0; text += bytes) {
        bytes = text_first_character(text, &point);
    }
    return bytes > 0;
}

static bool is_choice(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (const char *c = choices; length > 0 && c; c = strchr(c, ' ')) {
        c += *c == ' ';
        if (strncmp(c, word, length) == 0 && (c[length] == ' ' || c[length] == '\0')) {
            return true;
        }
    }
    return false;
}

static bool text_allowed(const Setting *setting, const char *text)
{
    if (text[0] == '\0') {
        return !setting->initial;
    }
    if (setting->choices) {
        return is_choice(setting->choices, text);
    }
    if (setting->kind == SETTING_NAMEPART && strchr(text, '/')) {
        return false;
    }
    /* YAML's own words for "nothing": a folder of that name is never meant. */
    bool reserved = strcasecmp(text, "null") == 0 || strcmp(text, "~") == 0;
    return !reserved && is_utf8(text);
}

static bool parse_flag(const char *text, bool *flag)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        return false;
    }
    *flag = text[0] == 't';
    return true;
}

static void store_text(char **member, const char *text)
{
    char *copy = text[0] ? mem_string(text) : NULL;
    free(*member);
    *member = copy;
}

/* Parses and stores anything but a text. */
static int parse_value(void *member, const Setting *setting, const char *label, const char *text,
                       Err *err)
{
    NumberRange range = {setting->low, setting->high, setting->below_high};
    switch (setting->kind) {
    case SETTING_INT:
        return number_parse_int(label, text, (int)range.low, (int)range.high, member, err);
    case SETTING_REAL:
        return number_parse_double(label, text, range, member, err);
    case SETTING_SEED:
        return number_parse_uint64(label, text, member, err);
    default:
        return parse_flag(text, member) ? 0 : refuse(setting, label, text, err);
    }
}

int setting_parse(Settings *settings, const Setting *setting, const char *label, const char *text,
                  Err *err)
{
    char *member = (char *)settings + setting->offset;
    if (is_text(setting)) {
        if (!text_allowed(setting, text)) {
            return refuse(setting, label, text, err);
        }
        store_text((char **)(void *)member, text);
        return 0;
    }
    return parse_value(member, setting, label, text, err);
}

char *setting_text(const Settings *settings, const Setting *setting)
{
    const void *member = (const char *)settings + setting->offset;
    char number[TEXT_DOUBLE_SIZE];
    switch (setting->kind) {
    case SETTING_FLAG:
        return mem_string(*(const bool *)member ? "true" : "false");
    case SETTING_INT:
        return mem_format("%d", *(const int *)member);
    case SETTING_REAL:
        return mem_string(text_double(*(const double *)member, number));
    case SETTING_SEED:
        return mem_format("%" PRIu64, *(const uint64_t *)member);
    default: {
        const char *text = *(char *const *)member;
        return text ? mem_string(text) : NULL;
    }
    }
}
