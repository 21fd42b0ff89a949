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

static void plan(Net *net)
{
    int groups = groups_of(&net->step);
    int samples = net_samples(net);
    trunk_plan(&net->rgb, groups, samples, &net->arena);
    trunk_plan(&net->depth, groups, samples, &net->arena);
    main_head_plan(&net->main, groups, samples, &net->arena);
    rotation_head_plan(&net->rotation, groups, samples, &net->arena);
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
    plan(net);
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

static Pass step_pass(const Net *net, int groups)
{
    return (Pass){.groups = groups, .batch = net->step.batch, .training = true};
}

/* The part of a trunk's map, or of its gradient, that belongs to the rotation head. */
static size_t rotation_part(const Net *net)
{
    const Trunk *trunk = &net->rgb;
    return (size_t)(net->step.main_groups * net->step.batch) * (size_t)(trunk->side * trunk->side) *
           (size_t)trunk->channels * device_activation_bytes(net->be);
}

void net_fprop(Net *net, const void *x_rgb, const void *x_depth, const uint64_t *dropout_key)
{
    Pass all = step_pass(net, groups_of(&net->step));
    Pass main_pass = step_pass(net, net->step.main_groups);
    Pass rotation_pass = step_pass(net, net->step.rotation_groups);
    const char *map_rgb = trunk_fprop(&net->rgb, &all, x_rgb);
    const char *map_depth = trunk_fprop(&net->depth, &all, x_depth);
    main_head_fprop(&net->main, &main_pass, dropout_key, map_rgb, map_depth);
    if (rotation_pass.groups > 0) {
        rotation_head_fprop(&net->rotation, &rotation_pass, dropout_key,
                            map_rgb + rotation_part(net), map_depth + rotation_part(net));
    }
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

void net_bprop(Net *net, const uint64_t *dropout_key)
{
    Pass all = step_pass(net, groups_of(&net->step));
    Pass main_pass = step_pass(net, net->step.main_groups);
    Pass rotation_pass = step_pass(net, net->step.rotation_groups);
    char *dmap_rgb = trunk_output_gradient(&net->rgb);
    char *dmap_depth = trunk_output_gradient(&net->depth);
    main_head_bprop(&net->main, &main_pass, dropout_key, dmap_rgb, dmap_depth);
    if (rotation_pass.groups > 0) {
        rotation_head_bprop(&net->rotation, &rotation_pass, dropout_key,
                            dmap_rgb + rotation_part(net), dmap_depth + rotation_part(net));
    }
    trunk_bprop(&net->rgb, &all);
    trunk_bprop(&net->depth, &all);
}

/* ---- evaluation
 * -------------------------------------------------------------------------------------- */

static Pass eval_pass(const Net *net)
{
    return (Pass){.groups = groups_of(&net->step), .batch = net->step.batch, .training = false};
}

const float *net_eval_main(Net *net, const void *x_rgb, const void *x_depth)
{
    Pass pass = eval_pass(net);
    const void *map_rgb = trunk_fprop(&net->rgb, &pass, x_rgb);
    const void *map_depth = trunk_fprop(&net->depth, &pass, x_depth);
    return main_head_fprop(&net->main, &pass, NULL, map_rgb, map_depth);
}

const float *net_eval_rotation(Net *net, const void *x_rgb, const void *x_depth)
{
    Pass pass = eval_pass(net);
    const void *map_rgb = trunk_fprop(&net->rgb, &pass, x_rgb);
    const void *map_depth = trunk_fprop(&net->depth, &pass, x_depth);
    return rotation_head_fprop(&net->rotation, &pass, NULL, map_rgb, map_depth);
}
