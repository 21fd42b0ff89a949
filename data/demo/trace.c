#include "data/demo/trace.h"

#include "data/demo/render.h"

#define FAR          1e9F
#define EYE_STEPS    96
#define SHADOW_STEPS 28

typedef struct {
    Vec3 origin, way;
    float near, far; /* where it crosses the thing's box; near > far: not at all */
} LocalRay;

static Vec3 to_local(const Thing *thing, Vec3 point)
{
    return vec_turn(vec_sub(point, thing->position), thing->cosine, -thing->sine);
}

static void clip_slab(LocalRay *ray, float origin, float way, float low, float high)
{
    float inverse = 1 / (fabsf(way) > 1e-9F ? way : 1e-9F);
    float a = (low - origin) * inverse;
    float b = (high - origin) * inverse;
    ray->near = maxf(ray->near, minf(a, b));
    ray->far = minf(ray->far, maxf(a, b));
}

/* The ray in the thing's frame, clipped to its box grown by `margin`. */
static LocalRay localise(const Thing *thing, Vec3 origin, Vec3 way, float margin)
{
    LocalRay ray = {.origin = to_local(thing, origin),
                    .way = vec_turn(way, thing->cosine, -thing->sine),
                    .near = 0,
                    .far = FAR};
    const Shape *shape = &thing->shape;
    clip_slab(&ray, ray.origin.x, ray.way.x, shape->low.x - margin, shape->high.x + margin);
    clip_slab(&ray, ray.origin.y, ray.way.y, shape->low.y - margin, shape->high.y + margin);
    clip_slab(&ray, ray.origin.z, ray.way.z, shape->low.z - margin, shape->high.z + margin);
    return ray;
}

static void meet_thing(const Scene *scene, int number, Vec3 way, Hit *hit)
{
    const Thing *thing = &scene->thing[number];
    LocalRay ray = localise(thing, scene->camera.eye, way, .01F);
    float far = minf(ray.far, hit->distance);
    float close = .25F * scene->camera.pixel;
    float t = ray.near;
    for (int step = 0; step < EYE_STEPS && t < far; step++) {
        Vec3 p = vec_along(ray.origin, ray.way, t);
        int part;
        float d = thing->shape.form->distance(&thing->shape, p, &part);
        if (d < close * t) {
            hit->seen = number;
            hit->part = part;
            hit->distance = t;
            hit->local = p;
            return;
        }
        t += d;
    }
}

static Vec3 thing_normal(const Thing *thing, Vec3 p, float h)
{
    static const Vec3 corner[4] = {{1, -1, -1}, {-1, -1, 1}, {-1, 1, -1}, {1, 1, 1}};
    Vec3 sum = {0};
    for (int i = 0; i < 4; i++) {
        int part;
        float d = thing->shape.form->distance(&thing->shape, vec_along(p, corner[i], h), &part);
        sum = vec_along(sum, corner[i], d);
    }
    return vec_turn(vec_unit(sum), thing->cosine, thing->sine);
}

static void meet_plane(int seen, Vec3 normal, float height, Vec3 eye, Vec3 way, Hit *hit)
{
    float approach = vec_dot(way, normal);
    if (approach > -1e-6F) {
        return;
    }
    float t = (height - vec_dot(eye, normal)) / approach;
    if (t > 0 && t < hit->distance) {
        hit->seen = seen;
        hit->distance = t;
        hit->normal = normal;
    }
}

Hit trace_ray(const Scene *scene, Vec3 way)
{
    Vec3 eye = scene->camera.eye;
    Hit hit = {.seen = SEEN_WALL, .distance = FAR, .normal = scene->wall_normal};
    meet_plane(SEEN_TABLE, vec(0, 1, 0), 0, eye, way, &hit);
    meet_plane(SEEN_WALL, scene->wall_normal, -scene->wall_distance, eye, way, &hit);
    for (int i = 0; i < scene->things; i++) {
        meet_thing(scene, i, way, &hit);
    }
    hit.point = vec_along(eye, way, hit.distance);
    if (hit.seen >= 0) {
        float h = maxf(.009F, .5F * scene->camera.pixel * hit.distance);
        hit.normal = thing_normal(&scene->thing[hit.seen], hit.local, h);
    }
    return hit;
}

static float past_thing(const Thing *thing, Vec3 point, Vec3 way, float sharp)
{
    float reach = vec_length(vec_sub(thing->shape.high, thing->shape.low));
    /* A penumbra reaches beyond the box; so far that what is cut off cannot be seen. */
    LocalRay ray = localise(thing, point, way, .35F * reach / sharp);
    float open = 1;
    float t = maxf(ray.near, .01F);
    for (int step = 0; step < SHADOW_STEPS && t < ray.far; step++) {
        int part;
        float d =
            thing->shape.form->distance(&thing->shape, vec_along(ray.origin, ray.way, t), &part);
        open = minf(open, .5F + .5F * sharp * d / t);
        if (open <= 0) {
            return 0;
        }
        t += clampf(fabsf(d), .012F * reach, .12F * reach);
    }
    return smoothstepf(0, 1, open);
}

float trace_light(const Scene *scene, Vec3 point, Vec3 way, float sharp)
{
    float open = 1;
    for (int i = 0; i < scene->things && open > 0; i++) {
        open = minf(open, past_thing(&scene->thing[i], point, way, sharp));
    }
    return open;
}

/* Distance from the point to the nearest surface, but no more than `enough`. */
static float clearance(const Scene *scene, Vec3 point, float enough)
{
    float nearest = minf(enough, maxf(point.y, 0));
    for (int i = 0; i < scene->things; i++) {
        const Thing *thing = &scene->thing[i];
        const Shape *shape = &thing->shape;
        Vec3 p = to_local(thing, point);
        Vec3 outside = vec(maxf(maxf(shape->low.x - p.x, p.x - shape->high.x), 0),
                           maxf(maxf(shape->low.y - p.y, p.y - shape->high.y), 0),
                           maxf(maxf(shape->low.z - p.z, p.z - shape->high.z), 0));
        if (vec_dot(outside, outside) < nearest * nearest) {
            int part;
            nearest = minf(nearest, shape->form->distance(shape, p, &part));
        }
    }
    return nearest;
}

float trace_openness(const Scene *scene, Vec3 point, Vec3 normal)
{
    static const float reach[] = {.06F, .16F, .36F};
    float closed = 0;
    float weight = .5F;
    for (int i = 0; i < 3; i++) {
        float d = clearance(scene, vec_along(point, normal, reach[i]), reach[i]);
        closed += weight * (reach[i] - d) / reach[i];
        weight *= .6F;
    }
    return clampf(1 - closed, .08F, 1);
}
