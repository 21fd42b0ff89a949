#include "train/event_record.h"

#include "base/err.h"
#include "base/mem.h"

#include <isa-l/crc.h>
#include <limits.h>

static void put_little_endian(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

/* CRC-32C, rotated and shifted by a constant as TFRecord wants it, so that the checksum of data
 * that holds checksums stays meaningful. isa-l neither inverts the start value nor the result. */
static uint32_t masked_crc(uint8_t *data, size_t bytes)
{
    if (bytes > INT_MAX) {
        fatal("an event of %zu bytes is too large for its file", bytes);
    }
    uint32_t crc = ~crc32_iscsi(data, (int)bytes, 0xFFFFFFFFu);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

uint8_t *event_record_pack(const Tb__Event *event, size_t *bytes)
{
    enum { LENGTH = 8, CHECKSUM = 4 };
    size_t message = tb__event__get_packed_size(event);
    *bytes = LENGTH + CHECKSUM + message + CHECKSUM;
    uint8_t *record = mem_alloc(*bytes);
    uint8_t *body = record + LENGTH + CHECKSUM;
    put_little_endian(record, message, LENGTH);
    put_little_endian(record + LENGTH, masked_crc(record, LENGTH), CHECKSUM);
    tb__event__pack(event, body);
    put_little_endian(body + message, masked_crc(body, message), CHECKSUM);
    return record;
}
