#include "kernels/cuda/conv_graph.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_DESCRIPTORS (CONV_KNOBS + 8) /* of one graph or plan */

typedef cudnnBackendDescriptor_t Descriptor;

/* Descriptors that live as long as what was built of them, and the first error on the way: after it
 * nothing more is done. */
typedef struct {
    Descriptor all[MOST_DESCRIPTORS];
    int count;
    cudnnStatus_t status;
} Builder;

struct ConvGraph {
    ConvTarget target;
    Descriptor graph;
    Builder parts;
};

struct ConvPlan {
    Descriptor plan;
    size_t workspace;
    Builder parts;
};

/* Names of the tensors within the graph. */
enum { UID_X = 1, UID_W, UID_Y };

/* ---- building ----------------------------------------------------------------------------------
 */

static Descriptor create(Builder *b, cudnnBackendDescriptorType_t type)
{
    Descriptor d = NULL;
    if (b->status == CUDNN_STATUS_SUCCESS && b->count == MOST_DESCRIPTORS) {
        b->status = CUDNN_STATUS_INTERNAL_ERROR;
    }
    if (b->status == CUDNN_STATUS_SUCCESS) {
        b->status = cudnnBackendCreateDescriptor(type, &d);
    }
    if (b->status == CUDNN_STATUS_SUCCESS) {
        b->all[b->count++] = d;
    }
    return d;
}

static void set(Builder *b, Descriptor d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (b->status == CUDNN_STATUS_SUCCESS) {
        b->status = cudnnBackendSetAttribute(d, name, type, count, values);
    }
}

static void set_part(Builder *b, Descriptor d, cudnnBackendAttributeName_t name, Descriptor part)
{
    set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

static void finalize(Builder *b, Descriptor d)
{
    if (b->status == CUDNN_STATUS_SUCCESS) {
        b->status = cudnnBackendFinalize(d);
    }
}

static void destroy(Builder *b)
{
    while (b->count > 0) {
        cudnnBackendDestroyDescriptor(b->all[--b->count]);
    }
}

/* The attributes that name the GPU without a handle came with cuDNN 9.8. */
static void set_properties(Builder *b, Descriptor d, const ConvTarget *target,
                           cudnnBackendDescriptorType_t of)
{
#if CUDNN_VERSION >= 90800
    if (target->properties != NULL) {
        set_part(b, d,
                 of == CUDNN_BACKEND_ENGINE_DESCRIPTOR       ? CUDNN_ATTR_ENGINE_DEVICEPROP
                 : of == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR ? CUDNN_ATTR_ENGINEHEUR_DEVICEPROP
                                                             : CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                 target->properties);
    }
#else
    (void)b, (void)d, (void)target, (void)of;
#endif
}

/* ---- the graph ---------------------------------------------------------------------------------
 */

/* A packed tensor, channels last. */
static Descriptor tensor(Builder *b, int64_t uid, cudnnDataType_t type, int n, int c, int h, int w)
{
    const int64_t sizes[] = {n, c, h, w};
    const int64_t strides[] = {(int64_t)h * w * c, 1, (int64_t)w * c, c};
    const int64_t alignment = CONV_ALIGNMENT;
    Descriptor d = create(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, sizes);
    set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    finalize(b, d);
    return d;
}

static Descriptor convolution(Builder *b, const ConvProblem *p)
{
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dimensions = 2;
    const int64_t strides[] = {p->shape.stride, p->shape.stride};
    const int64_t padding[] = {p->shape.pad, p->shape.pad};
    const int64_t dilations[] = {1, 1};
    Descriptor d = create(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dimensions);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    finalize(b, d);
    return d;
}

/* The three passes' operations differ in the names of their attributes only. */
typedef struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
} Operation;

static const Operation operations[] = {
    [CONV_FPROP] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CONV_DGRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CONV_WGRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static Descriptor operation(Builder *b, const ConvProblem *p)
{
    const ConvShape *s = &p->shape;
    const Operation *o = &operations[p->pass];
    const float one = 1.0f;
    const float zero = 0.0f;
    Descriptor d = create(b, o->type);
    set_part(b, d, o->x, tensor(b, UID_X, p->type, s->N, s->C, s->H, s->W));
    set_part(b, d, o->w, tensor(b, UID_W, p->type, s->K, s->C, s->R, s->R));
    set_part(b, d, o->y,
             tensor(b, UID_Y, p->type, s->N, s->K, conv_out(s->H, s->R, s->stride, s->pad),
                    conv_out(s->W, s->R, s->stride, s->pad)));
    set_part(b, d, o->convolution, convolution(b, p));
    set(b, d, o->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(b, d, o->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    finalize(b, d);
    return d;
}

cudnnStatus_t conv_graph_open(const ConvTarget *target, const ConvProblem *problem,
                              ConvGraph **graph)
{
    ConvGraph *g = mem_zeroed(1, sizeof *g);
    Builder *b = &g->parts;
    g->target = *target;
    Descriptor only = operation(b, problem);
    g->graph = create(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, g->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &only);
    if (target->handle != NULL) {
        set(b, g->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    }
    finalize(b, g->graph);
    cudnnStatus_t status = b->status;
    if (status != CUDNN_STATUS_SUCCESS) {
        conv_graph_close(g);
        g = NULL;
    }
    *graph = g;
    return status;
}

void conv_graph_close(ConvGraph *graph)
{
    if (graph != NULL) {
        destroy(&graph->parts);
        free(graph);
    }
}

/* ---- what cuDNN suggests -----------------------------------------------------------------------
 */

void *conv_hold_compiler(void)
{
    char name[32];
    snprintf(name, sizeof name, "libnvrtc.so.%d", CUDART_VERSION / 1000);
    return dlopen(name, RTLD_LAZY);
}

void conv_release_compiler(void *held)
{
    if (held != NULL) {
        dlclose(held);
    }
}

static void get(Builder *b, Descriptor d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t most, int64_t *count, void *values)
{
    *count = 0;
    if (b->status == CUDNN_STATUS_SUCCESS) {
        b->status = cudnnBackendGetAttribute(d, name, type, most, count, values);
    }
}

static void read_notes(Builder *b, Descriptor engine, ConvNotes *notes)
{
    cudnnBackendNumericalNote_t numerical[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behavior[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t count;
    *notes = (ConvNotes){0};
    get(b, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
        CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, numerical);
    for (int64_t i = 0; i < count; i++) {
        notes->numerical |= 1u << numerical[i];
    }
    get(b, engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
        CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count, behavior);
    for (int64_t i = 0; i < count; i++) {
        notes->behavior |= 1u << behavior[i];
    }
}

static void read_knobs(Builder *b, Descriptor config, ConvEngine *engine)
{
    Descriptor choices[CONV_KNOBS];
    int64_t count;
    for (int i = 0; i < CONV_KNOBS; i++) {
        choices[i] = create(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    }
    get(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, CONV_KNOBS,
        &count, choices);
    if (count > CONV_KNOBS) {
        b->status = CUDNN_STATUS_NOT_SUPPORTED;
        return;
    }
    engine->knobs = (int)count;
    for (int i = 0; i < engine->knobs; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)0;
        int64_t one;
        get(b, choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &one, &type);
        get(b, choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &one,
            &engine->knob[i].value);
        engine->knob[i].type = (int)type;
    }
}

static cudnnStatus_t read_config(Descriptor config, ConvEngine *engine, ConvNotes *notes)
{
    Builder b = {.status = CUDNN_STATUS_SUCCESS};
    int64_t one;
    Descriptor of = create(&b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    *engine = (ConvEngine){0};
    get(&b, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one, &of);
    get(&b, of, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &one, &engine->index);
    read_notes(&b, of, notes);
    read_knobs(&b, config, engine);
    destroy(&b);
    return b.status;
}

cudnnStatus_t conv_graph_suggest(const ConvGraph *graph, cudnnBackendHeurMode_t mode, int most,
                                 ConvEngine *engines, ConvNotes *notes, int *count)
{
    Builder b = {.status = CUDNN_STATUS_SUCCESS};
    Descriptor *configs = mem_zeroed((size_t)most, sizeof(Descriptor));
    int64_t found = 0;
    Descriptor heuristics = create(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_part(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph->graph);
    set(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    set_properties(&b, heuristics, &graph->target, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    finalize(&b, heuristics);
    for (int i = 0; i < most && b.status == CUDNN_STATUS_SUCCESS; i++) {
        b.status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]);
    }
    get(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, &found,
        configs);
    *count = 0;
    for (int i = 0; i < found && i < most; i++) {
        if (read_config(configs[i], &engines[*count], &notes[*count]) == CUDNN_STATUS_SUCCESS) {
            (*count)++;
        }
    }
    for (int i = 0; i < most && configs[i] != NULL; i++) {
        cudnnBackendDestroyDescriptor(configs[i]);
    }
    free(configs);
    destroy(&b);
    return b.status;
}

/* ---- plans -------------------------------------------------------------------------------------
 */

static Descriptor engine_of(Builder *b, const ConvGraph *graph, const ConvEngine *engine)
{
    Descriptor d = create(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    set_part(b, d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph->graph);
    set(b, d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &engine->index);
    set_properties(b, d, &graph->target, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    finalize(b, d);
    return d;
}

static Descriptor config_of(Builder *b, Descriptor engine, const ConvEngine *e)
{
    Descriptor knobs[CONV_KNOBS];
    for (int i = 0; i < e->knobs; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)e->knob[i].type;
        knobs[i] = create(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        set(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        set(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &e->knob[i].value);
        finalize(b, knobs[i]);
    }
    Descriptor d = create(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    set_part(b, d, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (e->knobs > 0) {
        set(b, d, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, e->knobs,
            knobs);
    }
    finalize(b, d);
    return d;
}

cudnnStatus_t conv_plan_open(const ConvGraph *graph, const ConvEngine *engine, ConvPlan **plan)
{
    ConvPlan *p = mem_zeroed(1, sizeof *p);
    Builder *b = &p->parts;
    const ConvTarget *target = &graph->target;
    int64_t bytes = 0;
    int64_t one;
    Descriptor config = config_of(b, engine_of(b, graph, engine), engine);
    p->plan = create(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set_part(b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (target->handle != NULL) {
        set(b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    }
    set_properties(b, p->plan, target, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    finalize(b, p->plan);
    get(b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &one, &bytes);
    p->workspace = (size_t)bytes;
    cudnnStatus_t status = b->status;
    if (status != CUDNN_STATUS_SUCCESS) {
        conv_plan_close(p);
        p = NULL;
    }
    *plan = p;
    return status;
}

void conv_plan_close(ConvPlan *plan)
{
    if (plan != NULL) {
        destroy(&plan->parts);
        free(plan);
    }
}

size_t conv_plan_workspace(const ConvPlan *plan)
{
    return plan->workspace;
}

cudnnStatus_t conv_plan_run(const ConvPlan *plan, cudnnHandle_t handle,
                            const ConvOperands *operands, void *workspace)
{
    const int64_t uids[] = {UID_X, UID_W, UID_Y};
    const void *const memory[] = {operands->x, operands->w, operands->y};
    Builder b = {.status = CUDNN_STATUS_SUCCESS};
    Descriptor pack = create(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uids);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, memory);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finalize(&b, pack);
    if (b.status == CUDNN_STATUS_SUCCESS) {
        b.status = cudnnBackendExecute(handle, plan->plan, pack);
    }
    destroy(&b);
    return b.status;
}
