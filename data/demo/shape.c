#include "data/demo/shape.h"

#include <stddef.h>

float shape_range(Rng *rng, float low, float high)
{
    return mixf(low, high, (float)rng_uniform(rng));
}

Shape shape_draw(const ShapeForm *form, Rng *rng)
{
    Shape shape = {.form = form};
    form->build(&shape, rng);
    return shape;
}

void shape_free(Shape *shape)
{
    lathe_free(shape->lathe);
    shape->lathe = NULL;
}
