/* Names, shapes and places of the network's tensors against torchvision's state dicts and the
 * experiment's heads (golden/make_names.py), the order of elements in a file, and initial values.
 */
#include "base/mem.h"
#include "base/path.h"
#include "model/net.h"
#include "tensors.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WIDTH   64
#define CROP    224
#define CLASSES 47

/* A network's tables alone: no device memory. */
typedef struct {
    Params params;
    Trunk rgb, depth;
    MainHead main;
    RotationHead rotation;
} Tables;

static void tables_open(Tables *t, int depth)
{
    *t = (Tables){0};
    TrunkConfig config = {.depth = depth, .width = WIDTH, .crop = CROP};
    trunk_add(&t->rgb, &t->params, PARAM_RGB_TRUNK, &config, "rgb");
    trunk_add(&t->depth, &t->params, PARAM_DEPTH_TRUNK, &config, "depth");
    main_head_add(&t->main, &t->params, t->rgb.channels, t->rgb.side, CLASSES, 0.5f);
    rotation_head_add(&t->rotation, &t->params, t->rgb.channels, t->rgb.side, 0.5f);
}

static void tables_close(Tables *t)
{
    params_free(&t->params);
}

/* ---- names and shapes
 * ---------------------------------------------------------------------------- */

/* What of the tables has been compared so far. */
typedef struct {
    const Params *params;
    int weights, running, norms;
} Cursor;

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text);
    return length >= strlen(ending) && strcmp(text + length - strlen(ending), ending) == 0;
}

static void expect_tensor(const ParamTable *table, int *next, const char *name, const char *dims)
{
    assert_true(*next < table->count);
    const ParamSpec *spec = &table->spec[(*next)++];
    int64_t shape[PARAM_MAX_DIMS];
    char text[128] = "";
    int ndim = param_file_shape(spec, shape);
    for (int i = 0; i < ndim; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, " %" PRId64, shape[i]);
    }
    assert_string_equal(spec->name, name);
    assert_string_equal(text, dims);
}

static void expect_entry(Cursor *cursor, const char *name, const char *dims)
{
    const Params *params = cursor->params;
    if (ends_with(name, ".num_batches_tracked")) {
        assert_true(cursor->norms < params->norms);
        char counter[128];
        snprintf(counter, sizeof counter, "%s.num_batches_tracked",
                 params->norm[cursor->norms++].name);
        assert_string_equal(counter, name);
        assert_string_equal(dims, "");
    } else if (ends_with(name, ".running_mean") || ends_with(name, ".running_var")) {
        expect_tensor(&params->running, &cursor->running, name, dims);
    } else {
        expect_tensor(&params->weights, &cursor->weights, name, dims);
    }
}

/* Walks the lines "SECTION NAME DIM ..." of one section. */
static void expect_section(Cursor *cursor, const char *list, const char *section,
                           const char *prefix)
{
    int entries = 0;
    for (const char *line = list; *line; line = strchr(line, '\n') + 1) {
        size_t length = strlen(section);
        if (strncmp(line, section, length) != 0 || line[length] != ' ') {
            continue;
        }
        char rest[128];
        char name[128];
        int bytes = (int)(strchr(line, '\n') - line - (ptrdiff_t)length - 1);
        snprintf(rest, sizeof rest, "%.*s", bytes, line + length + 1);
        size_t name_length = strcspn(rest, " ");
        snprintf(name, sizeof name, "%s.%.*s", prefix, (int)name_length, rest);
        expect_entry(cursor, name, rest + name_length);
        entries++;
    }
    assert_true(entries > 0);
}

static void check_names(int depth, const char *const sections[4])
{
    static const char *const prefixes[] = {"rgb", "depth", "main", "rotation"};
    Err err;
    char *list = path_read(RODEO_TEST_DATA "/golden/names.txt", NULL, &err);
    assert_non_null(list);
    Tables t;
    tables_open(&t, depth);
    Cursor cursor = {.params = &t.params};
    for (int i = 0; i < 4; i++) {
        expect_section(&cursor, list, sections[i], prefixes[i]);
    }
    assert_int_equal(cursor.weights, t.params.weights.count);
    assert_int_equal(cursor.running, t.params.running.count);
    assert_int_equal(cursor.norms, t.params.norms);
    tables_close(&t);
    free(list);
}

static void resnet18_is_named_as_in_torchvision(void **state)
{
    (void)state;
    check_names(18, (const char *[]){"resnet18", "resnet18", "main18", "rotation18"});
}

static void resnet50_is_named_as_in_torchvision(void **state)
{
    (void)state;
    check_names(50, (const char *[]){"resnet50", "resnet50", "main50", "rotation50"});
}

static void parameters_are_as_many_as_published(void **state)
{
    (void)state;
    Tables t;
    tables_open(&t, 18);
    int64_t total = 0;
    for (int group = 0; group < PARAM_GROUPS; group++) {
        total += params_count(&t.params, (ParamGroup)group);
    }
    assert_int_equal(params_count(&t.params, PARAM_RGB_TRUNK), 11176512);
    assert_int_equal(params_count(&t.params, PARAM_DEPTH_TRUNK), 11176512);
    assert_int_equal(params_count(&t.params, PARAM_MAIN_HEAD), 1074047);
    assert_int_equal(params_count(&t.params, PARAM_ROTATION_HEAD), 283704);
    assert_int_equal(total, 23710775);
    tables_close(&t);
    tables_open(&t, 50);
    assert_int_equal(params_count(&t.params, PARAM_RGB_TRUNK), 23508032);
    assert_int_equal(params_count(&t.params, PARAM_DEPTH_TRUNK), 23508032);
    tables_close(&t);
}

/* ---- places
 * -------------------------------------------------------------------------------------- */

static void check_places(const ParamTable *table)
{
    int64_t end = 0;
    for (int i = 0; i < table->count; i++) {
        assert_int_equal(table->spec[i].offset % PARAM_ALIGN, 0);
        assert_true(table->spec[i].offset >= end);
        assert_true(table->spec[i].offset < end + PARAM_ALIGN);
        end = table->spec[i].offset + table->spec[i].count;
    }
    assert_true(table->elements >= end && table->elements % PARAM_ALIGN == 0);
}

static void tensors_are_aligned_and_apart(void **state)
{
    (void)state;
    Tables t;
    tables_open(&t, 18);
    check_places(&t.params.weights);
    check_places(&t.params.running);
    tables_close(&t);
}

static void groups_tile_the_arena(void **state)
{
    (void)state;
    Tables t;
    tables_open(&t, 18);
    const ParamTable *table = &t.params.weights;
    int64_t end = 0;
    for (int group = 0; group < PARAM_GROUPS; group++) {
        int64_t offset;
        int64_t count;
        param_group_range(table, (ParamGroup)group, &offset, &count);
        assert_int_equal(offset, end);
        end = offset + count;
        for (int i = 0; i < table->count; i++) {
            const ParamSpec *spec = &table->spec[i];
            bool inside = spec->offset >= offset && spec->offset + spec->count <= end;
            assert_int_equal(inside, (int)spec->group == group);
        }
    }
    assert_int_equal(end, table->elements);
    tables_close(&t);
}

static void an_absent_group_has_no_range(void **state)
{
    (void)state;
    ParamTable table = {0};
    param_table_add(&table, PARAM_DEPTH_TRUNK, INIT_ZERO, 1, 1, &(int){5}, "x");
    int64_t offset;
    int64_t count;
    param_group_range(&table, PARAM_MAIN_HEAD, &offset, &count);
    assert_int_equal(count, 0);
    free(table.spec);
}

/* ---- order of elements
 * --------------------------------------------------------------------------- */

/* A tensor [2,1,3,2] = [K,R,S,C] whose elements in memory are named k s c. */
static const float in_memory[] = {0,   1,   10,  11,  20,  21, /* k = 0: s = 0, 1, 2; c = 0, 1 */
                                  100, 101, 110, 111, 120, 121};
/* [K,C,R,S], and likewise the flattened [K, C R S]: channels before positions. */
static const float in_file[] = {0, 10, 20, 1, 11, 21, 100, 110, 120, 101, 111, 121};

static void check_permutation(int file_ndim, int64_t expected_second_dim)
{
    ParamTable table = {0};
    param_table_add(&table, PARAM_RGB_TRUNK, INIT_ZERO, file_ndim, 4, (int[]){2, 1, 3, 2}, "x");
    int64_t shape[PARAM_MAX_DIMS];
    float file[12];
    float memory[12];
    assert_int_equal(param_file_shape(table.spec, shape), file_ndim);
    assert_int_equal(shape[0], 2);
    assert_int_equal(shape[1], expected_second_dim);
    param_to_file_order(table.spec, in_memory, file);
    assert_memory_equal(file, in_file, sizeof in_file);
    param_from_file_order(table.spec, in_file, memory);
    assert_memory_equal(memory, in_memory, sizeof in_memory);
    free(table.spec);
}

static void files_have_channels_before_positions(void **state)
{
    (void)state;
    check_permutation(4, 2);
}

static void flattened_maps_have_channels_first_in_files(void **state)
{
    (void)state;
    check_permutation(2, 6);
}

static void every_tensor_survives_the_way_through_a_file(void **state)
{
    (void)state;
    Tables t;
    tables_open(&t, 18);
    for (int i = 0; i < t.params.weights.count; i++) {
        const ParamSpec *spec = &t.params.weights.spec[i];
        size_t bytes = (size_t)spec->count * sizeof(float);
        float *start = mem_alloc(bytes);
        float *file = mem_alloc(bytes);
        float *end = mem_alloc(bytes);
        for (int64_t e = 0; e < spec->count; e++) {
            start[e] = (float)e; /* below 2^24: all different */
        }
        param_to_file_order(spec, start, file);
        param_from_file_order(spec, file, end);
        assert_memory_equal(start, end, bytes);
        free(start);
        free(file);
        free(end);
    }
    tables_close(&t);
}

/* ---- initial values
 * ------------------------------------------------------------------------------- */

typedef struct {
    Backend *be;
    Net *net;
    float *w; /* host */
} Initial;

static Initial initial_open(int width, uint64_t seed)
{
    Initial initial = {.be = tensors_open_backend()};
    NetConfig config = {.trunk = {.depth = 18, .width = width, .crop = 65}, .classes = CLASSES};
    NetStep step = {.batch = 2, .main_groups = 1};
    Err err;
    initial.net = net_open(initial.be, &config, &step, seed, &err);
    assert_non_null(initial.net);
    size_t bytes = (size_t)initial.net->params.weights.elements * sizeof(float);
    initial.w = mem_alloc(bytes);
    device_copy_out(initial.be, initial.w, initial.net->params.w, bytes);
    return initial;
}

static void initial_close(Initial *initial)
{
    free(initial->w);
    net_close(initial->net);
    device_close(initial->be);
}

static const ParamSpec *find_spec(const ParamTable *table, const char *name)
{
    for (int i = 0; i < table->count; i++) {
        if (strcmp(table->spec[i].name, name) == 0) {
            return &table->spec[i];
        }
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x > y) - (x < y);
}

typedef double Cdf(double x, double mean, double scale);

static double normal_cdf(double x, double mean, double std)
{
    return 0.5 * erfc((mean - x) / (std * sqrt(2.0)));
}

static double uniform_cdf(double x, double mean, double bound)
{
    return fmin(fmax((x - mean + bound) / (2.0 * bound), 0.0), 1.0);
}

/* The largest distance between the sorted values' distribution and the expected one. */
static double kolmogorov_smirnov(const float *sorted, int64_t count, Cdf *cdf, double mean,
                                 double scale)
{
    double worst = 0;
    for (int64_t i = 0; i < count; i++) {
        double expected = cdf(sorted[i], mean, scale);
        worst = fmax(worst, fabs(expected - (double)i / (double)count));
        worst = fmax(worst, fabs(expected - (double)(i + 1) / (double)count));
    }
    return worst;
}

/* The seed is fixed, so a correct program passes or fails for good: the bounds are what about one
 * in 10,000 seeds exceeds. */
static void expect_distribution(const Initial *initial, const char *name, Cdf *cdf, double mean,
                                double scale)
{
    const ParamSpec *spec = find_spec(&initial->net->params.weights, name);
    float *value = initial->w + spec->offset;
    double n = (double)spec->count;
    double std = cdf == uniform_cdf ? scale / sqrt(3.0) : scale;
    double sum = 0;
    double squares = 0;
    for (int64_t i = 0; i < spec->count; i++) {
        sum += value[i] - mean;
        squares += (value[i] - mean) * (value[i] - mean);
    }
    qsort(value, (size_t)spec->count, sizeof *value, compare_floats);
    double distance = kolmogorov_smirnov(value, spec->count, cdf, mean, scale) * sqrt(n);
    double mean_error = fabs(sum / n) / std * sqrt(n);
    double std_error = fabs(sqrt(squares / n) / std - 1.0) * sqrt(2.0 * n);
    if (distance > 2.23 || mean_error > 3.9 || std_error > 3.9) {
        fail_msg("%s: distance %.2f, mean off by %.2f and deviation by %.2f standard errors", name,
                 distance, mean_error, std_error);
    }
    if (cdf == uniform_cdf) {
        /* The bounds are published with five digits. */
        assert_true(value[0] >= -scale - 5e-6 && value[spec->count - 1] <= scale + 5e-6);
    }
}

static void initial_values_have_the_experiments_distributions(void **state)
{
    (void)state;
    Initial initial = initial_open(WIDTH, 7);
    expect_distribution(&initial, "rgb.conv1.weight", normal_cdf, 0, sqrt(2.0 / (64 * 49)));
    expect_distribution(&initial, "depth.layer1.0.conv2.weight", normal_cdf, 0,
                        sqrt(2.0 / (64 * 9)));
    expect_distribution(&initial, "rgb.layer4.0.downsample.0.weight", normal_cdf, 0,
                        sqrt(2.0 / 512));
    expect_distribution(&initial, "rotation.conv_1x1.0.weight", uniform_cdf, 0, 0.07306);
    expect_distribution(&initial, "rotation.conv_3x3.0.weight", uniform_cdf, 0, 0.05774);
    expect_distribution(&initial, "main.fc1.0.weight", normal_cdf, 0, 0.01);
    expect_distribution(&initial, "main.fc1.0.bias", normal_cdf, 0, 0.01);
    expect_distribution(&initial, "main.fc1.1.weight", normal_cdf, 1, 0.01);
    expect_distribution(&initial, "main.fc2.weight", normal_cdf, 0, 0.01);
    expect_distribution(&initial, "main.fc2.bias", normal_cdf, 0, 0.01);
    expect_distribution(&initial, "rotation.conv_1x1.1.weight", normal_cdf, 1, 0.01);
    expect_distribution(&initial, "rotation.fc1.0.weight", normal_cdf, 0, 0.01);
    expect_distribution(&initial, "rotation.fc1.1.weight", normal_cdf, 1, 0.01);
    expect_distribution(&initial, "rotation.fc2.weight", normal_cdf, 0, 0.01);
    initial_close(&initial);
}

static void expect_constant(const float *arena, const ParamSpec *spec, float constant)
{
    for (int64_t i = 0; i < spec->count; i++) {
        if (arena[spec->offset + i] != constant) {
            fail_msg("%s starts with %g", spec->name, (double)arena[spec->offset + i]);
        }
    }
}

static bool is_linear(const char *name)
{
    return strstr(name, ".fc1.0.") || strstr(name, ".fc2.");
}

static void the_rest_starts_at_zero_or_one(void **state)
{
    (void)state;
    Initial initial = initial_open(4, 7);
    const Params *params = &initial.net->params;
    for (int i = 0; i < params->weights.count; i++) {
        const ParamSpec *spec = &params->weights.spec[i];
        bool trunk = spec->group == PARAM_RGB_TRUNK || spec->group == PARAM_DEPTH_TRUNK;
        if (trunk && spec->ndim == 1 && ends_with(spec->name, ".weight")) {
            expect_constant(initial.w, spec, 1.0f);
        } else if (ends_with(spec->name, ".bias") && !is_linear(spec->name)) {
            expect_constant(initial.w, spec, 0.0f);
        }
    }
    size_t bytes = (size_t)params->running.elements * sizeof(float);
    float *running = mem_alloc(bytes);
    device_copy_out(initial.be, running, params->running_stats, bytes);
    for (int i = 0; i < params->running.count; i++) {
        const ParamSpec *spec = &params->running.spec[i];
        expect_constant(running, spec, ends_with(spec->name, ".running_var") ? 1.0f : 0.0f);
    }
    for (int i = 0; i < params->norms; i++) {
        assert_int_equal(params->norm[i].batches, 0);
    }
    free(running);
    initial_close(&initial);
}

static void padding_is_zero(void **state)
{
    (void)state;
    Initial initial = initial_open(4, 7);
    const ParamTable *table = &initial.net->params.weights;
    int64_t padding = 0;
    for (int i = 0; i < table->count; i++) {
        int64_t end = i + 1 < table->count ? table->spec[i + 1].offset : table->elements;
        for (int64_t e = table->spec[i].offset + table->spec[i].count; e < end; e++) {
            assert_true(initial.w[e] == 0.0f);
            padding++;
        }
    }
    assert_true(padding > 0);
    initial_close(&initial);
}

static void the_seed_decides_the_initial_values(void **state)
{
    (void)state;
    Initial first = initial_open(4, 7);
    Initial again = initial_open(4, 7);
    Initial other = initial_open(4, 8);
    const ParamTable *table = &first.net->params.weights;
    assert_memory_equal(first.w, again.w, (size_t)table->elements * sizeof(float));
    for (int i = 0; i < table->count; i++) {
        const ParamSpec *spec = &table->spec[i];
        bool drawn = spec->init != INIT_ZERO && spec->init != INIT_ONE;
        for (int64_t e = spec->offset; drawn && e < spec->offset + spec->count; e++) {
            if (first.w[e] != other.w[e]) {
                drawn = false; /* as it should: the seeds differ */
            }
        }
        assert_false(drawn);
    }
    initial_close(&first);
    initial_close(&again);
    initial_close(&other);
}

/* Each tensor, and each chunk of a large one, draws numbers of its own. */
static void tensors_do_not_repeat_each_other(void **state)
{
    (void)state;
    Initial initial = initial_open(WIDTH, 7);
    const ParamTable *table = &initial.net->params.weights;
    const float *rgb = initial.w + find_spec(table, "rgb.layer4.1.conv2.weight")->offset;
    const float *depth = initial.w + find_spec(table, "depth.layer4.1.conv2.weight")->offset;
    const int64_t chunk = 65536;
    assert_memory_not_equal(rgb, depth, 64 * sizeof(float));
    assert_memory_not_equal(rgb, rgb + chunk, 64 * sizeof(float));
    initial_close(&initial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resnet18_is_named_as_in_torchvision),
        cmocka_unit_test(resnet50_is_named_as_in_torchvision),
        cmocka_unit_test(parameters_are_as_many_as_published),
        cmocka_unit_test(tensors_are_aligned_and_apart),
        cmocka_unit_test(groups_tile_the_arena),
        cmocka_unit_test(an_absent_group_has_no_range),
        cmocka_unit_test(files_have_channels_before_positions),
        cmocka_unit_test(flattened_maps_have_channels_first_in_files),
        cmocka_unit_test(every_tensor_survives_the_way_through_a_file),
        cmocka_unit_test(initial_values_have_the_experiments_distributions),
        cmocka_unit_test(the_rest_starts_at_zero_or_one),
        cmocka_unit_test(padding_is_zero),
        cmocka_unit_test(the_seed_decides_the_initial_values),
        cmocka_unit_test(tensors_do_not_repeat_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
