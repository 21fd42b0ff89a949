#include "base/mem.h"
#include "model/pickle_build.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Memory is kept in a chain and freed with the pickle. */
typedef struct Piece {
    struct Piece *next;
    max_align_t memory[];
} Piece;

struct Pickle {
    Piece *pieces;
    PickleValue **values; /* only to free what containers hold */
    size_t count, room;
    PickleValue **storages; /* those among the values */
    size_t storage_count, storage_room;
};

Pickle *pickle_open(void)
{
    return mem_zeroed(1, sizeof(Pickle));
}

static bool is_container(PickleKind kind)
{
    return kind == PICKLE_TUPLE || kind == PICKLE_LIST || kind == PICKLE_DICT;
}

void pickle_close(Pickle *pickle)
{
    if (!pickle) {
        return;
    }
    for (size_t i = 0; i < pickle->count; i++) {
        if (is_container(pickle->values[i]->kind)) {
            free(pickle->values[i]->item);
        }
    }
    free(pickle->values);
    free(pickle->storages);
    for (Piece *piece = pickle->pieces; piece;) {
        Piece *next = piece->next;
        free(piece);
        piece = next;
    }
    free(pickle);
}

void *pickle_memory(Pickle *pickle, size_t bytes)
{
    Piece *piece = mem_alloc(sizeof *piece + bytes);
    piece->next = pickle->pieces;
    pickle->pieces = piece;
    return piece->memory;
}

/* Makes room for one more in an array of `count` values, which doubles. */
static PickleValue **grow(PickleValue **values, size_t count, size_t *room)
{
    if (count == *room) {
        *room = *room ? 2 * *room : 64;
        values = mem_resize(values, *room * sizeof(PickleValue *));
    }
    return values;
}

PickleValue *pickle_value(Pickle *pickle, PickleKind kind, Err *err)
{
    if (pickle->count >= PICKLE_MAX_VALUES || pickle->storage_count >= PICKLE_MAX_STORAGES) {
        err_set(err, "it has more than %d values or %d tensors, far more than a state dict",
                PICKLE_MAX_VALUES, PICKLE_MAX_STORAGES);
        return NULL;
    }
    PickleValue *value = pickle_memory(pickle, sizeof *value);
    *value = (PickleValue){.kind = kind};
    pickle->values = grow(pickle->values, pickle->count, &pickle->room);
    pickle->values[pickle->count++] = value;
    if (kind == PICKLE_STORAGE) {
        pickle->storages = grow(pickle->storages, pickle->storage_count, &pickle->storage_room);
        pickle->storages[pickle->storage_count++] = value;
    }
    return value;
}

void pickle_append(PickleValue *container, const PickleValue *item)
{
    if (container->count == container->room) {
        container->room = container->room ? 2 * container->room : 4;
        container->item =
            mem_resize((void *)container->item, container->room * sizeof(PickleValue *));
    }
    container->item[container->count++] = item;
}

const PickleValue *pickle_get(const PickleValue *value, const char *key)
{
    for (size_t i = value->kind == PICKLE_DICT ? value->count : 0; i >= 2; i -= 2) {
        const PickleValue *at = value->item[i - 2];
        if (at->kind == PICKLE_TEXT && strcmp(at->text, key) == 0) {
            return value->item[i - 1];
        }
    }
    return NULL;
}

const PickleValue *pickle_get_index(const PickleValue *value, int64_t key)
{
    for (size_t i = value->kind == PICKLE_DICT ? value->count : 0; i >= 2; i -= 2) {
        const PickleValue *at = value->item[i - 2];
        if (at->kind == PICKLE_INT && at->integer == key) {
            return value->item[i - 1];
        }
    }
    return NULL;
}

const PickleStorage *pickle_find_storage(const Pickle *pickle, const char *key)
{
    for (size_t i = 0; i < pickle->storage_count; i++) {
        if (strcmp(pickle->storages[i]->storage.key, key) == 0) {
            return &pickle->storages[i]->storage;
        }
    }
    return NULL;
}
