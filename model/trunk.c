#include "model/trunk.h"

#include "base/err.h"

#include <stdio.h>

static int conv_side(const ConvLayer *conv)
{
    const ConvShape *s = &conv->shape;
    return conv_out(s->H, s->R, s->stride, s->pad);
}

static int conv_positions(const ConvLayer *conv)
{
    return conv_side(conv) * conv_side(conv);
}

static ConvShape square_conv(int side, int C, int K, int R, int stride)
{
    return (ConvShape){
        .N = 1, .H = side, .W = side, .C = C, .K = K, .R = R, .stride = stride, .pad = R / 2};
}

/* ---- building ----------------------------------------------------------------------------------
 */

typedef struct {
    Params *params;
    ParamGroup group;
    const char *prefix; /* of the block: "rgb.layer1.0" */
} BlockNames;

static void add_conv_norm(const BlockNames *names, const ConvShape *shape, const char *conv_name,
                          const char *norm_name, bool relu, ConvLayer *conv, NormLayer *norm)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", names->prefix, conv_name);
    *conv = conv_layer_add(names->params, names->group, INIT_KAIMING_FAN_OUT, false, shape, name);
    snprintf(name, sizeof name, "%s.%s", names->prefix, norm_name);
    *norm = norm_layer_add(names->params, names->group, INIT_ONE, shape->K, relu, name);
}

/* A block that maps [side, side, C] to [side/stride, side/stride, K]. */
static void add_block(Block *block, const BlockNames *names, bool bottleneck, int side, int C,
                      int width, int stride)
{
    static const char *const conv_names[] = {"conv1", "conv2", "conv3"};
    static const char *const norm_names[] = {"bn1", "bn2", "bn3"};
    int K = bottleneck ? 4 * width : width;
    int out_side = conv_out(side, 3, stride, 1);
    ConvShape shape[3];
    block->convs = bottleneck ? 3 : 2;
    if (bottleneck) {
        shape[0] = square_conv(side, C, width, 1, 1);
        shape[1] = square_conv(side, width, width, 3, stride);
        shape[2] = square_conv(out_side, width, K, 1, 1);
    } else {
        shape[0] = square_conv(side, C, width, 3, stride);
        shape[1] = square_conv(out_side, width, width, 3, 1);
    }
    for (int i = 0; i < block->convs; i++) {
        add_conv_norm(names, &shape[i], conv_names[i], norm_names[i], true, &block->conv[i],
                      &block->norm[i]);
    }
    block->downsample = stride != 1 || C != K;
    if (block->downsample) {
        ConvShape down = square_conv(side, C, K, 1, stride);
        add_conv_norm(names, &down, "downsample.0", "downsample.1", false, &block->down_conv,
                      &block->down_norm);
    }
}

void trunk_add(Trunk *trunk, Params *params, ParamGroup group, const TrunkConfig *config,
               const char *prefix)
{
    static const int blocks_18[] = {2, 2, 2, 2};
    static const int blocks_50[] = {3, 4, 6, 3};
    bool bottleneck = config->depth == 50;
    if (config->depth != 18 && config->depth != 50) {
        fatal("a ResNet trunk has depth 18 or 50, not %d", config->depth);
    }
    const int *blocks = bottleneck ? blocks_50 : blocks_18;
    *trunk = (Trunk){.params = params, .crop = config->crop};
    ConvShape stem = square_conv(config->crop, 3, config->width, 7, 2);
    BlockNames names = {.params = params, .group = group, .prefix = prefix};
    add_conv_norm(&names, &stem, "conv1", "bn1", true, &trunk->stem_conv, &trunk->stem_norm);
    trunk->stem_side = conv_side(&trunk->stem_conv);
    int side = conv_out(trunk->stem_side, 3, 2, 1);
    int C = config->width;
    for (int stage = 0; stage < 4; stage++) {
        for (int i = 0; i < blocks[stage]; i++) {
            Block *block = &trunk->block[trunk->blocks++];
            char block_prefix[32];
            snprintf(block_prefix, sizeof block_prefix, "%s.layer%d.%d", prefix, stage + 1, i);
            names.prefix = block_prefix;
            add_block(block, &names, bottleneck, side, C, config->width << stage,
                      stage > 0 && i == 0 ? 2 : 1);
            const ConvLayer *last = &block->conv[block->convs - 1];
            side = conv_side(last);
            C = last->shape.K;
        }
    }
    trunk->side = side;
    trunk->channels = C;
}

/* ---- memory
 * -------------------------------------------------------------------------------------- */

static size_t map_bytes(const Trunk *trunk, const ConvLayer *conv, int samples)
{
    return (size_t)samples * (size_t)conv_positions(conv) * (size_t)conv->shape.K *
           device_activation_bytes(trunk->params->be);
}

/* Returns the largest map that a gradient of this block may have. */
static size_t plan_block(const Trunk *trunk, Block *block, int max_groups, int samples,
                         Arena *arena)
{
    size_t largest = 0;
    for (int i = 0; i < block->convs; i++) {
        size_t bytes = map_bytes(trunk, &block->conv[i], samples);
        block->z[i] = arena_take(arena, bytes);
        block->a[i] = arena_take(arena, bytes);
        norm_layer_plan(&block->norm[i], max_groups, arena);
        largest = bytes > largest ? bytes : largest;
    }
    int last = block->convs - 1;
    norm_layer_plan_mask(&block->norm[last], (int64_t)samples * conv_positions(&block->conv[last]),
                         arena);
    if (block->downsample) {
        size_t bytes = map_bytes(trunk, &block->down_conv, samples);
        block->down_z = arena_take(arena, bytes);
        norm_layer_plan(&block->down_norm, max_groups, arena);
    }
    return largest;
}

void trunk_plan(Trunk *trunk, int max_groups, int max_samples, Arena *arena)
{
    size_t element = device_activation_bytes(trunk->params->be);
    int pooled_side = conv_out(trunk->stem_side, 3, 2, 1);
    size_t pooled = (size_t)max_samples * (size_t)(pooled_side * pooled_side) *
                    (size_t)trunk->stem_conv.shape.K;
    size_t stem_bytes = map_bytes(trunk, &trunk->stem_conv, max_samples);
    trunk->stem_z = arena_take(arena, stem_bytes);
    trunk->stem_a = arena_take(arena, pooled * element);
    trunk->stem_argmax = arena_take(arena, pooled);
    norm_layer_plan(&trunk->stem_norm, max_groups, arena);
    size_t largest = pooled * element;
    void *blocks = arena_take(arena, 0);
    for (int i = 0; i < trunk->blocks; i++) {
        size_t bytes = plan_block(trunk, &trunk->block[i], max_groups, max_samples, arena);
        largest = bytes > largest ? bytes : largest;
    }
    /* By the time that the stem's gradient is written, nobody reads the blocks' maps any more. The
     * first block alone keeps four, each with at least a quarter of the stem's positions. */
    trunk->stem_gradient = blocks;
    for (int i = 0; i < 3; i++) {
        trunk->gradient[i] = arena_take(arena, largest);
    }
}

/* ---- forward
 * --------------------------------------------------------------------------------------- */

static StemShape stem_shape(const Trunk *trunk, const Pass *pass)
{
    return (StemShape){.groups = pass->groups,
                       .N = pass->batch,
                       .H = trunk->stem_side,
                       .W = trunk->stem_side,
                       .C = trunk->stem_conv.shape.K,
                       .eps = NORM_EPS};
}

static void stem_fprop(Trunk *trunk, const Pass *pass, const void *x)
{
    Params *params = trunk->params;
    const NormLayer *norm = &trunk->stem_norm;
    StemShape shape = stem_shape(trunk, pass);
    const float *gamma = params->w + norm->gamma;
    const float *beta = params->w + norm->beta;
    float *mean = params->running_stats + norm->mean;
    float *variance = params->running_stats + norm->variance;
    if (pass->training) {
        conv_layer_statistics(&trunk->stem_conv, norm, params, pass, x, trunk->stem_z);
        op_stem_train(params->be, &shape, trunk->stem_z, gamma, beta, norm->batch_mean,
                      norm->batch_invstd, trunk->stem_a, trunk->stem_argmax);
    } else {
        conv_layer_fprop(&trunk->stem_conv, params, pass_samples(pass), x, trunk->stem_z);
        op_stem_eval(params->be, &shape, trunk->stem_z, gamma, beta, mean, variance, trunk->stem_a);
    }
}

static const void *block_fprop(Block *block, Params *params, const Pass *pass, const void *x)
{
    int N = pass_samples(pass);
    void *out = block->a[block->convs - 1];
    const void *shortcut = x;
    if (block->downsample) {
        conv_layer_fprop(&block->down_conv, params, N, x, block->down_z);
        norm_layer_fprop(&block->down_norm, params, pass, conv_positions(&block->down_conv),
                         block->down_z, NULL, out);
        shortcut = out;
    }
    for (int i = 0; i < block->convs; i++) {
        bool last = i == block->convs - 1;
        conv_layer_fprop(&block->conv[i], params, N, i == 0 ? x : block->a[i - 1], block->z[i]);
        norm_layer_fprop(&block->norm[i], params, pass, conv_positions(&block->conv[i]),
                         block->z[i], last ? shortcut : NULL, block->a[i]);
    }
    return out;
}

const void *trunk_fprop(Trunk *trunk, const Pass *pass, const void *x)
{
    trunk->input = x;
    stem_fprop(trunk, pass, x);
    const void *map = trunk->stem_a;
    for (int i = 0; i < trunk->blocks; i++) {
        map = block_fprop(&trunk->block[i], trunk->params, pass, map);
    }
    return map;
}

/* ---- backward
 * ---------------------------------------------------------------------------------------- */

/* The gradient of a block's output is dy + dy_add (NULL: dy alone): its two readers wrote one each.
 * `free` is the third buffer. */
typedef struct {
    void *dy, *dy_add, *free;
    bool added; /* whether dy_add holds anything */
} BlockGradient;

static void swap(void **a, void **b)
{
    void *kept = *a;
    *a = *b;
    *b = kept;
}

/* Turns the gradient of the block's output into the gradient of its input x. */
static void block_bprop(Block *block, Params *params, const Pass *pass, const void *x,
                        BlockGradient *g)
{
    int last = block->convs - 1;
    norm_layer_bprop(&block->norm[last], params, pass, conv_positions(&block->conv[last]),
                     block->z[last], g->dy, g->added ? g->dy_add : NULL, g->dy, g->dy_add);
    for (int i = last; i > 0; i--) {
        conv_layer_bprop(&block->conv[i], params, pass, block->a[i - 1], g->dy, g->free);
        swap(&g->dy, &g->free);
        norm_layer_bprop(&block->norm[i - 1], params, pass, conv_positions(&block->conv[i - 1]),
                         block->z[i - 1], g->dy, NULL, g->dy, NULL);
    }
    conv_layer_bprop(&block->conv[0], params, pass, x, g->dy, g->free);
    swap(&g->dy, &g->free);
    if (block->downsample) {
        norm_layer_bprop(&block->down_norm, params, pass, conv_positions(&block->down_conv),
                         block->down_z, g->dy_add, NULL, g->dy_add, NULL);
        conv_layer_bprop(&block->down_conv, params, pass, x, g->dy_add, g->free);
        swap(&g->dy_add, &g->free);
    }
    g->added = true;
}

static void stem_bprop(Trunk *trunk, const Pass *pass, const BlockGradient *g)
{
    Params *params = trunk->params;
    const NormLayer *norm = &trunk->stem_norm;
    StemShape shape = stem_shape(trunk, pass);
    op_stem_bprop(params->be, &shape, trunk->stem_z, trunk->stem_argmax, g->dy,
                  g->added ? g->dy_add : NULL, params->w + norm->gamma, norm->batch_mean,
                  norm->batch_invstd, pass->accumulate, trunk->stem_gradient,
                  params->dw + norm->gamma, params->dw + norm->beta);
    conv_layer_bprop(&trunk->stem_conv, params, pass, trunk->input, trunk->stem_gradient, NULL);
}

void *trunk_output_gradient(Trunk *trunk)
{
    return trunk->gradient[0];
}

void trunk_bprop(Trunk *trunk, const Pass *pass)
{
    BlockGradient g = {
        .dy = trunk->gradient[0], .dy_add = trunk->gradient[1], .free = trunk->gradient[2]};
    for (int i = trunk->blocks - 1; i >= 0; i--) {
        const void *x =
            i == 0 ? trunk->stem_a : trunk->block[i - 1].a[trunk->block[i - 1].convs - 1];
        block_bprop(&trunk->block[i], trunk->params, pass, x, &g);
    }
    stem_bprop(trunk, pass, &g);
}
