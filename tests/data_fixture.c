#include "data_fixture.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/rng.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

char *fixture_create_folder(void)
{
    bool in_memory = access("/dev/shm", W_OK) == 0; /* where fsync costs nothing */
    char *folder = mem_format("%s/rodeo-test-XXXXXX", in_memory ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(folder));
    return folder;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void fixture_remove_folder(char *folder)
{
    assert_int_equal(nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(folder);
}

static char *path_in(const char *folder, const char *name)
{
    Err err;
    char *path = path_join(folder, name);
    char *parent = strndup(path, (size_t)(strrchr(path, '/') - path));
    assert_int_equal(path_make_folders(parent, &err), 0);
    free(parent);
    return path;
}

void fixture_write(const char *folder, const char *name, const char *text)
{
    Err err;
    char *path = path_in(folder, name);
    assert_int_equal(atomic_file_replace(path, text, strlen(text), &err), 0);
    free(path);
}

void fixture_write_picture(const char *folder, const char *name, int width, int height,
                           unsigned seed)
{
    Err err;
    size_t bytes = (size_t)width * (size_t)height * 3;
    Picture picture = {.width = width, .height = height, .pixels = mem_alloc(bytes)};
    Rng rng = rng_at(seed, RNG_DEMO, 0, 0, 0);
    for (size_t i = 0; i < bytes; i++) {
        picture.pixels[i] = (uint8_t)rng_below(&rng, 256);
    }
    char *path = path_in(folder, name);
    assert_int_equal(picture_write_png(&picture, path, &err), 0);
    free(path);
    picture_free(&picture);
}

void fixture_write_synrod(const char *root, int pairs)
{
    char *list = mem_string("");
    for (int i = 0; i < pairs; i++) {
        char *longer = mem_format("%sthing%d/***/p%d.png %d\n", list, i % 7, i, i % 7);
        free(list);
        list = longer;
        for (int m = 0; m < MODALITIES; m++) {
            char *name =
                mem_format("synROD/thing%d/%s/p%d.png", i % 7, m == RGB ? "rgb" : "depth", i);
            fixture_write_picture(root, name, 1 + (i * 13 + m * 5) % 59, 1 + (i * 29 + m) % 59,
                                  (unsigned)(2 * i + m));
            free(name);
        }
    }
    fixture_write(root, "synROD/synARID_50k-split_sync_train1.txt", list);
    free(list);
}

Pack *fixture_pack(const char *root, int resize)
{
    Err err = {0};
    PairList list;
    assert_int_equal(pairs_read(&list, root, "synROD", SPLIT_TRAIN, false, &err), 0);
    char *cache = path_join(root, "cache");
    Pool *pool = pool_open(2);
    PackSettings settings = {.resize = resize, .pool = pool};
    Pack *pack = pack_open_or_build(&list, &settings, cache, &err);
    if (!pack) {
        fail_msg("%s", err.text);
    }
    pool_close(pool);
    free(cache);
    pairs_free(&list);
    return pack;
}
