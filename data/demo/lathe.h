/* Solids and vessels of revolution about the y axis, as a signed distance that is looked up in a
 * table: the outline may be as detailed as it likes, a lookup always costs the same. */
#ifndef RODEO_DATA_DEMO_LATHE_H
#define RODEO_DATA_DEMO_LATHE_H

#include "data/demo/vec.h"

typedef struct {
    float r, y;
} ProfilePoint;

typedef struct {
    const ProfilePoint *points; /* from the bottom of the axis outwards and up */
    int count;
    float width, height; /* factors for r and y */
    float wall;          /* 0: a solid, outline from axis to axis; else a shell of this thickness
                            around the line of points */
    float rounding;      /* of edges, in units of distance; the solid grows by as much */
    int subdivide;       /* 1: straight pieces; more: a smooth curve through the points */
} Profile;

typedef struct Lathe Lathe;

/* Tabulates the distance to the profile. At most 40 points, 8 subdivisions. Free it with
 * lathe_free. */
Lathe *lathe_build(const Profile *profile);
void lathe_free(Lathe *lathe);

/* Signed distance from p, negative inside; never more than the true one by over a cell. */
float lathe_distance(const Lathe *lathe, Vec3 p);

/* Largest radius, lowest and highest y of the solid. */
float lathe_radius(const Lathe *lathe);
float lathe_low(const Lathe *lathe);
float lathe_high(const Lathe *lathe);

#endif
