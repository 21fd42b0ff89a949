#include "kernels/cuda/conv_choice.h"

#include "kernels/cuda/own_conv.h"

#include <float.h>
#include <string.h>

#define MOST_SUGGESTED 64     /* engines of one heuristic that are looked at */
#define TIMED_RUNS     3      /* of which the fastest counts */
#define BEHIND         1.25f  /* times the fastest so far: not worth more runs */
#define LOADING_MS     500.0f /* of loading cuDNN's code in a first run, at most */
#define LOADING_OWN_MS 50.0f  /* the same of a few kernels */

/* cuDNN's float32 engines copy channels-last tensors into another order, for which they want as
 * much memory again: 980 MiB for the first convolution of 256 pictures. The fast ones of the half
 * types work in place. */
#define WORKSPACE_FLOAT ((size_t)1280 << 20)
#define WORKSPACE_HALF  ((size_t)256 << 20)

/* Shares of the memory that leave room for the pictures, whatever its size. */
#define SHARE_FLOAT 24
#define SHARE_HALF  32

size_t conv_workspace_bytes(CudaType type, size_t memory)
{
    size_t most = type == CUDA_F32 ? WORKSPACE_FLOAT : WORKSPACE_HALF;
    size_t share = memory / (type == CUDA_F32 ? SHARE_FLOAT : SHARE_HALF);
    return share < most ? share : most;
}

#define NUMERICAL(note) (1u << CUDNN_NUMERICAL_NOTE_##note)

bool conv_engine_is_allowed(const ConvRules *rules, const ConvNotes *notes)
{
    uint32_t forbidden = NUMERICAL(NONDETERMINISTIC) | NUMERICAL(REDUCED_PRECISION_REDUCTION) |
                         NUMERICAL(FFT) | NUMERICAL(WINOGRAD_TILE_6x6) |
                         NUMERICAL(WINOGRAD_TILE_13x13);
    if (rules->type == CUDA_F32) {
        /* Down-converting is to half; tensor cores round float32 to TF32. */
        forbidden |= NUMERICAL(DOWN_CONVERT_INPUTS);
        forbidden |= rules->tf32 ? 0 : NUMERICAL(TENSOR_CORE);
    }
    return (notes->numerical & forbidden) == 0 &&
           (notes->behavior & 1u << CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) == 0;
}

static bool same_engine(const ConvEngine *a, const ConvEngine *b)
{
    bool same = a->index == b->index && a->knobs == b->knobs;
    for (int i = 0; same && i < a->knobs; i++) {
        same = a->knob[i].type == b->knob[i].type && a->knob[i].value == b->knob[i].value;
    }
    return same;
}

static bool is_listed(const ConvEngine *engine, const ConvEngine *list, int count)
{
    for (int i = 0; i < count; i++) {
        if (same_engine(engine, &list[i])) {
            return true;
        }
    }
    return false;
}

int conv_candidates(const ConvGraph *graph, const ConvRules *rules,
                    ConvEngine engines[CONV_CANDIDATES], ConvPlan *plans[CONV_CANDIDATES])
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    ConvEngine suggested[MOST_SUGGESTED];
    ConvNotes notes[MOST_SUGGESTED];
    int count = 0;
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        int found = 0;
        conv_graph_suggest(graph, modes[m], MOST_SUGGESTED, suggested, notes, &found);
        for (int i = 0; i < found && count < CONV_CANDIDATES; i++) {
            ConvPlan *plan;
            if (!conv_engine_is_allowed(rules, &notes[i]) ||
                is_listed(&suggested[i], engines, count) ||
                conv_plan_open(graph, &suggested[i], &plan) != CUDNN_STATUS_SUCCESS) {
                continue;
            }
            if (conv_plan_workspace(plan) > rules->workspace) {
                conv_plan_close(plan);
                continue;
            }
            engines[count] = suggested[i];
            plans[count++] = plan;
        }
    }
    return count;
}

/* ---- engines and own kernels -------------------------------------------------------------------
 */

static bool can_run_own(const CudaBackend *cuda, const ConvProblem *problem,
                        const ConvEngine *engine)
{
    return engine->knobs == 1 && engine->knob[0].type == CONV_OWN_TILE &&
           own_conv_can_run(cuda, problem, engine->knob[0].value);
}

static int64_t own_tile(const ConvChoice *choice)
{
    return choice->engine.knob[0].value;
}

bool conv_choice_open(const CudaBackend *cuda, const ConvGraph *graph, const ConvProblem *problem,
                      const ConvEngine *engine, ConvChoice *choice)
{
    *choice = (ConvChoice){.problem = *problem, .engine = *engine};
    bool can = engine->index == CONV_OWN_ENGINE
                   ? can_run_own(cuda, problem, engine)
                   : conv_plan_open(graph, engine, &choice->plan) == CUDNN_STATUS_SUCCESS;
    if (can && conv_choice_workspace(cuda, choice) > cuda->most_workspace) {
        conv_choice_close(choice);
        can = false;
    }
    return can;
}

void conv_choice_close(ConvChoice *choice)
{
    conv_plan_close(choice->plan);
    choice->plan = NULL;
}

size_t conv_choice_workspace(const CudaBackend *cuda, const ConvChoice *choice)
{
    return choice->plan != NULL ? conv_plan_workspace(choice->plan)
                                : own_conv_workspace(cuda, &choice->problem, own_tile(choice));
}

cudnnStatus_t conv_choice_run(CudaBackend *cuda, const ConvChoice *choice,
                              const ConvOperands *operands, void *workspace)
{
    if (choice->plan != NULL) {
        return conv_plan_run(choice->plan, cuda_lane(cuda)->cudnn, operands, workspace);
    }
    own_conv_run(cuda, &choice->problem, own_tile(choice), operands, workspace);
    return CUDNN_STATUS_SUCCESS;
}

/* cuDNN's candidates, behind them own kernels where there are some. */
#define ALL_CANDIDATES (CONV_CANDIDATES + OWN_CONV_TILES)

static int all_candidates(const CudaBackend *cuda, const ConvGraph *graph,
                          const ConvProblem *problem, ConvChoice choices[ALL_CANDIDATES])
{
    ConvEngine engines[CONV_CANDIDATES];
    ConvPlan *plans[CONV_CANDIDATES];
    ConvRules rules = {cuda->type, cuda->tf32, cuda->most_workspace};
    int count = conv_candidates(graph, &rules, engines, plans);
    for (int i = 0; i < count; i++) {
        choices[i] = (ConvChoice){.problem = *problem, .engine = engines[i], .plan = plans[i]};
    }
    int64_t tiles[OWN_CONV_TILES];
    int own_count = own_conv_tiles(problem, tiles);
    for (int i = 0; i < own_count; i++) {
        const ConvEngine own = {
            .index = CONV_OWN_ENGINE, .knobs = 1, .knob = {{CONV_OWN_TILE, tiles[i]}}};
        count += conv_choice_open(cuda, graph, problem, &own, &choices[count]);
    }
    return count;
}

/* ---- timing ------------------------------------------------------------------------------------
 */

/* What candidates are timed with. */
typedef struct {
    cudaEvent_t from, to;
    void *workspace;
    size_t workspace_bytes;
} Trial;

/* Workspace for the candidates, or as much of it as there is: those that want more are not timed.
 */
static void take_workspace(const CudaBackend *cuda, Trial *trial, const ConvChoice *choices,
                           int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++) {
        size_t wanted = conv_choice_workspace(cuda, &choices[i]);
        bytes = wanted > bytes ? wanted : bytes;
    }
    for (; bytes > 0; bytes /= 2) {
        cudaError_t status = cudaMalloc(&trial->workspace, bytes);
        if (status == cudaSuccess) {
            break;
        }
        if (status != cudaErrorMemoryAllocation) {
            CUDA_CHECK(status);
        }
        cudaGetLastError(); /* the error stays behind otherwise and would be taken for a later
                               call's */
    }
    trial->workspace_bytes = bytes;
}

static Trial trial_open(const CudaBackend *cuda, const ConvChoice *choices, int count)
{
    Trial trial = {0};
    CUDA_CHECK(cudaEventCreate(&trial.from));
    CUDA_CHECK(cudaEventCreate(&trial.to));
    take_workspace(cuda, &trial, choices, count);
    return trial;
}

static void trial_close(Trial *trial)
{
    CUDA_CHECK(cudaEventDestroy(trial->from));
    CUDA_CHECK(cudaEventDestroy(trial->to));
    CUDA_CHECK(cudaFree(trial->workspace));
}

/* Milliseconds of one run, or false if cuDNN cannot run it after all. */
static bool time_run(CudaBackend *cuda, const Trial *trial, const ConvChoice *choice,
                     const ConvOperands *operands, float *ms)
{
    CudaLane *lane = cuda_lane(cuda);
    CUDA_CHECK(cudaEventRecord(trial->from, lane->stream));
    if (conv_choice_run(cuda, choice, operands, trial->workspace) != CUDNN_STATUS_SUCCESS) {
        return false;
    }
    CUDA_CHECK(cudaEventRecord(trial->to, lane->stream));
    CUDA_CHECK(cudaEventSynchronize(trial->to));
    CUDA_CHECK(cudaEventElapsedTime(ms, trial->from, trial->to));
    return true;
}

/* The fastest of some runs, of which the first, which may load code, does not count. Gives up on a
 * choice that is clearly behind `least`. FLT_MAX if it cannot run. */
static float time_choice(CudaBackend *cuda, const Trial *trial, const ConvChoice *choice,
                         const ConvOperands *operands, float least)
{
    float loading = choice->plan != NULL ? LOADING_MS : LOADING_OWN_MS;
    float best = FLT_MAX;
    float ms;
    if (conv_choice_workspace(cuda, choice) > trial->workspace_bytes ||
        !time_run(cuda, trial, choice, operands, &ms) || ms > loading + BEHIND * least) {
        return FLT_MAX;
    }
    for (int i = 0; i < TIMED_RUNS && time_run(cuda, trial, choice, operands, &ms); i++) {
        best = ms < best ? ms : best;
        if (ms > BEHIND * least) {
            break;
        }
    }
    return best;
}

bool conv_choice_measure(CudaBackend *cuda, const ConvGraph *graph, const ConvProblem *problem,
                         const ConvOperands *operands, ConvChoice *fastest)
{
    ConvChoice choices[ALL_CANDIDATES];
    int count = all_candidates(cuda, graph, problem, choices);
    Trial trial = trial_open(cuda, choices, count);
    ConvChoice *best = NULL;
    float least = FLT_MAX;
    for (int i = 0; i < count; i++) {
        float ms = time_choice(cuda, &trial, &choices[i], operands, least);
        ConvChoice *slower = &choices[i];
        if (ms < least) {
            slower = best;
            best = &choices[i];
            least = ms;
        }
        if (slower != NULL) {
            conv_choice_close(slower);
        }
    }
    trial_close(&trial);
    if (best != NULL) {
        *fastest = *best;
    }
    return best != NULL;
}
