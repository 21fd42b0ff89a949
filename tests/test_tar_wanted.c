/* Which files of a tar are taken: everything that may matter until all lists are known, then what
 * they name. */
#include "base/mem.h"
#include "data/tar_wanted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SOURCE_LIST "top/synROD/synARID_50k-split_sync_train1.txt"
#define TARGET_LIST "top/ROD/wrgbd_40k-split_sync.txt"
#define LISTED      "top/synROD/apple/depth/apple_1.png"
#define UNLISTED    "top/synROD/apple/depth/apple_2.png"

static const PairSet sets[] = {{"synROD", SPLIT_TRAIN, false}, {"ROD", SPLIT_TRAIN, false}};

typedef struct {
    Tar *tar;
    TarWanted wanted;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = mem_zeroed(1, sizeof *f);
    Err err;
    f->tar = mem_zeroed(1, sizeof *f->tar);
    f->tar->path = mem_string("x.tar");
    *state = f;
    return tar_wanted_open(&f->wanted, sets, 2, &err);
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    tar_wanted_close(&f->wanted);
    tar_close(f->tar);
    free(f);
    return 0;
}

static void add_list(Fixture *f, const char *path, const char *text)
{
    TarEntry *entry = tar_add_entry(f->tar, TAR_LIST, mem_string(path));
    entry->text = mem_string(text);
    entry->bytes = (int64_t)strlen(text);
    tar_wanted_narrow(&f->wanted, f->tar);
}

static void expect_everything(const Fixture *f)
{
    assert_true(tar_wants_picture(&f->wanted, LISTED));
    assert_true(tar_wants_picture(&f->wanted, UNLISTED));
}

static void lists_are_known_by_their_path(void **state)
{
    const Fixture *f = *state;
    assert_true(tar_wants_list(&f->wanted, SOURCE_LIST));
    assert_true(tar_wants_list(&f->wanted, "ROD/wrgbd_40k-split_sync.txt"));
    assert_false(tar_wants_list(&f->wanted, "top/synROD/synARID_50k-split_sync_test1.txt"));
    assert_false(tar_wants_list(&f->wanted, "top/notROD/wrgbd_40k-split_sync.txt"));
}

static void pictures_of_other_folders_are_never_wanted(void **state)
{
    const Fixture *f = *state;
    expect_everything(f);
    assert_false(tar_wants_picture(&f->wanted, "top/HB/apple/depth/apple_1.png"));
    assert_false(tar_wants_picture(&f->wanted, "top/synROD/apple/depth/apple_1.txt"));
}

static void the_last_list_narrows_it(void **state)
{
    Fixture *f = *state;
    add_list(f, SOURCE_LIST, "apple/***/apple_1.png 0\n");
    expect_everything(f);
    add_list(f, TARGET_LIST, "cup/cup_1/cup_1_5_***.png 0\n");
    assert_true(tar_wants_picture(&f->wanted, LISTED));
    assert_false(tar_wants_picture(&f->wanted, UNLISTED));
    assert_true(tar_wants_picture(&f->wanted, "top/ROD/rgb-washington/cup/cup_1/cup_1_5_crop.png"));
    assert_false(
        tar_wants_picture(&f->wanted, "top/ROD/rgb-washington/cup/cup_1/cup_1_6_crop.png"));
}

/* Lists may spell a path in another way than the tar. */
static void other_spellings_are_the_same_path(void **state)
{
    Fixture *f = *state;
    add_list(f, SOURCE_LIST, "./apple//***/apple_1.png 0\npear/../apple/***/apple_3.png 0\n");
    add_list(f, TARGET_LIST, "./cup/cup_1/cup_1_5_***.png 0\n");
    assert_true(tar_wants_picture(&f->wanted, LISTED));
    assert_true(tar_wants_picture(&f->wanted, "top/synROD/apple/rgb/apple_3.png"));
    assert_true(tar_wants_picture(&f->wanted, "top/ROD/rgb-washington/cup/cup_1/cup_1_5_crop.png"));
    assert_false(tar_wants_picture(&f->wanted, UNLISTED));
}

static void a_link_keeps_everything_wanted(void **state)
{
    Fixture *f = *state;
    tar_add_entry(f->tar, TAR_LINK, mem_string(LISTED))->text = mem_string(UNLISTED);
    add_list(f, SOURCE_LIST, "apple/***/apple_1.png 0\n");
    add_list(f, TARGET_LIST, "cup/cup_1/cup_1_5_***.png 0\n");
    expect_everything(f);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(lists_are_known_by_their_path),  CASE(pictures_of_other_folders_are_never_wanted),
        CASE(the_last_list_narrows_it),       CASE(other_spellings_are_the_same_path),
        CASE(a_link_keeps_everything_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
