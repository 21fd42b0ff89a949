#include "model/net.h"

#include "base/mem.h"

#include <stdlib.h>

static int groups_of(const NetStep *step)
{
    return step->main_groups + step->rotation_groups;
}

int net_samples(const Net *net)
{
    return groups_of(&net->step) * net->step.batch;
}

int net_passes(const Net *net)
{
    return net->step.passes == NET_MERGED ? 1 : groups_of(&net->step);
}

static int groups_in_pass(const Net *net)
{
    return groups_of(&net->step) / net_passes(net);
}

static void plan(Net *net)
{
    int groups = groups_of(&net->step);
    int in_pass = groups_in_pass(net);
    int samples = in_pass * net->step.batch;
    trunk_plan(&net->rgb, in_pass, samples, &net->arena);
    trunk_plan(&net->depth, in_pass, samples, &net->arena);
    main_head_plan(&net->main, groups, in_pass, net->step.batch, &net->arena);
    rotation_head_plan(&net->rotation, groups, in_pass, net->step.batch, &net->arena);
}

/* Bytes of `groups` groups of the network's input, of one modality. */
static size_t input_bytes(const Net *net, int groups)
{
    size_t crop = (size_t)net->config.trunk.crop;
    return (size_t)(groups * net->step.batch) * crop * crop *
           (size_t)device_picture_channels(net->be) * device_activation_bytes(net->be);
}

/* Counts the activations' memory. Decides whether the step is merged, unless that was asked for: it
 * is where its activations and the step's input, which is yet to be allocated and as large either
 * way, leave an eighth of the device's memory to stored pictures and libraries. */
static void count_memory(Net *net)
{
    bool decide = net->step.passes == NET_AUTO;
    if (decide) {
        net->step.passes = NET_MERGED;
    }
    plan(net);
    size_t free_bytes;
    size_t total_bytes;
    device_memory(net->be, &free_bytes, &total_bytes);
    size_t inputs = 2 * input_bytes(net, groups_of(&net->step));
    if (decide && net->arena.used + inputs + total_bytes / 8 > free_bytes) {
        net->step.passes = NET_SEPARATE;
        net->arena.used = 0;
        plan(net);
    }
}

Net *net_open(Backend *be, const NetConfig *config, const NetStep *step, uint64_t seed, Err *err)
{
    Net *net = mem_zeroed(1, sizeof *net);
    net->be = be;
    net->config = *config;
    net->step = *step;
    net->params.be = be;
    trunk_add(&net->rgb, &net->params, PARAM_RGB_TRUNK, &config->trunk, "rgb");
    trunk_add(&net->depth, &net->params, PARAM_DEPTH_TRUNK, &config->trunk, "depth");
    int channels = net->rgb.channels;
    int side = net->rgb.side;
    if (side < ROTATION_MIN_SIDE) {
        err_set(err,
                "a crop of %d pixels leaves a map of %d x %d, and the rotation head needs at least "
                "%d x %d: use a crop size of at least 65",
                config->trunk.crop, side, side, ROTATION_MIN_SIDE, ROTATION_MIN_SIDE);
        net_close(net);
        return NULL;
    }
    main_head_add(&net->main, &net->params, channels, side, config->classes, config->dropout_p);
    rotation_head_add(&net->rotation, &net->params, channels, side, config->rotation_dropout_p);
    params_allocate(&net->params);
    params_initialise(&net->params, seed);
    count_memory(net);
    arena_allocate(&net->arena, be);
    plan(net);
    return net;
}

void net_close(Net *net)
{
    if (!net) {
        return;
    }
    arena_free(&net->arena, net->be);
    params_free(&net->params);
    free(net);
}

size_t net_bytes(const Net *net)
{
    size_t elements =
        3 * (size_t)net->params.weights.elements + (size_t)net->params.running.elements;
    return net->arena.used + elements * sizeof(float);
}

/* ---- training
 * -------------------------------------------------------------------------------------- */

NetPassGroups net_pass_groups(const Net *net, int pass)
{
    int main_groups = net->step.main_groups;
    int first = pass * groups_in_pass(net);
    int end = first + groups_in_pass(net);
    NetPassGroups g = {.main_first = first < main_groups ? first : main_groups,
                       .main_end = end < main_groups ? end : main_groups};
    g.rotation_first = first > main_groups ? first - main_groups : 0;
    g.rotation_end = end > main_groups ? end - main_groups : 0;
    return g;
}

/* How a head, or a trunk over all groups, runs its groups [first, end). */
static Pass training_pass(const Net *net, int first, int end)
{
    return (Pass){.groups = end - first,
                  .batch = net->step.batch,
                  .first = first,
                  .training = true,
                  .accumulate = first > 0};
}

static Pass trunk_pass(const Net *net, int pass)
{
    int groups = groups_in_pass(net);
    return training_pass(net, pass * groups, (pass + 1) * groups);
}

/* Bytes of `groups` groups of a trunk's map. */
static size_t map_bytes(const Net *net, int groups)
{
    const Trunk *trunk = &net->rgb;
    return (size_t)(groups * net->step.batch) * (size_t)(trunk->side * trunk->side) *
           (size_t)trunk->channels * device_activation_bytes(net->be);
}

typedef struct {
    const char *rgb, *depth;
} Maps;

/* The trunks do not depend on each other: each has a lane of its own. */
static Maps trunks_fprop(Net *net, const Pass *pass, const void *x_rgb, const void *x_depth)
{
    size_t skip = input_bytes(net, pass->first);
    Maps maps;
    device_fork(net->be);
    device_lane(net->be, 0);
    maps.rgb = trunk_fprop(&net->rgb, pass, (const char *)x_rgb + skip);
    device_lane(net->be, 1);
    maps.depth = trunk_fprop(&net->depth, pass, (const char *)x_depth + skip);
    device_join(net->be);
    return maps;
}

void net_fprop(Net *net, int pass, const void *x_rgb, const void *x_depth,
               const uint64_t *dropout_key)
{
    NetPassGroups g = net_pass_groups(net, pass);
    Pass all = trunk_pass(net, pass);
    Pass main_pass = training_pass(net, g.main_first, g.main_end);
    Pass rotation_pass = training_pass(net, g.rotation_first, g.rotation_end);
    size_t skip = map_bytes(net, main_pass.groups);
    Maps maps = trunks_fprop(net, &all, x_rgb, x_depth);
    device_fork(net->be);
    device_lane(net->be, 0);
    if (main_pass.groups > 0) {
        main_head_fprop(&net->main, &main_pass, dropout_key, maps.rgb, maps.depth);
    }
    device_lane(net->be, 1);
    if (rotation_pass.groups > 0) {
        rotation_head_fprop(&net->rotation, &rotation_pass, dropout_key, maps.rgb + skip,
                            maps.depth + skip);
    }
    device_join(net->be);
}

static int64_t group_offset(const Net *net, const Classifier *classifier, int group)
{
    return (int64_t)group * net->step.batch * classifier->fc2.K;
}

const float *net_main_logits(const Net *net, int group)
{
    const Classifier *c = &net->main.classifier;
    return c->logits + group_offset(net, c, group);
}

float *net_main_dlogits(Net *net, int group)
{
    Classifier *c = &net->main.classifier;
    return c->dlogits + group_offset(net, c, group);
}

const float *net_rotation_logits(const Net *net, int group)
{
    const Classifier *c = &net->rotation.classifier;
    return c->logits + group_offset(net, c, group);
}

float *net_rotation_dlogits(Net *net, int group)
{
    Classifier *c = &net->rotation.classifier;
    return c->dlogits + group_offset(net, c, group);
}

void net_bprop(Net *net, int pass, const uint64_t *dropout_key)
{
    NetPassGroups g = net_pass_groups(net, pass);
    Pass all = trunk_pass(net, pass);
    Pass main_pass = training_pass(net, g.main_first, g.main_end);
    Pass rotation_pass = training_pass(net, g.rotation_first, g.rotation_end);
    size_t skip = map_bytes(net, main_pass.groups);
    char *dmap_rgb = trunk_output_gradient(&net->rgb);
    char *dmap_depth = trunk_output_gradient(&net->depth);
    device_fork(net->be);
    device_lane(net->be, 0);
    if (main_pass.groups > 0) {
        main_head_bprop(&net->main, &main_pass, dropout_key, dmap_rgb, dmap_depth);
    }
    device_lane(net->be, 1);
    if (rotation_pass.groups > 0) {
        rotation_head_bprop(&net->rotation, &rotation_pass, dropout_key, dmap_rgb + skip,
                            dmap_depth + skip);
    }
    device_join(net->be);
    device_fork(net->be);
    device_lane(net->be, 0);
    trunk_bprop(&net->rgb, &all);
    device_lane(net->be, 1);
    trunk_bprop(&net->depth, &all);
    device_join(net->be);
}

void net_count_step(Net *net)
{
    for (int i = 0; i < net->params.norms; i++) {
        NormCounter *norm = &net->params.norm[i];
        switch (norm->group) {
        case PARAM_MAIN_HEAD:
            norm->batches += net->step.main_groups;
            break;
        case PARAM_ROTATION_HEAD:
            norm->batches += net->step.rotation_groups;
            break;
        default:
            norm->batches += groups_of(&net->step);
        }
    }
}

/* ---- evaluation
 * -------------------------------------------------------------------------------------- */

/* Runs one head over net_samples pictures, in as many passes as the net's memory needs. */
static const float *evaluate(Net *net, bool rotation, const void *x_rgb, const void *x_depth)
{
    int groups = groups_in_pass(net);
    for (int pass = 0; pass < net_passes(net); pass++) {
        Pass p = {.groups = groups, .batch = net->step.batch, .first = pass * groups};
        Maps maps = trunks_fprop(net, &p, x_rgb, x_depth);
        if (rotation) {
            rotation_head_fprop(&net->rotation, &p, NULL, maps.rgb, maps.depth);
        } else {
            main_head_fprop(&net->main, &p, NULL, maps.rgb, maps.depth);
        }
    }
    return rotation ? net_rotation_logits(net, 0) : net_main_logits(net, 0);
}

const float *net_eval_main(Net *net, const void *x_rgb, const void *x_depth)
{
    return evaluate(net, false, x_rgb, x_depth);
}

const float *net_eval_rotation(Net *net, const void *x_rgb, const void *x_depth)
{
    return evaluate(net, true, x_rgb, x_depth);
}
