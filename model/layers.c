#include "model/layers.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

ConvLayer conv_layer_add(Params *params, ParamGroup group, ParamInit init, bool bias,
                         const ConvShape *shape, const char *name)
{
    ConvLayer layer = {.shape = *shape, .bias = -1};
    int dim[] = {shape->K, shape->R, shape->R, shape->C};
    layer.weight = param_table_add(&params->weights, group, init, 4, 4, dim, "%s.weight", name);
    if (bias) {
        layer.bias =
            param_table_add(&params->weights, group, INIT_ZERO, 1, 1, &dim[0], "%s.bias", name);
    }
    return layer;
}

LinearLayer linear_layer_add(Params *params, ParamGroup group, int C, int K, int rows,
                             const char *name)
{
    LinearLayer layer = {.C = C, .K = K};
    int map[] = {K, rows, rows, C / (rows * rows)};
    int flat[] = {K, C};
    layer.weight = param_table_add(&params->weights, group, INIT_NORMAL_NEAR_0, 2, rows > 1 ? 4 : 2,
                                   rows > 1 ? map : flat, "%s.weight", name);
    layer.bias =
        param_table_add(&params->weights, group, INIT_NORMAL_NEAR_0, 1, 1, &K, "%s.bias", name);
    return layer;
}

NormLayer norm_layer_add(Params *params, ParamGroup group, ParamInit gamma, int C, bool relu,
                         const char *name)
{
    NormLayer layer = {.C = C, .relu = relu};
    layer.gamma = param_table_add(&params->weights, group, gamma, 1, 1, &C, "%s.weight", name);
    layer.beta = param_table_add(&params->weights, group, INIT_ZERO, 1, 1, &C, "%s.bias", name);
    layer.mean =
        param_table_add(&params->running, group, INIT_ZERO, 1, 1, &C, "%s.running_mean", name);
    layer.variance =
        param_table_add(&params->running, group, INIT_ONE, 1, 1, &C, "%s.running_var", name);
    params->norm = mem_resize(params->norm, (size_t)(params->norms + 1) * sizeof *params->norm);
    NormCounter *counter = &params->norm[params->norms++];
    *counter = (NormCounter){.group = group};
    snprintf(counter->name, sizeof counter->name, "%s", name);
    return layer;
}

void norm_layer_plan(NormLayer *layer, int max_groups, Arena *arena)
{
    size_t bytes = (size_t)max_groups * (size_t)layer->C * sizeof(float);
    layer->batch_mean = arena_take(arena, bytes);
    layer->batch_invstd = arena_take(arena, bytes);
}

void norm_layer_plan_mask(NormLayer *layer, int64_t max_rows, Arena *arena)
{
    layer->mask = arena_take(arena, (size_t)batchnorm_mask_bytes(max_rows, layer->C));
}

static float *at(float *arena, int64_t offset)
{
    return offset < 0 ? NULL : arena + offset;
}

void conv_layer_fprop(const ConvLayer *layer, Params *params, int N, const void *x, void *y)
{
    ConvShape shape = layer->shape;
    shape.N = N;
    op_conv_fprop(params->be, &shape, x, params_weight(params, layer->weight),
                  at(params->w, layer->bias), y);
}

void conv_layer_statistics(const ConvLayer *layer, const NormLayer *norm, Params *params,
                           const Pass *pass, const void *x, void *y)
{
    ConvStatisticsShape shape = {
        .conv = layer->shape, .groups = pass->groups, .eps = NORM_EPS, .momentum = NORM_MOMENTUM};
    shape.conv.N = pass_samples(pass);
    op_conv_statistics(params->be, &shape, x, params_weight(params, layer->weight),
                       params->running_stats + norm->mean, params->running_stats + norm->variance,
                       norm->batch_mean, norm->batch_invstd, y);
}

void conv_layer_bprop(const ConvLayer *layer, Params *params, const Pass *pass, const void *x,
                      const void *dy, void *dx)
{
    ConvShape shape = layer->shape;
    shape.N = pass_samples(pass);
    op_conv_wgrad(params->be, &shape, x, dy, pass->accumulate, params->dw + layer->weight,
                  at(params->dw, layer->bias));
    if (dx) {
        op_conv_dgrad(params->be, &shape, dy, params_weight(params, layer->weight), dx);
    }
}

static LinearShape linear_shape(const LinearLayer *layer, int N)
{
    return (LinearShape){.N = N, .C = layer->C, .K = layer->K, .float_output = layer->float_output};
}

void linear_layer_fprop(const LinearLayer *layer, Params *params, int N, const void *x, void *y)
{
    LinearShape shape = linear_shape(layer, N);
    op_linear_fprop(params->be, &shape, x, params_weight(params, layer->weight),
                    params->w + layer->bias, y);
}

void linear_layer_bprop(const LinearLayer *layer, Params *params, const Pass *pass, const void *x,
                        const void *dy, void *dx)
{
    LinearShape shape = linear_shape(layer, pass_samples(pass));
    op_linear_wgrad(params->be, &shape, x, dy, pass->accumulate, params->dw + layer->weight,
                    params->dw + layer->bias);
    op_linear_dgrad(params->be, &shape, dy, params_weight(params, layer->weight), dx);
}

static BatchNormShape norm_shape(const NormLayer *layer, const Pass *pass, int positions)
{
    return (BatchNormShape){.groups = pass->groups,
                            .rows = (int64_t)pass->batch * positions,
                            .C = layer->C,
                            .eps = NORM_EPS,
                            .momentum = NORM_MOMENTUM,
                            .relu = layer->relu};
}

void norm_layer_fprop(const NormLayer *layer, Params *params, const Pass *pass, int positions,
                      const void *x, const void *residual, void *y)
{
    BatchNormShape shape = norm_shape(layer, pass, positions);
    const float *gamma = params->w + layer->gamma;
    const float *beta = params->w + layer->beta;
    float *mean = params->running_stats + layer->mean;
    float *variance = params->running_stats + layer->variance;
    if (pass->training) {
        op_batchnorm_train(params->be, &shape, x, residual, gamma, beta, mean, variance,
                           layer->batch_mean, layer->batch_invstd, y, layer->mask);
    } else {
        op_batchnorm_eval(params->be, &shape, x, residual, gamma, beta, mean, variance, y);
    }
}

void norm_layer_bprop(const NormLayer *layer, Params *params, const Pass *pass, int positions,
                      const void *x, const void *dy, const void *dy_add, void *dx, void *dresidual)
{
    BatchNormShape shape = norm_shape(layer, pass, positions);
    op_batchnorm_bprop(params->be, &shape, x, layer->mask, dy, dy_add, params->w + layer->gamma,
                       params->w + layer->beta, layer->batch_mean, layer->batch_invstd,
                       pass->accumulate, dx, dresidual, params->dw + layer->gamma,
                       params->dw + layer->beta);
}
