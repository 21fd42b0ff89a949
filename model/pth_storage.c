#include "model/pth_storage.h"

#include "base/mem.h"
#include "model/pickle_build.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#define PICKLE_MEMBER "data.pkl"

/* The number that the legacy format begins with, 0x1950a86a20f9469cfc6c, and its version. */
static const unsigned char legacy_magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                             0x20, 0x6a, 0xa8, 0x50, 0x19};
#define LEGACY_VERSION 1001

static PthStorage *add_storage(PthContainer *c, const char *key, const char *data, size_t bytes)
{
    if (c->storages == c->room) {
        c->room = c->room ? 2 * c->room : 64;
        c->storage = mem_resize(c->storage, (size_t)c->room * sizeof *c->storage);
    }
    c->storage[c->storages] = (PthStorage){.key = key, .data = data, .bytes = bytes};
    return &c->storage[c->storages++];
}

/* ---- zip ------------------------------------------------------------------------------------- */

/* Reads a member that is there and stored as it is; its content belongs to the caller. The members
 * together can not be larger than the file, unless they overlap: that is refused. */
static char *read_member(PthContainer *c, const char *name, size_t *bytes, Err *err)
{
    zip_stat_t stat;
    const zip_uint64_t wanted = ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_INDEX;
    if (zip_stat(c->zip, name, 0, &stat) != 0 || (stat.valid & wanted) != wanted) {
        err_set(err, "member %.100s of the zip archive is missing or unreadable", name);
        return NULL;
    }
    if (stat.comp_method != ZIP_CM_STORE) {
        err_set(err, "member %.100s is compressed, which torch.save never does", name);
        return NULL;
    }
    if (stat.size > c->bytes - c->read) {
        err_set(err, "member %.100s claims more bytes than the file has", name);
        return NULL;
    }
    *bytes = (size_t)stat.size;
    char *data = mem_alloc(*bytes);
    zip_file_t *member = zip_fopen_index(c->zip, stat.index, 0);
    zip_int64_t got = member ? zip_fread(member, data, *bytes) : -1;
    /* The library compares the checksum when it is asked for more than there is. */
    char beyond;
    bool whole = got == (zip_int64_t)*bytes && zip_fread(member, &beyond, 1) == 0;
    if (!whole) {
        err_set(err, "member %.100s cannot be read: %s", name,
                member ? zip_file_strerror(member) : zip_strerror(c->zip));
        free(data);
        data = NULL;
    }
    if (member) {
        zip_fclose(member);
    }
    c->read += data ? *bytes : 0;
    return data;
}

/* The folder that holds data.pkl: "archive/", or the name that the file was saved under. */
static int find_folder(PthContainer *c, Err *err)
{
    zip_int64_t members = zip_get_num_entries(c->zip, 0);
    for (zip_int64_t i = 0; i < members; i++) {
        const char *name = zip_get_name(c->zip, (zip_uint64_t)i, 0);
        const char *slash = name ? strchr(name, '/') : NULL;
        if (slash && strcmp(slash + 1, PICKLE_MEMBER) == 0) {
            c->folder = mem_format("%.*s", (int)(slash - name) + 1, name);
            return 0;
        }
    }
    return err_set(err, "it is a zip archive without " PICKLE_MEMBER ", so torch.save did not "
                        "write it");
}

/* Newer versions say which byte order the elements have. */
static int check_byte_order(PthContainer *c, Err *err)
{
    char *name = mem_format("%sbyteorder", c->folder);
    int rc = 0;
    if (zip_name_locate(c->zip, name, 0) >= 0) {
        size_t bytes;
        char *order = read_member(c, name, &bytes, err);
        if (!order) {
            rc = -1;
        } else if (bytes != strlen("little") || memcmp(order, "little", bytes) != 0) {
            rc = err_set(err, "it was saved on a machine with big-endian byte order");
        }
        free(order);
    }
    free(name);
    return rc;
}

int pth_open_zip(PthContainer *c, Err *err)
{
    zip_error_t problem;
    zip_error_init(&problem);
    zip_source_t *source = zip_source_buffer_create(c->content, c->bytes, 0, &problem);
    c->zip = source ? zip_open_from_source(source, ZIP_RDONLY, &problem) : NULL;
    if (!c->zip) {
        err_set(err, "it is a damaged zip archive: %s", zip_error_strerror(&problem));
        if (source) {
            zip_source_free(source);
        }
        zip_error_fini(&problem);
        return -1;
    }
    zip_error_fini(&problem);
    if (find_folder(c, err) != 0 || check_byte_order(c, err) != 0) {
        return -1;
    }
    char *name = mem_format("%s" PICKLE_MEMBER, c->folder);
    size_t bytes;
    char *pickled = read_member(c, name, &bytes, err);
    c->root = pickled ? pickle_read(c->pickle, pickled, bytes, NULL, err) : NULL;
    free(pickled);
    free(name);
    return c->root ? 0 : -1;
}

static const PthStorage *read_storage(PthContainer *c, const char *key, Err *err)
{
    char *name = mem_format("%sdata/%s", c->folder, key);
    size_t bytes;
    char *data = read_member(c, name, &bytes, err);
    free(name);
    return data ? add_storage(c, key, data, bytes) : NULL;
}

/* ---- legacy ---------------------------------------------------------------------------------- */

/* The next pickle of the file. */
static const PickleValue *next_pickle(PthContainer *c, size_t *at, Err *err)
{
    size_t used;
    const PickleValue *value = pickle_read(c->pickle, c->content + *at, c->bytes - *at, &used, err);
    *at += used;
    return value;
}

static bool is_magic(const PickleValue *value)
{
    return value->kind == PICKLE_LONG && value->length == sizeof legacy_magic &&
           memcmp(value->text, legacy_magic, sizeof legacy_magic) == 0;
}

static int check_machine(const PickleValue *machine, Err *err)
{
    const PickleValue *little = pickle_get(machine, "little_endian");
    if (!little || little->kind != PICKLE_BOOL) {
        return err_set(err, "it does not say which machine wrote it: the file is damaged");
    }
    if (!little->integer) {
        return err_set(err, "it was saved on a machine with big-endian byte order");
    }
    return 0;
}

/* The storages behind the pickles: how many elements, then the elements. How large an element is
 * only the tensors know, so a storage's bytes are found by its key among them. */
static int place_storages(PthContainer *c, const PickleValue *keys, size_t at, Err *err)
{
    if (keys->count > PICKLE_MAX_STORAGES) {
        return err_set(err, "it lists more storages than tensors");
    }
    for (size_t i = 0; i < keys->count; i++) {
        const PickleValue *key = keys->item[i];
        const PickleStorage *storage =
            key->kind == PICKLE_TEXT ? pickle_find_storage(c->pickle, key->text) : NULL;
        uint64_t count;
        if (!storage || c->bytes - at < sizeof count) {
            return err_set(err, storage ? "it is cut off" : "a storage belongs to no tensor");
        }
        memcpy(&count, c->content + at, sizeof count);
        at += sizeof count;
        size_t element = pickle_element_bytes(storage);
        if (count != (uint64_t)storage->count || count > (c->bytes - at) / element) {
            return err_set(err, "storage %.40s is cut off, or not as long as it says", key->text);
        }
        add_storage(c, key->text, c->content + at, (size_t)count * element);
        at += (size_t)count * element;
    }
    return 0;
}

int pth_open_legacy(PthContainer *c, Err *err)
{
    size_t at = 0;
    const PickleValue *part = next_pickle(c, &at, err);
    if (!part) {
        return -1;
    }
    if (!is_magic(part)) {
        return err_set(err, "it is a pickle, but torch.save did not write it");
    }
    part = next_pickle(c, &at, err);
    if (!part) {
        return -1;
    }
    if (part->kind != PICKLE_INT || part->integer != LEGACY_VERSION) {
        return err_set(err, "it has an unknown version of PyTorch's legacy format");
    }
    part = next_pickle(c, &at, err);
    if (!part || check_machine(part, err) != 0) {
        return -1;
    }
    c->root = next_pickle(c, &at, err);
    const PickleValue *keys = c->root ? next_pickle(c, &at, err) : NULL;
    if (!keys) {
        return -1;
    }
    if (keys->kind != PICKLE_LIST) {
        return err_set(err, "it has no list of storages: the file is damaged");
    }
    return place_storages(c, keys, at, err);
}

/* ---- both ------------------------------------------------------------------------------------ */

const PthStorage *pth_find_storage(PthContainer *c, const PickleStorage *storage, Err *err)
{
    const PthStorage *found = NULL;
    for (int i = 0; i < c->storages && !found; i++) {
        found = strcmp(c->storage[i].key, storage->key) == 0 ? &c->storage[i] : NULL;
    }
    if (!found && c->zip) {
        found = read_storage(c, storage->key, err);
        if (!found) {
            return NULL;
        }
    }
    size_t element = pickle_element_bytes(storage);
    if (!found || (uint64_t)storage->count > SIZE_MAX / element ||
        found->bytes != (size_t)storage->count * element) {
        err_set(err, "storage %.40s is missing, or not as long as it says", storage->key);
        return NULL;
    }
    return found;
}

void pth_container_close(PthContainer *c)
{
    for (int i = 0; c->zip && i < c->storages; i++) {
        free((char *)c->storage[i].data);
    }
    if (c->zip) {
        zip_discard(c->zip);
    }
    free(c->storage);
    free(c->folder);
    *c = (PthContainer){0};
}
