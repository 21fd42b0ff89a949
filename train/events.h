/* TensorBoard event files: scalars, in the record format of TFRecord files (length and data, each
 * with a masked CRC-32C) holding tensorflow.Event messages (events.proto, through protobuf-c). */
#ifndef RODEO_TRAIN_EVENTS_H
#define RODEO_TRAIN_EVENTS_H

#include "base/err.h"

#include <stdint.h>

typedef struct EventWriter EventWriter;

/* Starts a new file events.out.tfevents.<seconds>.<host>.<pid>.<n> in folder. purge_from >= 0 tells
 * TensorBoard to drop what earlier files of the folder hold from that step on (SessionLog START);
 * -1 purges nothing. */
EventWriter *events_open(const char *folder, int64_t purge_from, Err *err);

/* Adds one scalar. */
int events_scalar(EventWriter *writer, const char *tag, double value, int64_t step, Err *err);

/* Adds a text under "<tag>/text_summary" that TensorBoard shows as Markdown. */
int events_text(EventWriter *writer, const char *tag, const char *text, int64_t step, Err *err);

/* Flushes and fsyncs: what was added so far survives a crash. */
int events_flush(EventWriter *writer, Err *err);

/* Closes; writer may be NULL. */
void events_close(EventWriter *writer);

#endif
