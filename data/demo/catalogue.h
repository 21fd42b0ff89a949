/* The classes of the demo data set: a choice of ROD's, by their names there, alphabetical. */
#ifndef RODEO_DATA_DEMO_CATALOGUE_H
#define RODEO_DATA_DEMO_CATALOGUE_H

#include "data/demo/paint.h"
#include "data/demo/shape.h"

typedef struct {
    const char *name;
    const ShapeForm *form;
    PaintRange paint;
} ThingClass;

#define CATALOGUE_CLASSES 16

/* By label. */
extern const ThingClass catalogue[CATALOGUE_CLASSES];

#endif
