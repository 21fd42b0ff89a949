/* Checks in child processes: what is tested may end its process, and each seed needs a fresh one.
 */
#ifndef RODEO_EMULATOR_TEST_HARNESS_H
#define RODEO_EMULATOR_TEST_HARNESS_H

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

/* Ends the process with status 1 and a line that says where. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);           \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

#define OK(call) CHECK((call) == cudaSuccess)

struct Outcome {
    int status;         /* exit status, or 128 + signal */
    std::string errors; /* what was written to stderr */
    bool says(const char *text) const
    {
        return errors.find(text) != std::string::npos;
    }
};

using Settings = std::vector<std::pair<std::string, std::string>>;

/* Runs body in a child process with RODEO_EMULATOR_... variables set, and waits for its end. */
Outcome in_child(const std::function<void()> &body, const Settings &settings = {});

/* In how many of `seeds` children, each with its own seed, body does not end with status 0. */
int failures(const std::function<void()> &body, int seeds);

/* As an exit status: 0 if the child succeeded; shows its messages otherwise. */
void must_succeed(const std::function<void()> &body, const Settings &settings = {});

template <typename... Params, typename... Args>
cudaError_t launch(cudaStream_t stream, dim3 grid, dim3 block, void (*kernel)(Params...),
                   Args... args)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, args...);
}

/* A stream and a few floats of device memory, given back at the end. */
struct Device {
    cudaStream_t stream = nullptr, second = nullptr;
    float *a = nullptr, *b = nullptr;
    Device();
    ~Device();
};

constexpr int floats = 1024; /* in a and b each */

void test_kernels();
void test_memory();
void test_streams();
void test_capture();
void test_races();
void test_matrices();
void test_halves();
void test_products();
void test_convolutions();
void test_heuristics();
void test_cudnn_faults();

#endif
