/* cuDNN's graph API for the tests. */
#include "graphs.h"

MadeRef tensor(Type type, int64_t id, int64_t n, int64_t c, int64_t h, int64_t w)
{
    MadeRef made(new Made(CUDNN_BACKEND_TENSOR_DESCRIPTOR));
    made->set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE,
              std::vector<cudnnDataType_t>{cudnn_types[type]})
        .set(CUDNN_ATTR_TENSOR_DIMENSIONS, {n, c, h, w})
        .set(CUDNN_ATTR_TENSOR_STRIDES, {h * w * c, 1, w * c, c})
        .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, {id})
        .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {16});
    return made;
}

MadeRef convolution(const Case &c)
{
    MadeRef made(new Made(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR));
    made->set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE,
              std::vector<cudnnDataType_t>{CUDNN_DATA_FLOAT})
        .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE,
             std::vector<cudnnConvolutionMode_t>{CUDNN_CROSS_CORRELATION})
        .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, {2})
        .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {c.stride, c.stride})
        .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {c.pre, c.pre})
        .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {c.post, c.post})
        .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {1, 1});
    return made;
}

struct Attributes {
    cudnnBackendDescriptorType_t kind;
    cudnnBackendAttributeName_t x, w, y, conv, alpha, beta;
};

#define ATTRIBUTES(kind, name, x, w, y)                                                            \
    {                                                                                              \
        CUDNN_BACKEND_OPERATION_CONVOLUTION_##kind##_DESCRIPTOR,                                   \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##name##_##x,                                         \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##name##_##w,                                         \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##name##_##y,                                         \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##name##_CONV_DESC,                                   \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##name##_ALPHA,                                       \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##name##_BETA                                         \
    }

MadeRef operation(Direction direction, const Made &x, const Made &w, const Made &y,
                  const Made &conv, float alpha, float beta)
{
    static const Attributes all[] = {ATTRIBUTES(FORWARD, FORWARD, X, W, Y),
                                     ATTRIBUTES(BACKWARD_DATA, BWD_DATA, DX, W, DY),
                                     ATTRIBUTES(BACKWARD_FILTER, BWD_FILTER, X, DW, DY)};
    const Attributes &a = all[direction];
    MadeRef made(new Made(a.kind));
    made->link(a.x, x).link(a.w, w).link(a.y, y).link(a.conv, conv);
    made->set(a.alpha, CUDNN_TYPE_FLOAT, std::vector<float>{alpha})
        .set(a.beta, CUDNN_TYPE_FLOAT, std::vector<float>{beta});
    return made;
}

MadeRef graph(cudnnHandle_t handle, const Made &operation)
{
    MadeRef made(new Made(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR));
    made->link(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation)
        .set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE,
             std::vector<cudnnHandle_t>{handle});
    return made;
}

MadeRef whole_graph(cudnnHandle_t handle, Direction direction, const Case &c, Type type,
                    float alpha, float beta)
{
    MadeRef x = tensor(type, 1, c.N, c.C, c.H, c.W), w = tensor(type, 2, c.K, c.C, c.R, c.S),
            y = tensor(type, 3, c.N, c.K, c.P(), c.Q()), conv = convolution(c);
    CHECK(!x->finalize() && !w->finalize() && !y->finalize() && !conv->finalize());
    MadeRef op = operation(direction, *x, *w, *y, *conv, alpha, beta);
    CHECK(!op->finalize());
    MadeRef made = graph(handle, *op);
    CHECK(!made->finalize());
    return made;
}

MadeRef pack(const Tensor &x, const Tensor &w, const Tensor &y, void *workspace)
{
    MadeRef made(new Made(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR));
    made->set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, {1, 2, 3})
        .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
             std::vector<void *>{x.device, w.device, y.device})
        .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR,
             std::vector<void *>{workspace});
    CHECK(!made->finalize());
    return made;
}

static MadeRef knob(cudnnBackendKnobType_t type, int64_t value)
{
    MadeRef made(new Made(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR));
    made->set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE,
              std::vector<cudnnBackendKnobType_t>{type})
        .set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, {value});
    CHECK(!made->finalize());
    return made;
}

MadeRef config(const Made &graph, int64_t index, const Choices &choices)
{
    Made engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    engine.link(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph)
        .set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, {index});
    cudnnStatus_t status = engine.finalize();
    CHECK(status == CUDNN_STATUS_SUCCESS || status == CUDNN_STATUS_NOT_SUPPORTED);
    if (status != CUDNN_STATUS_SUCCESS) {
        return nullptr;
    }
    MadeRef made(new Made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    made->link(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    std::vector<MadeRef> knobs;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (const auto &choice : choices) {
        knobs.push_back(knob(choice.first, choice.second));
        raw.push_back(knobs.back()->get());
    }
    if (!raw.empty()) {
        made->set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw);
    }
    CHECK(!made->finalize());
    return made;
}

MadeRef plan(cudnnHandle_t handle, const Made &config)
{
    MadeRef made(new Made(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR));
    made->link(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)
        .set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE,
             std::vector<cudnnHandle_t>{handle});
    return made;
}

size_t workspace_of(const Made &plan)
{
    return (size_t)plan.ask<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64)
        .at(0);
}

MadeRef heuristics(const Made &graph, cudnnBackendHeurMode_t mode)
{
    MadeRef made(new Made(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR));
    made->link(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph)
        .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE,
             std::vector<cudnnBackendHeurMode_t>{mode});
    CHECK(!made->finalize());
    return made;
}

cudnnStatus_t run(const Handle &h, const Made &plan, const Operands &o)
{
    return cudnnBackendExecute(h.handle, plan.get(), pack(o.x, o.w, o.y, o.space.device)->get());
}

static const std::set<int> everywhere = {plain, knobbed,  backwards, greedy,
                                         fft,   winograd, compiled,  broken};

std::set<int> with(std::set<int> others)
{
    others.insert(everywhere.begin(), everywhere.end());
    return others;
}
