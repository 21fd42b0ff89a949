/* What the emulator's cuDNN sources share. The caller holds the state's lock. */
#ifndef RODEO_EMULATOR_CUDNN_INTERNAL_H
#define RODEO_EMULATOR_CUDNN_INTERNAL_H

#include "emulator.h"

namespace rodeo_emulator
{

using DescriptorKind = cudnnBackendDescriptorType_t;
using AttributeName = cudnnBackendAttributeName_t;

/* ---- errors, handles (cudnn.cpp)
 * ------------------------------------------------------------------ */

/* Keeps a text for cudnnGetLastErrorString and returns status. For what a correct caller meets. */
cudnnStatus_t cudnn_refusal(cudnnStatus_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a caller's mistake: says so on stderr as well. */
cudnnStatus_t cudnn_fault(cudnnStatus_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

bool is_cudnn_handle(const void *handle);

/* ---- descriptors (cudnn_attributes.cpp)
 * ----------------------------------------------------------- */

struct Descriptor;
using DescriptorRef = std::shared_ptr<const Descriptor>;

/* What an attribute holds: one of the lists. Enumerators are numbers. */
struct Value {
    std::vector<int64_t> numbers;
    std::vector<float> reals;
    std::vector<void *> pointers;
    std::vector<DescriptorRef> descriptors;
};

/* The contents of a descriptor. They live as long as another descriptor refers to them, and do not
 * change once they are finalized. */
struct Descriptor {
    explicit Descriptor(DescriptorKind k) : kind(k)
    {
    }
    DescriptorKind kind;
    bool finalized = false;
    std::map<AttributeName, Value> values;
    std::chrono::microseconds duration{0}; /* of a plan */

    bool has(AttributeName name) const
    {
        return values.count(name) != 0;
    }
    const std::vector<int64_t> &numbers(AttributeName name) const
    {
        return values.at(name).numbers;
    }
    int64_t number(AttributeName name) const
    {
        return numbers(name).at(0);
    }
    float real(AttributeName name) const
    {
        return values.at(name).reals.at(0);
    }
    const Descriptor &descriptor(AttributeName name) const
    {
        return *values.at(name).descriptors.at(0);
    }
};

/* The user's descriptor; NULL, with a complaint, where it is not one or was destroyed. */
Descriptor *find_descriptor(const void *descriptor);

/* "tensor", "engine configuration", ... */
const char *kind_name(DescriptorKind kind);

/* Whether everything was set that must be. */
cudnnStatus_t check_complete(const Descriptor &d);

/* ---- operations (cudnn_operations.cpp)
 * ------------------------------------------------------------ */

/* Packed channels-last; of a filter, n is K and h, w are R, S. */
struct TensorShape {
    cudnnDataType_t type;
    int n, c, h, w;
};

size_t bytes_of(const TensorShape &t);

/* The operands of any of the three convolutions; x, w, y may be gradients. */
struct Operation {
    DescriptorKind kind;
    const Descriptor *x, *w, *y, *conv;
    float alpha, beta;
};

Operation operation_of(const Descriptor &d);       /* of a finalized operation */
Operation operation_of_graph(const Descriptor &d); /* the one that a graph has */
TensorShape shape_of(const Descriptor &tensor);
ConvSizes sizes_of(const Operation &o);

cudnnStatus_t finalize_tensor(const Descriptor &d);
cudnnStatus_t finalize_convolution(const Descriptor &d);
cudnnStatus_t finalize_operation(const Descriptor &d);
cudnnStatus_t finalize_graph(const Descriptor &d);

/* ---- engines (cudnn_engines.cpp)
 * ------------------------------------------------------------------ */

/* Set what can be asked of these descriptors afterwards. */
cudnnStatus_t finalize_heuristics(Descriptor &d);
cudnnStatus_t finalize_engine(Descriptor &d);
cudnnStatus_t finalize_config(const Descriptor &d);
cudnnStatus_t finalize_plan(Descriptor &d);

/* How a finalized plan computes. fails: its execution does. */
struct Execution {
    ConvManner manner;
    bool fails;
};
Execution execution_of(const Descriptor &plan);

/* ---- execution (cudnn_execute.cpp)
 * ---------------------------------------------------------------- */

cudnnStatus_t finalize_pack(const Descriptor &d);

} // namespace rodeo_emulator

struct cudnnContext {
    cudaStream_t stream = nullptr;
};

#endif
