#include "train/export_onnx.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/weights.h"
#include "onnx.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define IR_VERSION 8
#define WEIGHT     ".weight"

/* Everything in the model is allocated piece by piece, so that protobuf-c can free it. */
typedef struct {
    const Net *net;
    WeightList weights;
    Onnx__GraphProto *graph;
} Builder;

/* ---- parts of the graph ---------------------------------------------------------------------- */

/* Appends to one of the graph's or a node's arrays. */
static void append(void *array, size_t *count, void *item)
{
    void ***items = array;
    *items = mem_resize(*items, (*count + 1) * sizeof(void *));
    (*items)[(*count)++] = item;
}

static Onnx__NodeProto *add_node(Builder *b, const char *op, const char *name)
{
    Onnx__NodeProto *node = mem_alloc(sizeof *node);
    onnx__node_proto__init(node);
    node->op_type = mem_string(op);
    node->name = mem_string(name);
    append(&node->output, &node->n_output, mem_string(name));
    append(&b->graph->node, &b->graph->n_node, node);
    return node;
}

static void add_input(Onnx__NodeProto *node, const char *name)
{
    append(&node->input, &node->n_input, mem_string(name));
}

static Onnx__AttributeProto *add_attribute(Onnx__NodeProto *node, const char *name,
                                           Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto *attribute = mem_alloc(sizeof *attribute);
    onnx__attribute_proto__init(attribute);
    attribute->name = mem_string(name);
    attribute->has_type = 1;
    attribute->type = type;
    append(&node->attribute, &node->n_attribute, attribute);
    return attribute;
}

static void set_int(Onnx__NodeProto *node, const char *name, int64_t value)
{
    Onnx__AttributeProto *attribute =
        add_attribute(node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    attribute->has_i = 1;
    attribute->i = value;
}

static void set_float(Onnx__NodeProto *node, const char *name, float value)
{
    Onnx__AttributeProto *attribute =
        add_attribute(node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    attribute->has_f = 1;
    attribute->f = value;
}

/* `count` times the same number. */
static void set_ints(Onnx__NodeProto *node, const char *name, int count, int64_t value)
{
    Onnx__AttributeProto *attribute =
        add_attribute(node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    attribute->n_ints = (size_t)count;
    attribute->ints = mem_alloc((size_t)count * sizeof *attribute->ints);
    for (int i = 0; i < count; i++) {
        attribute->ints[i] = value;
    }
}

/* ---- weights --------------------------------------------------------------------------------- */

/* The name of the layer whose weight lies at this offset: what stands before ".weight". A new
 * string. */
static char *layer_name(const Builder *b, int64_t offset)
{
    const ParamTable *table = &b->net->params.weights;
    for (int i = 0; i < table->count; i++) {
        const char *name = table->spec[i].name;
        if (table->spec[i].offset == offset && text_ends_with(name, WEIGHT)) {
            return mem_format("%.*s", (int)(strlen(name) - strlen(WEIGHT)), name);
        }
    }
    fatal("no layer has its weight at offset %lld", (long long)offset);
}

static const SafeTensor *find_weight(const Builder *b, const char *name)
{
    const TensorList list = {.tensor = b->weights.tensor, .count = b->weights.count};
    const SafeTensor *tensor = tensor_list_find(&list, name);
    if (!tensor) {
        fatal("the network has no tensor %s", name);
    }
    return tensor;
}

/* Makes LAYER + ending an initializer, and the next input of the node. */
static void add_weight(Builder *b, Onnx__NodeProto *node, const char *layer, const char *ending)
{
    char *name = mem_format("%s%s", layer, ending);
    const SafeTensor *weight = find_weight(b, name);
    Onnx__TensorProto *tensor = mem_alloc(sizeof *tensor);
    onnx__tensor_proto__init(tensor);
    tensor->n_dims = (size_t)weight->ndim;
    tensor->dims = mem_alloc(tensor->n_dims * sizeof *tensor->dims);
    for (int i = 0; i < weight->ndim; i++) {
        tensor->dims[i] = weight->shape[i];
    }
    tensor->has_data_type = 1;
    tensor->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->has_raw_data = 1;
    tensor->raw_data.len = weight->bytes;
    tensor->raw_data.data = mem_alloc(weight->bytes);
    memcpy(tensor->raw_data.data, weight->data, weight->bytes);
    tensor->name = name;
    append(&b->graph->initializer, &b->graph->n_initializer, tensor);
    add_input(node, name);
}

/* ---- layers ---------------------------------------------------------------------------------- */

/* Each adds a layer that reads the value x and returns the name of what it gives, which belongs to
 * the graph. */

static const char *add_conv(Builder *b, const ConvLayer *layer, const char *x)
{
    char *name = layer_name(b, layer->weight);
    Onnx__NodeProto *node = add_node(b, "Conv", name);
    add_input(node, x);
    add_weight(b, node, name, WEIGHT);
    if (layer->bias >= 0) {
        add_weight(b, node, name, ".bias");
    }
    set_ints(node, "kernel_shape", 2, layer->shape.R);
    set_ints(node, "strides", 2, layer->shape.stride);
    set_ints(node, "pads", 4, layer->shape.pad);
    free(name);
    return node->output[0];
}

static const char *add_norm(Builder *b, const NormLayer *layer, const char *x)
{
    char *name = layer_name(b, layer->gamma);
    Onnx__NodeProto *node = add_node(b, "BatchNormalization", name);
    add_input(node, x);
    add_weight(b, node, name, WEIGHT);
    add_weight(b, node, name, ".bias");
    add_weight(b, node, name, ".running_mean");
    add_weight(b, node, name, ".running_var");
    set_float(node, "epsilon", NORM_EPS);
    free(name);
    return node->output[0];
}

static const char *add_linear(Builder *b, const LinearLayer *layer, const char *x,
                              const char *output)
{
    char *name = layer_name(b, layer->weight);
    Onnx__NodeProto *node = add_node(b, "Gemm", output ? output : name);
    add_input(node, x);
    add_weight(b, node, name, WEIGHT);
    add_weight(b, node, name, ".bias");
    set_int(node, "transB", 1);
    free(name);
    return node->output[0];
}

/* An operator without weights; the value is called X + ending. */
static Onnx__NodeProto *add_plain(Builder *b, const char *op, const char *x, const char *ending)
{
    char *name = mem_format("%s%s", x, ending);
    Onnx__NodeProto *node = add_node(b, op, name);
    add_input(node, x);
    free(name);
    return node;
}

static const char *add_relu(Builder *b, const char *x)
{
    return add_plain(b, "Relu", x, ".relu")->output[0];
}

static const char *add_concat(Builder *b, const char *name, const char *x, const char *y)
{
    Onnx__NodeProto *node = add_node(b, "Concat", name);
    add_input(node, x);
    add_input(node, y);
    set_int(node, "axis", 1);
    return node->output[0];
}

/* ---- the network ----------------------------------------------------------------------------- */

static const char *add_block(Builder *b, const Block *block, const char *x)
{
    const char *shortcut = x;
    if (block->downsample) {
        shortcut = add_norm(b, &block->down_norm, add_conv(b, &block->down_conv, x));
    }
    for (int i = 0; i < block->convs; i++) {
        x = add_norm(b, &block->norm[i], add_conv(b, &block->conv[i], x));
        if (i == block->convs - 1) {
            Onnx__NodeProto *sum = add_plain(b, "Add", x, ".sum");
            add_input(sum, shortcut);
            x = sum->output[0];
        }
        x = add_relu(b, x);
    }
    return x;
}

/* Returns the trunk's map. */
static const char *add_trunk(Builder *b, const Trunk *trunk, const char *x)
{
    x = add_relu(b, add_norm(b, &trunk->stem_norm, add_conv(b, &trunk->stem_conv, x)));
    Onnx__NodeProto *pool = add_plain(b, "MaxPool", x, ".maxpool");
    set_ints(pool, "kernel_shape", 2, 3);
    set_ints(pool, "strides", 2, 2);
    set_ints(pool, "pads", 4, 1);
    x = pool->output[0];
    for (int i = 0; i < trunk->blocks; i++) {
        x = add_block(b, &trunk->block[i], x);
    }
    return x;
}

static void add_classifier(Builder *b, const Classifier *classifier, const char *x,
                           const char *output)
{
    x = add_plain(b, "Flatten", x, ".flat")->output[0];
    x = add_relu(b, add_norm(b, &classifier->norm, add_linear(b, &classifier->fc1, x, NULL)));
    add_linear(b, &classifier->fc2, x, output);
}

static void add_heads(Builder *b, const char *rgb, const char *depth)
{
    const Net *net = b->net;
    const char *pooled_rgb = add_plain(b, "GlobalAveragePool", rgb, ".mean")->output[0];
    const char *pooled_depth = add_plain(b, "GlobalAveragePool", depth, ".mean")->output[0];
    const char *features = add_concat(b, "main.features", pooled_rgb, pooled_depth);
    add_classifier(b, &net->main.classifier, features, "class_logits");
    const char *maps = add_concat(b, "rotation.maps", rgb, depth);
    for (int i = 0; i < 2; i++) {
        maps = add_relu(
            b, add_norm(b, &net->rotation.norm[i], add_conv(b, &net->rotation.conv[i], maps)));
    }
    add_classifier(b, &net->rotation.classifier, maps, "rotation_logits");
}

/* ---- inputs and outputs ---------------------------------------------------------------------- */

/* A float tensor [batch, dims...]. */
static Onnx__ValueInfoProto *make_value(const char *name, int ndim, const int *dims)
{
    Onnx__ValueInfoProto *value = mem_alloc(sizeof *value);
    onnx__value_info_proto__init(value);
    value->name = mem_string(name);
    value->type = mem_alloc(sizeof *value->type);
    onnx__type_proto__init(value->type);
    Onnx__TypeProto__Tensor *tensor = mem_alloc(sizeof *tensor);
    onnx__type_proto__tensor__init(tensor);
    value->type->tensor_type = tensor;
    tensor->has_elem_type = 1;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = mem_alloc(sizeof *tensor->shape);
    onnx__tensor_shape_proto__init(tensor->shape);
    for (int i = -1; i < ndim; i++) {
        Onnx__TensorShapeProto__Dimension *dim = mem_alloc(sizeof *dim);
        onnx__tensor_shape_proto__dimension__init(dim);
        if (i < 0) {
            dim->dim_param = mem_string("batch");
        } else {
            dim->has_dim_value = 1;
            dim->dim_value = dims[i];
        }
        append(&tensor->shape->dim, &tensor->shape->n_dim, dim);
    }
    return value;
}

static void add_values(Builder *b)
{
    const NetConfig *config = &b->net->config;
    const int picture[] = {3, config->trunk.crop, config->trunk.crop};
    const int rotations = ROTATION_CLASSES;
    Onnx__GraphProto *graph = b->graph;
    append(&graph->input, &graph->n_input, make_value("rgb", 3, picture));
    append(&graph->input, &graph->n_input, make_value("depth", 3, picture));
    append(&graph->output, &graph->n_output, make_value("class_logits", 1, &config->classes));
    append(&graph->output, &graph->n_output, make_value("rotation_logits", 1, &rotations));
}

static Onnx__ModelProto *make_model(Builder *b)
{
    Onnx__ModelProto *model = mem_alloc(sizeof *model);
    onnx__model_proto__init(model);
    model->has_ir_version = 1;
    model->ir_version = IR_VERSION;
    model->producer_name = mem_string("rodeo");
    model->producer_version = mem_string(RODEO_VERSION);
    Onnx__OperatorSetIdProto *opset = mem_alloc(sizeof *opset);
    onnx__operator_set_id_proto__init(opset);
    opset->domain = mem_string("");
    opset->has_version = 1;
    opset->version = EXPORT_ONNX_OPSET;
    append(&model->opset_import, &model->n_opset_import, opset);
    model->graph = b->graph = mem_alloc(sizeof *b->graph);
    onnx__graph_proto__init(b->graph);
    b->graph->name = mem_string("rodeo");
    b->graph->doc_string = mem_string(
        "RGB and depth pictures [batch, 3, height, width], values (v/255 - mean)/std with mean "
        "(0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225), to the logits of the classes and of "
        "the relative rotation in quarter turns.");
    add_values(b);
    const char *rgb = add_trunk(b, &b->net->rgb, "rgb");
    add_heads(b, rgb, add_trunk(b, &b->net->depth, "depth"));
    return model;
}

int export_onnx(const Net *net, const char *path, Err *err)
{
    Builder b = {.net = net, .weights = weights_collect(net)};
    Onnx__ModelProto *model = make_model(&b);
    weights_free(&b.weights);
    size_t bytes = onnx__model_proto__get_packed_size(model);
    uint8_t *packed = mem_alloc(bytes);
    onnx__model_proto__pack(model, packed);
    onnx__model_proto__free_unpacked(model, NULL);
    int rc = atomic_file_replace(path, packed, bytes, err);
    free(packed);
    return rc;
}
