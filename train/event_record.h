/* One record of a TensorBoard event file: TFRecord framing around a tensorflow.Event message. */
#ifndef RODEO_TRAIN_EVENT_RECORD_H
#define RODEO_TRAIN_EVENT_RECORD_H

#include "events.pb-c.h"

#include <stddef.h>
#include <stdint.h>

/* The record of an event as new memory of *bytes bytes: u64 length, u32 checksum of the length, the
 * message, u32 checksum of the message, all little-endian. A checksum is a CRC-32C, masked. */
uint8_t *event_record_pack(const Tb__Event *event, size_t *bytes);

#endif
