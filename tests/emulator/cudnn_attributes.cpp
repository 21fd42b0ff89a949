/* cuDNN's descriptors: which attributes each kind has, and setting, finalizing and asking for them.
 * What a kind means is checked by the functions that finalize() calls. */
#include "cudnn_internal.h"

#include <algorithm>

using namespace rodeo_emulator;

namespace rodeo_emulator
{

enum class Access { required, optional, result /* set when the descriptor is finalized */ };

struct Rule {
    DescriptorKind kind;
    AttributeName name;
    const char *text;
    cudnnBackendAttributeType_t type;
    size_t least, most; /* elements */
    Access access;
    DescriptorKind refers; /* where the type is a descriptor; any operation for the forward one */
};

static const size_t any_number = 64;

#define KIND(name) CUDNN_BACKEND_##name##_DESCRIPTOR
#define RULE(kind, name, type, least, most, access)                                                \
    {                                                                                              \
        KIND(kind), CUDNN_ATTR_##name, #name, CUDNN_TYPE_##type, least, most, Access::access,      \
            (DescriptorKind)0                                                                      \
    }
#define LINK(kind, name, most, access, refers)                                                     \
    {                                                                                              \
        KIND(kind), CUDNN_ATTR_##name, #name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, most,              \
            Access::access, KIND(refers)                                                           \
    }
#define OPERATION(kind, name, x, w, y)                                                             \
    LINK(kind, name##_##x, 1, required, TENSOR), LINK(kind, name##_##w, 1, required, TENSOR),      \
        LINK(kind, name##_##y, 1, required, TENSOR),                                               \
        LINK(kind, name##_CONV_DESC, 1, required, CONVOLUTION),                                    \
        RULE(kind, name##_ALPHA, FLOAT, 1, 1, required),                                           \
        RULE(kind, name##_BETA, FLOAT, 1, 1, required)

static const Rule rules[] = {
    RULE(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, 1, required),
    RULE(TENSOR, TENSOR_DIMENSIONS, INT64, 4, 4, required),
    RULE(TENSOR, TENSOR_STRIDES, INT64, 4, 4, required),
    RULE(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, 1, required),
    RULE(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, 1, required),
    RULE(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, 1, required),
    RULE(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, 1, required),
    RULE(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, 1, 1, required),
    RULE(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, 2, 2, required),
    RULE(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, 2, 2, required),
    RULE(CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, 2, 2, required),
    RULE(CONVOLUTION, CONVOLUTION_DILATIONS, INT64, 2, 2, required),
    OPERATION(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD, X, W, Y),
    OPERATION(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA, DX, W, DY),
    OPERATION(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER, X, DW, DY),
    LINK(OPERATIONGRAPH, OPERATIONGRAPH_OPS, 1, required, OPERATION_CONVOLUTION_FORWARD),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, 1, required),
    LINK(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, 1, required, OPERATIONGRAPH),
    RULE(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, 1, required),
    LINK(ENGINEHEUR, ENGINEHEUR_RESULTS, any_number, result, ENGINECFG),
    LINK(ENGINE, ENGINE_OPERATION_GRAPH, 1, required, OPERATIONGRAPH),
    RULE(ENGINE, ENGINE_GLOBAL_INDEX, INT64, 1, 1, required),
    RULE(ENGINE, ENGINE_NUMERICAL_NOTE, NUMERICAL_NOTE, 0, any_number, result),
    RULE(ENGINE, ENGINE_BEHAVIOR_NOTE, BEHAVIOR_NOTE, 0, any_number, result),
    LINK(ENGINECFG, ENGINECFG_ENGINE, 1, required, ENGINE),
    LINK(ENGINECFG, ENGINECFG_KNOB_CHOICES, any_number, optional, KNOB_CHOICE),
    RULE(KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE, KNOB_TYPE, 1, 1, required),
    RULE(KNOB_CHOICE, KNOB_CHOICE_KNOB_VALUE, INT64, 1, 1, required),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, 1, required),
    LINK(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, 1, required, ENGINECFG),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_WORKSPACE_SIZE, INT64, 1, 1, result),
    RULE(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, 1, any_number, required),
    RULE(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, 1, any_number, required),
    RULE(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, 1, optional),
};

static const std::pair<DescriptorKind, const char *> kinds[] = {
    {KIND(TENSOR), "tensor"},
    {KIND(CONVOLUTION), "convolution"},
    {KIND(OPERATION_CONVOLUTION_FORWARD), "forward convolution"},
    {KIND(OPERATION_CONVOLUTION_BACKWARD_DATA), "data gradient"},
    {KIND(OPERATION_CONVOLUTION_BACKWARD_FILTER), "filter gradient"},
    {KIND(OPERATIONGRAPH), "operation graph"},
    {KIND(ENGINEHEUR), "heuristics"},
    {KIND(ENGINE), "engine"},
    {KIND(ENGINECFG), "engine configuration"},
    {KIND(KNOB_CHOICE), "knob choice"},
    {KIND(EXECUTION_PLAN), "execution plan"},
    {KIND(VARIANT_PACK), "variant pack"},
};

const char *kind_name(DescriptorKind kind)
{
    for (const auto &entry : kinds) {
        if (entry.first == kind) {
            return entry.second;
        }
    }
    return nullptr;
}

static bool is_operation(DescriptorKind kind)
{
    return kind == KIND(OPERATION_CONVOLUTION_FORWARD) ||
           kind == KIND(OPERATION_CONVOLUTION_BACKWARD_DATA) ||
           kind == KIND(OPERATION_CONVOLUTION_BACKWARD_FILTER);
}

static bool may_refer(const Rule &rule, DescriptorKind kind)
{
    return kind == rule.refers || (is_operation(rule.refers) && is_operation(kind));
}

/* The user's descriptors by what he has for them: the address of their contents. */
static std::map<const void *, std::shared_ptr<Descriptor>> &live_descriptors()
{
    static auto *const only = new std::map<const void *, std::shared_ptr<Descriptor>>;
    return *only;
}

Descriptor *find_descriptor(const void *descriptor)
{
    auto found = live_descriptors().find(descriptor);
    if (found == live_descriptors().end()) {
        complain("cuDNN: %p is not a descriptor, or was destroyed", descriptor);
        return nullptr;
    }
    return found->second.get();
}

static const Rule *find_rule(DescriptorKind kind, AttributeName name)
{
    for (const Rule &rule : rules) {
        if (rule.kind == kind && rule.name == name) {
            return &rule;
        }
    }
    return nullptr;
}

cudnnStatus_t check_complete(const Descriptor &d)
{
    for (const Rule &rule : rules) {
        if (rule.kind == d.kind && rule.access == Access::required && !d.has(rule.name)) {
            return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "%s: %s was not set", kind_name(d.kind),
                               rule.text);
        }
    }
    return CUDNN_STATUS_SUCCESS;
}

/* The rule for an attribute of `type`; NULL and *status where the call is wrong. */
static const Rule *rule_for(const Descriptor &d, AttributeName name,
                            cudnnBackendAttributeType_t type, cudnnStatus_t *status)
{
    const Rule *rule = find_rule(d.kind, name);
    if (rule == nullptr) {
        *status = cudnn_fault(CUDNN_STATUS_BAD_PARAM, "%s: it has no attribute %d",
                              kind_name(d.kind), (int)name);
        return nullptr;
    }
    if (rule->type != type) {
        *status = cudnn_fault(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
                              "%s: %s has the attribute type %d, not %d", kind_name(d.kind),
                              rule->text, (int)rule->type, (int)type);
        return nullptr;
    }
    return rule;
}

/* ---- setting ------------------------------------------------------------------------------------
 */

static cudnnStatus_t read_descriptors(const Rule &rule, const cudnnBackendDescriptor_t *from,
                                      size_t count, Value *value)
{
    for (size_t i = 0; i < count; i++) {
        const Descriptor *d = find_descriptor(from[i]);
        if (d == nullptr) {
            return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "%s: element %zu is not a descriptor",
                               rule.text, i);
        }
        if (!may_refer(rule, d->kind)) {
            return cudnn_fault(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "%s cannot be a %s",
                               rule.text, kind_name(d->kind));
        }
        if (!d->finalized) {
            return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "%s: the %s is not finalized",
                               rule.text, kind_name(d->kind));
        }
        value->descriptors.push_back(live_descriptors().at(from[i]));
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t read_elements(const Rule &rule, const void *from, size_t count, Value *value)
{
    for (size_t i = 0; i < count; i++) {
        switch (rule.type) {
        case CUDNN_TYPE_INT64:
            value->numbers.push_back(((const int64_t *)from)[i]);
            break;
        case CUDNN_TYPE_FLOAT:
            value->reals.push_back(((const float *)from)[i]);
            break;
        case CUDNN_TYPE_HANDLE:
        case CUDNN_TYPE_VOID_PTR:
            value->pointers.push_back(((void *const *)from)[i]);
            break;
        default: /* enumerators */
            value->numbers.push_back(((const int *)from)[i]);
        }
    }
    if (rule.type == CUDNN_TYPE_HANDLE && !is_cudnn_handle(value->pointers[0])) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "%s: not a handle", rule.text);
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t set_attribute(Descriptor &d, AttributeName name,
                                   cudnnBackendAttributeType_t type, int64_t count,
                                   const void *from)
{
    if (d.finalized) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM,
                           "%s: attribute %d is set, but the descriptor is finalized",
                           kind_name(d.kind), (int)name);
    }
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    const Rule *rule = rule_for(d, name, type, &status);
    if (rule == nullptr) {
        return status;
    }
    if (rule->access == Access::result) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "%s: %s can only be asked for",
                           kind_name(d.kind), rule->text);
    }
    if (count < (int64_t)rule->least || count > (int64_t)rule->most) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "%s: %lld elements of %s", kind_name(d.kind),
                           (long long)count, rule->text);
    }
    if (from == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s: %s is NULL", kind_name(d.kind),
                           rule->text);
    }
    Value value;
    status =
        type == CUDNN_TYPE_BACKEND_DESCRIPTOR
            ? read_descriptors(*rule, (const cudnnBackendDescriptor_t *)from, (size_t)count, &value)
            : read_elements(*rule, from, (size_t)count, &value);
    if (status == CUDNN_STATUS_SUCCESS) {
        d.values[name] = value;
    }
    return status;
}

/* ---- finalizing ---------------------------------------------------------------------------------
 */

static cudnnStatus_t finalize(Descriptor &d)
{
    switch (d.kind) {
    case KIND(TENSOR):
        return finalize_tensor(d);
    case KIND(CONVOLUTION):
        return finalize_convolution(d);
    case KIND(OPERATIONGRAPH):
        return finalize_graph(d);
    case KIND(ENGINEHEUR):
        return finalize_heuristics(d);
    case KIND(ENGINE):
        return finalize_engine(d);
    case KIND(ENGINECFG):
        return finalize_config(d);
    case KIND(EXECUTION_PLAN):
        return finalize_plan(d);
    case KIND(VARIANT_PACK):
        return finalize_pack(d);
    case KIND(KNOB_CHOICE):
        return CUDNN_STATUS_SUCCESS;
    default:
        return finalize_operation(d);
    }
}

/* ---- asking -------------------------------------------------------------------------------------
 */

static size_t count_of(const Value &value)
{
    return value.numbers.size() + value.reals.size() + value.pointers.size() +
           value.descriptors.size();
}

/* Into descriptors of the user that are as they were created. */
static cudnnStatus_t write_descriptors(const Rule &rule, const Value &value, size_t count,
                                       const cudnnBackendDescriptor_t *to)
{
    for (size_t i = 0; i < count; i++) {
        const Descriptor *d = find_descriptor(to[i]);
        if (d == nullptr || d->kind != value.descriptors[i]->kind || d->finalized ||
            !d->values.empty() || std::find(to, to + i, to[i]) != to + i) {
            return cudnn_fault(
                CUDNN_STATUS_BAD_PARAM,
                "%s: element %zu should be a descriptor that was just created, of kind: %s",
                rule.text, i, kind_name(value.descriptors[i]->kind));
        }
    }
    for (size_t i = 0; i < count; i++) {
        *find_descriptor(to[i]) = *value.descriptors[i];
    }
    return CUDNN_STATUS_SUCCESS;
}

static void write_elements(const Rule &rule, const Value &value, size_t count, void *to)
{
    for (size_t i = 0; i < count; i++) {
        switch (rule.type) {
        case CUDNN_TYPE_INT64:
            ((int64_t *)to)[i] = value.numbers[i];
            break;
        case CUDNN_TYPE_FLOAT:
            ((float *)to)[i] = value.reals[i];
            break;
        case CUDNN_TYPE_HANDLE:
        case CUDNN_TYPE_VOID_PTR:
            ((void **)to)[i] = value.pointers[i];
            break;
        default: /* enumerators */
            ((int *)to)[i] = (int)value.numbers[i];
        }
    }
}

static cudnnStatus_t get_attribute(const Descriptor &d, AttributeName name,
                                   cudnnBackendAttributeType_t type, int64_t requested,
                                   int64_t *count, void *to)
{
    if (!d.finalized) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                           "%s: attribute %d is asked for, but the descriptor is not finalized",
                           kind_name(d.kind), (int)name);
    }
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    const Rule *rule = rule_for(d, name, type, &status);
    if (rule == nullptr) {
        return status;
    }
    if (requested < 0 || count == nullptr || (requested > 0 && to == nullptr)) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s: no room for %s",
                           kind_name(d.kind), rule->text);
    }
    Value value = d.has(name) ? d.values.at(name) : Value();
    if (requested == 0) {
        *count = (int64_t)count_of(value);
        return CUDNN_STATUS_SUCCESS;
    }
    size_t given = std::min((size_t)requested, count_of(value));
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        status = write_descriptors(*rule, value, given, (const cudnnBackendDescriptor_t *)to);
    } else {
        write_elements(*rule, value, given, to);
    }
    if (status == CUDNN_STATUS_SUCCESS) {
        *count = (int64_t)given;
    }
    return status;
}

} // namespace rodeo_emulator

/* ---- the interface ------------------------------------------------------------------------------
 */

static std::string live_name(DescriptorKind kind)
{
    return std::string("cuDNN descriptors: ") + kind_name(kind);
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t kind,
                                           cudnnBackendDescriptor_t *descriptor)
{
    Lock lock(state().mutex);
    if (descriptor == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no room for a descriptor");
    }
    if (kind_name(kind) == nullptr) {
        return cudnn_refusal(CUDNN_STATUS_NOT_SUPPORTED, "descriptors of kind %d are not supported",
                             (int)kind);
    }
    auto created = std::make_shared<Descriptor>(kind);
    *descriptor = created.get();
    live_descriptors()[created.get()] = created;
    count_live(live_name(kind).c_str(), 1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    Lock lock(state().mutex);
    const Descriptor *d = find_descriptor(descriptor);
    if (d == nullptr) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "what is destroyed is not a descriptor");
    }
    count_live(live_name(d->kind).c_str(), -1);
    live_descriptors().erase(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void *from)
{
    Lock lock(state().mutex);
    Descriptor *d = find_descriptor(descriptor);
    return d == nullptr ? cudnn_fault(CUDNN_STATUS_BAD_PARAM, "attribute %d of no descriptor", name)
                        : set_attribute(*d, name, type, count, from);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    Lock lock(state().mutex);
    Descriptor *d = find_descriptor(descriptor);
    if (d == nullptr || d->finalized) {
        return cudnn_fault(CUDNN_STATUS_BAD_PARAM, "what is finalized is %s",
                           d == nullptr ? "not a descriptor" : "finalized already");
    }
    cudnnStatus_t status = check_complete(*d);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = finalize(*d);
    }
    d->finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested,
                                       int64_t *count, void *to)
{
    Lock lock(state().mutex);
    const Descriptor *d = find_descriptor(descriptor);
    return d == nullptr ? cudnn_fault(CUDNN_STATUS_BAD_PARAM, "attribute %d of no descriptor", name)
                        : get_attribute(*d, name, type, requested, count, to);
}
