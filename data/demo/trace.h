/* Rays through a scene: what they meet, and how much light gets past it. */
#ifndef RODEO_DATA_DEMO_TRACE_H
#define RODEO_DATA_DEMO_TRACE_H

#include "data/demo/scene.h"

typedef struct {
    int seen;       /* SEEN_... (render.h) or the number of the thing */
    int part;       /* of the thing */
    float distance; /* along the ray */
    Vec3 point;     /* in the scene's frame */
    Vec3 local;     /* in the thing's frame */
    Vec3 normal;    /* of the surface, in the scene's frame, towards the eye's side */
} Hit;

/* What the ray from the camera's eye meets first: a thing, the table or the wall. */
Hit trace_ray(const Scene *scene, Vec3 way);

/* Share 0..1 of a light in direction `way` that reaches the point, with soft edges. */
float trace_light(const Scene *scene, Vec3 point, Vec3 way, float sharp);

/* Share 0..1 of the even light that reaches the point past its surroundings. */
float trace_openness(const Scene *scene, Vec3 point, Vec3 normal);

#endif
