/* Python pickles that hold a state dict: a reader that builds plain values and nothing else.
 *
 * A pickle is a small program. This reader runs protocol 2, as torch.save writes it, and knows only
 * what tensors and their containers need: numbers, text, tuples, lists, dicts, and a fixed list of
 * names (collections.OrderedDict, the functions that put a tensor together, the storage classes).
 * Every other instruction or name is an error, so no code of a file is ever run or looked up. All
 * reads stay inside the given bytes, and what a file can make the reader allocate is bounded. */
#ifndef RODEO_MODEL_PICKLE_H
#define RODEO_MODEL_PICKLE_H

#include "base/err.h"
#include "model/safetensors.h"

#include <stddef.h>
#include <stdint.h>

typedef enum {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_LONG, /* an integer of more than 64 bits */
    PICKLE_FLOAT,
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_STORAGE,
    PICKLE_TENSOR,
    PICKLE_NAME, /* of the list above; inside the reader */
    PICKLE_MARK, /* inside the reader */
} PickleKind;

typedef struct PickleValue PickleValue;

/* A block of elements that tensors lie in; the bytes are elsewhere in the file, under the key. */
typedef struct {
    const char *dtype; /* as safetensors spells it: "F32" */
    const char *key;
    int64_t count; /* elements */
} PickleStorage;

/* Element (i0, i1, ...) is the storage's element offset + sum of i * stride. All elements lie
 * inside the storage, and there are no more of them than the storage has. */
typedef struct {
    const PickleStorage *storage;
    int64_t offset;
    int ndim;
    int64_t size[SAFETENSOR_MAX_DIMS], stride[SAFETENSOR_MAX_DIMS];
} PickleTensor;

struct PickleValue {
    PickleKind kind;
    union {
        int64_t integer; /* INT; BOOL: 0 or 1 */
        double real;     /* FLOAT */
        struct {         /* TEXT: ends in '\0', which length does not count. LONG: little-endian */
            const char *text;
            size_t length;
        };
        struct { /* TUPLE and LIST; DICT: key, value, key, value, ... */
            const PickleValue **item;
            size_t count, room;
        };
        PickleStorage storage;
        PickleTensor *tensor;
        const void *name;
    };
};

/* Owns all values of one or more pickles. */
typedef struct Pickle Pickle;

Pickle *pickle_open(void);
void pickle_close(Pickle *pickle);

/* Reads the pickle at the beginning of data and returns its value, which belongs to `pickle`; the
 * data need not stay. *used (may be NULL): the bytes it has. NULL and err if it is damaged, cut
 * off, or holds anything but what is listed above. */
const PickleValue *pickle_read(Pickle *pickle, const void *data, size_t bytes, size_t *used,
                               Err *err);

/* The value under a text key of a dict, the last one if there are several; NULL if value is no dict
 * or has no such key. */
const PickleValue *pickle_get(const PickleValue *value, const char *key);

/* The same for an integer key. */
const PickleValue *pickle_get_index(const PickleValue *value, int64_t key);

/* The first storage of that key that a pickle named; NULL if there is none. */
const PickleStorage *pickle_find_storage(const Pickle *pickle, const char *key);

/* Bytes of one element of a storage's dtype. */
size_t pickle_element_bytes(const PickleStorage *storage);

#endif
