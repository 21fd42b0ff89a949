#include "kernels/cpu/onednn.h"

#include "base/mem.h"
#include "kernels/cpu/onednn_version.h"

#include <stdlib.h>
#include <string.h>

struct OnednnConv {
    OnednnConv *next;
    ConvPass pass;
    ConvShape shape;
    bool has_bias;
    dnnl_primitive_t conv;
    dnnl_primitive_t convert;     /* w between the caller's layout and staged; NULL: never needed */
    dnnl_primitive_t convert_add; /* wgrad: adds staged to the caller's w */
    dnnl_memory_t x, w, bias, y;
    dnnl_memory_t staged;     /* w in the layout that the library wants, in scratch memory */
    dnnl_memory_t scratchpad; /* the library's own work space, in scratch memory */
    size_t staged_bytes, scratchpad_bytes;
    bool is_staged; /* false: the library works on the caller's w as it is */
};

struct CpuPrimitives {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    OnednnConv *convs;
};

CpuPrimitives *onednn_open(void)
{
    CpuPrimitives *primitives = mem_zeroed(1, sizeof(*primitives));
    onednn_check(dnnl_engine_create(&primitives->engine, dnnl_cpu, 0), "dnnl_engine_create");
    onednn_check(
        dnnl_stream_create(&primitives->stream, primitives->engine, dnnl_stream_default_flags),
        "dnnl_stream_create");
    return primitives;
}

static void primitive_free(dnnl_primitive_t primitive)
{
    if (primitive != NULL) {
        onednn_check(dnnl_primitive_destroy(primitive), "dnnl_primitive_destroy");
    }
}

static void memory_free(dnnl_memory_t memory)
{
    if (memory != NULL) {
        onednn_check(dnnl_memory_destroy(memory), "dnnl_memory_destroy");
    }
}

static void conv_free(OnednnConv *conv)
{
    primitive_free(conv->conv);
    primitive_free(conv->convert);
    primitive_free(conv->convert_add);
    memory_free(conv->x);
    memory_free(conv->w);
    memory_free(conv->bias);
    memory_free(conv->y);
    memory_free(conv->staged);
    memory_free(conv->scratchpad);
    free(conv);
}

void onednn_close(CpuPrimitives *primitives)
{
    while (primitives->convs != NULL) {
        OnednnConv *conv = primitives->convs;
        primitives->convs = conv->next;
        conv_free(conv);
    }
    onednn_check(dnnl_stream_destroy(primitives->stream), "dnnl_stream_destroy");
    onednn_check(dnnl_engine_destroy(primitives->engine), "dnnl_engine_destroy");
    free(primitives);
}

/* w_tag says how the weights lie: dnnl_acdb is [K,R,R,C], dnnl_format_tag_any the library's choice.
 * Dimensions are in the library's order, (N,C,H,W) and (K,C,R,R), whatever the layout. */
static ConvGeometry geometry_new(const ConvShape *s, bool has_bias, dnnl_format_tag_t w_tag)
{
    int P = conv_out(s->H, s->R, s->stride, s->pad);
    int Q = conv_out(s->W, s->R, s->stride, s->pad);
    return (ConvGeometry){
        .x = layout_new(4, (dnnl_dims_t){s->N, s->C, s->H, s->W}, dnnl_nhwc),
        .w = layout_new(4, (dnnl_dims_t){s->K, s->C, s->R, s->R}, w_tag),
        .bias = has_bias ? layout_new(1, (dnnl_dims_t){s->K}, dnnl_x) : NULL,
        .y = layout_new(4, (dnnl_dims_t){s->N, s->K, P, Q}, dnnl_nhwc),
        .strides = {s->stride, s->stride},
        .pads = {s->pad, s->pad},
    };
}

/* For a 1x1 convolution whose stride divides the picture, oneDNN copies the pixels that count into
 * its scratchpad. Where they have fewer channels than a vector, wgrad uses a wider layout than
 * there is room for, and overruns: into the next thread's pixels, or out of the scratchpad. Known
 * to its authors since September 2026, and in all versions up to 3.12. */
static bool overruns_scratchpad(ConvPass pass, const ConvShape *s)
{
    enum { LONGEST_VECTOR = 16 };
    bool copies = s->R == 1 && s->stride > 1 && s->H % s->stride == 0 && s->W % s->stride == 0;
    return pass == CONV_WGRAD && copies && s->C < LONGEST_VECTOR;
}

/* The same convolution with stride 1, over a view of x that shows only the pixels that count. */
static void look_at_used_pixels(ConvGeometry *geometry, const ConvShape *s)
{
    int P = conv_out(s->H, 1, s->stride, 0);
    int Q = conv_out(s->W, 1, s->stride, 0);
    dnnl_dim_t row = (dnnl_dim_t)s->W * s->C;
    layout_free(geometry->x);
    geometry->x =
        layout_strided(4, (dnnl_dims_t){s->N, s->C, P, Q},
                       (dnnl_dims_t){s->H * row, 1, s->stride * row, (dnnl_dim_t)s->stride * s->C});
    geometry->strides[0] = geometry->strides[1] = 1;
}

static void geometry_free(ConvGeometry *geometry)
{
    layout_free(geometry->x);
    layout_free(geometry->w);
    layout_free(geometry->bias);
    layout_free(geometry->y);
}

/* The descriptor of a pass, with the scratchpad left to the caller. */
static dnnl_primitive_desc_t pass_describe(dnnl_engine_t engine, ConvPass pass,
                                           const ConvGeometry *geometry)
{
    dnnl_primitive_attr_t attr = NULL;
    onednn_check(dnnl_primitive_attr_create(&attr), "dnnl_primitive_attr_create");
    onednn_check(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user),
                 "dnnl_primitive_attr_set_scratchpad_mode");
    dnnl_primitive_desc_t fprop = conv_fprop_describe(geometry, attr, engine);
    dnnl_primitive_desc_t descriptor = fprop;
    if (pass == CONV_DGRAD) {
        descriptor = conv_dgrad_describe(geometry, attr, engine, fprop);
    } else if (pass == CONV_WGRAD) {
        descriptor = conv_wgrad_describe(geometry, attr, engine, fprop);
    }
    if (descriptor != fprop) {
        onednn_check(dnnl_primitive_desc_destroy(fprop), "dnnl_primitive_desc_destroy");
    }
    onednn_check(dnnl_primitive_attr_destroy(attr), "dnnl_primitive_attr_destroy");
    return descriptor;
}

/* A memory object whose data is attached before each run. */
static dnnl_memory_t memory_new(dnnl_engine_t engine, ConstLayout layout)
{
    dnnl_memory_t memory = NULL;
    onednn_check(dnnl_memory_create(&memory, layout, engine, DNNL_MEMORY_NONE),
                 "dnnl_memory_create");
    return memory;
}

static dnnl_primitive_t convert_new(dnnl_engine_t engine, ConstLayout from, ConstLayout to,
                                    dnnl_primitive_attr_t attr)
{
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_primitive_t convert = NULL;
    onednn_check(dnnl_reorder_primitive_desc_create(&descriptor, from, engine, to, engine, attr),
                 "dnnl_reorder_primitive_desc_create");
    onednn_check(dnnl_primitive_create(&convert, descriptor), "dnnl_primitive_create");
    onednn_check(dnnl_primitive_desc_destroy(descriptor), "dnnl_primitive_desc_destroy");
    return convert;
}

static void create_converters(OnednnConv *conv, dnnl_engine_t engine, ConstLayout plain,
                              ConstLayout wanted)
{
    if (conv->pass != CONV_WGRAD) {
        conv->convert = conv->is_staged ? convert_new(engine, plain, wanted, NULL) : NULL;
        return;
    }
    dnnl_primitive_attr_t attr = attr_accumulate();
    conv->convert = conv->is_staged ? convert_new(engine, wanted, plain, NULL) : NULL;
    conv->convert_add = convert_new(engine, wanted, plain, attr);
    onednn_check(dnnl_primitive_attr_destroy(attr), "dnnl_primitive_attr_destroy");
}

static OnednnConv *conv_new(dnnl_engine_t engine, ConvPass pass, const ConvShape *s, bool has_bias)
{
    OnednnConv *conv = mem_zeroed(1, sizeof(*conv));
    conv->pass = pass;
    conv->shape = *s;
    conv->has_bias = has_bias;

    ConvGeometry geometry = geometry_new(s, has_bias, dnnl_format_tag_any);
    if (overruns_scratchpad(pass, s)) {
        look_at_used_pixels(&geometry, s);
    }
    dnnl_primitive_desc_t descriptor = pass_describe(engine, pass, &geometry);
    onednn_check(dnnl_primitive_create(&conv->conv, descriptor), "dnnl_primitive_create");

    dnnl_query_t which_w = pass == CONV_WGRAD ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    ConstLayout wanted = dnnl_primitive_desc_query_md(descriptor, which_w, 0);
    ConstLayout scratchpad = dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
    Layout plain = layout_new(4, (dnnl_dims_t){s->K, s->C, s->R, s->R}, dnnl_acdb);
    conv->is_staged = dnnl_memory_desc_equal(plain, wanted) == 0;
    conv->staged_bytes = dnnl_memory_desc_get_size(wanted);
    conv->scratchpad_bytes = dnnl_memory_desc_get_size(scratchpad);
    create_converters(conv, engine, plain, wanted);

    conv->x = memory_new(engine, geometry.x);
    conv->y = memory_new(engine, geometry.y);
    conv->w = memory_new(engine, plain);
    conv->bias = has_bias ? memory_new(engine, geometry.bias) : NULL;
    conv->staged = memory_new(engine, wanted);
    conv->scratchpad = memory_new(engine, scratchpad);
    layout_free(plain);
    geometry_free(&geometry);
    onednn_check(dnnl_primitive_desc_destroy(descriptor), "dnnl_primitive_desc_destroy");
    return conv;
}

OnednnConv *onednn_conv(CpuBackend *cpu, ConvPass pass, const ConvShape *shape, bool has_bias)
{
    CpuPrimitives *primitives = cpu->primitives;
    bool with_bias = has_bias && pass != CONV_DGRAD;
    for (OnednnConv *conv = primitives->convs; conv != NULL; conv = conv->next) {
        if (conv->pass == pass && conv->has_bias == with_bias &&
            memcmp(&conv->shape, shape, sizeof(*shape)) == 0) {
            return conv;
        }
    }
    OnednnConv *conv = conv_new(primitives->engine, pass, shape, with_bias);
    conv->next = primitives->convs;
    primitives->convs = conv;
    return conv;
}

/* ---- running -------------------------------------------------------------------------------- */

static void attach(dnnl_memory_t memory, void *data)
{
    onednn_check(dnnl_memory_set_data_handle(memory, data), "dnnl_memory_set_data_handle");
}

static void run_convert(const CpuPrimitives *primitives, dnnl_primitive_t convert,
                        dnnl_memory_t from, dnnl_memory_t to)
{
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    onednn_check(dnnl_primitive_execute(convert, primitives->stream, 2, arguments),
                 "dnnl_primitive_execute of a reorder");
}

/* w is where the library finds or puts the weights: the caller's or the staged ones. */
static void run_conv(const CpuPrimitives *primitives, const OnednnConv *conv, dnnl_memory_t w)
{
    static const int roles[][4] = {
        [CONV_FPROP] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS},
        [CONV_DGRAD] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST, 0},
        [CONV_WGRAD] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_BIAS},
    };
    const int *role = roles[conv->pass];
    const dnnl_exec_arg_t arguments[] = {
        {role[0], conv->x},    {role[1], w},
        {role[2], conv->y},    {DNNL_ARG_SCRATCHPAD, conv->scratchpad},
        {role[3], conv->bias},
    };
    onednn_check(
        dnnl_primitive_execute(conv->conv, primitives->stream, conv->has_bias ? 5 : 4, arguments),
        "dnnl_primitive_execute of a convolution");
}

static size_t aligned(size_t bytes)
{
    return (bytes + RODEO_ALIGNMENT - 1) / RODEO_ALIGNMENT * RODEO_ALIGNMENT;
}

void onednn_conv_run(CpuBackend *cpu, OnednnConv *conv, const OnednnTensors *tensors,
                     bool accumulate)
{
    const CpuPrimitives *primitives = cpu->primitives;
    size_t staged_bytes = aligned(conv->staged_bytes);
    size_t bias_bytes = aligned((size_t)conv->shape.K * sizeof(float));
    char *scratch = cpu_scratch(cpu, staged_bytes + bias_bytes + conv->scratchpad_bytes);
    float *added_bias = conv->has_bias && accumulate ? (float *)(scratch + staged_bytes) : NULL;
    bool through_staged = conv->is_staged || accumulate;
    attach(conv->x, tensors->x);
    attach(conv->y, tensors->y);
    attach(conv->w, tensors->w);
    attach(conv->staged, scratch);
    attach(conv->scratchpad, scratch + staged_bytes + bias_bytes);
    if (conv->has_bias) {
        attach(conv->bias, added_bias != NULL ? added_bias : tensors->bias);
    }

    if (conv->pass != CONV_WGRAD && through_staged) {
        run_convert(primitives, conv->convert, conv->w, conv->staged);
    }
    run_conv(primitives, conv, through_staged ? conv->staged : conv->w);
    if (conv->pass == CONV_WGRAD && through_staged) {
        run_convert(primitives, accumulate ? conv->convert_add : conv->convert, conv->staged,
                    conv->w);
    }
    if (added_bias != NULL) {
        float *dbias = tensors->bias;
        for (int k = 0; k < conv->shape.K; k++) {
            dbias[k] += added_bias[k];
        }
    }
}
