/* Proves the emulator of tests/emulator/: that faults of CUDA code show, and that correct code
 * gives correct results whatever the order. */
#include "emulator/test/harness.h"

#include <sys/wait.h>
#include <unistd.h>

Outcome in_child(const std::function<void()> &body, const Settings &settings)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    std::fflush(nullptr);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        for (const auto &setting : settings) {
            setenv(("RODEO_EMULATOR_" + setting.first).c_str(), setting.second.c_str(), 1);
        }
        body();
        std::exit(0);
    }
    close(ends[1]);
    Outcome outcome;
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) {
        outcome.errors.append(buffer, (size_t)n);
    }
    close(ends[0]);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
}

int failures(const std::function<void()> &body, int seeds)
{
    int count = 0;
    for (int seed = 1; seed <= seeds; seed++) {
        Outcome outcome = in_child(body, {{"SEED", std::to_string(seed)}});
        count += outcome.status != 0;
    }
    return count;
}

void must_succeed(const std::function<void()> &body, const Settings &settings)
{
    Outcome outcome = in_child(body, settings);
    std::fputs(outcome.status == 0 ? "" : outcome.errors.c_str(), stderr);
    CHECK(outcome.status == 0);
}

Device::Device()
{
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    OK(cudaMalloc(&a, floats * sizeof(float)));
    OK(cudaMalloc(&b, floats * sizeof(float)));
}

Device::~Device()
{
    OK(cudaStreamDestroy(stream));
    OK(cudaStreamDestroy(second));
    OK(cudaFree(a));
    OK(cudaFree(b));
}

int main()
{
    const std::pair<const char *, void (*)()> tests[] = {
        {"kernels", test_kernels},
        {"memory", test_memory},
        {"streams", test_streams},
        {"capture", test_capture},
        {"races", test_races},
        {"matrices", test_matrices},
        {"halves", test_halves},
        {"products", test_products},
        {"convolutions", test_convolutions},
        {"heuristics", test_heuristics},
        {"cudnn_faults", test_cudnn_faults},
    };
    for (const auto &test : tests) {
        std::printf("%s\n", test.first);
        test.second();
    }
    return 0;
}
