/* What the real cuDNN says to every convolution of the networks, on every GPU that it supports,
 * with no GPU at hand: it answers for a device that is described to it (cuDNN 9.8 and later).
 * Nothing is run; but graphs, engines and plans are made by the code that makes them in a training.
 */
#include "base/mem.h"
#include "kernels/cuda/conv_choice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    const char *name;
    int sm, processors, shared_kib, threads, blocks, megahertz, memory_megahertz, memory_bits;
    double gigabytes, l2_megabytes;
} Gpu;

/* Figures of NVIDIA's data sheets and of the CUDA programming guide's table of compute
 * capabilities. */
static const Gpu gpus[] = {
    {"Tesla P100-PCIE-16GB", 60, 56, 48, 2048, 32, 1328, 715, 4096, 17.1, 4},
    {"Tesla V100-SXM2-16GB", 70, 80, 96, 2048, 32, 1530, 877, 4096, 16.9, 6},
    {"Tesla T4", 75, 40, 64, 1024, 16, 1590, 5001, 256, 15.8, 4},
    {"NVIDIA A100-SXM4-40GB", 80, 108, 163, 2048, 32, 1410, 1215, 5120, 42.4, 40},
    {"NVIDIA GeForce RTX 3090", 86, 82, 99, 1536, 16, 1695, 9751, 384, 25.4, 6},
    {"NVIDIA L4", 89, 58, 99, 1536, 24, 2040, 6251, 192, 23.6, 48},
    {"NVIDIA RTX PRO 6000", 120, 188, 99, 1536, 24, 2430, 12481, 512, 102.6, 128},
    {"NVIDIA H100 80GB HBM3", 90, 132, 227, 2048, 32, 1980, 2619, 5120, 85.0, 50},
};

typedef struct {
    const char *name;
    CudaType type;
    bool tf32;
    int least_sm;
} Precision;

static const Precision precisions[] = {
    {"fp32", CUDA_F32, false, 0},
    {"tf32", CUDA_F32, true, 80},
    {"fp16", CUDA_F16, false, 60},
    {"bf16", CUDA_BF16, false, 80},
};

static const cudnnDataType_t data_types[] = {
    [CUDA_F32] = CUDNN_DATA_FLOAT, [CUDA_F16] = CUDNN_DATA_HALF, [CUDA_BF16] = CUDNN_DATA_BFLOAT16};

/* A convolution on square pictures. */
typedef struct {
    int side, C, K, R, stride, pad;
} Layer;

/* ResNet-18, ResNet-50's other shapes, and the rotation heads of both, for pictures of 224 x 224.
 */
static const Layer layers[] = {
    {224, 4, 64, 7, 2, 3},    {56, 64, 64, 3, 1, 1},     {56, 64, 128, 3, 2, 1},
    {56, 64, 128, 1, 2, 0},   {28, 128, 128, 3, 1, 1},   {28, 128, 256, 3, 2, 1},
    {28, 128, 256, 1, 2, 0},  {14, 256, 256, 3, 1, 1},   {14, 256, 512, 3, 2, 1},
    {14, 256, 512, 1, 2, 0},  {7, 512, 512, 3, 1, 1},    {7, 1024, 100, 1, 1, 0},
    {7, 100, 100, 3, 2, 0},   {56, 64, 64, 1, 1, 0},     {56, 64, 256, 1, 1, 0},
    {56, 256, 64, 1, 1, 0},   {56, 256, 128, 1, 1, 0},   {56, 128, 128, 3, 2, 1},
    {56, 256, 512, 1, 2, 0},  {28, 128, 512, 1, 1, 0},   {28, 512, 128, 1, 1, 0},
    {28, 512, 256, 1, 1, 0},  {28, 256, 256, 3, 2, 1},   {28, 512, 1024, 1, 2, 0},
    {14, 256, 1024, 1, 1, 0}, {14, 1024, 256, 1, 1, 0},  {14, 1024, 512, 1, 1, 0},
    {14, 512, 512, 3, 2, 1},  {14, 1024, 2048, 1, 2, 0}, {7, 512, 2048, 1, 1, 0},
    {7, 2048, 512, 1, 1, 0},  {7, 4096, 100, 1, 1, 0},
};

/* Pictures at once: four groups of 64 merged, and a group of 32 alone. */
static const int batches[] = {256, 32};

#define COUNT(array) (sizeof(array) / sizeof *(array))

#if CUDNN_VERSION >= 90800

static cudnnBackendDescriptor_t describe(const Gpu *gpu)
{
    char *json = mem_format(
        "{\"cudaDeviceId\":0,\"deviceVer\":%d,\"driverVer\":13000,\"maxGridSize\":[2147483647,"
        "65535,"
        "65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":%d,"
        "\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,"
        "\"reservedSharedMemoryPerBlock\":%d,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":%d,"
        "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,\"pciDeviceId\":0,\"isTccDriver\":0,"
        "\"supportCoopLaunch\":1,\"totalGlobalMem\":%.0f,\"smClockRateKHz\":%d,"
        "\"memClockRateKHz\":%d,\"memoryBusWidth\":%d,\"l2CacheSize\":%.0f,\"deviceName\":\"%s\"}",
        gpu->sm * 10, gpu->processors, gpu->shared_kib * 1024, gpu->sm >= 80 ? 1024 : 0,
        gpu->blocks, gpu->threads, gpu->gigabytes * 1e9, gpu->megahertz * 1000,
        gpu->memory_megahertz * 1000, gpu->memory_bits, gpu->l2_megabytes * 1048576, gpu->name);
    cudnnBackendDescriptor_t properties = NULL;
    assert_int_equal(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &properties),
                     CUDNN_STATUS_SUCCESS);
    assert_int_equal(cudnnBackendSetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                              CUDNN_TYPE_CHAR, (int64_t)strlen(json), json),
                     CUDNN_STATUS_SUCCESS);
    assert_int_equal(cudnnBackendFinalize(properties), CUDNN_STATUS_SUCCESS);
    free(json);
    return properties;
}

/* cuDNN 9.11 and later run on Turing and newer only. */
static bool is_supported(const Gpu *gpu)
{
    return gpu->sm >= 75 || cudnnGetVersion() < 91100;
}

static ConvProblem problem_of(const Layer *l, ConvPass pass, cudnnDataType_t type, int N)
{
    ConvShape shape = {N, l->side, l->side, l->C, l->K, l->R, l->stride, l->pad};
    return (ConvProblem){.pass = pass, .type = type, .shape = shape};
}

typedef struct {
    int convolutions, candidates, fewest;
    int first_allowed; /* whose first suggestion keeps to the rules and is timed */
    size_t workspace;  /* the largest that a candidate wants */
} Tally;

static void examine(const ConvTarget *target, const ConvProblem *problem, const ConvRules *rules,
                    Tally *tally)
{
    ConvGraph *graph;
    ConvEngine engines[CONV_CANDIDATES];
    ConvPlan *plans[CONV_CANDIDATES];
    ConvEngine first;
    ConvNotes notes;
    int found;
    assert_int_equal(conv_graph_open(target, problem, &graph), CUDNN_STATUS_SUCCESS);
    int count = conv_candidates(graph, rules, engines, plans);
    assert_int_equal(conv_graph_suggest(graph, CUDNN_HEUR_MODE_A, 1, &first, &notes, &found),
                     CUDNN_STATUS_SUCCESS);
    tally->convolutions++;
    tally->candidates += count;
    tally->fewest = count < tally->fewest ? count : tally->fewest;
    tally->first_allowed += found == 1 && count > 0 && first.index == engines[0].index;
    for (int i = 0; i < count; i++) {
        size_t bytes = conv_plan_workspace(plans[i]);
        assert_true(bytes <= rules->workspace);
        tally->workspace = bytes > tally->workspace ? bytes : tally->workspace;
        conv_plan_close(plans[i]);
    }
    conv_graph_close(graph);
    if (count == 0) {
        const ConvShape *s = &problem->shape;
        fail_msg("no engine for pass %d with N %d, H %d, C %d, K %d, R %d, stride %d",
                 problem->pass, s->N, s->H, s->C, s->K, s->R, s->stride);
    }
}

/* Nobody wants the pictures' gradients. */
static bool is_run(const Layer *l, ConvPass pass)
{
    return pass != CONV_DGRAD || l->C != CUDA_PICTURE_CHANNELS;
}

static void examine_all(const ConvTarget *target, const Gpu *gpu, const Precision *p)
{
    ConvRules rules = {p->type, p->tf32,
                       conv_workspace_bytes(p->type, (size_t)(gpu->gigabytes * 1e9))};
    Tally tally = {.fewest = CONV_CANDIDATES};
    for (size_t l = 0; l < COUNT(layers); l++) {
        for (size_t b = 0; b < COUNT(batches); b++) {
            for (int pass = CONV_FPROP; pass <= CONV_WGRAD; pass++) {
                if (!is_run(&layers[l], (ConvPass)pass)) {
                    continue;
                }
                ConvProblem problem =
                    problem_of(&layers[l], (ConvPass)pass, data_types[p->type], batches[b]);
                examine(target, &problem, &rules, &tally);
            }
        }
    }
    print_message("%-23s %s: %d convolutions, %.1f engines each to be timed (at least %d), cuDNN's "
                  "first suggestion among them for %d; workspace up to %.0f of %.0f MiB\n",
                  gpu->name, p->name, tally.convolutions,
                  (double)tally.candidates / tally.convolutions, tally.fewest, tally.first_allowed,
                  (double)tally.workspace / 1048576, (double)rules.workspace / 1048576);
    /* The rules must not throw away what makes the half types fast. */
    if (p->type != CUDA_F32 && gpu->sm >= 70) {
        assert_true(tally.first_allowed > tally.convolutions * 8 / 10);
        assert_true(tally.fewest >= 4);
    }
}

static void every_convolution_has_an_engine_on_every_gpu(void **state)
{
    (void)state;
    void *compiler = conv_hold_compiler();
    for (size_t g = 0; g < COUNT(gpus); g++) {
        if (!is_supported(&gpus[g])) {
            print_message("%s is too old for this cuDNN\n", gpus[g].name);
            continue;
        }
        ConvTarget target = {.properties = describe(&gpus[g])};
        for (size_t p = 0; p < COUNT(precisions); p++) {
            if (gpus[g].sm >= precisions[p].least_sm) {
                examine_all(&target, &gpus[g], &precisions[p]);
            }
        }
        cudnnBackendDestroyDescriptor(target.properties);
    }
    conv_release_compiler(compiler);
}

/* What the file of choices holds must be enough to get the same plan again. */
static void an_engine_is_described_by_its_index_and_knobs(void **state)
{
    (void)state;
    const Gpu *h100 = &gpus[COUNT(gpus) - 1];
    ConvTarget target = {.properties = describe(h100)};
    ConvProblem problem = problem_of(&layers[2], CONV_WGRAD, CUDNN_DATA_HALF, 256);
    ConvRules rules = {CUDA_F16, false, (size_t)256 << 20};
    ConvEngine engines[CONV_CANDIDATES];
    ConvPlan *plans[CONV_CANDIDATES];
    ConvGraph *graph;
    assert_int_equal(conv_graph_open(&target, &problem, &graph), CUDNN_STATUS_SUCCESS);
    int count = conv_candidates(graph, &rules, engines, plans);
    assert_true(count > 1);
    size_t different = 0;
    for (int i = 0; i < count; i++) {
        ConvPlan *again;
        assert_int_equal(conv_plan_open(graph, &engines[i], &again), CUDNN_STATUS_SUCCESS);
        assert_int_equal(conv_plan_workspace(again), conv_plan_workspace(plans[i]));
        different += conv_plan_workspace(plans[i]) != conv_plan_workspace(plans[0]);
        conv_plan_close(again);
    }
    assert_true(different > 0); /* or the comparison would say nothing */
    ConvEngine unknown = {.index = 100000};
    ConvPlan *none;
    assert_int_not_equal(conv_plan_open(graph, &unknown, &none), CUDNN_STATUS_SUCCESS);
    assert_null(none);
    for (int i = 0; i < count; i++) {
        conv_plan_close(plans[i]);
    }
    conv_graph_close(graph);
    cudnnBackendDestroyDescriptor(target.properties);
}

static void a_convolution_that_does_not_exist_is_refused(void **state)
{
    (void)state;
    ConvTarget target = {.properties = describe(&gpus[COUNT(gpus) - 1])};
    ConvProblem problem = problem_of(&layers[2], CONV_FPROP, CUDNN_DATA_HALF, 256);
    ConvGraph *graph;
    problem.shape.N = 0;
    assert_int_not_equal(conv_graph_open(&target, &problem, &graph), CUDNN_STATUS_SUCCESS);
    assert_null(graph);
    cudnnBackendDestroyDescriptor(target.properties);
}

#endif

static ConvNotes notes_of(int numerical)
{
    return (ConvNotes){.numerical = numerical < 0 ? 0 : 1u << numerical};
}

static void rules_follow_the_precision(void **state)
{
    (void)state;
    const ConvRules fp32 = {CUDA_F32, false, 0};
    const ConvRules tf32 = {CUDA_F32, true, 0};
    const ConvRules fp16 = {CUDA_F16, false, 0};
    ConvNotes plain = notes_of(-1);
    ConvNotes cores = notes_of(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    ConvNotes to_half = notes_of(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
    ConvNotes half_sums = notes_of(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION);
    ConvNotes atomics = notes_of(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    ConvNotes compiled = {.behavior = 1u << CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION};
    assert_true(conv_engine_is_allowed(&fp32, &plain));
    assert_false(conv_engine_is_allowed(&fp32, &cores));
    assert_true(conv_engine_is_allowed(&tf32, &cores));
    assert_true(conv_engine_is_allowed(&fp16, &cores));
    assert_false(conv_engine_is_allowed(&tf32, &to_half));
    assert_false(conv_engine_is_allowed(&fp16, &half_sums));
    assert_false(conv_engine_is_allowed(&fp16, &atomics));
    assert_false(conv_engine_is_allowed(&fp16, &compiled));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_follow_the_precision),
#if CUDNN_VERSION >= 90800
        cmocka_unit_test(every_convolution_has_an_engine_on_every_gpu),
        cmocka_unit_test(an_engine_is_described_by_its_index_and_knobs),
        cmocka_unit_test(a_convolution_that_does_not_exist_is_refused),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
