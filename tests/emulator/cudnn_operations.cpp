/* cuDNN's tensors, convolutions, operations and graphs: what they say and whether it fits. */
#include "cudnn_internal.h"

namespace rodeo_emulator
{

/* The attributes of the three operations. */
struct OperationNames {
    DescriptorKind kind;
    AttributeName x, w, y, conv, alpha, beta;
};

static const OperationNames names[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

Operation operation_of(const Descriptor &d)
{
    const OperationNames *n = names;
    while (n->kind != d.kind) {
        n++;
    }
    return {d.kind,
            &d.descriptor(n->x),
            &d.descriptor(n->w),
            &d.descriptor(n->y),
            &d.descriptor(n->conv),
            d.real(n->alpha),
            d.real(n->beta)};
}

Operation operation_of_graph(const Descriptor &d)
{
    return operation_of(d.descriptor(CUDNN_ATTR_OPERATIONGRAPH_OPS));
}

TensorShape shape_of(const Descriptor &tensor)
{
    const std::vector<int64_t> &d = tensor.numbers(CUDNN_ATTR_TENSOR_DIMENSIONS);
    return {(cudnnDataType_t)tensor.number(CUDNN_ATTR_TENSOR_DATA_TYPE), (int)d[0], (int)d[1],
            (int)d[2], (int)d[3]};
}

size_t bytes_of(const TensorShape &t)
{
    return (size_t)t.n * (size_t)t.c * (size_t)t.h * (size_t)t.w *
           (t.type == CUDNN_DATA_FLOAT ? 4 : 2);
}

ConvSizes sizes_of(const Operation &o)
{
    TensorShape x = shape_of(*o.x), w = shape_of(*o.w), y = shape_of(*o.y);
    const std::vector<int64_t> &pads = o.conv->numbers(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const std::vector<int64_t> &strides = o.conv->numbers(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    return {x.n,
            x.h,
            x.w,
            x.c,
            w.n,
            w.h,
            w.w,
            y.h,
            y.w,
            (int)pads[0],
            (int)pads[1],
            (int)strides[0],
            (int)strides[1]};
}

cudnnStatus_t finalize_tensor(const Descriptor &d)
{
    int64_t type = d.number(CUDNN_ATTR_TENSOR_DATA_TYPE);
    if (type != CUDNN_DATA_FLOAT && type != CUDNN_DATA_HALF && type != CUDNN_DATA_BFLOAT16) {
        return cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED, "tensors of data type %d are not emulated",
                           (int)type);
    }
    const std::vector<int64_t> &dims = d.numbers(CUDNN_ATTR_TENSOR_DIMENSIONS);
    double elements = 1;
    for (int64_t size : dims) {
        elements *= (double)size;
        if (size < 1 || elements > 0x7fffffff) {
            return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "a tensor of %lld x %lld x %lld x %lld",
                               (long long)dims[0], (long long)dims[1], (long long)dims[2],
                               (long long)dims[3]);
        }
    }
    const std::vector<int64_t> packed = {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3],
                                         dims[1]};
    if (d.numbers(CUDNN_ATTR_TENSOR_STRIDES) != packed) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM,
                           "only packed channels-last tensors are emulated: the strides should be "
                           "%lld, 1, %lld, %lld",
                           (long long)packed[0], (long long)packed[2], (long long)packed[3]);
    }
    int64_t alignment = d.number(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    if (alignment < (type == CUDNN_DATA_FLOAT ? 4 : 2) || (alignment & (alignment - 1)) != 0) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM,
                           "an alignment of %lld bytes: it should be a power of two that an "
                           "element fits in",
                           (long long)alignment);
    }
    return CUDNN_STATUS_SUCCESS;
}

static bool all_from(const std::vector<int64_t> &values, int64_t least, int64_t most)
{
    for (int64_t value : values) {
        if (value < least || value > most) {
            return false;
        }
    }
    return true;
}

cudnnStatus_t finalize_convolution(const Descriptor &d)
{
    if (!all_from(d.numbers(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES), 1, 1 << 20) ||
        !all_from(d.numbers(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS), 0, 1 << 20) ||
        !all_from(d.numbers(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS), 0, 1 << 20)) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "a convolution with such strides or paddings");
    }
    if (d.number(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) != 2 ||
        d.number(CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION ||
        d.number(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) != CUDNN_DATA_FLOAT ||
        !all_from(d.numbers(CUDNN_ATTR_CONVOLUTION_DILATIONS), 1, 1)) {
        return cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED,
                           "other than two dimensions, dilation, flipped filters and sums other "
                           "than float are not emulated");
    }
    return CUDNN_STATUS_SUCCESS;
}

/* The output's size along one axis; 0 where the filter does not fit. */
static int64_t output_size(const Descriptor &conv, size_t axis, int input, int filter)
{
    int64_t room = input + conv.numbers(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)[axis] +
                   conv.numbers(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS)[axis] - filter;
    return room < 0 ? 0 : room / conv.numbers(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)[axis] + 1;
}

cudnnStatus_t finalize_operation(const Descriptor &d)
{
    Operation o = operation_of(d);
    TensorShape x = shape_of(*o.x), w = shape_of(*o.w), y = shape_of(*o.y);
    if (x.type != w.type || x.type != y.type) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "%s: tensors of different types",
                           kind_name(d.kind));
    }
    int64_t P = output_size(*o.conv, 0, x.h, w.h), Q = output_size(*o.conv, 1, x.w, w.w);
    if (x.c != w.c || x.n != y.n || w.n != y.c || P != y.h || Q != y.w) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
                           "%s: the output should be %d x %d x %lld x %lld, C %d and %d",
                           kind_name(d.kind), x.n, w.n, (long long)P, (long long)Q, x.c, w.c);
    }
    int64_t a = o.x->number(CUDNN_ATTR_TENSOR_UNIQUE_ID),
            b = o.w->number(CUDNN_ATTR_TENSOR_UNIQUE_ID),
            c = o.y->number(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    if (a == b || a == c || b == c) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES,
                           "%s: two tensors have the same unique id", kind_name(d.kind));
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_graph(const Descriptor &d)
{
    cudnnDataType_t type = shape_of(*operation_of_graph(d).x).type;
    int sm = state().major * 10 + state().minor;
    int needed = type == CUDNN_DATA_BFLOAT16 ? 80 : type == CUDNN_DATA_HALF ? 53 : 0;
    return sm >= needed
               ? CUDNN_STATUS_SUCCESS
               : cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED, "data type %d on sm_%d", (int)type, sm);
}

} // namespace rodeo_emulator
