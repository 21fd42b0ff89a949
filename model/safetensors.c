#include "model/safetensors.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define CHECKSUM_KEY     "rodeo.checksum"
#define CHECKSUM_MARK    "rodeo-xxh3:" /* in front of the digits */
#define CHECKSUM_DIGITS  16
#define CHECKSUM_MISSING "0000000000000000"
#define HEADER_MAX       100000000u /* that readers in other languages take */

struct SafeFile {
    char *content;
    size_t bytes;
    json_t *header; /* owns the names, dtypes and metadata */
    SafeTensor *tensor;
    int count;
};

static const struct {
    const char *name;
    size_t bits;
} dtypes[] = {
    {"BOOL", 8}, {"U8", 8},   {"I8", 8},    {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"I16", 16},
    {"U16", 16}, {"F16", 16}, {"BF16", 16}, {"I32", 32},    {"U32", 32},    {"F32", 32},
    {"F64", 64}, {"I64", 64}, {"U64", 64},  {"C64", 64},
};

static size_t dtype_bytes(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            return dtypes[i].bits / 8;
        }
    }
    return 0;
}

/* The file's hash with the checksum's own digits taken as zeros. */
static uint64_t hash_with_blank(const char *content, size_t bytes, size_t digits_at)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        fatal("out of memory: could not start a checksum");
    }
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, content, digits_at);
    XXH3_64bits_update(state, CHECKSUM_MISSING, CHECKSUM_DIGITS);
    size_t rest = digits_at + CHECKSUM_DIGITS;
    XXH3_64bits_update(state, content + rest, bytes - rest);
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}

/* ---- reading
 * ------------------------------------------------------------------------------------------ */

static int parse_shape(const json_t *shape, SafeTensor *tensor, uint64_t *elements)
{
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSOR_MAX_DIMS) {
        return -1;
    }
    *elements = 1;
    tensor->ndim = (int)json_array_size(shape);
    for (int i = 0; i < tensor->ndim; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        json_int_t size = json_integer_value(dim);
        uint64_t product;
        if (!json_is_integer(dim) || size < 0 ||
            __builtin_mul_overflow(*elements, (uint64_t)size, &product)) {
            return -1;
        }
        *elements = product;
        tensor->shape[i] = size;
    }
    return 0;
}

static int parse_tensor(SafeFile *file, const char *name, const json_t *entry, size_t data_start,
                        Err *err)
{
    SafeTensor *tensor = &file->tensor[file->count];
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *begin = json_array_get(offsets, 0);
    const json_t *end = json_array_get(offsets, 1);
    *tensor = (SafeTensor){.name = name, .dtype = dtype};
    uint64_t elements;
    if (!dtype || json_array_size(offsets) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end) ||
        parse_shape(json_object_get(entry, "shape"), tensor, &elements) != 0) {
        return err_set(err, "tensor %s has no sound dtype, shape and data_offsets", name);
    }
    size_t element_bytes = dtype_bytes(dtype);
    json_int_t first = json_integer_value(begin);
    json_int_t last = json_integer_value(end);
    uint64_t bytes;
    if (element_bytes == 0) {
        return err_set(err, "tensor %s has the unknown dtype %s", name, dtype);
    }
    if (first < 0 || last < first || (uint64_t)last > file->bytes - data_start ||
        __builtin_mul_overflow(elements, (uint64_t)element_bytes, &bytes) ||
        bytes != (uint64_t)(last - first)) {
        return err_set(err, "tensor %s lies outside the file or does not fit its shape", name);
    }
    tensor->data = file->content + data_start + first;
    tensor->bytes = (size_t)bytes;
    file->count++;
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const SafeTensor *x = a;
    const SafeTensor *y = b;
    if (x->data != y->data) {
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    }
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Tensors must fill the data without holes or overlaps. */
static int check_tiling(SafeFile *file, size_t data_start, Err *err)
{
    qsort(file->tensor, (size_t)file->count, sizeof *file->tensor, compare_places);
    const char *expected = file->content + data_start;
    for (int i = 0; i < file->count; i++) {
        if ((const char *)file->tensor[i].data != expected) {
            return err_set(err, "the data of tensor %s overlaps another's or leaves a hole",
                           file->tensor[i].name);
        }
        expected += file->tensor[i].bytes;
    }
    if (expected != file->content + file->bytes) {
        return err_set(err, "the file is longer than its tensors");
    }
    return 0;
}

static int check_metadata(const json_t *metadata, Err *err)
{
    if (metadata && !json_is_object(metadata)) {
        return err_set(err, "its metadata is not a map");
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value)) {
            return err_set(err, "its metadata entry %s is not a string", key);
        }
    }
    return 0;
}

static int parse_header(SafeFile *file, Err *err)
{
    uint64_t header_bytes;
    if (file->bytes < sizeof header_bytes) {
        return err_set(err, "it is too short for a safetensors file");
    }
    memcpy(&header_bytes, file->content, sizeof header_bytes);
    if (header_bytes > HEADER_MAX || header_bytes > file->bytes - sizeof header_bytes) {
        return err_set(err, "its header is cut off, or it is not a safetensors file");
    }
    size_t data_start = sizeof header_bytes + (size_t)header_bytes;
    json_error_t problem;
    file->header = json_loadb(file->content + sizeof header_bytes, (size_t)header_bytes,
                              JSON_REJECT_DUPLICATES, &problem);
    if (!json_is_object(file->header)) {
        return err_set(err, "its header is not JSON: %s",
                       file->header ? "not an object" : problem.text);
    }
    if (check_metadata(json_object_get(file->header, "__metadata__"), err) != 0) {
        return -1;
    }
    file->tensor = mem_zeroed(json_object_size(file->header), sizeof *file->tensor);
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry)
    {
        if (strcmp(name, "__metadata__") != 0 &&
            parse_tensor(file, name, entry, data_start, err) != 0) {
            return -1;
        }
    }
    return check_tiling(file, data_start, err);
}

/* The checksum's value, or NULL. The key and the value each tell that there is one: damage to
 * either must not turn the file into one without. */
static const char *stored_checksum(const SafeFile *file)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(file->header, "__metadata__"), key, value)
    {
        const char *text = json_string_value(value);
        if (strcmp(key, CHECKSUM_KEY) == 0 || text_starts_with(text, CHECKSUM_MARK)) {
            return text;
        }
    }
    return NULL;
}

static int verify_checksum(const SafeFile *file, Err *err)
{
    const char *stored = stored_checksum(file);
    if (!stored) {
        return 0;
    }
    const size_t mark = strlen(CHECKSUM_MARK);
    const char *place =
        text_starts_with(stored, CHECKSUM_MARK) && strlen(stored) == mark + CHECKSUM_DIGITS
            ? memmem(file->content, file->bytes, stored, mark + CHECKSUM_DIGITS)
            : NULL;
    if (!place) {
        return err_set(err, "its checksum is not readable: the file is damaged");
    }
    char computed[CHECKSUM_DIGITS + 1];
    snprintf(computed, sizeof computed, "%016" PRIx64,
             hash_with_blank(file->content, file->bytes, (size_t)(place + mark - file->content)));
    if (strcmp(computed, stored + mark) != 0) {
        return err_set(err, "its checksum does not match its content: the file is damaged");
    }
    return 0;
}

SafeFile *safetensors_open_content(const char *name, char *content, size_t bytes, Err *err)
{
    SafeFile *file = mem_zeroed(1, sizeof *file);
    file->content = content;
    file->bytes = bytes;
    if (parse_header(file, err) != 0 || verify_checksum(file, err) != 0) {
        err_context(err, "%s", name);
        safetensors_close(file);
        return NULL;
    }
    return file;
}

SafeFile *safetensors_open(const char *path, Err *err)
{
    size_t bytes;
    char *content = path_read(path, &bytes, err);
    return content ? safetensors_open_content(path, content, bytes, err) : NULL;
}

void safetensors_close(SafeFile *file)
{
    if (!file) {
        return;
    }
    json_decref(file->header);
    free(file->tensor);
    free(file->content);
    free(file);
}

int safetensors_count(const SafeFile *file)
{
    return file->count;
}

const SafeTensor *safetensors_at(const SafeFile *file, int index)
{
    return &file->tensor[index];
}

TensorList safetensors_list(const SafeFile *file)
{
    return (TensorList){.tensor = file->tensor, .count = file->count};
}

const SafeTensor *tensor_list_find(const TensorList *list, const char *name)
{
    for (int i = 0; i < list->count; i++) {
        if (strcmp(list->tensor[i].name, name) == 0) {
            return &list->tensor[i];
        }
    }
    return NULL;
}

const SafeTensor *safetensors_find(const SafeFile *file, const char *name)
{
    TensorList list = safetensors_list(file);
    return tensor_list_find(&list, name);
}

const char *safetensors_metadata(const SafeFile *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* ---- writing
 * -------------------------------------------------------------------------------------------- */

static json_t *checked(json_t *value)
{
    if (!value) {
        fatal("out of memory: could not write a safetensors header");
    }
    return value;
}

static json_t *tensor_entry(const SafeTensor *tensor, int64_t begin)
{
    json_t *shape = checked(json_array());
    for (int i = 0; i < tensor->ndim; i++) {
        json_array_append_new(shape, checked(json_integer(tensor->shape[i])));
    }
    return checked(json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->dtype, "shape", shape,
                             "data_offsets", (json_int_t)begin,
                             (json_int_t)(begin + (int64_t)tensor->bytes)));
}

static json_t *metadata_object(const SafeMetadata *metadata, int count, Err *err)
{
    json_t *strings = checked(json_object());
    json_object_set_new(strings, CHECKSUM_KEY,
                        checked(json_string(CHECKSUM_MARK CHECKSUM_MISSING)));
    for (int i = 0; i < count; i++) {
        if (json_object_set_new(strings, metadata[i].key, json_string(metadata[i].value)) != 0) {
            err_set(err, "the metadata entry %s is not UTF-8 text", metadata[i].key);
            json_decref(strings);
            return NULL;
        }
    }
    return strings;
}

/* The length and the JSON text, padded so that the data starts at a multiple of 8. Free it. */
static char *make_header(const SafeTensor *tensors, int count, const SafeMetadata *metadata,
                         int metadata_count, size_t *bytes, Err *err)
{
    json_t *strings = metadata_object(metadata, metadata_count, err);
    if (!strings) {
        return NULL;
    }
    json_t *header = checked(json_object());
    json_object_set_new(header, "__metadata__", strings);
    int64_t begin = 0;
    for (int i = 0; i < count; i++) {
        json_object_set_new(header, tensors[i].name, tensor_entry(&tensors[i], begin));
        begin += (int64_t)tensors[i].bytes;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (!text) {
        fatal("out of memory: could not write a safetensors header");
    }
    uint64_t length = (strlen(text) + 7) / 8 * 8;
    if (length > HEADER_MAX) {
        err_set(err, "its header would have %" PRIu64 " bytes, and readers take no more than %u",
                length, HEADER_MAX);
        free(text);
        return NULL;
    }
    *bytes = sizeof length + (size_t)length;
    char *whole = mem_alloc(*bytes);
    memcpy(whole, &length, sizeof length);
    memset(whole + sizeof length, ' ', (size_t)length);
    memcpy(whole + sizeof length, text, strlen(text));
    free(text);
    return whole;
}

static void fill_in_checksum(char *header, size_t header_bytes, const SafeTensor *tensors,
                             int count)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        fatal("out of memory: could not start a checksum");
    }
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, header, header_bytes);
    for (int i = 0; i < count; i++) {
        XXH3_64bits_update(state, tensors[i].data, tensors[i].bytes);
    }
    char digits[CHECKSUM_DIGITS + 1];
    snprintf(digits, sizeof digits, "%016" PRIx64, XXH3_64bits_digest(state));
    XXH3_freeState(state);
    char *mark = memmem(header, header_bytes, CHECKSUM_MARK, strlen(CHECKSUM_MARK));
    memcpy(mark + strlen(CHECKSUM_MARK), digits, CHECKSUM_DIGITS);
}

int safetensors_write(const char *path, const char *backup, const SafeTensor *tensors, int count,
                      const SafeMetadata *metadata, int metadata_count, Err *err)
{
    size_t header_bytes;
    char *header = make_header(tensors, count, metadata, metadata_count, &header_bytes, err);
    if (!header) {
        return err_context(err, "%s: cannot be written", path);
    }
    fill_in_checksum(header, header_bytes, tensors, count);
    AtomicFile file;
    int rc = atomic_file_open(&file, path, err);
    if (rc == 0) {
        rc = atomic_file_write(&file, header, header_bytes, err);
    }
    for (int i = 0; i < count && rc == 0; i++) {
        rc = atomic_file_write(&file, tensors[i].data, tensors[i].bytes, err);
    }
    if (rc == 0) {
        rc = atomic_file_commit_keeping(&file, backup, err);
    }
    free(header);
    return rc;
}
