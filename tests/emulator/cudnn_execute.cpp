/* cuDNN's variant packs, and running a plan on the handle's stream. */
#include "cudnn_internal.h"

using namespace rodeo_emulator;

namespace rodeo_emulator
{

cudnnStatus_t finalize_pack(const Descriptor &d)
{
    const std::vector<int64_t> &ids = d.numbers(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    size_t pointers = d.values.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).pointers.size();
    if (ids.size() != pointers) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "variant pack: %zu unique ids, %zu pointers",
                           ids.size(), pointers);
    }
    if (std::set<int64_t>(ids.begin(), ids.end()).size() != ids.size()) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES,
                           "variant pack: a unique id stands there twice");
    }
    return CUDNN_STATUS_SUCCESS;
}

struct Operands {
    void *x, *w, *y;
};

static cudnnStatus_t check_pointer(const char *name, const void *p, size_t bytes, size_t alignment)
{
    if (p == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s is NULL", name);
    }
    if ((uintptr_t)p % alignment != 0) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
                           "%s is not aligned to %zu bytes", name, alignment);
    }
    if (place_of(p, bytes) != Place::device) {
        die("cuDNN: %s, %zu bytes, is not inside one allocation of device memory", name, bytes);
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t find_operand(const Descriptor &pack, const char *name,
                                  const Descriptor &tensor, void **p)
{
    const std::vector<int64_t> &ids = pack.numbers(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    int64_t id = tensor.number(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    for (size_t i = 0; i < ids.size(); i++) {
        if (ids[i] == id) {
            *p = pack.values.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).pointers[i];
            return check_pointer(name, *p, bytes_of(shape_of(tensor)),
                                 (size_t)tensor.number(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT));
        }
    }
    return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "variant pack: %s's unique id %lld is missing", name,
                       (long long)id);
}

static cudnnStatus_t find_operands(const Descriptor &pack, const Operation &o, Operands *found)
{
    cudnnStatus_t status = find_operand(pack, "x or dx", *o.x, &found->x);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = find_operand(pack, "w or dw", *o.w, &found->w);
    }
    if (status == CUDNN_STATUS_SUCCESS) {
        status = find_operand(pack, "y or dy", *o.y, &found->y);
    }
    if (status == CUDNN_STATUS_SUCCESS &&
        pack.numbers(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).size() != 3) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM,
                           "variant pack: it has unique ids that the plan does not know");
    }
    return status;
}

static cudnnStatus_t find_workspace(const Descriptor &pack, size_t needed, void **workspace)
{
    *workspace = pack.has(CUDNN_ATTR_VARIANT_PACK_WORKSPACE)
                     ? pack.values.at(CUDNN_ATTR_VARIANT_PACK_WORKSPACE).pointers[0]
                     : nullptr;
    return needed == 0 ? CUDNN_STATUS_SUCCESS
                       : check_pointer("the workspace", *workspace, needed, 16);
}

static void compute(const Operation &o, const ConvSizes &s, cudnnDataType_t type,
                    const ConvManner &manner, const Operands &p)
{
    switch (o.kind) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        conv_forward(s, type, manner, o.alpha, p.x, p.w, o.beta, p.y);
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        conv_backward_data(s, type, manner, o.alpha, p.w, p.y, o.beta, p.x);
        break;
    default:
        conv_backward_filter(s, type, manner, o.alpha, p.x, p.y, o.beta, p.w);
    }
}

static void touch_operands(const Operation &o, const Operands &p)
{
    Touch x = Touch::read, w = Touch::read, y = Touch::read;
    switch (o.kind) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        y = Touch::write;
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        x = Touch::write;
        break;
    default:
        w = Touch::write;
    }
    touch(p.x, bytes_of(shape_of(*o.x)), x);
    touch(p.w, bytes_of(shape_of(*o.w)), w);
    touch(p.y, bytes_of(shape_of(*o.y)), y);
}

/* Engines use their workspace: it is overwritten before, so that two streams that share one do
 * harm. The plan's contents are copied: it may be destroyed before it has run. */
static cudnnStatus_t convolve(cudnnHandle_t handle, const Descriptor &plan, const Operation &o,
                              const ConvManner &manner, const Operands &p, void *workspace,
                              size_t used)
{
    auto kept = std::make_shared<Descriptor>(plan);
    ConvSizes sizes = sizes_of(o);
    cudnnDataType_t type = shape_of(*o.x).type;
    auto run = [=] {
        touch_operands(o, p);
        if (used > 0) {
            touch(workspace, used, Touch::write);
            std::memset(workspace, 0xFF, used);
        }
        compute(o, sizes, type, manner, p);
    };
    std::string what = std::string("cuDNN's ") + kind_name(o.kind);
    cudaError_t status =
        enqueue(handle->stream, {what, [=] {
                                     /* up to 1/16 more, as measurements go */
                                     auto jitter = kept->duration * state().random.below(64) / 1024;
                                     run_in(kept->duration + jitter, run);
                                 }});
    return status == cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : cudnn_fault(CUDNN_STATUS_EXECUTION_FAILED, "%s", cudaGetErrorString(status));
}

static cudnnStatus_t execute(cudnnHandle_t handle, const Descriptor &plan, const Descriptor &pack)
{
    Operation o = operation_of_graph(plan.descriptor(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
                                         .descriptor(CUDNN_ATTR_ENGINECFG_ENGINE)
                                         .descriptor(CUDNN_ATTR_ENGINE_OPERATION_GRAPH));
    size_t needed = (size_t)plan.number(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
    Operands operands = {nullptr, nullptr, nullptr};
    void *workspace = nullptr;
    cudnnStatus_t status = find_operands(pack, o, &operands);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = find_workspace(pack, needed, &workspace);
    }
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    Execution how = execution_of(plan);
    return how.fails ? cudnn_refusal(CUDNN_STATUS_EXECUTION_FAILED, "the engine does not run here")
                     : convolve(handle, plan, o, how.manner, operands, workspace, needed);
}

} // namespace rodeo_emulator

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t executionPlan,
                                  cudnnBackendDescriptor_t variantPack)
{
    Lock lock(state().mutex);
    const Descriptor *plan = find_descriptor(executionPlan), *pack = find_descriptor(variantPack);
    if (!is_cudnn_handle(handle) || plan == nullptr || pack == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "a handle or descriptor is not one");
    }
    if (plan->kind != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
        pack->kind != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                           "what is executed is: %s with %s", kind_name(plan->kind),
                           kind_name(pack->kind));
    }
    if (!plan->finalized || !pack->finalized) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                           "the plan or the variant pack is not finalized");
    }
    if (plan->values.at(CUDNN_ATTR_EXECUTION_PLAN_HANDLE).pointers[0] != handle) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "the plan was made with another handle");
    }
    return execute(handle, *plan, *pack);
}
