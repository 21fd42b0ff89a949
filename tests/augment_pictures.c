/* augment_pictures DATA_ROOT PACK RESIZE CROP: packs synROD's training list into the file PACK;
 * then for each line "INDEX MODALITY TOP LEFT FLIP TURNS" of standard input writes to standard
 * output what the network reads of that picture, CROP x CROP x 3 floats. check_pictures.py compares
 * them with Pillow's and torchvision's. */
#include "base/mem.h"
#include "data/pack.h"
#include "kernels/ops.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    Backend *be;
    Pack *pack;
    AugmentShape shape;
    uint8_t *pixels;
    AugmentItem *item;
    float *y, *host;
    size_t bytes;
} Augmenter;

static Pack *build_pack(const char *data_root, const char *path, int resize, Err *err)
{
    PairList list;
    PairStats stats;
    Pool *pool = pool_open(0);
    if (pairs_read(&list, data_root, "synROD", SPLIT_TRAIN, false, err) != 0) {
        pool_close(pool);
        return NULL;
    }
    Pack *pack = NULL;
    PackSettings settings = {.resize = resize, .pool = pool};
    if (pairs_stat(&list, pool, NULL, &stats, err) == 0 &&
        pack_build(&list, &stats, &pack_source_folder, &settings, path, err) == 0) {
        pack = pack_open(path, err);
    }
    pairs_free(&list);
    pool_close(pool);
    return pack;
}

static int augment(Augmenter *a, const AugmentItem *wanted, long index, int modality)
{
    PackedPicture picture = pack_picture(a->pack, index, modality);
    AugmentItem item = *wanted;
    item.width = picture.width;
    item.height = picture.height;
    device_copy_in(a->be, a->pixels, picture.pixels,
                   (size_t)picture.width * (size_t)picture.height * 3);
    device_copy_in(a->be, a->item, &item, sizeof item);
    op_augment(a->be, &a->shape, a->pixels, a->item, a->y);
    device_copy_out(a->be, a->host, a->y, a->bytes);
    return fwrite(a->host, 1, a->bytes, stdout) == a->bytes ? 0 : -1;
}

static int augment_lines(Augmenter *a)
{
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        AugmentItem item = {0};
        char *at = line;
        long number[6];
        for (int i = 0; i < 6; i++) {
            number[i] = strtol(at, &at, 10);
        }
        item.top = (int32_t)number[2];
        item.left = (int32_t)number[3];
        item.flip = (int32_t)number[4];
        item.quarter_turns = (int32_t)number[5];
        if (number[0] < 0 || number[0] >= pack_count(a->pack) ||
            augment(a, &item, number[0], (int)number[1]) != 0) {
            return -1;
        }
    }
    return fflush(stdout);
}

int main(int argc, char **argv)
{
    Err err = {""};
    DeviceOptions options = {.threads = 1};
    if (argc != 5) {
        fprintf(stderr, "usage: augment_pictures DATA_ROOT PACK RESIZE CROP\n");
        return 2;
    }
    int resize = (int)strtol(argv[3], NULL, 10);
    int crop = (int)strtol(argv[4], NULL, 10);
    Augmenter a = {.be = device_open("cpu", &options, &err),
                   .shape = {.N = 1, .resize = resize, .crop = crop},
                   .bytes = (size_t)crop * (size_t)crop * 3 * sizeof(float)};
    a.pack = a.be ? build_pack(argv[1], argv[2], resize, &err) : NULL;
    if (!a.pack) {
        fprintf(stderr, "augment_pictures: %s\n", err.text);
        return 1;
    }
    a.pixels = device_alloc(a.be, pack_largest_picture(a.pack));
    a.item = device_alloc(a.be, sizeof *a.item);
    a.y = device_alloc(a.be, a.bytes);
    a.host = mem_alloc(a.bytes);
    int rc = augment_lines(&a);
    device_free(a.be, a.pixels);
    device_free(a.be, a.item);
    device_free(a.be, a.y);
    free(a.host);
    pack_close(a.pack);
    device_close(a.be);
    return rc == 0 ? 0 : 1;
}
