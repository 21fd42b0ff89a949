/* Where the two formats of .pth files keep their storages. Only pth*.c include this. */
#ifndef RODEO_MODEL_PTH_STORAGE_H
#define RODEO_MODEL_PTH_STORAGE_H

#include "model/pickle.h"

/* The bytes of one storage. */
typedef struct {
    const char *key;
    const char *data;
    size_t bytes;
} PthStorage;

/* What one file holds: the object, and how to get at its storages. */
typedef struct {
    const char *content; /* of the file, borrowed */
    size_t bytes;
    Pickle *pickle;
    const PickleValue *root;
    void *zip;           /* zip_t; NULL in the legacy format */
    char *folder;        /* of the zip's members, with a slash behind it */
    PthStorage *storage; /* legacy: all, in the file's order. zip: those read so far */
    int storages, room;
    size_t read; /* bytes that storages read so far take */
} PthContainer;

/* Reads the pickles of the container, whose content, bytes and pickle are set. */
int pth_open_zip(PthContainer *container, Err *err);
int pth_open_legacy(PthContainer *container, Err *err);

/* Frees what the two above made. */
void pth_container_close(PthContainer *container);

/* The bytes of a storage; NULL and err if they are not there, or not as many as it has elements. */
const PthStorage *pth_find_storage(PthContainer *container, const PickleStorage *storage, Err *err);

#endif
