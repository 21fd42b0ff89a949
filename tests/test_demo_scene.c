/* The demo data set's scenes: solids, normals and sensors. */
#include "data/demo/catalogue.h"
#include "data/demo/dataset.h"
#include "data/demo/render.h"
#include "data/demo/sensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static Vec3 point_in(const Shape *shape, float grow, Rng *rng)
{
    return vec(shape_range(rng, shape->low.x - grow, shape->high.x + grow),
               shape_range(rng, shape->low.y - grow, shape->high.y + grow),
               shape_range(rng, shape->low.z - grow, shape->high.z + grow));
}

static float distance_at(const Shape *shape, Vec3 p)
{
    int part;
    return shape->form->distance(shape, p, &part);
}

/* Rays are clipped to a thing's box: a solid that sticks out of it would be cut off. */
static void solids_stay_in_their_boxes(void **state)
{
    (void)state;
    for (int i = 0; i < CATALOGUE_CLASSES * 8; i++) {
        Rng rng = rng_at(11, RNG_DEMO, 0, (uint32_t)i, 0);
        Shape shape = shape_draw(catalogue[i / 8].form, &rng);
        for (int k = 0; k < 3000; k++) {
            Vec3 p = point_in(&shape, .1F, &rng);
            bool beside = p.x < shape.low.x - .01F || p.x > shape.high.x + .01F ||
                          p.y > shape.high.y + .01F || p.z < shape.low.z - .01F ||
                          p.z > shape.high.z + .01F;
            if (beside && distance_at(&shape, p) < 0) {
                fail_msg("%s %d sticks out of its box at %g %g %g", catalogue[i / 8].name, i % 8,
                         (double)p.x, (double)p.y, (double)p.z);
            }
        }
        shape_free(&shape);
    }
}

/* A box that is much too large would put the thing off the middle of its pictures. */
static void boxes_are_tight(void **state)
{
    (void)state;
    for (int label = 0; label < CATALOGUE_CLASSES; label++) {
        Rng rng = rng_at(12, RNG_DEMO, 0, (uint32_t)label, 0);
        Shape shape = shape_draw(catalogue[label].form, &rng);
        Vec3 low = vec(9, 9, 9);
        Vec3 high = vec(-9, -9, -9);
        for (int k = 0; k < 60000; k++) {
            Vec3 p = point_in(&shape, 0, &rng);
            if (distance_at(&shape, p) < .01F) {
                low = vec(fminf(low.x, p.x), fminf(low.y, p.y), fminf(low.z, p.z));
                high = vec(fmaxf(high.x, p.x), fmaxf(high.y, p.y), fmaxf(high.z, p.z));
            }
        }
        float size = vec_length(vec_sub(shape.high, shape.low));
        float slack =
            fmaxf(vec_length(vec_sub(low, shape.low)), vec_length(vec_sub(high, shape.high)));
        if (slack > .2F * size) {
            fail_msg("%s: a box with %g of slack at size %g", catalogue[label].name, (double)slack,
                     (double)size);
        }
        shape_free(&shape);
    }
}

/* Sphere tracing steps by the distance: one that grows faster than the way would jump through. */
static void distances_can_be_stepped_along(void **state)
{
    (void)state;
    for (int label = 0; label < CATALOGUE_CLASSES; label++) {
        Rng rng = rng_at(13, RNG_DEMO, 0, (uint32_t)label, 0);
        Shape shape = shape_draw(catalogue[label].form, &rng);
        int steep = 0;
        for (int k = 0; k < 20000; k++) {
            Vec3 a = point_in(&shape, 0, &rng);
            Vec3 step =
                vec(shape_range(&rng, -1, 1), shape_range(&rng, -1, 1), shape_range(&rng, -1, 1));
            Vec3 b = vec_along(a, vec_unit(step), .05F);
            float da = distance_at(&shape, a);
            float db = distance_at(&shape, b);
            if (da > .03F && db > 0) {
                steep += fabsf(da - db) > .05F * 1.3F;
            }
        }
        if (steep > 100) {
            fail_msg("%s: the distance is too steep at %d points", catalogue[label].name, steep);
        }
        shape_free(&shape);
    }
}

static Vec3 seen_point(const Camera *camera, const Frame *frame, int x, int y)
{
    float u = camera->left + ((float)x + .5F) * camera->pixel;
    float v = camera->top - ((float)y + .5F) * camera->pixel;
    return vec_scale(vec(u, v, -1), frame->depth[y * frame->width + x]);
}

/* True where the pixel and its four neighbours lie on one smooth piece of surface. */
static bool is_smooth(const Frame *frame, int x, int y)
{
    int at = y * frame->width + x;
    int next[4] = {at - 1, at + 1, at - frame->width, at + frame->width};
    for (int i = 0; i < 4; i++) {
        if (frame->seen[next[i]] != frame->seen[at] ||
            vec_dot(frame->normal[next[i]], frame->normal[at]) < .98F) {
            return false;
        }
    }
    return frame->normal[at].z > .3F;
}

/* The normals that come from the solids' formulas, against the slope of the depth map: two ways to
 * the same thing, and the proof that the camera's frame is x right, y up, z towards the viewer. */
static void normals_are_the_slope_of_the_depth(void **state)
{
    (void)state;
    for (int label = 0; label < CATALOGUE_CLASSES; label++) {
        Scene scene;
        SceneAddress address = {.seed = 5, .domain = DOMAIN_SYNTHETIC, .label = label};
        scene_compose(&scene, &address, 96);
        Frame frame = frame_render(&scene);
        int checked = 0;
        int wrong = 0;
        for (int y = 1; y < 95; y++) {
            for (int x = 1; x < 95; x++) {
                if (!is_smooth(&frame, x, y)) {
                    continue;
                }
                Vec3 across = vec_sub(seen_point(&scene.camera, &frame, x + 1, y),
                                      seen_point(&scene.camera, &frame, x - 1, y));
                Vec3 upward = vec_sub(seen_point(&scene.camera, &frame, x, y - 1),
                                      seen_point(&scene.camera, &frame, x, y + 1));
                Vec3 slope = vec_unit(vec_cross(across, upward));
                checked++;
                wrong += vec_dot(slope, frame.normal[y * 96 + x]) < .97F;
            }
        }
        if (checked < 2000 || wrong * 50 > checked) {
            fail_msg("%s: %d of %d normals are off", catalogue[label].name, wrong, checked);
        }
        frame_free(&frame);
        scene_free(&scene);
    }
}

static double coded_length(const uint8_t *pixel)
{
    double sum = 0;
    for (int c = 0; c < 3; c++) {
        double v = pixel[c] / 127.5 - 1;
        sum += v * v;
    }
    return sqrt(sum);
}

static void depth_pictures_hold_unit_normals_or_holes(void **state)
{
    (void)state;
    for (int i = 0; i < CATALOGUE_CLASSES * DOMAINS; i++) {
        SceneAddress address = {.seed = 2, .domain = i % DOMAINS, .label = i / DOMAINS, .view = 3};
        Picture picture[DEMO_PICTURES];
        demo_render(&address, 0, picture);
        const Picture *normals = &picture[DEMO_NORMALS];
        assert_int_equal(picture[DEMO_COLOUR].width, normals->width);
        assert_int_equal(picture[DEMO_COLOUR].height, normals->height);
        assert_in_range(normals->width, SCENE_SIDE_MIN, SCENE_SIDE_MAX);
        assert_in_range(normals->height, SCENE_SIDE_MIN, SCENE_SIDE_MAX);
        int pixels = normals->width * normals->height;
        int holes = 0;
        for (int at = 0; at < pixels; at++) {
            const uint8_t *pixel = normals->pixels + at * 3;
            if (pixel[0] + pixel[1] + pixel[2] == 0) {
                holes++;
            } else if (fabs(coded_length(pixel) - 1) > .012) {
                fail_msg("%s: a normal of length %g", catalogue[address.label].name,
                         coded_length(pixel));
            }
        }
        assert_true(address.domain == DOMAIN_SYNTHETIC ? holes == 0 : holes * 2 < pixels);
        picture_free(&picture[DEMO_COLOUR]);
        picture_free(&picture[DEMO_NORMALS]);
    }
}

/* The things of one model keep their shape and paint from view to view; other models differ. */
static void views_share_their_model(void **state)
{
    (void)state;
    Scene a;
    Scene b;
    Scene c;
    scene_compose(&a, &(SceneAddress){.seed = 1, .label = 4, .model = 2, .view = 0}, 64);
    scene_compose(&b, &(SceneAddress){.seed = 1, .label = 4, .model = 2, .view = 9}, 64);
    scene_compose(&c, &(SceneAddress){.seed = 1, .label = 4, .model = 3, .view = 0}, 64);
    const Thing *first = &a.thing[0];
    assert_memory_equal(first->shape.size, b.thing[0].shape.size, sizeof first->shape.size);
    assert_memory_equal(first->paint.colour, b.thing[0].paint.colour, sizeof first->paint.colour);
    assert_memory_not_equal(first->shape.size, c.thing[0].shape.size, sizeof first->shape.size);
    assert_memory_not_equal(&a.camera.eye, &b.camera.eye, sizeof a.camera.eye);
    scene_free(&a);
    scene_free(&b);
    scene_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(solids_stay_in_their_boxes),
        cmocka_unit_test(boxes_are_tight),
        cmocka_unit_test(distances_can_be_stepped_along),
        cmocka_unit_test(normals_are_the_slope_of_the_depth),
        cmocka_unit_test(depth_pictures_hold_unit_normals_or_holes),
        cmocka_unit_test(views_share_their_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
