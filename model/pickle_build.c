#include "model/pickle_build.h"

#include <stdbool.h>
#include <string.h>

typedef enum {
    NAME_ORDERED_DICT,
    NAME_TENSOR,    /* _rebuild_tensor and _rebuild_tensor_v2 */
    NAME_PARAMETER, /* a tensor that learns */
    NAME_STORAGE,
} NameRole;

typedef struct {
    const char *module, *name;
    NameRole role;
    const char *dtype; /* of a storage */
    size_t element_bytes;
} Name;

/* Tensors on a GPU had storages of their own module in old files. */
#define STORAGE(name, dtype, bytes)                                                                \
    {"torch", name, NAME_STORAGE, dtype, bytes},                                                   \
    {                                                                                              \
        "torch.cuda", name, NAME_STORAGE, dtype, bytes                                             \
    }

static const Name names[] = {
    {"collections", "OrderedDict", NAME_ORDERED_DICT, NULL, 0},
    {"torch._utils", "_rebuild_tensor", NAME_TENSOR, NULL, 0},
    {"torch._utils", "_rebuild_tensor_v2", NAME_TENSOR, NULL, 0},
    {"torch._utils", "_rebuild_parameter", NAME_PARAMETER, NULL, 0},
    STORAGE("FloatStorage", "F32", 4),
    STORAGE("HalfStorage", "F16", 2),
    STORAGE("BFloat16Storage", "BF16", 2),
    STORAGE("DoubleStorage", "F64", 8),
    STORAGE("LongStorage", "I64", 8),
    STORAGE("IntStorage", "I32", 4),
    STORAGE("ShortStorage", "I16", 2),
    STORAGE("CharStorage", "I8", 1),
    STORAGE("ByteStorage", "U8", 1),
    STORAGE("BoolStorage", "BOOL", 1),
};

PickleValue *pickle_name(Pickle *pickle, const char *module, const char *name, Err *err)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i].module, module) == 0 && strcmp(names[i].name, name) == 0) {
            PickleValue *value = pickle_value(pickle, PICKLE_NAME, err);
            if (value) {
                value->name = &names[i];
            }
            return value;
        }
    }
    err_set(err,
            "it asks for %.60s.%.60s, which is no part of tensors and their containers: save the "
            "state dict alone (torch.save(model.state_dict(), FILE))",
            module, name);
    return NULL;
}

size_t pickle_element_bytes(const PickleStorage *storage)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].dtype && strcmp(names[i].dtype, storage->dtype) == 0) {
            return names[i].element_bytes;
        }
    }
    fatal("a storage of the unknown dtype %s was built", storage->dtype);
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* The elements of a tuple of integers that are not negative, at most SAFETENSOR_MAX_DIMS. */
static int read_sizes(const PickleValue *tuple, int64_t *sizes)
{
    if (tuple->kind != PICKLE_TUPLE || tuple->count > SAFETENSOR_MAX_DIMS) {
        return -1;
    }
    for (size_t i = 0; i < tuple->count; i++) {
        if (tuple->item[i]->kind != PICKLE_INT || tuple->item[i]->integer < 0) {
            return -1;
        }
        sizes[i] = tuple->item[i]->integer;
    }
    return 0;
}

/* Whether all elements lie inside the storage, and are not more than it has. */
static bool fits_storage(const PickleTensor *tensor)
{
    int64_t last = tensor->offset;
    int64_t elements = 1;
    for (int i = 0; i < tensor->ndim; i++) {
        if (tensor->size[i] == 0) {
            return tensor->offset <= tensor->storage->count;
        }
    }
    for (int i = 0; i < tensor->ndim; i++) {
        int64_t reach;
        if (__builtin_mul_overflow(tensor->size[i] - 1, tensor->stride[i], &reach) ||
            __builtin_add_overflow(last, reach, &last) ||
            __builtin_mul_overflow(elements, tensor->size[i], &elements)) {
            return false;
        }
    }
    return last < tensor->storage->count && elements <= tensor->storage->count;
}

static PickleValue *build_tensor(Pickle *pickle, const PickleValue *arguments, Err *err)
{
    const PickleValue *const *argument = arguments->item;
    PickleTensor tensor = {0};
    if (arguments->count < 4 || arguments->count > 7 || argument[0]->kind != PICKLE_STORAGE ||
        argument[1]->kind != PICKLE_INT || argument[1]->integer < 0 ||
        read_sizes(argument[2], tensor.size) != 0 || read_sizes(argument[3], tensor.stride) != 0 ||
        argument[2]->count != argument[3]->count) {
        err_set(err, "a tensor has no sound storage, offset, size and stride");
        return NULL;
    }
    tensor.storage = &argument[0]->storage;
    tensor.offset = argument[1]->integer;
    tensor.ndim = (int)argument[2]->count;
    if (!fits_storage(&tensor)) {
        err_set(err, "a tensor does not fit its storage %s of %lld elements", tensor.storage->key,
                (long long)tensor.storage->count);
        return NULL;
    }
    PickleValue *value = pickle_value(pickle, PICKLE_TENSOR, err);
    if (value) {
        value->tensor = pickle_memory(pickle, sizeof tensor);
        *value->tensor = tensor;
    }
    return value;
}

static PickleValue *build_parameter(Pickle *pickle, const PickleValue *arguments, Err *err)
{
    if (arguments->count < 1 || arguments->item[0]->kind != PICKLE_TENSOR) {
        err_set(err, "a parameter holds no tensor");
        return NULL;
    }
    PickleValue *value = pickle_value(pickle, PICKLE_TENSOR, err);
    if (value) {
        value->tensor = arguments->item[0]->tensor;
    }
    return value;
}

/* OrderedDict(), or as Python 2 wrote it: OrderedDict([[key, value], ...]). */
static PickleValue *build_dict(Pickle *pickle, const PickleValue *arguments, Err *err)
{
    PickleValue *dict = pickle_value(pickle, PICKLE_DICT, err);
    if (!dict || arguments->count == 0) {
        return dict;
    }
    const PickleValue *pairs = arguments->item[0];
    if (arguments->count != 1 || pairs->kind != PICKLE_LIST) {
        err_set(err, "an OrderedDict is made of something else than pairs");
        return NULL;
    }
    for (size_t i = 0; i < pairs->count; i++) {
        const PickleValue *pair = pairs->item[i];
        if ((pair->kind != PICKLE_LIST && pair->kind != PICKLE_TUPLE) || pair->count != 2 ||
            (pair->item[0]->kind != PICKLE_TEXT && pair->item[0]->kind != PICKLE_INT)) {
            err_set(err, "an OrderedDict is made of something else than pairs");
            return NULL;
        }
        pickle_append(dict, pair->item[0]);
        pickle_append(dict, pair->item[1]);
    }
    return dict;
}

PickleValue *pickle_call(Pickle *pickle, const PickleValue *callable, const PickleValue *arguments,
                         Err *err)
{
    if (callable->kind != PICKLE_NAME || arguments->kind != PICKLE_TUPLE) {
        err_set(err, "it calls something that is no function");
        return NULL;
    }
    const Name *name = callable->name;
    switch (name->role) {
    case NAME_ORDERED_DICT:
        return build_dict(pickle, arguments, err);
    case NAME_TENSOR:
        return build_tensor(pickle, arguments, err);
    case NAME_PARAMETER:
        return build_parameter(pickle, arguments, err);
    default:
        err_set(err, "it calls %s.%s, which is no function", name->module, name->name);
        return NULL;
    }
}

/* ('storage', class, key, device, elements) and, in the legacy format, a view, which must be None.
 */
PickleValue *pickle_storage(Pickle *pickle, const PickleValue *id, Err *err)
{
    const PickleValue *const *item = id->item;
    if (id->kind != PICKLE_TUPLE || id->count < 5 || id->count > 6 ||
        item[0]->kind != PICKLE_TEXT || strcmp(item[0]->text, "storage") != 0 ||
        item[1]->kind != PICKLE_NAME || item[2]->kind != PICKLE_TEXT ||
        item[3]->kind != PICKLE_TEXT || item[4]->kind != PICKLE_INT || item[4]->integer < 0) {
        err_set(err, "a tensor's storage is not described as PyTorch describes it");
        return NULL;
    }
    const Name *class = item[1]->name;
    if (class->role != NAME_STORAGE || (id->count == 6 && item[5]->kind != PICKLE_NONE)) {
        err_set(err, "storage %.40s is of a kind that is not supported", item[2]->text);
        return NULL;
    }
    PickleValue *value = pickle_value(pickle, PICKLE_STORAGE, err);
    if (value) {
        value->storage =
            (PickleStorage){.dtype = class->dtype, .key = item[2]->text, .count = item[4]->integer};
    }
    return value;
}
