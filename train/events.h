/* TensorBoard event files: scalars, in the record format of TFRecord files (length and data, each
 * with a masked CRC-32C) holding tensorflow.Event messages (events.proto, through protobuf-c). */
#ifndef RODEO_TRAIN_EVENTS_H
#define RODEO_TRAIN_EVENTS_H

#include "base/err.h"

#include <stdint.h>

typedef struct EventWriter EventWriter;

/* Starts a new file events.out.tfevents.<seconds>.<host>.<pid>.<n> in folder, with a name behind
 * all that are there: TensorBoard reads them in the order of their names. purge_from >= 0 tells
 * TensorBoard to drop what earlier files of the folder hold from that step on (SessionLog START);
 * -1 purges nothing. */
EventWriter *events_open(const char *folder, int64_t purge_from, Err *err);

/* The time that the events to come carry, in seconds since 1970; NAN, as at the start: the time at
 * which they are added. */
void events_set_time(EventWriter *writer, double seconds);

/* Adds one scalar. */
void events_scalar(EventWriter *writer, const char *tag, double value, int64_t step);

/* Adds a text under "<tag>/text_summary" that TensorBoard shows as Markdown. */
void events_text(EventWriter *writer, const char *tag, const char *text, int64_t step);

/* Writes and fsyncs what was added so far: it survives a crash. After an error the file may end in
 * half a record, which readers take for its end: close it and start another. */
int events_flush(EventWriter *writer, Err *err);

/* Closes; writer may be NULL. */
void events_close(EventWriter *writer);

#endif
