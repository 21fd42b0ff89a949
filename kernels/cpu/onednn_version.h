/* What differs between oneDNN 2.6 and 3.x, behind one set of names. cpu/onednn.c
 * and cpu/linear.c include this; no file but onednn_version.c asks for the version.
 *
 * A Layout is a memory descriptor by pointer: the library's own opaque one from 3.0 on, before that
 * a struct on the heap. The library's functions that take a descriptor take a Layout in either
 * version. */
#ifndef RODEO_KERNELS_CPU_ONEDNN_VERSION_H
#define RODEO_KERNELS_CPU_ONEDNN_VERSION_H

#include <oneapi/dnnl/dnnl.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t Layout;
typedef const_dnnl_memory_desc_t ConstLayout;
#else
typedef dnnl_memory_desc_t *Layout;
typedef const dnnl_memory_desc_t *ConstLayout;
#endif

/* A float32 tensor laid out as tag says, or with these strides in elements; layout_free releases
 * it. */
Layout layout_new(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag);
Layout layout_strided(int ndims, const dnnl_dims_t dims, const dnnl_dims_t strides);
void layout_free(Layout layout);

/* The geometry of a convolution: its tensors in the library's order of dimensions, pads and strides
 * by (height, width). bias may be NULL. */
typedef struct {
    Layout x, w, bias, y;
    dnnl_dims_t strides, pads;
} ConvGeometry;

/* Primitive descriptors of the three passes; the backward ones want the forward one as a hint. */
dnnl_primitive_desc_t conv_fprop_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine);
dnnl_primitive_desc_t conv_dgrad_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine, dnnl_primitive_desc_t fprop);
dnnl_primitive_desc_t conv_wgrad_describe(const ConvGeometry *geometry, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine, dnnl_primitive_desc_t fprop);

/* An attribute under which a primitive adds to its output; dnnl_primitive_attr_destroy. */
dnnl_primitive_attr_t attr_accumulate(void);

/* Ends the program, naming the call, unless status is success. */
void onednn_check(dnnl_status_t status, const char *call);

#endif
