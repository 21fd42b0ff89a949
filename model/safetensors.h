/* safetensors files: named tensors and a map of strings.
 *
 * A file is the header's length (u64, little-endian), a JSON header, and the data without holes.
 * Files that this program writes carry a checksum over every byte in their metadata
 * ("rodeo.checksum"); one that is there is verified when the file is opened. */
#ifndef RODEO_MODEL_SAFETENSORS_H
#define RODEO_MODEL_SAFETENSORS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define SAFETENSOR_MAX_DIMS 8

typedef struct {
    const char *name;
    const char *dtype; /* "F32", "I64", ... */
    int ndim;
    int64_t shape[SAFETENSOR_MAX_DIMS];
    const void *data;
    size_t bytes;
} SafeTensor;

/* Named tensors, wherever they were read from; whoever read them owns them. */
typedef struct {
    const SafeTensor *tensor;
    int count;
} TensorList;

typedef struct {
    const char *key, *value;
} SafeMetadata;

typedef struct SafeFile SafeFile;

/* Reads and checks a whole file: header, dtypes, shapes against sizes, offsets that tile the data,
 * and the checksum if the file has one. NULL and err for anything that is not a sound file. */
SafeFile *safetensors_open(const char *path, Err *err);

/* The same for content in memory; name is for messages. Takes ownership of content (from mem.h). */
SafeFile *safetensors_open_content(const char *name, char *content, size_t bytes, Err *err);
void safetensors_close(SafeFile *file);

int safetensors_count(const SafeFile *file);
const SafeTensor *safetensors_at(const SafeFile *file, int index);

TensorList safetensors_list(const SafeFile *file);

/* NULL where the list has no tensor of that name. */
const SafeTensor *tensor_list_find(const TensorList *list, const char *name);

/* NULL where the file has no such tensor, or no such key. What is returned belongs to the file. */
const SafeTensor *safetensors_find(const SafeFile *file, const char *name);
const char *safetensors_metadata(const SafeFile *file, const char *key);

/* Writes a file through a temporary one. backup: where the file that stands there goes, or NULL.
 * The checksum is added to the metadata. Fails where metadata is not UTF-8, the header would be
 * longer than readers take (100,000,000 bytes), or the disk refuses; the file that stands there is
 * then untouched. */
int safetensors_write(const char *path, const char *backup, const SafeTensor *tensors, int count,
                      const SafeMetadata *metadata, int metadata_count, Err *err);

#endif
