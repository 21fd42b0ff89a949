/* A scene: one thing on show on a table, perhaps others around it, light, camera and sensor. Every
 * number of it is a function of the address alone. */
#ifndef RODEO_DATA_DEMO_SCENE_H
#define RODEO_DATA_DEMO_SCENE_H

#include "data/demo/backdrop.h"
#include "data/demo/paint.h"
#include "data/demo/shape.h"

#include <stdint.h>

#define SCENE_THINGS   4
#define SCENE_SIDE_MIN 60 /* pixels */
#define SCENE_SIDE_MAX 220

/* Which picture: `model` numbers the individual things of a class in a domain, `view` the pictures
 * of a model. */
typedef struct {
    uint64_t seed;
    Domain domain;
    int label;
    int model;
    int view;
} SceneAddress;

typedef struct {
    Shape shape;
    Paint paint;
    Vec3 position;
    float cosine, sine; /* of the turn about the y axis from the thing's own frame to the scene's */
} Thing;

/* A pinhole camera. The ray through (x, y), pixels from the top left corner of the picture, is
 * forward + (left + x pixel) right + (top - y pixel) up: at distance 1 a pixel is `pixel` wide. */
typedef struct {
    Vec3 eye, right, up, forward;
    float left, top, pixel;
    int width, height;
} Camera;

typedef struct {
    Vec3 to_key; /* direction to the key light */
    Vec3 key;    /* its linear RGB strength */
    Vec3 sky;    /* even light from above */
    Vec3 bounce; /* even light from below */
    float sharp; /* of the shadows' edges: large is sharp */
    Vec3 window; /* horizontal direction to the window behind the camera */
    Vec3 fading; /* how fast each colour's light fades away from the window, per unit of length */
} Lighting;

/* What the sensors do to a perfect picture. */
typedef struct {
    float exposure;
    Vec3 tint;         /* white balance that is off */
    float blur;        /* standard deviation, pixels */
    float grain;       /* noise of the colours, share of full scale */
    float depth_noise; /* standard deviation, in pixel widths; 0: normals are the true ones */
    float holes;       /* 0..1: how much of the depth is missing */
} Sensor;

typedef struct {
    SceneAddress address;
    int things; /* thing[0] is the one on show */
    Thing thing[SCENE_THINGS];
    Backdrop table, wall;
    Vec3 wall_normal;    /* horizontal, towards the camera */
    float wall_distance; /* of the wall behind the origin */
    Lighting lighting;
    Camera camera;
    Sensor sensor;
} Scene;

/* Composes the scene of an address. side 0: the picture's size is drawn too (between
 * SCENE_SIDE_MIN and SCENE_SIDE_MAX, square or nearly so), else it is side x side. Free it with
 * scene_free. */
void scene_compose(Scene *scene, const SceneAddress *address, int side);
void scene_free(Scene *scene);

/* The direction of the ray through (x, y), length 1. */
Vec3 scene_ray(const Camera *camera, float x, float y);

#endif
