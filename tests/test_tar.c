/* Packs from a tar file: the same as from the folder, bit for bit, wherever its parts stand; and
 * whatever is wrong with the tar is told in one line and leaves nothing behind. */
#include "base/mem.h"
#include "base/path.h"
#include "data/tar.h"
#include "data/tar_packs.h"
#include "data_fixture.h"
#include "tar_fixture.h"

#include <archive.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAIRS = 24, RESIZE = 32, SETS = 2 };

static const PairSet sets[SETS] = {{"synROD", SPLIT_TRAIN, false}, {"ROD", SPLIT_TRAIN, false}};
static const TarShape plain = {.top = "ROD-synROD/", .filter = ARCHIVE_FILTER_NONE};

typedef struct {
    char *base, *root, *cache, *tar;
    PackSettings settings;
    char *expected[SETS]; /* the packs of the folder */
    size_t expected_bytes[SETS];
} Fixture;

/* A target list as published without a folder for the modality, of the first five pairs. */
static void write_rod(const char *root)
{
    char *list = mem_string("");
    for (int i = 0; i < 5; i++) {
        char *longer = mem_format("%scup/cup_1/cup_1_%d_***.png %d\n", list, i, i % 7);
        free(list);
        list = longer;
        for (int m = 0; m < MODALITIES; m++) {
            char *name =
                mem_format("ROD/%s-washington/cup/cup_1/cup_1_%d_%s.png",
                           m == RGB ? "rgb" : "surfnorm", i, m == RGB ? "crop" : "depthcrop");
            fixture_write_picture(root, name, 20 + i, 40 - i, (unsigned)(1000 + 2 * i + m));
            free(name);
        }
    }
    fixture_write(root, "ROD/wrgbd_40k-split_sync.txt", list);
    free(list);
}

static char *pack_at(const char *cache, int set)
{
    return path_join(cache, set == 0 ? "synROD-train-32.pack" : "ROD-32.pack");
}

static void pack_folder(Fixture *f)
{
    Err err = {0};
    char *cache = path_join(f->base, "folder-cache");
    for (int i = 0; i < SETS; i++) {
        PairList list;
        assert_int_equal(pairs_read_from(&list, &root_files_on_disk, f->root, &sets[i], &err), 0);
        Pack *pack = pack_open_or_build(&list, &f->settings, cache, &err);
        assert_non_null(pack);
        pack_close(pack);
        pairs_free(&list);
        char *path = pack_at(cache, i);
        f->expected[i] = path_read(path, &f->expected_bytes[i], &err);
        free(path);
    }
    free(cache);
}

static int set_up(void **state)
{
    Fixture *f = mem_zeroed(1, sizeof *f);
    f->base = fixture_create_folder();
    f->root = path_join(f->base, "root");
    f->cache = path_join(f->base, "cache");
    f->tar = path_join(f->base, "x.tar");
    f->settings = (PackSettings){.resize = RESIZE, .pool = pool_open(3)};
    Err err = {0};
    assert_int_equal(path_make_folders(f->root, &err), 0);
    fixture_write_synrod(f->root, PAIRS);
    write_rod(f->root);
    pack_folder(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    for (int i = 0; i < SETS; i++) {
        free(f->expected[i]);
    }
    pool_close(f->settings.pool);
    free(f->tar);
    free(f->cache);
    free(f->root);
    fixture_remove_folder(f->base);
    free(f);
    return 0;
}

static void empty_cache(const Fixture *f)
{
    static const char *const names[] = {"synROD-train-32.pack", "ROD-32.pack", "x.tar.seen"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(f->cache, names[i]);
        unlink(path);
        free(path);
    }
    assert_true(rmdir(f->cache) == 0 || access(f->cache, F_OK) != 0); /* nothing else is in it */
}

static int open_packs(const Fixture *f, Err *err)
{
    Pack *packs[SETS];
    int rc = tar_open_packs(f->tar, sets, SETS, f->cache, &f->settings, packs, err);
    for (int i = 0; i < SETS && rc == 0; i++) {
        assert_int_equal(pack_verify(packs[i], f->settings.pool, NULL, err), 0);
        pack_close(packs[i]);
    }
    return rc;
}

static void expect_same_packs(const Fixture *f)
{
    Err err = {0};
    if (open_packs(f, &err) != 0) {
        fail_msg("%s", err.text);
    }
    for (int i = 0; i < SETS; i++) {
        size_t bytes;
        char *path = pack_at(f->cache, i);
        char *pack = path_read(path, &bytes, &err);
        assert_non_null(pack);
        assert_int_equal(bytes, f->expected_bytes[i]);
        assert_memory_equal(pack, f->expected[i], bytes);
        free(pack);
        free(path);
    }
}

static void expect_failure(const Fixture *f, const char *message)
{
    Err err = {0};
    assert_int_equal(open_packs(f, &err), -1);
    if (!strstr(err.text, message) || strchr(err.text, '\n') || !strstr(err.text, "x.tar")) {
        fail_msg("'%s' does not say '%s'", err.text, message);
    }
}

static void the_packs_are_those_of_the_folder(void **state)
{
    Fixture *f = *state;
    static const int filters[] = {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD};
    static const char *const tops[] = {"", "./", "ROD-synROD/", "./some/where/else/"};
    for (int i = 0; i < 12; i++) {
        TarShape shape = {
            .top = tops[i % 4], .lists = (ListPlace)(i / 4), .filter = filters[i % 3]};
        fixture_write_tar(f->root, f->tar, &shape);
        expect_same_packs(f);
        empty_cache(f);
    }
}

/* Also to pictures that no list names, and behind the lists that do not; hard ones to what had the
 * name when they were written. */
static void links_are_followed(void **state)
{
    Fixture *f = *state;
    for (int i = 0; i < 9; i++) {
        TarShape shape = plain;
        shape.lists = (ListPlace)(i / 3);
        *(i % 3 == 0 ? &shape.soft : &shape.link) = "synROD/thing2/rgb/p2.png";
        shape.replaced = i % 3 == 2;
        fixture_write_tar(f->root, f->tar, &shape);
        expect_same_packs(f);
        empty_cache(f);
    }
}

static void a_list_that_was_added_later_counts(void **state)
{
    Fixture *f = *state;
    for (int lists = LISTS_FIRST; lists <= LISTS_BETWEEN; lists++) {
        TarShape shape = plain;
        shape.lists = (ListPlace)lists;
        shape.before = "thing0/***/p0.png 0\n";
        fixture_write_tar(f->root, f->tar, &shape);
        expect_same_packs(f);
        empty_cache(f);
    }
}

static void a_file_that_was_given_twice_is_there_once(void **state)
{
    Fixture *f = *state;
    for (int lists = LISTS_FIRST; lists <= LISTS_BETWEEN; lists++) {
        TarShape shape = plain;
        shape.lists = (ListPlace)lists;
        shape.twice = true;
        fixture_write_tar(f->root, f->tar, &shape);
        expect_same_packs(f);
        empty_cache(f);
    }
}

/* ---- reading it once ------------------------------------------------------------------------ */

static void copy_times(const char *path, const struct stat *from)
{
    const struct timespec times[2] = {from->st_atim, from->st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* The tar is overwritten with zeros, its size and time kept: nobody may look into it. Then its time
 * changes, and it is read. */
static void a_packed_tar_is_not_read_again(void **state)
{
    Fixture *f = *state;
    struct stat status;
    fixture_write_tar(f->root, f->tar, &plain);
    expect_same_packs(f);
    assert_int_equal(stat(f->tar, &status), 0);
    assert_int_equal(truncate(f->tar, 0), 0);
    assert_int_equal(truncate(f->tar, status.st_size), 0);
    copy_times(f->tar, &status);
    expect_same_packs(f);
    Pack *packs[SETS];
    assert_true(tar_find_packs(f->tar, sets, SETS, f->cache, &f->settings, packs));
    PairList list;
    pack_list(packs[0], &list);
    assert_string_equal(list.name, "synROD-train");
    assert_int_equal(list.count, PAIRS);
    assert_string_equal(list.pairs[5].path[DEPTH], "thing5/depth/p5.png");
    assert_int_equal(list.classes, 7);
    pairs_free(&list);
    pack_close(packs[0]);
    pack_close(packs[1]);
    status.st_mtim.tv_nsec ^= 1;
    copy_times(f->tar, &status);
    assert_false(tar_find_packs(f->tar, sets, SETS, f->cache, &f->settings, packs));
    expect_failure(f, "x.tar: there is no synROD/synARID_50k-split_sync_train1.txt in it");
}

static void a_damaged_pack_or_record_is_made_again(void **state)
{
    Fixture *f = *state;
    fixture_write_tar(f->root, f->tar, &plain);
    expect_same_packs(f);
    char *pack = pack_at(f->cache, 1);
    assert_int_equal(truncate(pack, 1000), 0);
    expect_same_packs(f);
    assert_int_equal(unlink(pack), 0);
    expect_same_packs(f);
    char *record = path_join(f->cache, "x.tar.seen");
    assert_int_equal(truncate(record, 40), 0);
    expect_same_packs(f);
    assert_int_equal(unlink(record), 0);
    expect_same_packs(f);
    free(record);
    free(pack);
}

static uint8_t first_value(const Fixture *f, int64_t pair)
{
    Err err = {0};
    Pack *packs[SETS];
    assert_int_equal(tar_open_packs(f->tar, sets, SETS, f->cache, &f->settings, packs, &err), 0);
    uint8_t value = pack_picture(packs[0], pair, RGB).pixels[0];
    pack_close(packs[0]);
    pack_close(packs[1]);
    return value;
}

/* As in archives that give all files one time: a picture changes, but neither its size nor time. */
static void pixels_that_alone_have_changed_are_seen(void **state)
{
    Fixture *f = *state;
    struct stat status;
    char *picture = path_join(f->root, "synROD/thing2/rgb/p2.png");
    fixture_write(f->root, "synROD/thing2/rgb/p2.png", "P6 1 1 255\nAAA");
    assert_int_equal(stat(picture, &status), 0);
    fixture_write_tar(f->root, f->tar, &plain);
    assert_int_equal(first_value(f, 2), 'A');
    fixture_write(f->root, "synROD/thing2/rgb/p2.png", "P6 1 1 255\nBAA");
    copy_times(picture, &status);
    fixture_write_tar(f->root, f->tar, &plain);
    assert_int_equal(first_value(f, 2), 'B');
    free(picture);
}

/* ---- what can be wrong ---------------------------------------------------------------------- */

static void what_is_missing_is_named(void **state)
{
    Fixture *f = *state;
    TarShape shape = plain;
    shape.omit = "synROD/thing4/depth/p18.png";
    fixture_write_tar(f->root, f->tar, &shape);
    expect_failure(f, "1 of the 48 pictures in this list are missing in ");
    expect_failure(f, "thing4/depth/p18.png; the archive is not whole");
    shape.omit = "ROD/wrgbd_40k-split_sync.txt";
    fixture_write_tar(f->root, f->tar, &shape);
    expect_failure(f, "x.tar: there is no ROD/wrgbd_40k-split_sync.txt in it, in whatever folder");
    empty_cache(f);
}

static void a_list_that_is_a_link_is_refused(void **state)
{
    Fixture *f = *state;
    TarShape shape = plain;
    shape.link = "ROD/wrgbd_40k-split_sync.txt";
    fixture_write_tar(f->root, f->tar, &shape);
    expect_failure(f, "x.tar/ROD/wrgbd_40k-split_sync.txt: is a link to another file");
}

static void two_data_sets_in_one_tar_are_refused(void **state)
{
    Fixture *f = *state;
    fixture_write(f->root, "old/synROD/synARID_50k-split_sync_train1.txt", "a/***/b.png 0\n");
    fixture_write_tar(f->root, f->tar, &plain);
    expect_failure(f, "holds data sets in two places");
}

static void what_is_no_tar_is_refused(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    fixture_write(f->base, "x.tar", "PK\003\004 this is something else, and long enough");
    expect_failure(f, "x.tar: is ");
    assert_int_equal(tar_check(f->tar, &err), -1);
    assert_non_null(strstr(err.text, "x.tar: is neither a folder nor a sound tar file"));
    fixture_write(f->base, "x.tar", "");
    assert_int_equal(tar_check(f->tar, &err), -1);
    assert_int_equal(unlink(f->tar), 0);
    assert_int_equal(tar_check(f->tar, &err), -1);
    assert_non_null(strstr(err.text, "x.tar: cannot open: No such file or directory"));
    fixture_write_tar(f->root, f->tar, &plain);
    assert_int_equal(tar_check(f->tar, &err), 0);
}

/* Cut anywhere: an error, unless only the end mark or what no list names is lost; then the packs
 * are the right ones. */
static void cut_tars_never_give_wrong_packs(void **state)
{
    Fixture *f = *state;
    static const int filters[] = {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD};
    for (int i = 0; i < 3; i++) {
        TarShape shape = plain;
        struct stat status;
        shape.filter = filters[i];
        shape.lists = i == 0 ? LISTS_FIRST : LISTS_BETWEEN;
        fixture_write_tar(f->root, f->tar, &shape);
        assert_int_equal(stat(f->tar, &status), 0);
        int failures = 0;
        for (off_t cut = status.st_size - 1; cut > 0; cut -= 1 + status.st_size / 61) {
            Err err = {0};
            assert_int_equal(truncate(f->tar, cut), 0);
            if (open_packs(f, &err) == 0) {
                expect_same_packs(f);
            } else {
                assert_non_null(strstr(err.text, "x.tar"));
                assert_null(strchr(err.text, '\n'));
                failures++;
            }
            empty_cache(f);
        }
        assert_true(failures >= 50);
    }
}

static void a_negative_size_is_refused(void **state)
{
    Fixture *f = *state;
    static const char *const names[] = {
        "ROD-synROD/synROD/thing4/depth/p18.png",
        "ROD-synROD/synROD/synARID_50k-split_sync_train1.txt",
    };
    for (int i = 0; i < 2; i++) {
        fixture_write_tar(f->root, f->tar, &plain);
        fixture_make_negative(f->tar, names[i]);
        char *message = mem_format("x.tar: is damaged at %s: a file of -2 bytes", names[i]);
        expect_failure(f, message);
        free(message);
        empty_cache(f);
    }
}

static void a_bad_picture_is_named_or_skipped(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    fixture_write(f->root, "synROD/thing4/depth/p18.png", "no picture");
    fixture_write(f->root, "synROD/thing4/depth/nobody_lists_this.png", "no picture");
    for (int lists = LISTS_FIRST; lists <= LISTS_BETWEEN; lists++) {
        TarShape shape = plain;
        shape.lists = (ListPlace)lists;
        fixture_write_tar(f->root, f->tar, &shape);
        expect_failure(f, "x.tar: ROD-synROD/synROD/thing4/depth/p18.png: is not a picture");
        empty_cache(f);
    }
    f->settings.skip_bad = 1;
    Pack *packs[SETS];
    assert_int_equal(tar_open_packs(f->tar, sets, SETS, f->cache, &f->settings, packs, &err), 0);
    assert_int_equal(pack_count(packs[0]), PAIRS - 1);
    assert_int_equal(pack_skipped(packs[0]), 1);
    assert_string_equal(pack_skipped_path(packs[0], 0), "thing4/depth/p18.png");
    assert_non_null(strstr(pack_skipped_reason(packs[0], 0), "is not a picture"));
    pack_close(packs[0]);
    pack_close(packs[1]);
    f->settings.skip_bad = 0; /* what was tolerated once is not for good */
    assert_false(tar_find_packs(f->tar, sets, SETS, f->cache, &f->settings, packs));
}

static void stopping_leaves_nothing(void **state)
{
    Fixture *f = *state;
    int stop = 1;
    fixture_write_tar(f->root, f->tar, &plain);
    f->settings.stop = &stop;
    expect_failure(f, "interrupted while reading");
    empty_cache(f);
    f->settings.stop = NULL;
    expect_same_packs(f);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_leaves_nothing(void **state)
{
    Fixture *f = *state;
    fixture_write_tar(f->root, f->tar, &plain);
    signal(SIGXFSZ, SIG_IGN);
    limit_file_size(20000);
    Err err = {0};
    int rc = open_packs(f, &err);
    limit_file_size(0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(err.text, "x.tar: cannot keep its decoded pictures: File too large"));
    empty_cache(f);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(the_packs_are_those_of_the_folder),
        CASE(links_are_followed),
        CASE(a_file_that_was_given_twice_is_there_once),
        CASE(a_list_that_was_added_later_counts),
        CASE(a_packed_tar_is_not_read_again),
        CASE(a_damaged_pack_or_record_is_made_again),
        CASE(pixels_that_alone_have_changed_are_seen),
        CASE(what_is_missing_is_named),
        CASE(a_list_that_is_a_link_is_refused),
        CASE(two_data_sets_in_one_tar_are_refused),
        CASE(what_is_no_tar_is_refused),
        CASE(cut_tars_never_give_wrong_packs),
        CASE(a_negative_size_is_refused),
        CASE(a_bad_picture_is_named_or_skipped),
        CASE(stopping_leaves_nothing),
        CASE(a_full_disk_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
