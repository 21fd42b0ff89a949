#include "data/demo/lathe.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdlib.h>

#define MAX_POINTS    40
#define MAX_SUBDIVIDE 8
#define MAX_OUTLINE   (MAX_POINTS * MAX_SUBDIVIDE)
#define CELLS         112 /* along the longer side */
#define MARGIN        3   /* cells beyond the solid */

struct Lathe {
    int columns, rows;
    float cell, low; /* y of row 0; column 0 is the axis */
    float radius, bottom, top;
    float *distance; /* [rows, columns] */
};

typedef struct {
    ProfilePoint point[MAX_OUTLINE];
    int count;
    float wall, rounding;
} Outline;

static float catmull_rom(float a, float b, float c, float d, float t)
{
    return 0.5F * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t +
                   (3 * b - a - 3 * c + d) * t * t * t);
}

/* The point before the first or behind the last: the mirror image at the axis for a solid, whose
 * surface is then smooth there, else the end itself. */
static ProfilePoint point_at(const Profile *profile, int i)
{
    bool solid = profile->wall == 0;
    if (i < 0) {
        ProfilePoint next = profile->points[solid ? 1 : 0];
        return (ProfilePoint){solid ? -next.r : next.r, next.y};
    }
    if (i >= profile->count) {
        ProfilePoint last = profile->points[profile->count - (solid ? 2 : 1)];
        return (ProfilePoint){solid ? -last.r : last.r, last.y};
    }
    return profile->points[i];
}

static void trace_outline(const Profile *profile, Outline *outline)
{
    if (profile->count > MAX_POINTS || profile->subdivide > MAX_SUBDIVIDE) {
        fatal("a profile of %d points is more than the lathe takes", profile->count);
    }
    outline->count = 0;
    outline->wall = profile->wall;
    outline->rounding = profile->rounding;
    for (int i = 0; i + 1 < profile->count; i++) {
        ProfilePoint a = point_at(profile, i - 1);
        ProfilePoint b = point_at(profile, i);
        ProfilePoint c = point_at(profile, i + 1);
        ProfilePoint d = point_at(profile, i + 2);
        for (int k = 0; k < profile->subdivide; k++) {
            float t = (float)k / (float)profile->subdivide;
            ProfilePoint p = {catmull_rom(a.r, b.r, c.r, d.r, t),
                              catmull_rom(a.y, b.y, c.y, d.y, t)};
            if (profile->subdivide == 1) {
                p = b;
            }
            p.r = maxf(p.r, 0) * profile->width;
            p.y *= profile->height;
            outline->point[outline->count++] = p;
        }
    }
    ProfilePoint last = profile->points[profile->count - 1];
    outline->point[outline->count++] =
        (ProfilePoint){last.r * profile->width, last.y * profile->height};
}

/* Squared distance from (r, y) to a piece; flips *inside where a ray to larger r crosses it. */
static float piece_distance(ProfilePoint a, ProfilePoint b, float r, float y, bool *inside)
{
    float er = b.r - a.r;
    float ey = b.y - a.y;
    float wr = r - a.r;
    float wy = y - a.y;
    float t = clampf((wr * er + wy * ey) / maxf(er * er + ey * ey, 1e-12F), 0, 1);
    if ((a.y > y) != (b.y > y) && r < a.r + er * wy / ey) {
        *inside = !*inside;
    }
    float dr = wr - er * t;
    float dy = wy - ey * t;
    return dr * dr + dy * dy;
}

static float outline_distance(const Outline *outline, float r, float y)
{
    float nearest = 1e9F;
    bool inside = false;
    for (int i = 0; i + 1 < outline->count; i++) {
        nearest =
            minf(nearest, piece_distance(outline->point[i], outline->point[i + 1], r, y, &inside));
    }
    float distance = sqrtf(nearest);
    if (outline->wall > 0) {
        return distance - 0.5F * outline->wall;
    }
    return (inside ? -distance : distance) - outline->rounding;
}

static void measure(Lathe *lathe, const Outline *outline)
{
    float grow = outline->wall > 0 ? 0.5F * outline->wall : outline->rounding;
    lathe->radius = 0;
    lathe->bottom = 1e9F;
    lathe->top = -1e9F;
    for (int i = 0; i < outline->count; i++) {
        ProfilePoint p = outline->point[i];
        lathe->radius = maxf(lathe->radius, p.r + grow);
        lathe->bottom = minf(lathe->bottom, p.y - grow);
        lathe->top = maxf(lathe->top, p.y + grow);
    }
}

Lathe *lathe_build(const Profile *profile)
{
    Outline outline;
    trace_outline(profile, &outline);
    Lathe *lathe = mem_zeroed(1, sizeof *lathe);
    measure(lathe, &outline);
    float height = lathe->top - lathe->bottom;
    lathe->cell = maxf(height, lathe->radius) / CELLS;
    lathe->low = lathe->bottom - MARGIN * lathe->cell;
    lathe->columns = (int)(lathe->radius / lathe->cell) + 2 + MARGIN;
    lathe->rows = (int)(height / lathe->cell) + 2 + 2 * MARGIN;
    lathe->distance =
        mem_alloc((size_t)lathe->columns * (size_t)lathe->rows * sizeof *lathe->distance);
    for (int row = 0; row < lathe->rows; row++) {
        float y = lathe->low + (float)row * lathe->cell;
        for (int column = 0; column < lathe->columns; column++) {
            lathe->distance[row * lathe->columns + column] =
                outline_distance(&outline, (float)column * lathe->cell, y);
        }
    }
    return lathe;
}

void lathe_free(Lathe *lathe)
{
    if (lathe) {
        free(lathe->distance);
        free(lathe);
    }
}

float lathe_distance(const Lathe *lathe, Vec3 p)
{
    float r = sqrtf(p.x * p.x + p.z * p.z) / lathe->cell;
    float y = (p.y - lathe->low) / lathe->cell;
    float inner_r = minf(r, (float)lathe->columns - 1.001F);
    float inner_y = clampf(y, 0, (float)lathe->rows - 1.001F);
    int column = (int)inner_r;
    int row = (int)inner_y;
    float tr = inner_r - (float)column;
    float ty = inner_y - (float)row;
    const float *d = lathe->distance + row * lathe->columns + column;
    float low = mixf(d[0], d[1], tr);
    float high = mixf(d[lathe->columns], d[lathe->columns + 1], tr);
    float inner = mixf(low, high, ty);
    float dr = (r - inner_r) * lathe->cell;
    float dy = (y - inner_y) * lathe->cell;
    float outside = dr * dr + dy * dy;
    /* The table's rectangle is convex and holds the solid, so the way to it and the way from there
     * enclose at least a right angle. */
    return outside > 0 ? sqrtf(outside + inner * inner) : inner;
}

float lathe_radius(const Lathe *lathe)
{
    return lathe->radius;
}

float lathe_low(const Lathe *lathe)
{
    return lathe->bottom;
}

float lathe_high(const Lathe *lathe)
{
    return lathe->top;
}
