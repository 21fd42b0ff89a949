/* The things of the demo data set as solids: signed distances in decimetres, standing or lying on
 * the plane y = 0 as they do on a table, near the y axis. */
#ifndef RODEO_DATA_DEMO_SHAPE_H
#define RODEO_DATA_DEMO_SHAPE_H

#include "base/rng.h"
#include "data/demo/lathe.h"
#include "data/demo/vec.h"

#define SHAPE_SIZES 6

typedef struct ShapeForm ShapeForm;

/* One thing: a form with its own proportions. */
typedef struct {
    const ShapeForm *form;
    float size[SHAPE_SIZES]; /* proportions; what each means is the form's own affair */
    Lathe *lathe;            /* owned; NULL where the form has no turned part */
    Vec3 low, high;          /* box around the thing */
} Shape;

/* A kind of thing. */
struct ShapeForm {
    /* Draws proportions and fills all but shape->form. */
    void (*build)(Shape *shape, Rng *rng);

    /* Signed distance from p, negative inside, and the number of the nearest part (what it is made
     * of; 0 is the body). May be somewhat less than the true distance, hardly ever more. */
    float (*distance)(const Shape *shape, Vec3 p, int *part);
};

/* The forms, in alphabetical order. */
extern const ShapeForm shape_apple, shape_ball, shape_banana, shape_bowl, shape_cap,
    shape_cereal_box, shape_coffee_mug, shape_flashlight, shape_lightbulb, shape_pear,
    shape_pitcher, shape_plate, shape_soda_can, shape_sponge, shape_toothbrush, shape_water_bottle;

/* Draws one thing. Free it with shape_free. */
Shape shape_draw(const ShapeForm *form, Rng *rng);
void shape_free(Shape *shape);

/* A number drawn uniformly from [low, high). */
float shape_range(Rng *rng, float low, float high);

#endif
