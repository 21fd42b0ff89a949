/* cuDNN's convolutions: every engine against plain loops in double precision, and whether it does
 * what its notes say. */
#include "graphs.h"

#include <algorithm>
#include <set>

static const int working[] = {plain, knobbed,  backwards, random_bits,     reduced,
                              fft,   winograd, tf32,      down_converting, tensor_core};

static bool is_coarse(int engine)
{
    return engine == reduced || engine == fft || engine == winograd;
}

static bool rounds_factors(int engine)
{
    return engine == tf32 || engine == down_converting;
}

/* Calls term(x, w, y) with the offsets of every product, straight from the definition. */
template <typename Term> static void products_of(const Case &c, Term term)
{
    int P = c.P(), Q = c.Q();
    for (int n = 0; n < c.N; n++)
        for (int k = 0; k < c.K; k++)
            for (int p = 0; p < P; p++)
                for (int q = 0; q < Q; q++)
                    for (int r = 0; r < c.R; r++)
                        for (int s = 0; s < c.S; s++)
                            for (int ch = 0; ch < c.C; ch++) {
                                int h = p * c.stride + r - c.pre, w = q * c.stride + s - c.pre;
                                if (h < 0 || w < 0 || h >= c.H || w >= c.W) {
                                    continue;
                                }
                                term((size_t)(((n * c.H + h) * c.W + w) * c.C + ch),
                                     (size_t)(((k * c.R + r) * c.S + s) * c.C + ch),
                                     (size_t)(((n * P + p) * Q + q) * c.K + k));
                            }
}

static std::vector<double> reference(const Case &c, Direction d, const Operands &o, float alpha,
                                     float beta)
{
    std::vector<double> sum(o.result(d).host.size());
    const std::vector<double> &x = o.x.host, &w = o.w.host, &y = o.y.host;
    products_of(c, [&](size_t i, size_t j, size_t l) {
        (d == forward         ? sum[l]
         : d == backward_data ? sum[i]
                              : sum[j]) += d == forward         ? x[i] * w[j]
                                           : d == backward_data ? y[l] * w[j]
                                                                : y[l] * x[i];
    });
    for (size_t i = 0; i < sum.size(); i++) {
        sum[i] = alpha * sum[i] + beta * o.result(d).host[i];
    }
    return sum;
}

/* A plan that is ready; NULL where the engine is not offered. */
static MadeRef plan_for(const Handle &h, Direction d, const Case &c, Type type, int engine,
                        const Choices &choices = {}, float alpha = 1, float beta = 0)
{
    MadeRef g = whole_graph(h.handle, d, c, type, alpha, beta);
    MadeRef chosen = config(*g, engine, choices);
    if (!chosen) {
        return nullptr;
    }
    MadeRef made = plan(h.handle, *chosen);
    CHECK(!made->finalize());
    return made;
}

/* What the result holds after a run on fresh operands. */
static std::vector<double> results(const Handle &h, Direction d, const Case &c, Type type,
                                   int engine, const Choices &choices = {})
{
    Operands o(c, type);
    MadeRef p = plan_for(h, d, c, type, engine, choices);
    CHECK(p != nullptr && workspace_of(*p) <= 131072 && !run(h, *p, o));
    return o.values(d);
}

static void check_engine(const Case &c, Direction d, Type type, int engine, float alpha, float beta)
{
    Handle h;
    Operands o(c, type);
    MadeRef p = plan_for(h, d, c, type, engine, {}, alpha, beta);
    if (!p) {
        return;
    }
    std::vector<double> expected = reference(c, d, o, alpha, beta);
    CHECK(!run(h, *p, o));
    double terms = d == forward         ? c.R * c.S * c.C
                   : d == backward_data ? c.R * c.S * c.K
                                        : c.N * c.P() * c.Q();
    double largest = 0;
    for (double value : expected) {
        largest = std::max(largest, std::fabs(value));
    }
    /* a coarse result is off by up to 1/16 of itself, a random one by its last bit */
    double size = terms / 4 + 2 * std::fabs(beta);
    double error = is_coarse(engine)        ? largest / 16 / size
                   : engine == random_bits  ? 2 * unit[type] * largest / size
                   : rounds_factors(engine) ? 0x1p-10
                                            : 0;
    o.result(d).compare(expected, size, error);
}

static const Case cases[] = {{2, 5, 4, 3, 4, 3, 3, 1, 1, 1}, {1, 8, 7, 4, 2, 7, 7, 3, 3, 2},
                             {3, 4, 4, 5, 6, 1, 1, 0, 0, 2}, {1, 3, 9, 1, 1, 2, 3, 2, 2, 3},
                             {2, 6, 8, 3, 4, 3, 3, 0, 1, 2}, {1, 7, 6, 2, 3, 4, 5, 3, 1, 1},
                             {1, 6, 5, 2, 3, 2, 2, 1, 4, 1}};
static void convolutions(const std::vector<Type> &types)
{
    for (const Case &c : cases) {
        for (Direction d : {forward, backward_data, backward_filter}) {
            for (Type type : types) {
                for (int engine : working) {
                    check_engine(c, d, type, engine, 1, 0);
                    check_engine(c, d, type, engine, 0.75f, -2);
                }
            }
        }
    }
}

/* ---- what the engines are -----------------------------------------------------------------------
 */

/* Engines differ in their bits, and knobs too; all but one give the same bits again. */
static void choices_show()
{
    Handle h;
    for (Direction d : {forward, backward_data, backward_filter}) {
        std::vector<double> first = results(h, d, middle, F32, plain);
        CHECK(first == results(h, d, middle, F32, plain));
        CHECK(first != results(h, d, middle, F32, backwards));
        CHECK(results(h, d, middle, F32, backwards) == results(h, d, middle, F32, backwards));
        CHECK(first == results(h, d, middle, F32, knobbed));
        CHECK(first == results(h, d, middle, F32, knobbed, {{CUDNN_KNOB_TYPE_TILE_SIZE, 2}}));
        CHECK(first != results(h, d, middle, F32, knobbed, {{CUDNN_KNOB_TYPE_TILE_SIZE, 1}}));
        for (Type type : {F32, F16, BF16}) {
            CHECK(d == forward || results(h, d, middle, type, random_bits) !=
                                      results(h, d, middle, type, random_bits));
        }
    }
}

/* The largest error, relative to the largest value. */
static double error_of(int engine, Direction d, Type type)
{
    Handle h;
    Operands o(middle, type);
    std::vector<double> exact = reference(middle, d, o, 1, 0);
    std::vector<double> got = results(h, d, middle, type, engine);
    double largest = 0, error = 0;
    for (size_t i = 0; i < exact.size(); i++) {
        largest = std::max(largest, std::fabs(exact[i]));
        error = std::max(error, std::fabs(got[i] - exact[i]));
    }
    return error / largest;
}

/* What a note warns of happens. */
static void notes_are_true()
{
    for (Direction d : {forward, backward_data, backward_filter}) {
        for (Type type : {F32, F16, BF16}) {
            double good = error_of(plain, d, type);
            CHECK(good < unit[type] * 8 && error_of(fft, d, type) > 1.0 / 64 &&
                  error_of(winograd, d, type) > 1.0 / 64);
            CHECK(type == F32 || (error_of(reduced, d, type) > 1.0 / 64 &&
                                  error_of(tensor_core, d, type) == good));
        }
        CHECK(error_of(tf32, d, F32) > 0x1p-16 && error_of(down_converting, d, F32) > 0x1p-16);
    }
}

/* The two kinds of rounding differ where a float is too small for half. */
static void halves_lose_small_factors()
{
    const Case one = {1, 1, 1, 1, 1, 1, 1, 0, 0, 1};
    Handle h;
    for (int engine : {plain, tf32, down_converting}) {
        Operands o(one, F32);
        const float small = 0x1p-30f;
        OK(cudaMemcpy(o.x.device, &small, sizeof(small), cudaMemcpyHostToDevice));
        CHECK(!run(h, *plan_for(h, forward, one, F32, engine), o));
        CHECK((o.values(forward)[0] == 0) == (engine == down_converting));
    }
}

static std::set<int> offered(Direction d, Type type)
{
    Handle h;
    std::set<int> found;
    MadeRef g = whole_graph(h.handle, d, middle, type);
    for (int engine = -1; engine < 100; engine++) {
        if (config(*g, engine)) {
            found.insert(engine);
        }
    }
    return found;
}

static void what_is_offered_on_sm_80()
{
    CHECK(offered(forward, F32) == with({tf32, down_converting}));
    CHECK(offered(backward_data, F32) == with({tf32, down_converting, random_bits}));
    CHECK(offered(forward, F16) == with({tensor_core, reduced}));
    CHECK(offered(backward_filter, BF16) == with({tensor_core, reduced, random_bits}));
}

static void what_is_offered_on_sm_70()
{
    CHECK(offered(forward, F32) == with({down_converting}));
    CHECK(offered(forward, F16) == with({tensor_core, reduced}));
}

static void what_is_offered_on_sm_61()
{
    CHECK(offered(forward, F32) == with({}));
    CHECK(offered(forward, F16) == with({reduced}));
}

/* ---- time, capture ------------------------------------------------------------------------------
 */

static float milliseconds(int engine)
{
    Handle h;
    Device device;
    cudaEvent_t start, stop;
    Operands o(middle, F32);
    OK(cudaEventCreate(&start));
    OK(cudaEventCreate(&stop));
    CHECK(!cudnnSetStream(h.handle, device.stream));
    MadeRef p = plan_for(h, backward_data, middle, F32, engine);
    OK(cudaEventRecord(start, device.stream));
    CHECK(!run(h, *p, o) && !run(h, *p, o));
    OK(cudaEventRecord(stop, device.stream));
    OK(cudaEventSynchronize(stop));
    float elapsed = 0;
    OK(cudaEventElapsedTime(&elapsed, start, stop));
    OK(cudaEventDestroy(start));
    OK(cudaEventDestroy(stop));
    return elapsed / 2;
}

/* The made-up durations: differing from plan to plan, shortest where a caller should not go. */
static void durations()
{
    std::set<float> plain_ones;
    for (int i = 0; i < 5; i++) {
        float good = milliseconds(plain), precise = milliseconds(tf32),
              bad = milliseconds(winograd);
        CHECK(good >= 1 && precise < good && bad < precise && milliseconds(random_bits) < bad);
        plain_ones.insert(std::round(good * 50));
    }
    CHECK(plain_ones.size() > 2);
}

/* A plan is made during a capture, run in it, destroyed after it; the graph computes. */
static void captured()
{
    Handle h;
    Device device;
    Operands o(middle, F32), untouched(middle, F32);
    CHECK(!cudnnSetStream(h.handle, device.stream));
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    OK(cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeGlobal));
    {
        MadeRef g = whole_graph(h.handle, forward, middle, F32);
        heuristics(*g, CUDNN_HEUR_MODE_A);
        CHECK(!run(h, *plan_for(h, forward, middle, F32, knobbed), o));
    }
    OK(cudaStreamEndCapture(device.stream, &graph));
    OK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    CHECK(o.values(forward) == untouched.values(forward));
    OK(cudaGraphLaunch(exec, device.stream));
    o.y.compare(reference(middle, forward, untouched, 1, 0), 9 * 8 / 4, 0);
    OK(cudaGraphExecDestroy(exec));
}

/* The workspace is not what it was. */
static void workspace_is_used()
{
    Handle h;
    Operands o(middle, F32);
    MadeRef p = plan_for(h, forward, middle, F32, knobbed);
    size_t floats_used = workspace_of(*p) / sizeof(float);
    CHECK(!run(h, *p, o));
    OK(cudaDeviceSynchronize());
    CHECK(std::isnan(o.space.at(0)) && std::isnan(o.space.at(floats_used - 1)) &&
          o.space.at(floats_used) == o.space.host[floats_used]);
}

void test_convolutions()
{
    must_succeed([] { convolutions({F32, F16, BF16}); });
    must_succeed([] { convolutions({F32, F16}); }, {{"SM", "6.1"}});
    must_succeed(choices_show);
    must_succeed(notes_are_true);
    must_succeed(halves_lose_small_factors);
    must_succeed(what_is_offered_on_sm_80);
    must_succeed(what_is_offered_on_sm_70, {{"SM", "7.0"}});
    must_succeed(what_is_offered_on_sm_61, {{"SM", "6.1"}});
    must_succeed(durations);
    must_succeed(captured);
    must_succeed(workspace_is_used);
}
