/* What cuDNN's heuristics list, and what becomes of it. */
#include "graphs.h"

#include <set>

using MadeList = std::vector<MadeRef>;

static MadeList configs(const Made &heuristics, size_t most)
{
    MadeList list;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (size_t i = 0; i < most; i++) {
        list.emplace_back(new Made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
        raw.push_back(list.back()->get());
    }
    int64_t count = -1;
    CHECK(!cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, (int64_t)most, &count,
                                    raw.data()));
    list.resize((size_t)count);
    return list;
}

struct Found {
    int index;
    std::vector<cudnnBackendNumericalNote_t> notes;
    std::vector<cudnnBackendBehaviorNote_t> behaviour;
};

static Found engine_of(const Made &config)
{
    Made engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t raw = engine.get();
    int64_t count = -1;
    CHECK(!cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &raw) &&
          count == 1);
    return {(int)engine.ask<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64).at(0),
            engine.ask<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                    CUDNN_TYPE_NUMERICAL_NOTE),
            engine.ask<cudnnBackendBehaviorNote_t>(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                                   CUDNN_TYPE_BEHAVIOR_NOTE)};
}

static std::vector<int> indices(const MadeList &list)
{
    std::vector<int> found;
    for (const MadeRef &config : list) {
        found.push_back(engine_of(*config).index);
    }
    return found;
}

/* The plain engine alone as a fallback; in mode A it, the broken one and most others, each time in
 * another order, and as many as there is room for. */
static void lists()
{
    Handle h;
    MadeRef g = whole_graph(h.handle, backward_data, middle, F32);
    CHECK(indices(configs(*heuristics(*g, CUDNN_HEUR_MODE_FALLBACK), 10)) == std::vector<int>{0});
    std::set<std::vector<int>> orders;
    std::set<int> seen, missed;
    for (int i = 0; i < 30; i++) {
        MadeRef heur = heuristics(*g, CUDNN_HEUR_MODE_A);
        std::vector<int> list = indices(configs(*heur, 40));
        int64_t count = -1;
        CHECK(!cudnnBackendGetAttribute(heur->get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr) &&
              count == (int64_t)list.size());
        std::vector<int> few = indices(configs(*heur, 2));
        CHECK(few.size() == 2 && few[0] == list[0] && few[1] == list[1]);
        std::set<int> one(list.begin(), list.end());
        CHECK(one.count(plain) == 1 && one.count(broken) == 1);
        orders.insert(list);
        seen.insert(one.begin(), one.end());
        for (int engine : with({tf32, down_converting, random_bits})) {
            missed.insert(one.count(engine) == 0 ? engine : plain);
        }
    }
    CHECK(orders.size() > 25 && seen == with({tf32, down_converting, random_bits}) &&
          missed.size() == seen.size() - 1);
}

/* Each engine has its notes, and no other. */
static void check_notes(const Found &e)
{
    const std::pair<cudnnBackendNumericalNote_t, int> noted[] = {
        {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, random_bits},
        {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, tensor_core},
        {CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION, reduced},
        {CUDNN_NUMERICAL_NOTE_FFT, fft},
        {CUDNN_NUMERICAL_NOTE_WINOGRAD, winograd},
        {CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13, winograd},
        {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP, plain},
    };
    std::set<int> notes(e.notes.begin(), e.notes.end());
    for (const auto &entry : noted) {
        CHECK(notes.count(entry.first) == (e.index == entry.second));
    }
    CHECK(e.behaviour.empty() == (e.index != compiled));
    CHECK(e.index != compiled || e.behaviour[0] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION);
}

/* What a configuration with two knobs chooses: the tile and the stages. */
static std::pair<int64_t, int64_t> knobs_of(const Made &config)
{
    Made tile(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR), stages(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    cudnnBackendDescriptor_t raw[2] = {tile.get(), stages.get()};
    int64_t count = -1;
    CHECK(!cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 2, &count, raw) &&
          count == 2);
    auto type_of = [](const Made &knob) {
        return knob.ask<cudnnBackendKnobType_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                                CUDNN_TYPE_KNOB_TYPE)[0];
    };
    auto value_of = [](const Made &knob) {
        return knob.ask<int64_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64)[0];
    };
    CHECK(type_of(tile) == CUDNN_KNOB_TYPE_TILE_SIZE && type_of(stages) == CUDNN_KNOB_TYPE_STAGES);
    return {value_of(tile), value_of(stages)};
}

/* What becomes of a plan for it: one cannot be made, one needs too much, one does not run. */
static void check_plan(const Handle &h, const Operands &o, const Made &config, int index)
{
    MadeRef p = plan(h.handle, config);
    cudnnStatus_t status = p->finalize();
    CHECK(status == (index == compiled ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS));
    if (index == compiled) {
        return;
    }
    CHECK((index == greedy) == (workspace_of(*p) > (size_t)8 << 30));
    if (index == knobbed) {
        size_t stages = (size_t)knobs_of(config).second;
        CHECK(workspace_of(*p) == 1024 + o.w.host.size() * o.w.bytes() / 2 + 512 * stages);
    }
    if (index != greedy) {
        CHECK(run(h, *p, o) ==
              (index == broken ? CUDNN_STATUS_EXECUTION_FAILED : CUDNN_STATUS_SUCCESS));
    }
}

static void listed_ones_work()
{
    Handle h;
    MadeRef g = whole_graph(h.handle, backward_filter, middle, F16);
    Operands o(middle, F16);
    std::set<std::pair<int64_t, int64_t>> knob_values;
    std::set<int> seen;
    for (int i = 0; i < 8; i++) {
        for (const MadeRef &config : configs(*heuristics(*g, CUDNN_HEUR_MODE_A), 40)) {
            Found e = engine_of(*config);
            seen.insert(e.index);
            check_notes(e);
            check_plan(h, o, *config, e.index);
            if (e.index == knobbed) {
                knob_values.insert(knobs_of(*config));
            }
        }
    }
    CHECK(knob_values.size() == 6 && seen == with({tensor_core, reduced, random_bits}));
    OK(cudaDeviceSynchronize());
}

void test_heuristics()
{
    must_succeed(lists);
    must_succeed(listed_ones_work);
}
