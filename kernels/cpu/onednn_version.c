#include "kernels/cpu/onednn_version.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

void onednn_check(dnnl_status_t status, const char *call)
{
    if (status != dnnl_success) {
        const dnnl_version_t *version = dnnl_version();
        fatal("oneDNN %d.%d.%d: %s failed with status %d", version->major, version->minor,
              version->patch, call, (int)status);
    }
}

#if DNNL_VERSION_MAJOR >= 3

Layout layout_new(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    Layout layout = NULL;
    onednn_check(dnnl_memory_desc_create_with_tag(&layout, ndims, dims, dnnl_f32, tag),
                 "dnnl_memory_desc_create_with_tag");
    return layout;
}

Layout layout_strided(int ndims, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    Layout layout = NULL;
    onednn_check(dnnl_memory_desc_create_with_strides(&layout, ndims, dims, dnnl_f32, strides),
                 "dnnl_memory_desc_create_with_strides");
    return layout;
}

void layout_free(Layout layout)
{
    if (layout != NULL) {
        onednn_check(dnnl_memory_desc_destroy(layout), "dnnl_memory_desc_destroy");
    }
}

dnnl_primitive_desc_t conv_fprop_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine)
{
    const ConvGeometry *g = geometry;
    dnnl_primitive_desc_t descriptor = NULL;
    onednn_check(dnnl_convolution_forward_primitive_desc_create(
                     &descriptor, engine, dnnl_forward_training, dnnl_convolution_direct, g->x,
                     g->w, g->bias, g->y, g->strides, NULL, g->pads, g->pads, attr),
                 "dnnl_convolution_forward_primitive_desc_create");
    return descriptor;
}

dnnl_primitive_desc_t conv_dgrad_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine, dnnl_primitive_desc_t fprop)
{
    const ConvGeometry *g = geometry;
    dnnl_primitive_desc_t descriptor = NULL;
    onednn_check(dnnl_convolution_backward_data_primitive_desc_create(
                     &descriptor, engine, dnnl_convolution_direct, g->x, g->w, g->y, g->strides,
                     NULL, g->pads, g->pads, fprop, attr),
                 "dnnl_convolution_backward_data_primitive_desc_create");
    return descriptor;
}

dnnl_primitive_desc_t conv_wgrad_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine, dnnl_primitive_desc_t fprop)
{
    const ConvGeometry *g = geometry;
    dnnl_primitive_desc_t descriptor = NULL;
    onednn_check(dnnl_convolution_backward_weights_primitive_desc_create(
                     &descriptor, engine, dnnl_convolution_direct, g->x, g->w, g->bias, g->y,
                     g->strides, NULL, g->pads, g->pads, fprop, attr),
                 "dnnl_convolution_backward_weights_primitive_desc_create");
    return descriptor;
}

static dnnl_status_t append_sum(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_sum(post_ops, 1.0f, 0, dnnl_data_type_undef);
}

#else

Layout layout_new(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    Layout layout = mem_alloc(sizeof(*layout));
    onednn_check(dnnl_memory_desc_init_by_tag(layout, ndims, dims, dnnl_f32, tag),
                 "dnnl_memory_desc_init_by_tag");
    return layout;
}

Layout layout_strided(int ndims, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    Layout layout = mem_alloc(sizeof(*layout));
    onednn_check(dnnl_memory_desc_init_by_strides(layout, ndims, dims, dnnl_f32, strides),
                 "dnnl_memory_desc_init_by_strides");
    return layout;
}

void layout_free(Layout layout)
{
    free(layout);
}

static dnnl_primitive_desc_t describe(const dnnl_convolution_desc_t *conv,
                                      dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                      dnnl_primitive_desc_t fprop)
{
    dnnl_primitive_desc_t descriptor = NULL;
    onednn_check(dnnl_primitive_desc_create(&descriptor, conv, attr, engine, fprop),
                 "dnnl_primitive_desc_create of a convolution");
    return descriptor;
}

dnnl_primitive_desc_t conv_fprop_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine)
{
    const ConvGeometry *g = geometry;
    dnnl_convolution_desc_t conv;
    onednn_check(dnnl_convolution_forward_desc_init(&conv, dnnl_forward_training,
                                                    dnnl_convolution_direct, g->x, g->w, g->bias,
                                                    g->y, g->strides, g->pads, g->pads),
                 "dnnl_convolution_forward_desc_init");
    return describe(&conv, attr, engine, NULL);
}

dnnl_primitive_desc_t conv_dgrad_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine, dnnl_primitive_desc_t fprop)
{
    const ConvGeometry *g = geometry;
    dnnl_convolution_desc_t conv;
    onednn_check(dnnl_convolution_backward_data_desc_init(&conv, dnnl_convolution_direct, g->x,
                                                          g->w, g->y, g->strides, g->pads, g->pads),
                 "dnnl_convolution_backward_data_desc_init");
    return describe(&conv, attr, engine, fprop);
}

dnnl_primitive_desc_t conv_wgrad_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine, dnnl_primitive_desc_t fprop)
{
    const ConvGeometry *g = geometry;
    dnnl_convolution_desc_t conv;
    onednn_check(dnnl_convolution_backward_weights_desc_init(&conv, dnnl_convolution_direct, g->x,
                                                             g->w, g->bias, g->y, g->strides,
                                                             g->pads, g->pads),
                 "dnnl_convolution_backward_weights_desc_init");
    return describe(&conv, attr, engine, fprop);
}

static dnnl_status_t append_sum(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_sum(post_ops, 1.0f);
}

#endif

dnnl_primitive_attr_t attr_accumulate(void)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post_ops = NULL;
    onednn_check(dnnl_primitive_attr_create(&attr), "dnnl_primitive_attr_create");
    onednn_check(dnnl_post_ops_create(&post_ops), "dnnl_post_ops_create");
    onednn_check(append_sum(post_ops), "dnnl_post_ops_append_sum");
    onednn_check(dnnl_primitive_attr_set_post_ops(attr, post_ops),
                 "dnnl_primitive_attr_set_post_ops");
    onednn_check(dnnl_post_ops_destroy(post_ops), "dnnl_post_ops_destroy");
    return attr;
}
