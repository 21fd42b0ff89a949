/* From a perfect picture to what an RGB-D camera delivers: 8-bit colours, and surface normals coded
 * as colours.
 *
 * Here lies the other half of the gap between the domains. A synthetic pair is clean. A real one
 * has exposure, white balance, blur and noise; its normals come from a depth map with noise and
 * holes. */
#ifndef RODEO_DATA_DEMO_SENSOR_H
#define RODEO_DATA_DEMO_SENSOR_H

#include "base/rng.h"
#include "data/demo/render.h"
#include "data/picture.h"

#include <stdbool.h>

/* The colour picture. Free it with picture_free. */
Picture sensor_develop_colour(const Sensor *sensor, const Frame *frame, Rng *rng);

/* The normals as colours: red, green, blue = round(255 (n + 1) / 2) of x right, y up, z towards the
 * viewer; black where the depth is missing. Free it with picture_free. */
Picture sensor_develop_normals(const Sensor *sensor, const Frame *frame, const Camera *camera,
                               Rng *rng);

#endif
