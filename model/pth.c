#include "model/pth.h"

#include "base/mem.h"
#include "base/path.h"
#include "model/pth_storage.h"

#include <stdlib.h>
#include <string.h>

struct PthFile {
    char *name, *content;
    PthContainer container;
    /* What was made of it. */
    SafeTensor **tensor;
    int tensors;
    SafeTensor **list;
    int lists;
    size_t taken; /* bytes of all tensors' elements */
};

static bool is_zip(const char *content, size_t bytes)
{
    return bytes >= 4 && memcmp(content, "PK\3\4", 4) == 0;
}

static bool is_pickle(const char *content, size_t bytes)
{
    return bytes >= 1 && (unsigned char)content[0] == 0x80;
}

static bool is_tar(const char *content, size_t bytes)
{
    return bytes >= 262 && memcmp(content + 257, "ustar", 5) == 0;
}

/* A safetensors file begins with its header's length and a brace, so it is none of these: a header
 * of 0x..80 bytes differs from a pickle in the brace. */
bool pth_is_content(const void *content, size_t bytes)
{
    const char *c = content;
    bool safetensors = bytes > 8 && c[8] == '{' && memcmp(c + 5, "\0\0\0", 3) == 0;
    return !safetensors && (is_zip(c, bytes) || is_pickle(c, bytes) || is_tar(c, bytes));
}

static int open_container(PthFile *file, size_t bytes, Err *err)
{
    PthContainer *c = &file->container;
    *c = (PthContainer){.content = file->content, .bytes = bytes, .pickle = pickle_open()};
    if (is_tar(file->content, bytes)) {
        return err_set(err, "it is a tar archive, as PyTorch wrote before version 0.1.10: load it "
                            "in Python and save its state dict anew");
    }
    if (is_zip(file->content, bytes)) {
        return pth_open_zip(c, err);
    }
    if (is_pickle(file->content, bytes)) {
        return pth_open_legacy(c, err);
    }
    return err_set(err, "it is no file of torch.save");
}

PthFile *pth_open_content(const char *name, char *content, size_t bytes, Err *err)
{
    PthFile *file = mem_zeroed(1, sizeof *file);
    file->name = mem_string(name);
    file->content = content;
    if (open_container(file, bytes, err) != 0) {
        err_context(err, "%s", name);
        pth_close(file);
        return NULL;
    }
    return file;
}

PthFile *pth_open(const char *path, Err *err)
{
    size_t bytes;
    char *content = path_read(path, &bytes, err);
    return content ? pth_open_content(path, content, bytes, err) : NULL;
}

void pth_close(PthFile *file)
{
    if (!file) {
        return;
    }
    for (int i = 0; i < file->tensors; i++) {
        free((void *)file->tensor[i]->data);
        free(file->tensor[i]);
    }
    for (int i = 0; i < file->lists; i++) {
        free(file->list[i]);
    }
    free(file->tensor);
    free(file->list);
    Pickle *pickle = file->container.pickle;
    pth_container_close(&file->container);
    pickle_close(pickle);
    free(file->content);
    free(file->name);
    free(file);
}

const PickleValue *pth_root(const PthFile *file)
{
    return file->container.root;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* Copies the elements of dimensions d and above from a storage into row-major order; returns the
 * place behind the last one written. */
static char *gather(const PickleTensor *tensor, int d, const char *from, size_t element, char *to)
{
    if (d == tensor->ndim) {
        memcpy(to, from, element);
        return to + element;
    }
    for (int64_t i = 0; i < tensor->size[d]; i++) {
        to = gather(tensor, d + 1, from + (size_t)(i * tensor->stride[d]) * element, element, to);
    }
    return to;
}

static bool is_contiguous(const PickleTensor *tensor)
{
    int64_t expected = 1;
    for (int d = tensor->ndim - 1; d >= 0; d--) {
        if (tensor->size[d] != 1 && tensor->stride[d] != expected) {
            return false;
        }
        expected *= tensor->size[d];
    }
    return true;
}

static int64_t count_elements(const PickleTensor *tensor)
{
    int64_t count = 1;
    for (int d = 0; d < tensor->ndim; d++) {
        if (tensor->size[d] == 0) {
            return 0;
        }
        count *= tensor->size[d];
    }
    return count;
}

static void *copy_elements(const PickleTensor *tensor, const PthStorage *storage, size_t element,
                           size_t bytes)
{
    char *data = mem_alloc(bytes);
    if (bytes == 0) {
        return data;
    }
    const char *from = storage->data + (size_t)tensor->offset * element;
    if (is_contiguous(tensor)) {
        memcpy(data, from, bytes);
    } else {
        gather(tensor, 0, from, element, data);
    }
    return data;
}

const SafeTensor *pth_tensor(PthFile *file, const PickleValue *value, const char *name, Err *err)
{
    const PickleTensor *tensor = value->tensor;
    const PthStorage *storage = pth_find_storage(&file->container, tensor->storage, err);
    if (!storage) {
        err_context(err, "%s: tensor %.100s", file->name, name);
        return NULL;
    }
    size_t element = pickle_element_bytes(tensor->storage);
    size_t bytes = (size_t)count_elements(tensor) * element;
    /* Tensors may share a storage, but a file of many views of one would fill the memory. */
    if (bytes > 2 * file->container.bytes - file->taken) {
        err_set(err, "%s: its tensors are too large for the file they come from", file->name);
        return NULL;
    }
    file->taken += bytes;
    SafeTensor *made = mem_alloc(sizeof *made);
    *made = (SafeTensor){.name = name,
                         .dtype = tensor->storage->dtype,
                         .ndim = tensor->ndim,
                         .data = copy_elements(tensor, storage, element, bytes),
                         .bytes = bytes};
    memcpy(made->shape, tensor->size, sizeof made->shape);
    file->tensor = mem_resize(file->tensor, ((size_t)file->tensors + 1) * sizeof(SafeTensor *));
    file->tensor[file->tensors++] = made;
    return made;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const SafeTensor *)a)->name, ((const SafeTensor *)b)->name);
}

static int check_names(const PthFile *file, const TensorList *list, Err *err)
{
    size_t bytes = (size_t)list->count * sizeof *list->tensor;
    SafeTensor *sorted = mem_alloc(bytes);
    memcpy(sorted, list->tensor, bytes);
    qsort(sorted, (size_t)list->count, sizeof *sorted, compare_names);
    int rc = 0;
    for (int i = 1; i < list->count && rc == 0; i++) {
        if (compare_names(&sorted[i - 1], &sorted[i]) == 0) {
            rc = err_set(err, "%s: tensor %.100s comes twice", file->name, sorted[i].name);
        }
    }
    free(sorted);
    return rc;
}

int pth_state_dict(PthFile *file, const PickleValue *dict, TensorList *list, Err *err)
{
    if (dict->kind != PICKLE_DICT || dict->count == 0) {
        return err_set(err, "%s: holds no state dict (names and their tensors)", file->name);
    }
    SafeTensor *tensor = mem_zeroed(dict->count / 2, sizeof *tensor);
    file->list = mem_resize(file->list, ((size_t)file->lists + 1) * sizeof(SafeTensor *));
    file->list[file->lists++] = tensor;
    *list = (TensorList){.tensor = tensor};
    for (size_t i = 0; i < dict->count; i += 2) {
        const PickleValue *key = dict->item[i];
        const PickleValue *value = dict->item[i + 1];
        if (key->kind != PICKLE_TEXT || value->kind != PICKLE_TENSOR) {
            return err_set(err, "%s: its entry %.100s is no tensor, so it is no state dict",
                           file->name, key->kind == PICKLE_TEXT ? key->text : "(a number)");
        }
        const SafeTensor *made = pth_tensor(file, value, key->text, err);
        if (!made) {
            return -1;
        }
        tensor[list->count++] = *made;
    }
    return check_names(file, list, err);
}
