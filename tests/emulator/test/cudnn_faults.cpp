/* What cuDNN refuses, and that it says why. */
#include "graphs.h"

static const Case small = {1, 4, 4, 4, 4, 3, 3, 1, 1, 1};

/* The status is the expected one, and the text that is kept says why. */
static void refused(cudnnStatus_t status, cudnnStatus_t expected, const char *why)
{
    char text[256];
    cudnnGetLastErrorString(text, sizeof(text));
    if (status != expected || std::strstr(text, why) == nullptr) {
        std::fprintf(stderr, "%s: \"%s\" instead of %s: \"%s\"\n", cudnnGetErrorString(status),
                     text, cudnnGetErrorString(expected), why);
        CHECK(false);
    }
}

static void attributes()
{
    MadeRef t = tensor(F32, 1, 1, 4, 4, 4);
    const std::vector<int64_t> one = {1};
    refused(t->try_set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_FLOAT, one),
            CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute type 3, not 4");
    refused(t->try_set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, one), CUDNN_STATUS_BAD_PARAM,
            "1 elements of TENSOR_DIMENSIONS");
    refused(t->try_set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, one),
            CUDNN_STATUS_BAD_PARAM, "no attribute 1301");
    refused(cudnnBackendSetAttribute(t->get(), CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1,
                                     nullptr),
            CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "TENSOR_UNIQUE_ID is NULL");
    int64_t count = 0, value = 0;
    auto ask = [&](cudnnBackendAttributeType_t type) {
        return cudnnBackendGetAttribute(t->get(), CUDNN_ATTR_TENSOR_UNIQUE_ID, type, 1, &count,
                                        &value);
    };
    refused(ask(CUDNN_TYPE_INT64), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not finalized");
    CHECK(!t->finalize() && !ask(CUDNN_TYPE_INT64) && count == 1 && value == 1);
    refused(ask(CUDNN_TYPE_FLOAT), CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute type");
    refused(t->try_set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, one), CUDNN_STATUS_BAD_PARAM,
            "is finalized");
    refused(t->finalize(), CUDNN_STATUS_BAD_PARAM, "finalized already");
    Made empty(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    refused(empty.finalize(), CUDNN_STATUS_BAD_PARAM, "TENSOR_DATA_TYPE was not set");
    cudnnBackendDescriptor_t none;
    refused(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &none),
            CUDNN_STATUS_NOT_SUPPORTED, "kind 38");
}

static void destroyed()
{
    cudnnBackendDescriptor_t d;
    CHECK(!cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &d));
    CHECK(!cudnnBackendDestroyDescriptor(d));
    refused(cudnnBackendDestroyDescriptor(d), CUDNN_STATUS_BAD_PARAM, "not a descriptor");
    refused(cudnnBackendFinalize(d), CUDNN_STATUS_BAD_PARAM, "not a descriptor");
}

static void tensors()
{
    auto with = [](cudnnBackendAttributeName_t name, const std::vector<int64_t> &values) {
        MadeRef t = tensor(F32, 1, 2, 3, 4, 5);
        t->set(name, values);
        return t->finalize();
    };
    CHECK(!with(CUDNN_ATTR_TENSOR_STRIDES, {60, 1, 15, 3}));
    refused(with(CUDNN_ATTR_TENSOR_STRIDES, {60, 20, 5, 1}), CUDNN_STATUS_BAD_PARAM,
            "should be 60, 1, 15, 3");
    refused(with(CUDNN_ATTR_TENSOR_DIMENSIONS, {2, 0, 4, 5}), CUDNN_STATUS_BAD_PARAM, "2 x 0 x 4");
    refused(with(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {24}), CUDNN_STATUS_BAD_PARAM, "24 bytes");
    refused(with(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {2}), CUDNN_STATUS_BAD_PARAM, "2 bytes");
    MadeRef wide = tensor(F32, 1, 2, 3, 4, 5);
    wide->set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE,
              std::vector<cudnnDataType_t>{CUDNN_DATA_DOUBLE});
    refused(wide->finalize(), CUDNN_STATUS_NOT_SUPPORTED, "data type 1");
}

static void convolution_settings()
{
    auto with = [](cudnnBackendAttributeName_t name, const std::vector<int64_t> &values) {
        MadeRef c = convolution(small);
        c->set(name, values);
        return c->finalize();
    };
    CHECK(!with(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {2, 5}));
    refused(with(CUDNN_ATTR_CONVOLUTION_DILATIONS, {1, 2}), CUDNN_STATUS_NOT_SUPPORTED, "dilation");
    refused(with(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, {3}), CUDNN_STATUS_NOT_SUPPORTED, "two dim");
    refused(with(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {-1, 0}), CUDNN_STATUS_BAD_PARAM, "paddings");
    refused(with(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {1, 0}), CUDNN_STATUS_BAD_PARAM, "strides");
    MadeRef flipped = convolution(small), halves = convolution(small);
    flipped->set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE,
                 std::vector<cudnnConvolutionMode_t>{CUDNN_CONVOLUTION});
    refused(flipped->finalize(), CUDNN_STATUS_NOT_SUPPORTED, "flipped");
    halves->set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE,
                std::vector<cudnnDataType_t>{CUDNN_DATA_HALF});
    refused(halves->finalize(), CUDNN_STATUS_NOT_SUPPORTED, "sums other than float");
}

static void operations()
{
    auto fits = [](Direction d, MadeRef y, MadeRef w, const Case &c) {
        MadeRef x = tensor(F32, 1, 1, 4, 4, 4), conv = convolution(c);
        CHECK(!x->finalize() && !w->finalize() && !y->finalize() && !conv->finalize());
        return operation(d, *x, *w, *y, *conv, 1, 0)->finalize();
    };
    Case uneven = small;
    uneven.post = 2;
    for (Direction d : {forward, backward_data, backward_filter}) {
        auto w = [] { return tensor(F32, 2, 4, 4, 3, 3); };
        CHECK(!fits(d, tensor(F32, 3, 1, 4, 4, 4), w(), small));
        CHECK(!fits(d, tensor(F32, 3, 1, 4, 5, 5), w(), uneven));
        refused(fits(d, tensor(F32, 3, 1, 4, 4, 4), w(), uneven),
                CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "should be 1 x 4 x 5 x 5");
        refused(fits(d, tensor(F32, 3, 1, 4, 4, 5), w(), small),
                CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "should be 1 x 4 x 4 x 4");
        refused(fits(d, tensor(F32, 3, 1, 4, 4, 4), tensor(F32, 2, 4, 3, 3, 3), small),
                CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "C 4 and 3");
        refused(fits(d, tensor(F16, 3, 1, 4, 4, 4), w(), small), CUDNN_STATUS_BAD_PARAM,
                "different types");
        refused(fits(d, tensor(F32, 1, 1, 4, 4, 4), w(), small),
                CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "same unique id");
    }
    MadeRef t = tensor(F32, 1, 1, 4, 4, 4);
    Made op(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    auto link = [&](cudnnBackendAttributeName_t name) {
        return op.try_set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                          std::vector<cudnnBackendDescriptor_t>{t->get()});
    };
    refused(link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
            "the tensor is not finalized");
    refused(link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC),
            CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "cannot be a tensor");
}

static void configurations()
{
    Handle h;
    MadeRef g = whole_graph(h.handle, forward, small, F32);
    MadeRef c = config(*g, 1, {{CUDNN_KNOB_TYPE_TILE_SIZE, 2}, {CUDNN_KNOB_TYPE_STAGES, 1}});
    auto with = [&](std::vector<std::pair<cudnnBackendKnobType_t, int64_t>> choices) {
        Made engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR), made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        engine.link(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, *g).set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, {1});
        CHECK(!engine.finalize());
        made.link(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
        std::vector<MadeRef> knobs;
        std::vector<cudnnBackendDescriptor_t> raw;
        for (const auto &choice : choices) {
            knobs.emplace_back(new Made(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR));
            knobs.back()
                ->set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE,
                      std::vector<cudnnBackendKnobType_t>{choice.first})
                .set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, {choice.second});
            CHECK(!knobs.back()->finalize());
            raw.push_back(knobs.back()->get());
        }
        made.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw);
        return made.finalize();
    };
    refused(with({{CUDNN_KNOB_TYPE_TILE_SIZE, 3}}), CUDNN_STATUS_NOT_SUPPORTED, "no knob 2");
    refused(with({{CUDNN_KNOB_TYPE_STAGES, 0}, {CUDNN_KNOB_TYPE_STAGES, 1}}),
            CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "two choices for knob 14");
    int64_t count = 0;
    cudnnBackendDescriptor_t used = c->get(), same[2];
    Made fresh(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    same[0] = same[1] = fresh.get();
    refused(cudnnBackendGetAttribute(c->get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &used),
            CUDNN_STATUS_BAD_PARAM, "just created, of kind: engine");
    refused(cudnnBackendGetAttribute(c->get(), CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 2, &count, same),
            CUDNN_STATUS_BAD_PARAM, "element 1 should be a descriptor");
}

/* ---- execution ----------------------------------------------------------------------------------
 */

/* A forward convolution with the engine that needs a workspace. */
struct Forward {
    Handle h;
    Tensor x{F32, 64, 1}, w{F32, 144, 2}, y{F32, 80, 3}, space{F32, 4096, 4};
    MadeRef ready;
    Forward()
    {
        MadeRef g = whole_graph(h.handle, forward, small, F32);
        ready = plan(h.handle, *config(*g, 1));
        CHECK(!ready->finalize());
    }
    cudnnStatus_t run(const std::vector<int64_t> &ids, const std::vector<void *> &pointers,
                      void *workspace)
    {
        Made made(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        made.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids)
            .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers);
        if (workspace != nullptr) {
            made.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR,
                     std::vector<void *>{workspace});
        }
        cudnnStatus_t status = made.finalize();
        return status != CUDNN_STATUS_SUCCESS
                   ? status
                   : cudnnBackendExecute(h.handle, ready->get(), made.get());
    }
};

static void executions()
{
    Forward f;
    void *x = f.x.device, *w = f.w.device, *y = f.y.device, *space = f.space.device;
    CHECK(!f.run({3, 1, 2}, {y, x, w}, space));
    refused(f.run({1, 2}, {x, w}, space), CUDNN_STATUS_BAD_PARAM, "y or dy's unique id 3");
    refused(f.run({1, 2, 3, 4}, {x, w, y, y}, space), CUDNN_STATUS_BAD_PARAM, "does not know");
    refused(f.run({1, 2, 2}, {x, w, y}, space), CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "twice");
    refused(f.run({1, 2, 3}, {x, w}, space), CUDNN_STATUS_BAD_PARAM, "3 unique ids, 2 pointers");
    refused(f.run({1, 2, 3}, {x, w, nullptr}, space), CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
            "y or dy is NULL");
    refused(f.run({1, 2, 3}, {x, w, (char *)y + 4}, space),
            CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "aligned to 16 bytes");
    refused(f.run({1, 2, 3}, {x, w, y}, nullptr), CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
            "the workspace is NULL");
    Made unfinished(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    refused(cudnnBackendExecute(f.h.handle, f.ready->get(), unfinished.get()),
            CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not finalized");
    refused(cudnnBackendExecute(f.h.handle, unfinished.get(), f.ready->get()),
            CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "variant pack with execution plan");
    refused(cudnnBackendExecute(nullptr, f.ready->get(), unfinished.get()), CUDNN_STATUS_BAD_PARAM,
            "not one");
    OK(cudaDeviceSynchronize());
}

/* One byte too few, and what is not the device's, end the program. */
static void small_workspace()
{
    Forward f;
    void *tight;
    OK(cudaMalloc(&tight, workspace_of(*f.ready)));
    CHECK(!f.run({1, 2, 3}, {f.x.device, f.w.device, f.y.device}, tight));
    f.run({1, 2, 3}, {f.x.device, f.w.device, f.y.device}, (char *)tight + 16);
}

static void operand_on_the_host()
{
    Forward f;
    alignas(16) static float host[64];
    f.run({1, 2, 3}, {host, f.w.device, f.y.device}, f.space.device);
}

static void leak()
{
    Handle h;
    cudnnBackendDescriptor_t d;
    CHECK(!cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &d));
}

static void needs_newer_gpu(Type type)
{
    Handle h;
    MadeRef x = tensor(type, 1, 1, 4, 4, 4), w = tensor(type, 2, 4, 4, 3, 3),
            y = tensor(type, 3, 1, 4, 4, 4), conv = convolution(small);
    CHECK(!x->finalize() && !w->finalize() && !y->finalize() && !conv->finalize());
    MadeRef op = operation(forward, *x, *w, *y, *conv, 1, 0);
    CHECK(!op->finalize());
    refused(graph(h.handle, *op)->finalize(), CUDNN_STATUS_NOT_SUPPORTED, "data type");
}

static void must_say(const std::function<void()> &body, const char *text)
{
    Outcome outcome = in_child(body);
    std::fputs(outcome.says(text) ? "" : outcome.errors.c_str(), stderr);
    CHECK(outcome.status != 0 && outcome.says(text));
}

/* Complaints go to stderr as well. */
static void complains()
{
    Made empty(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    CHECK(!empty.finalize());
}

void test_cudnn_faults()
{
    for (auto test : {attributes, destroyed, tensors, convolution_settings, operations,
                      configurations, executions}) {
        must_succeed(test);
    }
    must_say(complains, "cuDNN: tensor: TENSOR_DATA_TYPE was not set");
    must_say(small_workspace, "the workspace, 1312 bytes, is not inside one allocation");
    must_say(operand_on_the_host, "x or dx, 256 bytes, is not inside one allocation");
    must_say(leak, "1 left at exit: cuDNN descriptors: variant pack");
    must_succeed([] { needs_newer_gpu(BF16); }, {{"SM", "7.5"}});
    must_succeed([] { needs_newer_gpu(F16); }, {{"SM", "5.2"}});
}
