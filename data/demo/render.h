/* Renders a scene by sphere tracing (Hart, "Sphere tracing: a geometric method for the antialiased
 * ray tracing of implicit surfaces", 1996): along each ray, steps as long as the signed distance
 * allows. */
#ifndef RODEO_DATA_DEMO_RENDER_H
#define RODEO_DATA_DEMO_RENDER_H

#include "data/demo/scene.h"

enum { SEEN_WALL = -2, SEEN_TABLE = -1 }; /* from 0: the thing of that number */

/* A perfect picture, [height, width] each. */
typedef struct {
    int width, height;
    Vec3 *colour;    /* linear RGB light */
    Vec3 *normal;    /* of the surface, unit length, in the camera's frame: x right, y up, z towards
                        the viewer */
    float *depth;    /* distance along the optical axis */
    float *specular; /* reflectance of what is seen, which disturbs depth sensors */
    int8_t *seen;    /* SEEN_... or the number of the thing */
} Frame;

/* Renders with smoothed edges. Free it with frame_free. */
Frame frame_render(const Scene *scene);
void frame_free(Frame *frame);

#endif
