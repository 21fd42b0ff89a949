/* Any bytes as a packed file. Its checksum would turn away nearly all of them, so it is set right
 * wherever the file has room for the table and names that its header speaks of. */
#include "base/err.h"
#include "data/pack.h"
#include "data/pack_format.h"
#include "input.h"

#include <stdlib.h>
#include <string.h>

static void set_checksum(char *content, size_t bytes)
{
    PackHeader *header = (PackHeader *)content;
    if (bytes >= sizeof *header && header->table_offset <= bytes &&
        header->table_bytes <= bytes - header->table_offset &&
        header->names_bytes <= bytes - header->table_offset - header->table_bytes) {
        header->checksum = pack_header_checksum(header, content + header->table_offset);
    }
}

static void touch(const Pack *pack, size_t file_bytes)
{
    for (int64_t i = 0; i < pack_count(pack); i++) {
        for (int m = 0; m < MODALITIES; m++) {
            PackedPicture picture = pack_picture(pack, i, m);
            size_t bytes = (size_t)picture.width * (size_t)picture.height * 3;
            /* Behind the file's end the mapping's last page would hide a wrong range. */
            if (bytes > file_bytes || bytes > pack_largest_picture(pack)) {
                fatal("picture %d of pair %lld is larger than its file", m, (long long)i);
            }
            input_touch(picture.pixels, bytes);
        }
        (void)pack_label(pack, i);
        for (int m = 0; m < MODALITIES; m++) {
            const char *path = pack_picture_path(pack, i, m);
            input_touch(path, strlen(path));
        }
    }
    for (int i = 0; i < pack_skipped(pack); i++) {
        input_touch(pack_skipped_path(pack, i), strlen(pack_skipped_path(pack, i)));
        input_touch(pack_skipped_reason(pack, i), strlen(pack_skipped_reason(pack, i)));
    }
    PairList list;
    pack_list(pack, &list);
    pairs_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *content = input_copy(data, bytes);
    set_checksum(content, bytes);
    Err err;
    Pack *pack = pack_open(input_file(content, bytes), &err);
    if (pack) {
        Pool *pool = pool_open(1);
        touch(pack, bytes);
        pack_verify(pack, pool, NULL, &err);
        pool_close(pool);
    }
    pack_close(pack);
    free(content);
    return 0;
}
