/* A network's state on its way through a weight file, and pretrained trunks. */
#include "base/mem.h"
#include "base/rng.h"
#include "model/weights.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static Net *open_net(Backend *be, uint64_t seed)
{
    NetConfig config = {.trunk = {.depth = 18, .width = 4, .crop = 65}, .classes = 5};
    NetStep step = {.batch = 2, .main_groups = 1, .rotation_groups = 2};
    Err err;
    Net *net = net_open(be, &config, &step, seed, &err);
    assert_non_null(net);
    return net;
}

static void fill(Backend *be, const ParamTable *table, float *arena, uint64_t seed)
{
    float *host = mem_zeroed((size_t)table->elements, sizeof *host);
    Rng rng = rng_at(seed, RNG_DEMO, 0, 0, 0);
    for (int i = 0; i < table->count; i++) {
        for (int64_t e = 0; e < table->spec[i].count; e++) {
            host[table->spec[i].offset + e] = (float)rng_normal(&rng);
        }
    }
    device_copy_in(be, arena, host, (size_t)table->elements * sizeof *host);
    device_synchronize(be);
    free(host);
}

/* As after some training: nothing has its initial value. */
static Net *open_trained_net(Backend *be)
{
    Net *net = open_net(be, 1);
    fill(be, &net->params.weights, net->params.w, 1);
    fill(be, &net->params.weights, net->params.v, 2);
    fill(be, &net->params.running, net->params.running_stats, 3);
    for (int i = 0; i < net->params.norms; i++) {
        net->params.norm[i].batches = 1000 + i;
    }
    return net;
}

/* ---- what a network holds
 * ------------------------------------------------------------------------ */

typedef struct {
    float *w, *v, *running;
    int64_t *batches;
} Snapshot;

static float *arena_snapshot(Backend *be, const ParamTable *table, const float *arena)
{
    size_t bytes = (size_t)table->elements * sizeof(float);
    float *host = mem_alloc(bytes);
    device_copy_out(be, host, arena, bytes);
    return host;
}

static Snapshot snapshot(const Net *net)
{
    const Params *params = &net->params;
    Snapshot s = {.w = arena_snapshot(net->be, &params->weights, params->w),
                  .v = arena_snapshot(net->be, &params->weights, params->v),
                  .running = arena_snapshot(net->be, &params->running, params->running_stats),
                  .batches = mem_alloc((size_t)params->norms * sizeof(int64_t))};
    for (int i = 0; i < params->norms; i++) {
        s.batches[i] = params->norm[i].batches;
    }
    return s;
}

static void snapshot_free(Snapshot *s)
{
    free(s->w);
    free(s->v);
    free(s->running);
    free(s->batches);
}

/* Compares all but momentum. */
static void expect_same_network(const Net *net, const Snapshot *a, const Snapshot *b)
{
    const Params *params = &net->params;
    size_t bytes = (size_t)params->weights.elements * sizeof(float);
    assert_memory_equal(a->w, b->w, bytes);
    assert_memory_equal(a->running, b->running, (size_t)params->running.elements * sizeof(float));
    assert_memory_equal(a->batches, b->batches, (size_t)params->norms * sizeof(int64_t));
}

static void expect_same_momentum(const Net *net, const Snapshot *a, const Snapshot *b)
{
    assert_memory_equal(a->v, b->v, (size_t)net->params.weights.elements * sizeof(float));
}

/* ---- a network and a file to load into it
 * --------------------------------------------------------- */

typedef struct {
    char folder[64];
    char path[96];
    Backend *be;
    Net *trained; /* what files are made from */
    Net *net;     /* what they are loaded into */
    WeightList list;
    SafeTensor *tensor; /* what is written: the list's, to be changed */
    int count;
    Snapshot before; /* of net */
} Fixture;

static int open_fixture(void **state)
{
    Fixture *f = mem_zeroed(1, sizeof *f);
    *state = f;
    snprintf(f->folder, sizeof f->folder, "/tmp/test_weights.XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/x.safetensors", f->folder);
    f->be = tensors_open_backend();
    f->trained = open_trained_net(f->be);
    f->net = open_net(f->be, 2);
    f->list = weights_collect(f->trained);
    f->tensor = mem_alloc(((size_t)f->list.count + 2) * sizeof *f->tensor);
    memcpy(f->tensor, f->list.tensor, (size_t)f->list.count * sizeof *f->tensor);
    f->count = f->list.count;
    f->before = snapshot(f->net);
    return 0;
}

static int close_fixture(void **state)
{
    Fixture *f = *state;
    snapshot_free(&f->before);
    free(f->tensor);
    weights_free(&f->list);
    net_close(f->net);
    net_close(f->trained);
    device_close(f->be);
    unlink(f->path);
    rmdir(f->folder);
    free(f);
    return 0;
}

static void write_file(const Fixture *f)
{
    Err err = {""};
    if (safetensors_write(f->path, NULL, f->tensor, f->count, NULL, 0, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static SafeTensor *find_tensor(const Fixture *f, const char *name)
{
    for (int i = 0; i < f->count; i++) {
        if (strcmp(f->tensor[i].name, name) == 0) {
            return &f->tensor[i];
        }
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static void leave_out(Fixture *f, const char *name)
{
    SafeTensor *tensor = find_tensor(f, name);
    *tensor = f->tensor[--f->count];
}

static void add_number(Fixture *f, const char *name)
{
    static const float number = 1.0f;
    f->tensor[f->count++] =
        (SafeTensor){.name = name, .dtype = "F32", .data = &number, .bytes = sizeof number};
}

/* Keeps the tensors whose names start with `prefix`, without it. */
static void keep_only(Fixture *f, const char *prefix)
{
    int kept = 0;
    for (int i = 0; i < f->count; i++) {
        if (strncmp(f->tensor[i].name, prefix, strlen(prefix)) == 0) {
            f->tensor[kept] = f->tensor[i];
            f->tensor[kept++].name += strlen(prefix);
        }
    }
    f->count = kept;
}

/* Leaves out the tensors whose names contain `part`. */
static void leave_out_all(Fixture *f, const char *part)
{
    int kept = 0;
    for (int i = 0; i < f->count; i++) {
        if (!strstr(f->tensor[i].name, part)) {
            f->tensor[kept++] = f->tensor[i];
        }
    }
    f->count = kept;
}

static int restore(const Fixture *f, bool momentum, Err *err)
{
    SafeFile *file = safetensors_open(f->path, err);
    if (!file) {
        fail_msg("%s", err->text);
    }
    int rc = weights_restore(f->net, file, momentum, err);
    safetensors_close(file);
    return rc;
}

static void expect_unchanged(const Fixture *f)
{
    Snapshot after = snapshot(f->net);
    expect_same_network(f->net, &after, &f->before);
    expect_same_momentum(f->net, &after, &f->before);
    snapshot_free(&after);
}

static void expect_text(const Err *err, const char *what)
{
    if (!strstr(err->text, what)) {
        fail_msg("\"%s\" does not say \"%s\"", err->text, what);
    }
}

static void expect_refused(const Fixture *f, const char *what)
{
    Err err = {""};
    write_file(f);
    assert_int_equal(restore(f, true, &err), -1);
    expect_text(&err, what);
    expect_unchanged(f);
}

/* ---- restoring
 * ------------------------------------------------------------------------------------ */

static void all_state_survives_to_the_bit(void **state)
{
    Fixture *f = *state;
    Err err;
    write_file(f);
    assert_int_equal(restore(f, true, &err), 0);
    Snapshot expected = snapshot(f->trained);
    Snapshot actual = snapshot(f->net);
    expect_same_network(f->net, &actual, &expected);
    expect_same_momentum(f->net, &actual, &expected);
    snapshot_free(&expected);
    snapshot_free(&actual);
}

static void restore_without_momentum(Fixture *f)
{
    Err err;
    write_file(f);
    assert_int_equal(restore(f, false, &err), 0);
    Snapshot expected = snapshot(f->trained);
    Snapshot actual = snapshot(f->net);
    expect_same_network(f->net, &actual, &expected);
    expect_same_momentum(f->net, &actual, &f->before);
    snapshot_free(&expected);
    snapshot_free(&actual);
}

static void momentum_is_left_alone_on_request(void **state)
{
    restore_without_momentum(*state);
}

static void momentum_may_be_absent_on_request(void **state)
{
    Fixture *f = *state;
    leave_out_all(f, "momentum.");
    restore_without_momentum(f);
}

static void a_missing_weight_is_named(void **state)
{
    Fixture *f = *state;
    leave_out(f, "rotation.fc1.0.weight");
    expect_refused(f, "in 1 tensor: missing rotation.fc1.0.weight");
}

static void a_missing_momentum_is_named(void **state)
{
    Fixture *f = *state;
    leave_out(f, "momentum.main.fc2.bias");
    expect_refused(f, "missing momentum.main.fc2.bias");
}

static void missing_running_statistics_are_named(void **state)
{
    Fixture *f = *state;
    leave_out(f, "depth.layer4.1.bn2.running_var");
    expect_refused(f, "missing depth.layer4.1.bn2.running_var");
}

static void a_missing_counter_is_named(void **state)
{
    Fixture *f = *state;
    leave_out(f, "rgb.bn1.num_batches_tracked");
    expect_refused(f, "missing rgb.bn1.num_batches_tracked");
}

static void a_counter_of_another_type_is_named(void **state)
{
    Fixture *f = *state;
    find_tensor(f, "rgb.bn1.num_batches_tracked")->dtype = "F64";
    expect_refused(f, "another shape or type of rgb.bn1.num_batches_tracked");
}

static void a_superfluous_tensor_is_named(void **state)
{
    Fixture *f = *state;
    add_number(f, "main.fc3.bias");
    expect_refused(f, "unknown main.fc3.bias");
}

static void superfluous_momentum_is_named(void **state)
{
    Fixture *f = *state;
    add_number(f, "momentum.rgb.bn1.running_mean");
    expect_refused(f, "unknown momentum.rgb.bn1.running_mean");
}

static void another_shape_is_named(void **state)
{
    Fixture *f = *state;
    SafeTensor *tensor = find_tensor(f, "rgb.layer2.0.downsample.0.weight"); /* [8,4,1,1] */
    tensor->shape[0] = 4;
    tensor->shape[1] = 8;
    expect_refused(f, "another shape or type of rgb.layer2.0.downsample.0.weight (F32 [8,4,1,1] "
                      "wanted, F32 [4,8,1,1] found)");
}

static void another_number_of_dimensions_is_named(void **state)
{
    Fixture *f = *state;
    find_tensor(f, "rgb.layer2.0.downsample.0.weight")->ndim = 2;
    find_tensor(f, "rgb.layer2.0.downsample.0.weight")->shape[1] = 4;
    expect_refused(f, "another shape or type of rgb.layer2.0.downsample.0.weight (F32 [8,4,1,1] "
                      "wanted, F32 [8,4] found)");
}

static void another_type_is_named(void **state)
{
    Fixture *f = *state;
    find_tensor(f, "main.fc2.bias")->dtype = "I32";
    expect_refused(f, "another shape or type of main.fc2.bias");
}

static void only_the_first_few_of_many_are_named(void **state)
{
    Fixture *f = *state;
    int all = f->count;
    leave_out_all(f, "depth.layer");
    char count[64];
    snprintf(count, sizeof count, "in %d tensors: ", all - f->count);
    expect_refused(f, count);
    expect_refused(f, "missing depth.layer1.0.conv1.weight, missing depth.layer1.0.bn1.weight, ");
    expect_refused(f, ", and 149 more");
}

/* ---- pretrained trunks
 * ---------------------------------------------------------------------------- */

/* Turns what is written into a state dict as torchvision has it, classifier included. */
static void make_state_dict(Fixture *f)
{
    keep_only(f, "rgb.");
    add_number(f, "fc.weight");
    add_number(f, "fc.bias");
}

static void expect_streams(const ParamTable *table, const float *actual, const float *trained,
                           const float *before)
{
    for (int i = 0; i < table->count; i++) {
        const ParamSpec *spec = &table->spec[i];
        const float *expected = before + spec->offset;
        if (spec->group == PARAM_RGB_TRUNK) {
            expected = trained + spec->offset;
        } else if (spec->group == PARAM_DEPTH_TRUNK) {
            /* The trunks' tables are alike, one behind the other. */
            int twin = i;
            while (table->spec[twin].group == PARAM_DEPTH_TRUNK ||
                   strcmp(strchr(table->spec[twin].name, '.'), strchr(spec->name, '.')) != 0) {
                twin--;
            }
            expected = trained + table->spec[twin].offset;
        }
        if (memcmp(actual + spec->offset, expected, (size_t)spec->count * sizeof *actual) != 0) {
            fail_msg("%s is not as expected", spec->name);
        }
    }
}

/* Both trunks hold the trained RGB trunk; heads and momentum are as before. */
static void expect_pretrained(const Fixture *f, bool counters)
{
    const Params *params = &f->net->params;
    Snapshot trained = snapshot(f->trained);
    Snapshot actual = snapshot(f->net);
    expect_streams(&params->weights, actual.w, trained.w, f->before.w);
    expect_streams(&params->running, actual.running, trained.running, f->before.running);
    expect_same_momentum(f->net, &actual, &f->before);
    int each = 0; /* norms of a trunk */
    while (strncmp(params->norm[each].name, "rgb.", 4) == 0) {
        each++;
    }
    for (int i = 0; i < params->norms; i++) {
        int64_t expected = counters && i < 2 * each ? trained.batches[i % each] : 0;
        assert_int_equal(actual.batches[i], expected);
    }
    snapshot_free(&trained);
    snapshot_free(&actual);
}

static void a_state_dict_starts_both_trunks_and_nothing_else(void **state)
{
    Fixture *f = *state;
    Err err = {""};
    make_state_dict(f);
    write_file(f);
    assert_int_equal(weights_load_pretrained(f->net, f->path, &err), 0);
    expect_pretrained(f, true);
}

static void a_state_dict_may_lack_counters_and_classifier(void **state)
{
    Fixture *f = *state;
    Err err = {""};
    keep_only(f, "rgb.");
    leave_out_all(f, ".num_batches_tracked");
    write_file(f);
    assert_int_equal(weights_load_pretrained(f->net, f->path, &err), 0);
    expect_pretrained(f, false);
}

static void expect_not_pretrained(const Fixture *f, const char *what)
{
    Err err = {""};
    write_file(f);
    assert_int_equal(weights_load_pretrained(f->net, f->path, &err), -1);
    expect_text(&err, f->path);
    expect_text(&err, what);
    expect_unchanged(f);
}

static void a_state_dict_without_a_trunk_tensor_is_refused(void **state)
{
    Fixture *f = *state;
    make_state_dict(f);
    leave_out(f, "layer3.1.conv2.weight");
    expect_not_pretrained(f, "missing layer3.1.conv2.weight");
}

/* ResNet-34 has all of ResNet-18's tensors, and more blocks. */
static void a_state_dict_of_a_deeper_network_is_refused(void **state)
{
    Fixture *f = *state;
    make_state_dict(f);
    add_number(f, "layer1.2.conv1.weight");
    expect_not_pretrained(f, "in 1 tensor: unknown layer1.2.conv1.weight");
}

static void a_state_dict_of_another_width_is_refused(void **state)
{
    Fixture *f = *state;
    make_state_dict(f);
    SafeTensor *tensor = find_tensor(f, "bn1.running_mean");
    tensor->shape[0] = 2;
    tensor->bytes = 2 * sizeof(float);
    expect_not_pretrained(f, "another shape or type of bn1.running_mean");
}

static void an_absent_file_is_refused(void **state)
{
    Fixture *f = *state;
    Err err = {""};
    assert_int_equal(weights_load_pretrained(f->net, f->path, &err), -1);
    expect_text(&err, f->path);
    expect_unchanged(f);
}

#define UNIT_TEST(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(all_state_survives_to_the_bit),
        UNIT_TEST(momentum_is_left_alone_on_request),
        UNIT_TEST(momentum_may_be_absent_on_request),
        UNIT_TEST(a_missing_weight_is_named),
        UNIT_TEST(a_missing_momentum_is_named),
        UNIT_TEST(missing_running_statistics_are_named),
        UNIT_TEST(a_missing_counter_is_named),
        UNIT_TEST(a_counter_of_another_type_is_named),
        UNIT_TEST(a_superfluous_tensor_is_named),
        UNIT_TEST(superfluous_momentum_is_named),
        UNIT_TEST(another_shape_is_named),
        UNIT_TEST(another_number_of_dimensions_is_named),
        UNIT_TEST(another_type_is_named),
        UNIT_TEST(only_the_first_few_of_many_are_named),
        UNIT_TEST(a_state_dict_starts_both_trunks_and_nothing_else),
        UNIT_TEST(a_state_dict_may_lack_counters_and_classifier),
        UNIT_TEST(a_state_dict_without_a_trunk_tensor_is_refused),
        UNIT_TEST(a_state_dict_of_a_deeper_network_is_refused),
        UNIT_TEST(a_state_dict_of_another_width_is_refused),
        UNIT_TEST(an_absent_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
