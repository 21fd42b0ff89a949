#include "data/demo/sensor.h"

#include "base/mem.h"
#include "data/demo/noise.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TAPS 9 /* of the blur, each side */

static Picture picture_blank(const Frame *frame)
{
    size_t bytes = (size_t)frame->width * (size_t)frame->height * 3;
    return (Picture){.width = frame->width, .height = frame->height, .pixels = mem_alloc(bytes)};
}

static uint8_t to_byte(float share)
{
    return (uint8_t)(clampf(share, 0, 1) * 255 + .5F);
}

/* One pass of a Gaussian blur over `count` pixels that lie `stride` apart. */
static void blur_line(const Vec3 *in, Vec3 *out, int count, int stride, float sigma)
{
    int taps = (int)ceilf(2.5F * sigma);
    taps = taps > MAX_TAPS ? MAX_TAPS : taps;
    for (int i = 0; i < count; i++) {
        Vec3 sum = {0};
        float total = 0;
        for (int k = -taps; k <= taps; k++) {
            int at = i + k < 0 ? 0 : i + k >= count ? count - 1 : i + k;
            float weight = expf(-.5F * (float)(k * k) / (sigma * sigma));
            sum = vec_along(sum, in[at * stride], weight);
            total += weight;
        }
        out[i * stride] = vec_scale(sum, 1 / total);
    }
}

static void blur(Vec3 *colour, int width, int height, float sigma)
{
    Vec3 *rows = mem_alloc((size_t)width * (size_t)height * sizeof *rows);
    for (int y = 0; y < height; y++) {
        blur_line(colour + y * width, rows + y * width, width, 1, sigma);
    }
    for (int x = 0; x < width; x++) {
        blur_line(rows + x, colour + x, height, width, sigma);
    }
    free(rows);
}

/* Bright light is compressed as film does it, then coded for a screen. */
static float to_screen(float light)
{
    float v = maxf(light, 0);
    float mapped = v * (1 + v * .16F) / (1 + v * .78F) * 1.22F;
    return powf(minf(mapped, 1), 1 / 2.2F);
}

/* A fast draw of about a normal distribution with variance 1: the sum of four uniforms. */
static float rough_normal(Rng *rng)
{
    uint32_t a = rng_u32(rng);
    uint32_t b = rng_u32(rng);
    float sum = (float)(a >> 16) + (float)(a & 0xFFFF) + (float)(b >> 16) + (float)(b & 0xFFFF);
    return (sum * 0x1p-16F - 2) * 1.7320508F;
}

Picture sensor_develop_colour(const Sensor *sensor, const Frame *frame, Rng *rng)
{
    int pixels = frame->width * frame->height;
    Vec3 *light = mem_alloc((size_t)pixels * sizeof *light);
    memcpy(light, frame->colour, (size_t)pixels * sizeof *light);
    if (sensor->blur > 0) {
        blur(light, frame->width, frame->height, sensor->blur);
    }
    Picture picture = picture_blank(frame);
    Vec3 gain = vec_scale(sensor->tint, sensor->exposure);
    for (int i = 0; i < pixels; i++) {
        Vec3 v = vec_mul(light[i], gain);
        float channel[3] = {v.x, v.y, v.z};
        float shared = sensor->grain > 0 ? rough_normal(rng) : 0;
        for (int c = 0; c < 3; c++) {
            float noise =
                sensor->grain > 0 ? sensor->grain * (.7F * shared + .7F * rough_normal(rng)) : 0;
            picture.pixels[i * 3 + c] = to_byte(to_screen(channel[c]) + noise);
        }
    }
    free(light);
    return picture;
}

static void code_normal(Vec3 normal, uint8_t *pixel)
{
    pixel[0] = to_byte(.5F + .5F * normal.x);
    pixel[1] = to_byte(.5F + .5F * normal.y);
    pixel[2] = to_byte(.5F + .5F * normal.z);
}

/* A depth map as such a sensor measures it. */
typedef struct {
    int width, height;
    float pixel; /* width of a pixel at distance 1 */
    float *depth;
    uint8_t *hole;
} Measured;

static bool jumps(const Measured *m, int a, int b)
{
    return fabsf(m->depth[a] - m->depth[b]) > 6 * m->pixel * m->depth[a];
}

/* Disturbs the depth: noise that neighbours share in part, and steps of the sensor's resolution. */
static void disturb(Measured *m, const Frame *frame, float noise, Rng *rng)
{
    int pixels = m->width * m->height;
    float *raw = mem_alloc((size_t)pixels * sizeof *raw);
    for (int i = 0; i < pixels; i++) {
        raw[i] = rough_normal(rng);
    }
    for (int y = 0, at = 0; y < m->height; y++) {
        for (int x = 0; x < m->width; x++, at++) {
            int right = x + 1 < m->width ? at + 1 : at;
            int below = y + 1 < m->height ? at + m->width : at;
            float shared = (raw[at] + .7F * raw[right] + .7F * raw[below]) * .71F;
            float step = .5F * m->pixel * frame->depth[at];
            float depth = frame->depth[at] + shared * noise * m->pixel * frame->depth[at];
            m->depth[at] = step * floorf(depth / step + .5F);
        }
    }
    free(raw);
}

/* Where the sensor sees nothing: beside edges, where its projector is hidden; on surfaces seen from
 * the side; in patches of what shines. */
static void punch_holes(Measured *m, const Frame *frame, float share, Rng *rng)
{
    uint32_t seed = rng_u32(rng);
    float size = (float)(m->width + m->height) / 2;
    int shadow = 1 + (int)(share * size / 26);
    for (int y = 0, at = 0; y < m->height; y++) {
        for (int x = 0; x < m->width; x++, at++) {
            bool hidden = false;
            for (int k = 1; k <= shadow && k <= x && !hidden; k++) {
                float behind = frame->depth[at] - frame->depth[at - k];
                hidden = behind > 14 * m->pixel * frame->depth[at];
            }
            float patch = noise_fractal(vec((float)x * 9 / size, (float)y * 9 / size, 0), 3, seed);
            float limit = .88F - .24F * share - .5F * minf(frame->specular[at], .3F);
            bool grazing = frame->normal[at].z < .12F + .16F * share * patch;
            m->hole[at] = hidden || grazing || patch > limit;
        }
    }
}

/* The mean depth of the surroundings within the same surface. */
static float smooth_depth(const Measured *m, int x, int y, int reach)
{
    int at = y * m->width + x;
    float sum = 0;
    int count = 0;
    for (int v = y - reach; v <= y + reach; v++) {
        for (int u = x - reach; u <= x + reach; u++) {
            int other = v * m->width + u;
            if (u >= 0 && v >= 0 && u < m->width && v < m->height && !jumps(m, at, other)) {
                sum += m->depth[other];
                count++;
            }
        }
    }
    return sum / (float)count;
}

static Vec3 point_at(const Camera *camera, const float *depth, int width, int x, int y)
{
    float z = depth[y * width + x];
    float u = camera->left + ((float)x + .5F) * camera->pixel;
    float v = camera->top - ((float)y + .5F) * camera->pixel;
    return vec(u * z, v * z, -z);
}

/* The normal from neighbouring points; a side across an edge is not used. */
static Vec3 normal_from_depth(const Measured *m, const Camera *camera, const float *depth, int x,
                              int y)
{
    int at = y * m->width + x;
    int left = x > 0 && !jumps(m, at, at - 1) ? x - 1 : x;
    int right = x + 1 < m->width && !jumps(m, at, at + 1) ? x + 1 : x;
    int above = y > 0 && !jumps(m, at, at - m->width) ? y - 1 : y;
    int below = y + 1 < m->height && !jumps(m, at, at + m->width) ? y + 1 : y;
    if (left == right || above == below) {
        return vec(0, 0, 1);
    }
    Vec3 across = vec_sub(point_at(camera, depth, m->width, right, y),
                          point_at(camera, depth, m->width, left, y));
    Vec3 upward = vec_sub(point_at(camera, depth, m->width, x, above),
                          point_at(camera, depth, m->width, x, below));
    return vec_unit(vec_cross(across, upward));
}

static void code_measured(const Measured *m, const Camera *camera, Picture *picture)
{
    int pixels = m->width * m->height;
    float *smooth = mem_alloc((size_t)pixels * sizeof *smooth);
    int reach = 1 + (m->width + m->height) / 180;
    for (int y = 0, at = 0; y < m->height; y++) {
        for (int x = 0; x < m->width; x++, at++) {
            smooth[at] = smooth_depth(m, x, y, reach);
        }
    }
    for (int y = 0, at = 0; y < m->height; y++) {
        for (int x = 0; x < m->width; x++, at++) {
            if (m->hole[at]) {
                memset(picture->pixels + at * 3, 0, 3);
            } else {
                code_normal(normal_from_depth(m, camera, smooth, x, y), picture->pixels + at * 3);
            }
        }
    }
    free(smooth);
}

Picture sensor_develop_normals(const Sensor *sensor, const Frame *frame, const Camera *camera,
                               Rng *rng)
{
    Picture picture = picture_blank(frame);
    int pixels = frame->width * frame->height;
    if (sensor->depth_noise == 0) {
        for (int i = 0; i < pixels; i++) {
            code_normal(frame->normal[i], picture.pixels + i * 3);
        }
        return picture;
    }
    Measured m = {.width = frame->width, .height = frame->height, .pixel = camera->pixel};
    m.depth = mem_alloc((size_t)pixels * sizeof *m.depth);
    m.hole = mem_alloc((size_t)pixels);
    disturb(&m, frame, sensor->depth_noise, rng);
    punch_holes(&m, frame, sensor->holes, rng);
    code_measured(&m, camera, &picture);
    free(m.depth);
    free(m.hole);
    return picture;
}
