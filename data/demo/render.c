#include "data/demo/render.h"

#include "base/mem.h"
#include "data/demo/trace.h"

#include <stdlib.h>

/* One look along a ray. */
typedef struct {
    Vec3 colour, normal;
    float depth, specular;
    int seen;
} Sample;

static Surface surface_at(const Scene *scene, const Hit *hit)
{
    Surface surface = {.specular = .02F, .shine = 12};
    if (hit->seen >= 0) {
        const Thing *thing = &scene->thing[hit->seen];
        thing->paint.pattern(&thing->paint, &thing->shape, hit->local, hit->part, &surface);
    } else if (hit->seen == SEEN_TABLE) {
        surface.albedo = backdrop_colour(&scene->table, hit->point.x, hit->point.z);
    } else {
        float along = vec_dot(hit->point, vec_cross(scene->wall_normal, vec(0, 1, 0)));
        surface.albedo = backdrop_colour(&scene->wall, along, hit->point.y);
    }
    return surface;
}

/* What a mirror would show: the table below, the sky above, and a broad lamp. */
static Vec3 surroundings(const Scene *scene, Vec3 way)
{
    const Lighting *light = &scene->lighting;
    Vec3 below = vec_mul(scene->table.colour[0], vec_add(light->sky, vec_scale(light->key, .4F)));
    Vec3 colour = vec_mix(below, light->sky, smoothstepf(-.15F, .35F, way.y));
    float lamp = smoothstepf(.8F, .92F, vec_dot(way, light->to_key));
    return vec_along(colour, light->key, 1.2F * lamp);
}

/* The share of the light that reaches a point, between a third and half as much again. */
static Vec3 window_light(const Lighting *light, Vec3 point)
{
    float along = vec_dot(point, light->window);
    return vec(clampf(expf(along * light->fading.x), .3F, 1.5F),
               clampf(expf(along * light->fading.y), .3F, 1.5F),
               clampf(expf(along * light->fading.z), .3F, 1.5F));
}

static Vec3 shade(const Scene *scene, const Hit *hit, const Surface *surface, Vec3 way)
{
    const Lighting *light = &scene->lighting;
    Vec3 normal = hit->normal;
    Vec3 above = vec_along(hit->point, normal, .012F);
    float facing = maxf(vec_dot(normal, light->to_key), 0);
    float lit = facing > 0 ? trace_light(scene, above, light->to_key, light->sharp) : 0;
    float open = trace_openness(scene, hit->point, normal);
    Vec3 even = vec_mix(light->bounce, light->sky, .5F + .5F * normal.y);
    Vec3 scattered =
        vec_mul(surface->albedo, vec_along(vec_scale(even, open), light->key, facing * lit));

    float grazing = 1 - clampf(-vec_dot(normal, way), 0, 1);
    float rise = grazing * grazing * grazing * grazing * grazing;
    float fresnel =
        surface->specular + (1 - surface->specular) * rise * minf(1, 4 * surface->specular);
    Vec3 mirrored = vec_along(way, normal, -2 * vec_dot(way, normal));
    Vec3 reflected = vec_scale(surroundings(scene, mirrored), fresnel * open);
    Vec3 half = vec_unit(vec_sub(light->to_key, way));
    float lobe = powf(maxf(vec_dot(normal, half), 0), surface->shine);
    float highlight = surface->specular * (surface->shine + 8) * .125F * lobe * facing * lit;
    reflected = vec_along(reflected, light->key, minf(highlight, 4));
    Vec3 tinted = vec_mix(reflected, vec_mul(reflected, surface->albedo), surface->metal);
    Vec3 colour = vec_along(tinted, scattered, 1 - .75F * surface->metal);
    return vec_mul(colour, window_light(light, hit->point));
}

static Sample look(const Scene *scene, float x, float y)
{
    const Camera *camera = &scene->camera;
    Vec3 way = scene_ray(camera, x, y);
    Hit hit = trace_ray(scene, way);
    Surface surface = surface_at(scene, &hit);
    return (Sample){
        .colour = shade(scene, &hit, &surface, way),
        .normal = vec(vec_dot(hit.normal, camera->right), vec_dot(hit.normal, camera->up),
                      -vec_dot(hit.normal, camera->forward)),
        .depth = hit.distance * vec_dot(way, camera->forward),
        .specular = surface.specular,
        .seen = hit.seen,
    };
}

static float luminance(Vec3 colour)
{
    return .2126F * colour.x + .7152F * colour.y + .0722F * colour.z;
}

/* Whether two neighbouring pixels differ so much that an edge between them would show steps. */
static bool differs(const Frame *frame, int a, int b)
{
    float la = luminance(frame->colour[a]);
    float lb = luminance(frame->colour[b]);
    return frame->seen[a] != frame->seen[b] || vec_dot(frame->normal[a], frame->normal[b]) < .85F ||
           fabsf(la - lb) > .04F + .3F * minf(la, lb);
}

static bool on_edge(const Frame *frame, int x, int y)
{
    int at = y * frame->width + x;
    return (x > 0 && differs(frame, at, at - 1)) ||
           (x + 1 < frame->width && differs(frame, at, at + 1)) ||
           (y > 0 && differs(frame, at, at - frame->width)) ||
           (y + 1 < frame->height && differs(frame, at, at + frame->width));
}

static Frame frame_open(int width, int height)
{
    size_t pixels = (size_t)width * (size_t)height;
    return (Frame){
        .width = width,
        .height = height,
        .colour = mem_alloc(pixels * sizeof(Vec3)),
        .normal = mem_alloc(pixels * sizeof(Vec3)),
        .depth = mem_alloc(pixels * sizeof(float)),
        .specular = mem_alloc(pixels * sizeof(float)),
        .seen = mem_alloc(pixels * sizeof(int8_t)),
    };
}

static void look_once(const Scene *scene, Frame *frame)
{
    for (int y = 0, at = 0; y < frame->height; y++) {
        for (int x = 0; x < frame->width; x++, at++) {
            Sample sample = look(scene, (float)x + .5F, (float)y + .5F);
            frame->colour[at] = sample.colour;
            frame->normal[at] = sample.normal;
            frame->depth[at] = sample.depth;
            frame->specular[at] = sample.specular;
            frame->seen[at] = (int8_t)sample.seen;
        }
    }
}

/* Replaces edge pixels by the mean of four looks on a turned grid. */
static void smooth_edges(const Scene *scene, Frame *frame)
{
    static const float offset[4][2] = {
        {.375F, .125F}, {.875F, .375F}, {.625F, .875F}, {.125F, .625F}};
    size_t pixels = (size_t)frame->width * (size_t)frame->height;
    uint8_t *edge = mem_alloc(pixels);
    for (int y = 0, at = 0; y < frame->height; y++) {
        for (int x = 0; x < frame->width; x++, at++) {
            edge[at] = on_edge(frame, x, y);
        }
    }
    for (int y = 0, at = 0; y < frame->height; y++) {
        for (int x = 0; x < frame->width; x++, at++) {
            if (!edge[at]) {
                continue;
            }
            Vec3 colour = {0};
            Vec3 normal = {0};
            for (int i = 0; i < 4; i++) {
                Sample sample = look(scene, (float)x + offset[i][0], (float)y + offset[i][1]);
                /* A highlight must not outshine the other three looks. */
                float bright = maxf(luminance(sample.colour), 1.5F) / 1.5F;
                colour = vec_along(colour, sample.colour, .25F / bright);
                normal = vec_add(normal, sample.normal);
            }
            frame->colour[at] = colour;
            frame->normal[at] = vec_unit(normal);
        }
    }
    free(edge);
}

Frame frame_render(const Scene *scene)
{
    Frame frame = frame_open(scene->camera.width, scene->camera.height);
    look_once(scene, &frame);
    smooth_edges(scene, &frame);
    return frame;
}

void frame_free(Frame *frame)
{
    free(frame->colour);
    free(frame->normal);
    free(frame->depth);
    free(frame->specular);
    free(frame->seen);
    *frame = (Frame){0};
}
