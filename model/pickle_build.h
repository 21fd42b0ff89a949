/* What pickles call by name: the allow-list. Only pickle*.c and pth*.c include this. */
#ifndef RODEO_MODEL_PICKLE_BUILD_H
#define RODEO_MODEL_PICKLE_BUILD_H

#include "model/pickle.h"

/* Of one file. The checkpoint of a run with two ResNet-50 trunks has 20,000 values in all, of which
 * 1,000 name a tensor's storage. */
#define PICKLE_MAX_VALUES   1000000
#define PICKLE_MAX_STORAGES 20000

/* A new value of the pickle's, of this kind and otherwise zero. NULL and err where the pickle has
 * too many values already. */
PickleValue *pickle_value(Pickle *pickle, PickleKind kind, Err *err);

/* bytes of memory that live as long as the pickle's values. */
void *pickle_memory(Pickle *pickle, size_t bytes);

/* Appends to a tuple, list or dict. */
void pickle_append(PickleValue *container, const PickleValue *item);

/* The name "module" "name" as a value; err if it is not on the list. */
PickleValue *pickle_name(Pickle *pickle, const char *module, const char *name, Err *err);

/* The value of calling a name with a tuple of arguments. */
PickleValue *pickle_call(Pickle *pickle, const PickleValue *callable, const PickleValue *arguments,
                         Err *err);

/* The storage that a persistent id (a tuple) stands for. */
PickleValue *pickle_storage(Pickle *pickle, const PickleValue *id, Err *err);

#endif
