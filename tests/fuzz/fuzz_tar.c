/* Any bytes as a tar file of a small synROD: reading it, and what is then done with its lists and
 * pictures. */
#include "data/tar.h"
#include "input.h"

#include <stdlib.h>

static void use_pictures(const Tar *tar, const PairList *list)
{
    PictureSource source = tar_pictures(tar);
    for (int64_t i = 0; i < list->count; i++) {
        for (int m = 0; m < MODALITIES; m++) {
            Err err;
            Picture picture;
            if (source.read(source.context, list, i, m, &picture, &err) == 0) {
                input_touch(picture.pixels, (size_t)picture.width * (size_t)picture.height * 3);
                picture_free(&picture);
            }
        }
    }
}

static void use_list(const Tar *tar, const char *path, const PairSet *set, Pool *pool)
{
    Err err;
    PairList list;
    PairStats stats;
    RootFiles files = tar_files(tar);
    if (pairs_read_from(&list, &files, path, set, &err) == 0) {
        pairs_stat_from(&list, &files, pool, NULL, &stats, &err);
        use_pictures(tar, &list);
        pairs_free(&list);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const PairSet sets[] = {{"synROD", SPLIT_TRAIN, false}, {"ROD", SPLIT_TEST, false}};
    Err err;
    const char *path = input_file(data, bytes);
    Pool *pool = pool_open(1);
    PackSettings settings = {.resize = 16, .pool = pool};
    tar_check(path, &err);
    for (int count = 1; count <= 2; count++) {
        Tar *tar = tar_read(path, sets, count, "/dev/shm", &settings, &err);
        for (int i = 0; tar && i < count; i++) {
            use_list(tar, path, &sets[i], pool);
        }
        tar_close(tar);
    }
    pool_close(pool);
    return 0;
}
