/* cuDNN's engines: which there are, what they need, what the heuristics say of them.
 *
 * What is listed, in which order, and how long it takes differs from call to call. Engines that a
 * careful caller does not want look fastest, and do the harm that their notes announce; one has no
 * plan, one's plan does not run. So a caller's choice is put to the test. */
#include "cudnn_internal.h"

#include <algorithm>
#include <cstdlib>

namespace rodeo_emulator
{

enum class For { all, gradients, halves, floats };
enum class Fails { no, plan, execution };

struct Knob {
    cudnnBackendKnobType_t type;
    int64_t count; /* values: 0 to count - 1; 0 where nothing is chosen */
};

struct Engine {
    int64_t index;
    std::vector<int64_t> notes;
    For offered;
    int sm;                 /* from which compute capability on */
    uint32_t fastest, span; /* microseconds: made up between fastest and fastest + span */
    size_t workspace;
    ConvManner manner;
    Fails fails;
};

static const int64_t plain_engine = 0, knob_engine = 1;
static const size_t too_large = ((size_t)8 << 30) + 4096;

/* Manner: factors, backwards, coarse, perturbed. */
static const ConvManner exact = {}, backwards = {Factors::exact, true, false, false},
                        coarse = {Factors::exact, false, true, false},
                        perturbed = {Factors::exact, false, false, true},
                        tf32 = {Factors::tf32, false, false, false},
                        half_factors = {Factors::half, false, false, false};

static const Engine engines[] = {
    {plain_engine, {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}, For::all, 0, 1000, 1000, 0, exact, {}},
    {knob_engine, {}, For::all, 0, 500, 1200, 1024, exact, {}},
    {6, {}, For::all, 0, 700, 1300, 0, backwards, {}},
    {14, {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, For::gradients, 0, 50, 20, 0, perturbed, {}},
    {5, {}, For::all, 0, 80, 100, too_large, exact, {}},
    {18,
     {CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION},
     For::halves,
     0,
     80,
     100,
     0,
     coarse,
     {}},
    {4, {CUDNN_NUMERICAL_NOTE_FFT}, For::all, 0, 80, 100, 65536, coarse, {}},
    {7,
     {CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13},
     For::all,
     0,
     80,
     100,
     4096,
     coarse,
     {}},
    {34, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, For::floats, 80, 300, 200, 2048, tf32, {}},
    {28,
     {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS},
     For::floats,
     70,
     80,
     100,
     0,
     half_factors,
     {}},
    {30, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, For::halves, 70, 300, 200, 2048, exact, {}},
    {57, {}, For::all, 0, 80, 100, 0, exact, Fails::plan},
    {60, {}, For::all, 0, 80, 100, 0, exact, Fails::execution},
};

static const Knob knobs[] = {{CUDNN_KNOB_TYPE_TILE_SIZE, 3}, {CUDNN_KNOB_TYPE_STAGES, 2}};

static bool is_offered(const Engine &e, const Operation &o)
{
    bool is_half = shape_of(*o.x).type != CUDNN_DATA_FLOAT;
    bool is_gradient = o.kind != CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
    bool fits = e.offered == For::all || (e.offered == For::gradients && is_gradient) ||
                (e.offered == For::halves && is_half) || (e.offered == For::floats && !is_half);
    return fits && state().major * 10 + state().minor >= e.sm;
}

static const Engine *find_engine(int64_t index)
{
    for (const Engine &e : engines) {
        if (e.index == index) {
            return &e;
        }
    }
    return nullptr;
}

cudnnStatus_t finalize_engine(Descriptor &d)
{
    int64_t index = d.number(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    const Engine *e = find_engine(index);
    if (e == nullptr ||
        !is_offered(*e, operation_of_graph(d.descriptor(CUDNN_ATTR_ENGINE_OPERATION_GRAPH)))) {
        return cudnn_refusal(CUDNN_STATUS_NOT_SUPPORTED,
                             "engine %lld is not offered for this operation, type and GPU",
                             (long long)index);
    }
    d.values[CUDNN_ATTR_ENGINE_NUMERICAL_NOTE].numbers = e->notes;
    if (e->fails == Fails::plan) {
        d.values[CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE].numbers = {
            CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION};
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- configurations -----------------------------------------------------------------------------
 */

static const Engine &engine_of(const Descriptor &config)
{
    return *find_engine(
        config.descriptor(CUDNN_ATTR_ENGINECFG_ENGINE).number(CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
}

static Operation operation_of_config(const Descriptor &config)
{
    return operation_of_graph(config.descriptor(CUDNN_ATTR_ENGINECFG_ENGINE)
                                  .descriptor(CUDNN_ATTR_ENGINE_OPERATION_GRAPH));
}

static std::vector<DescriptorRef> choices_of(const Descriptor &config)
{
    return config.has(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES)
               ? config.values.at(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES).descriptors
               : std::vector<DescriptorRef>();
}

static int64_t knob_value(const Descriptor &config, cudnnBackendKnobType_t type)
{
    for (const DescriptorRef &choice : choices_of(config)) {
        if (choice->number(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE) == type) {
            return choice->number(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
        }
    }
    return 0;
}

static bool is_choice(const Engine &e, int64_t type, int64_t value)
{
    for (const Knob &knob : knobs) {
        if (e.index == knob_engine && knob.type == type) {
            return value >= 0 && value < knob.count;
        }
    }
    return false;
}

cudnnStatus_t finalize_config(const Descriptor &d)
{
    const Engine &e = engine_of(d);
    std::set<int64_t> seen;
    for (const DescriptorRef &choice : choices_of(d)) {
        int64_t type = choice->number(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
        int64_t value = choice->number(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
        if (!is_choice(e, type, value)) {
            return cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED,
                               "engine %lld has no knob %lld that can be %lld", (long long)e.index,
                               (long long)type, (long long)value);
        }
        if (!seen.insert(type).second) {
            return cudnn_fault(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES,
                               "two choices for knob %lld", (long long)type);
        }
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- plans --------------------------------------------------------------------------------------
 */

/* So many times slower than the table says: a test may set it at any time. */
static int slower()
{
    const char *times = std::getenv("RODEO_EMULATOR_CUDNN_SLOWER");
    return times != nullptr ? std::atoi(times) : 1;
}

cudnnStatus_t finalize_plan(Descriptor &d)
{
    const Descriptor &config = d.descriptor(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const Engine &e = engine_of(config);
    if (e.fails == Fails::plan) {
        return cudnn_refusal(CUDNN_STATUS_NOT_SUPPORTED, "engine %lld cannot be compiled here",
                             (long long)e.index);
    }
    size_t bytes = e.workspace;
    if (e.index == knob_engine) {
        bytes += bytes_of(shape_of(*operation_of_config(config).w)) / 2 +
                 512 * (size_t)knob_value(config, CUDNN_KNOB_TYPE_STAGES);
    }
    d.values[CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE].numbers = {(int64_t)bytes};
    d.duration = std::chrono::microseconds(e.fastest + state().random.below(e.span)) * slower();
    return CUDNN_STATUS_SUCCESS;
}

Execution execution_of(const Descriptor &plan)
{
    const Descriptor &config = plan.descriptor(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const Engine &e = engine_of(config);
    ConvManner manner = e.manner;
    if (knob_value(config, CUDNN_KNOB_TYPE_TILE_SIZE) == 1) {
        manner.backwards = true; /* a choice that gets lost on the way shows in the bits */
    }
    return {manner, e.fails == Fails::execution};
}

/* ---- heuristics ---------------------------------------------------------------------------------
 */

static std::shared_ptr<Descriptor> choice(const Knob &knob, int64_t value)
{
    auto d = std::make_shared<Descriptor>(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    d->values[CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE].numbers = {knob.type};
    d->values[CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE].numbers = {value};
    d->finalized = true;
    return d;
}

/* Configurations of an engine: one for each combination of its knobs' values. */
static std::vector<DescriptorRef> configs_of(const Engine &e, const DescriptorRef &graph)
{
    auto engine = std::make_shared<Descriptor>(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    engine->values[CUDNN_ATTR_ENGINE_OPERATION_GRAPH].descriptors = {graph};
    engine->values[CUDNN_ATTR_ENGINE_GLOBAL_INDEX].numbers = {e.index};
    engine->finalized = finalize_engine(*engine) == CUDNN_STATUS_SUCCESS;
    Descriptor config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    config.values[CUDNN_ATTR_ENGINECFG_ENGINE].descriptors = {engine};
    config.finalized = true;
    std::vector<DescriptorRef> list;
    if (e.index != knob_engine) {
        list.push_back(std::make_shared<Descriptor>(config));
        return list;
    }
    for (int64_t i = 0; i < knobs[0].count; i++) {
        for (int64_t j = 0; j < knobs[1].count; j++) {
            config.values[CUDNN_ATTR_ENGINECFG_KNOB_CHOICES].descriptors = {choice(knobs[0], i),
                                                                            choice(knobs[1], j)};
            list.push_back(std::make_shared<Descriptor>(config));
        }
    }
    return list;
}

/* Mode A: the plain engine and the one that does not run, most of the others, in any order. */
cudnnStatus_t finalize_heuristics(Descriptor &d)
{
    int64_t mode = d.number(CUDNN_ATTR_ENGINEHEUR_MODE);
    if (mode != CUDNN_HEUR_MODE_A && mode != CUDNN_HEUR_MODE_FALLBACK) {
        return cudnn_fault(CUDNN_STATUS_NOT_SUPPORTED, "heuristics mode %lld is not emulated",
                           (long long)mode);
    }
    DescriptorRef graph = d.values.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).descriptors[0];
    Operation o = operation_of_graph(*graph);
    Random &random = state().random;
    std::vector<DescriptorRef> list;
    for (const Engine &e : engines) {
        bool always = e.index == plain_engine || e.fails == Fails::execution;
        if (!is_offered(e, o) || (mode == CUDNN_HEUR_MODE_FALLBACK && e.index != plain_engine) ||
            (!always && random.below(4) == 0)) {
            continue;
        }
        for (const DescriptorRef &config : configs_of(e, graph)) {
            list.push_back(config);
        }
    }
    for (size_t i = list.size(); i > 1; i--) {
        std::swap(list[i - 1], list[random.below((uint32_t)i)]);
    }
    d.values[CUDNN_ATTR_ENGINEHEUR_RESULTS].descriptors = list;
    return CUDNN_STATUS_SUCCESS;
}

} // namespace rodeo_emulator
