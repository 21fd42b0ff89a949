#include "data/demo/scene.h"

#include "data/demo/catalogue.h"

#include <math.h>

#define PI 3.14159265F

/* What a draw is for: the first counter word, beside domain and label. */
enum { DRAW_MODEL = 0, DRAW_VIEW = 1 };

static Rng draws_at(const SceneAddress *address, int purpose)
{
    uint32_t a = (uint32_t)address->label << 8 | (uint32_t)address->domain << 4 | (uint32_t)purpose;
    uint32_t view = purpose == DRAW_VIEW ? (uint32_t)address->view : 0;
    return rng_at(address->seed, RNG_DEMO, a, (uint32_t)address->model, view);
}

static Vec3 direction(float azimuth, float elevation)
{
    return vec(cosf(elevation) * cosf(azimuth), sinf(elevation), cosf(elevation) * sinf(azimuth));
}

/* Half the diagonal of the thing's box. */
static float thing_radius(const Shape *shape)
{
    return .5F * vec_length(vec_sub(shape->high, shape->low));
}

static Vec3 thing_centre(const Shape *shape)
{
    return vec_scale(vec_add(shape->high, shape->low), .5F);
}

static void turn_thing(Thing *thing, float angle)
{
    thing->cosine = cosf(angle);
    thing->sine = sinf(angle);
}

static void place_model(Scene *scene, const SceneAddress *address)
{
    Rng rng = draws_at(address, DRAW_MODEL);
    const ThingClass *class = &catalogue[address->label];
    Thing *thing = &scene->thing[0];
    thing->shape = shape_draw(class->form, &rng);
    thing->paint = paint_draw(&class->paint, address->domain, &rng);
    turn_thing(thing, 0);
    scene->things = 1;
}

/* The smallest square or nearly square window of the camera around the thing's box. */
static void frame_thing(Camera *camera, const Shape *shape, Rng *rng)
{
    float low[2] = {1e9F, 1e9F};
    float high[2] = {-1e9F, -1e9F};
    for (int corner = 0; corner < 8; corner++) {
        Vec3 p = vec(corner & 1 ? shape->low.x : shape->high.x,
                     corner & 2 ? shape->low.y : shape->high.y,
                     corner & 4 ? shape->low.z : shape->high.z);
        /* Few solids fill the corners of their box. */
        p = vec_mix(p, thing_centre(shape), .08F);
        Vec3 way = vec_sub(p, camera->eye);
        float distance = vec_dot(way, camera->forward);
        float at[2] = {vec_dot(way, camera->right) / distance, vec_dot(way, camera->up) / distance};
        for (int i = 0; i < 2; i++) {
            low[i] = minf(low[i], at[i]);
            high[i] = maxf(high[i], at[i]);
        }
    }
    float across =
        maxf((high[0] - low[0]) / (float)camera->width, (high[1] - low[1]) / (float)camera->height);
    camera->pixel = across * shape_range(rng, 1.02F, 1.22F);
    float width = camera->pixel * (float)camera->width;
    float height = camera->pixel * (float)camera->height;
    camera->left = .5F * (low[0] + high[0] - width) + width * shape_range(rng, -.04F, .04F);
    camera->top = .5F * (low[1] + high[1] + height) + height * shape_range(rng, -.04F, .04F);
}

static void draw_size(Camera *camera, int side, Rng *rng)
{
    float ratio = (float)SCENE_SIDE_MAX / SCENE_SIDE_MIN;
    int drawn = (int)lrintf(SCENE_SIDE_MIN * powf(ratio, (float)rng_uniform(rng)));
    int other = (int)lrintf((float)drawn * shape_range(rng, .78F, 1));
    bool square = rng_below(rng, 6) > 0;
    bool upright = rng_below(rng, 2) == 0;
    other = square || other < SCENE_SIDE_MIN ? drawn : other;
    camera->width = side > 0 ? side : upright ? other : drawn;
    camera->height = side > 0 ? side : upright ? drawn : other;
}

/* Aims the camera at the thing from any side and from above; returns the azimuth it looks from. */
static float aim_camera(Scene *scene, int side, Rng *rng)
{
    Camera *camera = &scene->camera;
    const Shape *shape = &scene->thing[0].shape;
    draw_size(camera, side, rng);
    float azimuth = shape_range(rng, -PI, PI);
    float elevation = shape_range(rng, .25F, .7F);
    float roll = shape_range(rng, -.1F, .1F);
    Vec3 back = direction(azimuth, elevation);
    Vec3 centre = thing_centre(shape);
    camera->eye = vec_along(centre, back, thing_radius(shape) * shape_range(rng, 4, 6));
    camera->forward = vec_scale(back, -1);
    Vec3 right = vec_unit(vec_cross(camera->forward, vec(0, 1, 0)));
    Vec3 up = vec_cross(right, camera->forward);
    camera->right = vec_along(vec_scale(right, cosf(roll)), up, sinf(roll));
    camera->up = vec_along(vec_scale(up, cosf(roll)), right, -sinf(roll));
    frame_thing(camera, shape, rng);
    return azimuth;
}

static bool collides(const Scene *scene, Vec3 position, float radius)
{
    for (int i = 0; i < scene->things; i++) {
        const Shape *shape = &scene->thing[i].shape;
        float other = maxf(shape->high.x - shape->low.x, shape->high.z - shape->low.z) * .5F;
        Vec3 gap = vec_sub(position, scene->thing[i].position);
        if (vec_length(gap) < .95F * (radius + other)) {
            return true;
        }
    }
    return false;
}

/* Puts another thing of any class beside or behind the one on show, if there is room. */
static void add_clutter(Scene *scene, float camera_azimuth, Rng *rng)
{
    const ThingClass *class = &catalogue[rng_below(rng, CATALOGUE_CLASSES)];
    Thing thing = {.shape = shape_draw(class->form, rng)};
    thing.paint = paint_draw(&class->paint, scene->address.domain, rng);
    turn_thing(&thing, shape_range(rng, -PI, PI));
    const Shape *own = &thing.shape;
    const Shape *shown = &scene->thing[0].shape;
    float radius = maxf(own->high.x - own->low.x, own->high.z - own->low.z) * .5F;
    float room = maxf(shown->high.x - shown->low.x, shown->high.z - shown->low.z) * .5F;
    for (int attempt = 0; attempt < 6; attempt++) {
        float side = rng_below(rng, 2) == 0 ? 1.0F : -1.0F;
        float azimuth = camera_azimuth + PI + side * shape_range(rng, .35F, 1.6F);
        Vec3 at = vec_scale(direction(azimuth, 0), radius + room * shape_range(rng, 1.02F, 1.7F));
        if (!collides(scene, at, radius)) {
            thing.position = at;
            scene->thing[scene->things++] = thing;
            return;
        }
    }
    shape_free(&thing.shape);
}

static Lighting light_evenly(float azimuth, Rng *rng)
{
    /* A big lamp over the camera's left shoulder, and light from all around. */
    Lighting lighting = {.sharp = 5};
    lighting.to_key = direction(azimuth + shape_range(rng, .3F, .8F), shape_range(rng, .85F, 1.1F));
    lighting.key = vec(.62F, .61F, .6F);
    lighting.sky = vec(.56F, .57F, .6F);
    lighting.bounce = vec(.3F, .29F, .28F);
    return lighting;
}

static Lighting light_roughly(Rng *rng)
{
    static const Vec3 lamp[] = {
        {1.25F, .95F, .6F}, {1, 1, 1}, {.78F, .95F, 1.25F}, {1.1F, 1, .85F}};
    Lighting lighting = {.sharp = shape_range(rng, 6, 26)};
    lighting.to_key = direction(shape_range(rng, -PI, PI), shape_range(rng, .45F, 1.2F));
    float key = shape_range(rng, .7F, 1.5F);
    float fill = shape_range(rng, .14F, .38F);
    lighting.key = vec_scale(lamp[rng_below(rng, 4)], key);
    lighting.sky = vec_scale(lamp[rng_below(rng, 4)], fill);
    lighting.bounce = vec_scale(lighting.sky, .45F);
    return lighting;
}

/* Rooms are brighter and warmer towards the window, in both domains: it tells up from down. */
static void add_window(Lighting *lighting, float azimuth, float size, Rng *rng)
{
    float rate = shape_range(rng, .55F, .75F) / size;
    lighting->window = direction(azimuth + shape_range(rng, -.3F, .3F), 0);
    lighting->fading = vec(1.15F * rate, rate, .7F * rate);
}

static Sensor draw_sensor(Domain domain, int side, Rng *rng)
{
    if (domain == DOMAIN_SYNTHETIC) {
        return (Sensor){.exposure = 1, .tint = vec(1, 1, 1)};
    }
    float warm = shape_range(rng, -.2F, .2F);
    return (Sensor){
        .exposure = shape_range(rng, .6F, 1.4F),
        .tint = vec(1 + warm, 1 + shape_range(rng, -.04F, .04F), 1 - warm),
        .blur = (float)side / 160 * shape_range(rng, .4F, 1.3F),
        .grain = shape_range(rng, .015F, .045F),
        .depth_noise = shape_range(rng, .25F, .6F),
        .holes = shape_range(rng, .2F, .8F),
    };
}

void scene_compose(Scene *scene, const SceneAddress *address, int side)
{
    Domain domain = address->domain;
    *scene = (Scene){.address = *address};
    place_model(scene, address);
    Rng rng = draws_at(address, DRAW_VIEW);
    float azimuth = aim_camera(scene, side, &rng);
    int pixels = (scene->camera.width + scene->camera.height) / 2;
    scene->lighting = domain == DOMAIN_REAL ? light_roughly(&rng) : light_evenly(azimuth, &rng);
    scene->sensor = draw_sensor(domain, pixels, &rng);
    float size = thing_radius(&scene->thing[0].shape);
    add_window(&scene->lighting, azimuth, size, &rng);
    scene->table = backdrop_draw(domain, false, size, &rng);
    scene->wall = backdrop_draw(domain, true, size, &rng);
    scene->wall_normal = direction(azimuth + shape_range(&rng, -.4F, .4F), 0);
    scene->wall_distance = size * shape_range(&rng, 1.15F, 1.8F);
    uint32_t clutter = domain == DOMAIN_REAL ? rng_below(&rng, SCENE_THINGS) : 0;
    for (uint32_t i = 0; i < clutter; i++) {
        add_clutter(scene, azimuth, &rng);
    }
}

void scene_free(Scene *scene)
{
    for (int i = 0; i < scene->things; i++) {
        shape_free(&scene->thing[i].shape);
    }
    scene->things = 0;
}

Vec3 scene_ray(const Camera *camera, float x, float y)
{
    Vec3 way = vec_along(camera->forward, camera->right, camera->left + x * camera->pixel);
    return vec_unit(vec_along(way, camera->up, camera->top - y * camera->pixel));
}
