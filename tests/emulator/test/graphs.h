/* cuDNN's graph API for the tests: descriptors that destroy themselves, and convolutions. */
#ifndef RODEO_EMULATOR_TEST_GRAPHS_H
#define RODEO_EMULATOR_TEST_GRAPHS_H

#include "tensor.h"

#include <cudnn.h>

#include <memory>
#include <set>

constexpr cudnnDataType_t cudnn_types[] = {CUDNN_DATA_FLOAT, CUDNN_DATA_HALF, CUDNN_DATA_BFLOAT16};

class Made
{
  public:
    explicit Made(cudnnBackendDescriptorType_t kind)
    {
        CHECK(!cudnnBackendCreateDescriptor(kind, &descriptor));
    }
    ~Made()
    {
        CHECK(!cudnnBackendDestroyDescriptor(descriptor));
    }
    Made(const Made &) = delete;
    Made &operator=(const Made &) = delete;
    cudnnBackendDescriptor_t get() const
    {
        return descriptor;
    }
    template <typename T>
    cudnnStatus_t try_set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                          const std::vector<T> &values)
    {
        return cudnnBackendSetAttribute(descriptor, name, type, (int64_t)values.size(),
                                        values.data());
    }
    template <typename T>
    Made &set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
              const std::vector<T> &values)
    {
        CHECK(!try_set(name, type, values));
        return *this;
    }
    Made &set(cudnnBackendAttributeName_t name, const std::vector<int64_t> &values)
    {
        return set(name, CUDNN_TYPE_INT64, values);
    }
    Made &link(cudnnBackendAttributeName_t name, const Made &other)
    {
        return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                   std::vector<cudnnBackendDescriptor_t>{other.get()});
    }
    cudnnStatus_t finalize()
    {
        return cudnnBackendFinalize(descriptor);
    }
    /* Up to 64 elements. */
    template <typename T>
    std::vector<T> ask(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) const
    {
        std::vector<T> values(64);
        int64_t count = -1;
        CHECK(!cudnnBackendGetAttribute(descriptor, name, type, 64, &count, values.data()));
        values.resize((size_t)count);
        return values;
    }

  private:
    cudnnBackendDescriptor_t descriptor;
};

using MadeRef = std::unique_ptr<Made>;

struct Case {
    int N, H, W, C, K, R, S, pre, post, stride; /* post may be another padding than pre */
    int P() const
    {
        return (H + pre + post - R) / stride + 1;
    }
    int Q() const
    {
        return (W + pre + post - S) / stride + 1;
    }
};

enum Direction { forward, backward_data, backward_filter };

/* Descriptors, not finalized; the unique ids of x, w, y are 1, 2, 3. */
MadeRef tensor(Type type, int64_t id, int64_t n, int64_t c, int64_t h, int64_t w);
MadeRef convolution(const Case &c);
MadeRef operation(Direction direction, const Made &x, const Made &w, const Made &y,
                  const Made &conv, float alpha, float beta);
MadeRef graph(cudnnHandle_t handle, const Made &operation);

/* Finalized ones; what they are made of is destroyed. */
MadeRef whole_graph(cudnnHandle_t handle, Direction direction, const Case &c, Type type,
                    float alpha = 1, float beta = 0);
MadeRef pack(const Tensor &x, const Tensor &w, const Tensor &y, void *workspace);

/* A choice for each knob, as pairs of type and value. */
using Choices = std::vector<std::pair<cudnnBackendKnobType_t, int64_t>>;

/* NULL where the engine is not offered. */
MadeRef config(const Made &graph, int64_t engine, const Choices &choices = {});
/* Not finalized. */
MadeRef plan(cudnnHandle_t handle, const Made &config);
size_t workspace_of(const Made &plan);

MadeRef heuristics(const Made &graph, cudnnBackendHeurMode_t mode); /* finalized */

struct Handle {
    cudnnHandle_t handle;
    Handle()
    {
        CHECK(!cudnnCreate(&handle));
    }
    ~Handle()
    {
        CHECK(!cudnnDestroy(handle));
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
};

/* Operands of one convolution with room for any engine's workspace. */
struct Operands {
    Tensor x, w, y, space;
    Operands(const Case &c, Type type)
        : x(type, (size_t)(c.N * c.H * c.W * c.C), 1), w(type, (size_t)(c.K * c.R * c.S * c.C), 2),
          y(type, (size_t)(c.N * c.P() * c.Q() * c.K), 3), space(F32, 32768, 4)
    {
    }
    const Tensor &result(Direction d) const
    {
        return d == forward ? y : d == backward_data ? x : w;
    }
    std::vector<double> values(Direction d) const
    {
        OK(cudaDeviceSynchronize());
        std::vector<double> values(result(d).host.size());
        for (size_t i = 0; i < values.size(); i++) {
            values[i] = result(d).at(i);
        }
        return values;
    }
};

cudnnStatus_t run(const Handle &h, const Made &plan, const Operands &o);

/* A shape that no test needs to be special. */
constexpr Case middle = {2, 6, 6, 8, 8, 3, 3, 1, 1, 1};

/* Engines by their global index; see cudnn_engines.cpp. */
enum {
    plain = 0,
    knobbed = 1,
    fft = 4,
    greedy = 5,
    backwards = 6,
    winograd = 7,
    random_bits = 14,
    reduced = 18,
    down_converting = 28,
    tensor_core = 30,
    tf32 = 34,
    compiled = 57,
    broken = 60
};

/* Those of every operation, type and GPU, and others. */
std::set<int> with(std::set<int> others);

#endif
