/* Files that torch.save wrote: the zip format (PyTorch 1.6 and later) and the legacy one before it.
 *
 * Both hold a pickle (pickle.h) and, apart from it, the bytes of the tensors' storages. The zip
 * format: members ROOT/data.pkl and ROOT/data/KEY, stored uncompressed under one root folder. The
 * legacy format: five pickles in a row (a magic number, 1001, what machine wrote it, the object,
 * the storages' keys), then for each key, in that order, its number of elements as 8 bytes and the
 * elements. Files older than that are tar archives and are refused. */
#ifndef RODEO_MODEL_PTH_H
#define RODEO_MODEL_PTH_H

#include "model/pickle.h"
#include "model/safetensors.h"

#include <stdbool.h>

typedef struct PthFile PthFile;

/* Whether content begins as a file of torch.save does, in any format. */
bool pth_is_content(const void *content, size_t bytes);

/* Reads a file and checks what is told about its parts: nothing but tensors and containers in the
 * pickle, every storage there and of its full size. NULL and err (which names the file) if it is
 * not sound. */
PthFile *pth_open(const char *path, Err *err);

/* The same for content in memory; name is for messages. Takes ownership of content (from mem.h). */
PthFile *pth_open_content(const char *name, char *content, size_t bytes, Err *err);
void pth_close(PthFile *file);

/* What was saved. */
const PickleValue *pth_root(const PthFile *file);

/* The elements of a value that is a tensor, in row-major order, whatever its strides; the file owns
 * them. NULL and err if the file's tensors would take more memory than twice its size. */
const SafeTensor *pth_tensor(PthFile *file, const PickleValue *value, const char *name, Err *err);

/* The tensors of a state dict (text keys, tensors as values), in its order; the file owns them.
 * err names what is no tensor, or a name that comes twice. */
int pth_state_dict(PthFile *file, const PickleValue *dict, TensorList *list, Err *err);

#endif
