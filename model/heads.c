#include "model/heads.h"

#include "base/err.h"

#include <stdio.h>

/* ---- the end that both heads share
 * ----------------------------------------------------------------- */

static void classifier_add(Classifier *c, Params *params, ParamGroup group, int inputs, int rows,
                           int hidden, int classes, const char *prefix)
{
    char name[64];
    snprintf(name, sizeof name, "%s.fc1.0", prefix);
    c->fc1 = linear_layer_add(params, group, inputs, hidden, rows, name);
    snprintf(name, sizeof name, "%s.fc1.1", prefix);
    c->norm = norm_layer_add(params, group, INIT_NORMAL_NEAR_1, hidden, true, name);
    snprintf(name, sizeof name, "%s.fc2", prefix);
    c->fc2 = linear_layer_add(params, group, hidden, classes, 1, name);
    c->fc2.float_output = true;
}

static void classifier_plan(Classifier *c, int groups, int pass_groups, int batch, size_t element,
                            Arena *arena)
{
    size_t hidden = (size_t)(pass_groups * batch) * (size_t)c->fc1.K * element;
    size_t logits = (size_t)(groups * batch) * (size_t)c->fc2.K * sizeof(float);
    norm_layer_plan(&c->norm, pass_groups, arena);
    c->z = arena_take(arena, hidden);
    c->a = arena_take(arena, hidden);
    c->dropped = arena_take(arena, hidden);
    c->gradient = arena_take(arena, hidden);
    c->logits = arena_take(arena, logits);
    c->dlogits = arena_take(arena, logits);
}

static DropoutShape dropout_shape(const Classifier *c, const Pass *pass)
{
    return (DropoutShape){.count = (int64_t)pass_samples(pass) * c->fc1.K,
                          .first = (int64_t)pass_first_sample(pass) * c->fc1.K,
                          .layer = c->dropout_layer,
                          .p = c->dropout_p};
}

static size_t logits_offset(const Classifier *c, const Pass *pass)
{
    return (size_t)pass_first_sample(pass) * (size_t)c->fc2.K;
}

static const float *classifier_fprop(Classifier *c, Params *params, const Pass *pass,
                                     const uint64_t *dropout_key, const void *x)
{
    int N = pass_samples(pass);
    c->input = x;
    linear_layer_fprop(&c->fc1, params, N, x, c->z);
    norm_layer_fprop(&c->norm, params, pass, 1, c->z, NULL, c->a);
    const void *hidden = c->a;
    if (pass->training) {
        DropoutShape shape = dropout_shape(c, pass);
        op_dropout(params->be, &shape, dropout_key, c->a, c->dropped);
        hidden = c->dropped;
    }
    float *logits = c->logits + logits_offset(c, pass);
    linear_layer_fprop(&c->fc2, params, N, hidden, logits);
    return logits;
}

static void classifier_bprop(Classifier *c, Params *params, const Pass *pass,
                             const uint64_t *dropout_key, void *dx)
{
    DropoutShape shape = dropout_shape(c, pass);
    linear_layer_bprop(&c->fc2, params, pass, c->dropped, c->dlogits + logits_offset(c, pass),
                       c->gradient);
    op_dropout(params->be, &shape, dropout_key, c->gradient, c->gradient);
    norm_layer_bprop(&c->norm, params, pass, 1, c->z, c->gradient, NULL, c->gradient, NULL);
    linear_layer_bprop(&c->fc1, params, pass, c->input, c->gradient, dx);
}

/* ---- main head
 * ----------------------------------------------------------------------------------------- */

void main_head_add(MainHead *head, Params *params, int channels, int side, int classes,
                   float dropout_p)
{
    *head = (MainHead){.params = params, .channels = channels, .positions = side * side};
    head->classifier.dropout_p = dropout_p;
    head->classifier.dropout_layer = 0;
    classifier_add(&head->classifier, params, PARAM_MAIN_HEAD, 2 * channels, 1, MAIN_HIDDEN,
                   classes, "main");
}

void main_head_plan(MainHead *head, int groups, int pass_groups, int batch, Arena *arena)
{
    size_t element = device_activation_bytes(head->params->be);
    size_t bytes = (size_t)(pass_groups * batch) * (size_t)head->channels * element;
    for (int m = 0; m < 2; m++) {
        head->pooled[m] = arena_take(arena, bytes);
        head->dpooled[m] = arena_take(arena, bytes);
    }
    head->features = arena_take(arena, 2 * bytes);
    head->dfeatures = arena_take(arena, 2 * bytes);
    classifier_plan(&head->classifier, groups, pass_groups, batch, element, arena);
}

static AvgPoolShape pool_shape(const MainHead *head, const Pass *pass)
{
    return (AvgPoolShape){.N = pass_samples(pass), .HW = head->positions, .C = head->channels};
}

static ConcatShape feature_shape(const MainHead *head, const Pass *pass)
{
    return (ConcatShape){.rows = pass_samples(pass), .Ca = head->channels, .Cb = head->channels};
}

const float *main_head_fprop(MainHead *head, const Pass *pass, const uint64_t *dropout_key,
                             const void *map_rgb, const void *map_depth)
{
    Backend *be = head->params->be;
    AvgPoolShape pool = pool_shape(head, pass);
    ConcatShape join = feature_shape(head, pass);
    op_avgpool_fprop(be, &pool, map_rgb, head->pooled[0]);
    op_avgpool_fprop(be, &pool, map_depth, head->pooled[1]);
    op_concat(be, &join, head->pooled[0], head->pooled[1], head->features);
    return classifier_fprop(&head->classifier, head->params, pass, dropout_key, head->features);
}

void main_head_bprop(MainHead *head, const Pass *pass, const uint64_t *dropout_key, void *dmap_rgb,
                     void *dmap_depth)
{
    Backend *be = head->params->be;
    AvgPoolShape pool = pool_shape(head, pass);
    ConcatShape join = feature_shape(head, pass);
    classifier_bprop(&head->classifier, head->params, pass, dropout_key, head->dfeatures);
    op_split(be, &join, head->dfeatures, head->dpooled[0], head->dpooled[1]);
    op_avgpool_bprop(be, &pool, head->dpooled[0], dmap_rgb);
    op_avgpool_bprop(be, &pool, head->dpooled[1], dmap_depth);
}

/* ---- rotation head
 * --------------------------------------------------------------------------------------- */

void rotation_head_add(RotationHead *head, Params *params, int channels, int side, float dropout_p)
{
    if (side < ROTATION_MIN_SIDE) {
        fatal("the rotation head needs maps of at least %d x %d, not %d x %d", ROTATION_MIN_SIDE,
              ROTATION_MIN_SIDE, side, side);
    }
    *head = (RotationHead){.params = params, .channels = channels, .side = side};
    head->classifier.dropout_p = dropout_p;
    head->classifier.dropout_layer = 1;
    int out = conv_out(side, 3, 2, 0);
    const ConvShape shape[] = {
        {.N = 1,
         .H = side,
         .W = side,
         .C = 2 * channels,
         .K = ROTATION_HIDDEN,
         .R = 1,
         .stride = 1},
        {.N = 1,
         .H = side,
         .W = side,
         .C = ROTATION_HIDDEN,
         .K = ROTATION_HIDDEN,
         .R = 3,
         .stride = 2},
    };
    static const char *const names[][2] = {{"rotation.conv_1x1.0", "rotation.conv_1x1.1"},
                                           {"rotation.conv_3x3.0", "rotation.conv_3x3.1"}};
    for (int i = 0; i < 2; i++) {
        head->conv[i] = conv_layer_add(params, PARAM_ROTATION_HEAD, INIT_XAVIER_UNIFORM, true,
                                       &shape[i], names[i][0]);
        head->norm[i] = norm_layer_add(params, PARAM_ROTATION_HEAD, INIT_NORMAL_NEAR_1,
                                       ROTATION_HIDDEN, true, names[i][1]);
    }
    classifier_add(&head->classifier, params, PARAM_ROTATION_HEAD, ROTATION_HIDDEN * out * out, out,
                   ROTATION_HIDDEN, ROTATION_CLASSES, "rotation");
}

static int rotation_side(const RotationHead *head, int conv)
{
    return conv == 0 ? head->side : conv_out(head->side, 3, 2, 0);
}

static int rotation_positions(const RotationHead *head, int conv)
{
    return rotation_side(head, conv) * rotation_side(head, conv);
}

void rotation_head_plan(RotationHead *head, int groups, int pass_groups, int batch, Arena *arena)
{
    size_t element = device_activation_bytes(head->params->be);
    size_t samples = (size_t)(pass_groups * batch);
    size_t maps =
        samples * (size_t)(head->side * head->side) * 2 * (size_t)head->channels * element;
    head->maps = arena_take(arena, maps);
    head->dmaps = arena_take(arena, maps);
    for (int i = 0; i < 2; i++) {
        size_t bytes = samples * (size_t)rotation_positions(head, i) * ROTATION_HIDDEN * element;
        head->z[i] = arena_take(arena, bytes);
        head->a[i] = arena_take(arena, bytes);
        head->dz[i] = arena_take(arena, bytes);
        norm_layer_plan(&head->norm[i], pass_groups, arena);
    }
    classifier_plan(&head->classifier, groups, pass_groups, batch, element, arena);
}

static ConcatShape map_shape(const RotationHead *head, const Pass *pass)
{
    return (ConcatShape){.rows = (int64_t)pass_samples(pass) * head->side * head->side,
                         .Ca = head->channels,
                         .Cb = head->channels};
}

const float *rotation_head_fprop(RotationHead *head, const Pass *pass, const uint64_t *dropout_key,
                                 const void *map_rgb, const void *map_depth)
{
    Params *params = head->params;
    ConcatShape join = map_shape(head, pass);
    op_concat(params->be, &join, map_rgb, map_depth, head->maps);
    const void *x = head->maps;
    for (int i = 0; i < 2; i++) {
        conv_layer_fprop(&head->conv[i], params, pass_samples(pass), x, head->z[i]);
        norm_layer_fprop(&head->norm[i], params, pass, rotation_positions(head, i), head->z[i],
                         NULL, head->a[i]);
        x = head->a[i];
    }
    return classifier_fprop(&head->classifier, params, pass, dropout_key, x);
}

void rotation_head_bprop(RotationHead *head, const Pass *pass, const uint64_t *dropout_key,
                         void *dmap_rgb, void *dmap_depth)
{
    Params *params = head->params;
    ConcatShape join = map_shape(head, pass);
    classifier_bprop(&head->classifier, params, pass, dropout_key, head->dz[1]);
    for (int i = 1; i >= 0; i--) {
        norm_layer_bprop(&head->norm[i], params, pass, rotation_positions(head, i), head->z[i],
                         head->dz[i], NULL, head->dz[i], NULL);
        conv_layer_bprop(&head->conv[i], params, pass, i == 0 ? head->maps : head->a[0],
                         head->dz[i], i == 0 ? head->dmaps : head->dz[0]);
    }
    op_split(params->be, &join, head->dmaps, dmap_rgb, dmap_depth);
}
