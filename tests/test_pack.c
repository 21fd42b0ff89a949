/* Packs: what goes in comes out, what is stale or damaged is noticed and named, and no accident
 * while building leaves a file that is taken for a pack. */
#include "base/mem.h"
#include "base/path.h"
#include "data/pack.h"
#include "data/pack_format.h"
#include "data_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAIRS = 40, RESIZE = 32 };

typedef struct {
    char *root, *cache, *path; /* path: of the pack */
    PairList list;
    Pool *pool;
    Log *log;
    char *notes; /* what the log wrote */
    size_t notes_bytes;
    FILE *stream;
} Fixture;

static int set_up(void **state)
{
    Err err = {0};
    Fixture *f = mem_zeroed(1, sizeof *f);
    f->root = fixture_create_folder();
    f->cache = path_join(f->root, "cache");
    f->path = path_join(f->cache, "synROD-train-32.pack");
    fixture_write_synrod(f->root, PAIRS);
    assert_int_equal(pairs_read(&f->list, f->root, "synROD", SPLIT_TRAIN, false, &err), 0);
    f->pool = pool_open(3);
    f->stream = open_memstream(&f->notes, &f->notes_bytes);
    f->log = log_open(f->stream, f->stream);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    log_close(f->log);
    fclose(f->stream);
    free(f->notes);
    pool_close(f->pool);
    pairs_free(&f->list);
    free(f->path);
    free(f->cache);
    fixture_remove_folder(f->root);
    free(f);
    return 0;
}

static PackSettings settings_of(const Fixture *f)
{
    return (PackSettings){.resize = RESIZE, .pool = f->pool, .log = f->log};
}

static Pack *open_or_build(Fixture *f)
{
    Err err = {0};
    PackSettings settings = settings_of(f);
    Pack *pack = pack_open_or_build(&f->list, &settings, f->cache, &err);
    if (!pack) {
        fail_msg("%s", err.text);
    }
    return pack;
}

static Picture read_original(const Fixture *f, int64_t i, int m)
{
    Err err = {0};
    Picture picture;
    char *path = path_join(f->list.folder, f->list.pairs[i].path[m]);
    assert_int_equal(picture_read(&picture, path, &err), 0);
    free(path);
    return picture;
}

static void assert_same_pixels(const Picture *a, const Picture *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->pixels, b->pixels, (size_t)a->width * (size_t)a->height * 3);
}

static Picture copy_of(PackedPicture packed)
{
    size_t bytes = (size_t)packed.width * (size_t)packed.height * 3;
    Picture picture = {.width = packed.width, .height = packed.height, .pixels = mem_alloc(bytes)};
    memcpy(picture.pixels, packed.pixels, bytes);
    return picture;
}

/* Sizes run from 1 to 59 pixels a side, the resize is 32: all four cases of shrinking occur. */
static void the_network_sees_the_same_as_without_a_pack(void **state)
{
    Fixture *f = *state;
    Pack *pack = open_or_build(f);
    assert_int_equal(pack_count(pack), PAIRS);
    assert_int_equal(pack_resize(pack), RESIZE);
    int kept = 0;
    size_t largest = 0;
    for (int64_t i = 0; i < PAIRS; i++) {
        assert_int_equal(pack_label(pack, i), i % 7);
        for (int m = 0; m < MODALITIES; m++) {
            Picture original = read_original(f, i, m);
            Picture packed = copy_of(pack_picture(pack, i, m));
            assert_true(packed.width <= RESIZE && packed.height <= RESIZE);
            assert_int_equal(packed.height, original.height > RESIZE ? RESIZE : original.height);
            if (original.width <= RESIZE && original.height <= RESIZE) {
                assert_same_pixels(&original, &packed);
                kept++;
            }
            size_t bytes = (size_t)packed.width * (size_t)packed.height * 3;
            largest = bytes > largest ? bytes : largest;
            Picture expected = picture_resize(&original, RESIZE, RESIZE);
            Picture seen = picture_resize(&packed, RESIZE, RESIZE);
            assert_same_pixels(&expected, &seen);
            picture_free(&expected);
            picture_free(&seen);
            picture_free(&original);
            picture_free(&packed);
        }
    }
    assert_in_range(kept, 5, 2 * PAIRS - 20);
    assert_int_equal(pack_largest_picture(pack), largest);
    Err err = {0};
    assert_int_equal(pack_verify(pack, f->pool, NULL, &err), 0);
    pack_close(pack);
}

static void the_file_does_not_depend_on_the_threads(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    PairStats stats;
    assert_int_equal(pairs_stat(&f->list, f->pool, NULL, &stats, &err), 0);
    char *bytes[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        Pool *pool = pool_open(1 + 4 * i);
        char *path = path_join(f->root, "x.pack");
        PackSettings settings = {.resize = RESIZE, .pool = pool};
        assert_int_equal(pack_build(&f->list, &stats, &pack_source_folder, &settings, path, &err),
                         0);
        bytes[i] = path_read(path, &size[i], &err);
        assert_non_null(bytes[i]);
        free(path);
        pool_close(pool);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    free(bytes[0]);
    free(bytes[1]);
}

/* ---- staleness ------------------------------------------------------------------------------ */

static void change_byte(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_not_equal(byte, EOF);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_not_equal(fputc(byte ^ 0x10, file), EOF);
    assert_int_equal(fclose(file), 0);
}

static PackHeader read_header(const Fixture *f)
{
    Err err = {0};
    PackHeader header;
    char *bytes = path_read(f->path, NULL, &err);
    assert_non_null(bytes);
    memcpy(&header, bytes, sizeof header);
    free(bytes);
    return header;
}

/* Opens the cache's pack once more: `reason` must be in the notes, NULL for none at all. */
static void expect_rebuild(Fixture *f, const char *reason)
{
    fflush(f->stream);
    size_t before = f->notes_bytes;
    pack_close(open_or_build(f));
    fflush(f->stream);
    const char *said = f->notes + before;
    if (!reason) {
        assert_string_equal(said, "");
    } else if (!strstr(said, "synROD-train: building the pack again: ") || !strstr(said, reason)) {
        fail_msg("'%s' does not say '%s'", said, reason);
    }
    if (reason) {
        assert_non_null(strstr(said, "synROD-train: packed 80 pictures"));
    }
}

static void stale_packs_are_built_again(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    pack_close(open_or_build(f));
    expect_rebuild(f, NULL);

    fixture_write_picture(f->root, "synROD/thing0/rgb/p0.png", 30, 31, 99);
    expect_rebuild(f, "the list or its pictures have changed since");
    f->list.pairs[3].label = 6;
    expect_rebuild(f, "the list or its pictures have changed since");
    change_byte(f->path, offsetof(PackHeader, version));
    expect_rebuild(f, "has version 18, this program reads 2");
    change_byte(f->path, 0);
    expect_rebuild(f, "is not a pack");
    change_byte(f->path, offsetof(PackHeader, digest)); /* under the header's checksum */
    expect_rebuild(f, "its header or table is damaged");
    change_byte(f->path, offsetof(PackHeader, pairs) + 7); /* the highest byte */
    expect_rebuild(f, "its header or table is damaged");
    PackHeader header = read_header(f);
    change_byte(f->path, (long)header.table_offset + 5 * (long)sizeof(PackEntry) + 9);
    expect_rebuild(f, "its header or table is damaged");
    change_byte(f->path, (long)header.names_offset + 20);
    expect_rebuild(f, "its header or table is damaged");
    assert_int_equal(truncate(f->path, 5000), 0);
    expect_rebuild(f, "truncated");

    PairStats stats;
    assert_int_equal(pairs_stat(&f->list, f->pool, NULL, &stats, &err), 0);
    PackSettings other = {.resize = 48, .pool = f->pool};
    assert_int_equal(pack_build(&f->list, &stats, &pack_source_folder, &other, f->path, &err), 0);
    expect_rebuild(f, "it was built for another size");
    expect_rebuild(f, NULL);
}

static void truncated_packs_are_refused(void **state)
{
    Fixture *f = *state;
    pack_close(open_or_build(f));
    struct stat status;
    assert_int_equal(stat(f->path, &status), 0);
    const int64_t cuts[] = {1,
                            64,
                            status.st_size / 2,
                            status.st_size - 2000,
                            status.st_size - 128,
                            status.st_size - 127,
                            status.st_size};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        Err err = {0};
        assert_int_equal(truncate(f->path, status.st_size - cuts[i]), 0);
        assert_null(pack_open(f->path, &err));
        assert_non_null(strstr(err.text, "synROD-train-32.pack: "));
        assert_non_null(strstr(err.text, "truncated"));
    }
    Err err = {0};
    assert_null(pack_open("/nonexistent.pack", &err));
    assert_non_null(strstr(err.text, "/nonexistent.pack: cannot open: No such file"));
}

static void a_flipped_pixel_is_found_and_named(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    Pack *pack = open_or_build(f);
    Picture last = copy_of(pack_picture(pack, PAIRS - 1, DEPTH));
    size_t size;
    char *bytes = path_read(f->path, &size, &err);
    size_t picture_bytes = (size_t)last.width * (size_t)last.height * 3;
    char *at = memmem(bytes, size, last.pixels, picture_bytes);
    change_byte(f->path, at - bytes);
    assert_int_equal(pack_verify(pack, f->pool, NULL, &err), -1);
    assert_non_null(strstr(err.text, "the depth picture of pair 39, thing4/depth/p39.png, does not "
                                     "match its checksum: the file is damaged; remove it"));
    pack_close(pack);
    free(bytes);
    picture_free(&last);
}

/* ---- accidents while building --------------------------------------------------------------- */

static void assert_cache_is_empty(const Fixture *f)
{
    assert_int_equal(rmdir(f->cache), 0); /* only an empty folder can be removed */
}

static void expect_failure(Fixture *f, const char *message)
{
    Err err = {0};
    PackSettings settings = settings_of(f);
    assert_null(pack_open_or_build(&f->list, &settings, f->cache, &err));
    if (!strstr(err.text, message) || strchr(err.text, '\n')) {
        fail_msg("'%s' does not say '%s'", err.text, message);
    }
}

static void the_first_bad_picture_is_named(void **state)
{
    Fixture *f = *state;
    fixture_write(f->root, "synROD/thing1/depth/p36.png", "");
    fixture_write(f->root, "synROD/thing4/depth/p18.png", "no picture");
    fixture_write(f->root, "synROD/thing5/rgb/p19.png", "no picture");
    expect_failure(f, "synROD/thing4/depth/p18.png: is not a picture");
    assert_cache_is_empty(f);
}

/* Pairs with a bad picture are left out, named, and their number is limited. */
static void bad_pictures_may_be_left_out(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    fixture_write(f->root, "synROD/thing4/depth/p18.png", "no picture");
    fixture_write(f->root, "synROD/thing5/rgb/p19.png", "");
    fixture_write(f->root, "synROD/thing5/depth/p19.png", "no picture");
    PackSettings settings = settings_of(f);
    settings.skip_bad = 2;
    assert_null(pack_open_or_build(&f->list, &settings, f->cache, &err));
    assert_non_null(strstr(err.text, "synROD-train: more than 2 pictures (--skip_bad) cannot be "
                                     "decoded, the first: "));
    assert_non_null(strstr(err.text, "synROD/thing4/depth/p18.png: is not a picture"));
    assert_cache_is_empty(f);
    settings.skip_bad = 3;
    Pack *pack = pack_open_or_build(&f->list, &settings, f->cache, &err);
    assert_non_null(pack);
    assert_int_equal(pack_count(pack), PAIRS - 2);
    static const char *const skipped[] = {"thing4/depth/p18.png", "thing5/rgb/p19.png",
                                          "thing5/depth/p19.png"};
    assert_int_equal(pack_skipped(pack), 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(pack_skipped_path(pack, i), skipped[i]);
    }
    assert_string_equal(pack_skipped_reason(pack, 1), "is empty");
    PairList kept;
    pack_list(pack, &kept);
    for (int64_t i = 0; i < kept.count; i++) {
        const Pair *expected = &f->list.pairs[i < 18 ? i : i + 2];
        assert_string_equal(kept.pairs[i].path[RGB], expected->path[RGB]);
        assert_string_equal(kept.pairs[i].path[DEPTH], expected->path[DEPTH]);
        assert_int_equal(kept.pairs[i].label, expected->label);
    }
    assert_int_equal(kept.classes, f->list.classes);
    pairs_free(&kept);
    assert_int_equal(pack_verify(pack, f->pool, NULL, &err), 0);
    pack_close(pack);
    expect_failure(f, "thing4/depth/p18.png: is not a picture");
}

static void missing_pictures_stop_before_the_build(void **state)
{
    Fixture *f = *state;
    char *path = path_join(f->root, "synROD/thing4/depth/p18.png");
    assert_int_equal(remove(path), 0);
    free(path);
    expect_failure(f, "1 of the 80 pictures in this list are missing");
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_failing_write_leaves_nothing_behind(void **state)
{
    Fixture *f = *state;
    signal(SIGXFSZ, SIG_IGN);
    limit_file_size(30000);
    expect_failure(f, "synROD-train-32.pack: cannot write: File too large");
    limit_file_size(0);
    signal(SIGXFSZ, SIG_DFL);
    assert_cache_is_empty(f);
    pack_close(open_or_build(f));
}

static void a_full_disk_leaves_nothing_behind(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    assert_int_equal(path_make_folders(f->cache, &err), 0);
    /* A mount name space of its own: nothing is left mounted, however the test ends. */
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", f->cache, "tmpfs", 0, "size=32k") != 0) {
        skip(); /* mounting needs root */
    }
    expect_failure(f, "cannot write: No space left on device (make room");
    char *temporary = mem_format("%s.tmp", f->path);
    bool gone = access(f->path, F_OK) != 0 && access(temporary, F_OK) != 0;
    free(temporary);
    assert_int_equal(umount(f->cache), 0);
    assert_true(gone);
}

/* The build is killed in the middle of the file, as by a power cut: the file size limit ends it. */
static void an_interrupted_build_leaves_no_pack(void **state)
{
    Fixture *f = *state;
    pool_close(f->pool); /* a fork is safe only from a single thread */
    pid_t child = fork();
    if (child == 0) {
        Err err;
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        limit_file_size(30000);
        Pool *pool = pool_open(2);
        PackSettings settings = {.resize = RESIZE, .pool = pool};
        pack_open_or_build(&f->list, &settings, f->cache, &err);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
    char *temporary = mem_format("%s.tmp", f->path);
    assert_true(access(f->path, F_OK) != 0);
    assert_true(access(temporary, F_OK) == 0);
    f->pool = pool_open(2);
    pack_close(open_or_build(f));
    assert_true(access(temporary, F_OK) != 0);
    free(temporary);
}

/* Programs wait while another one builds; of those that wait one builds, the others use its pack.
 */
static void two_programs_build_once(void **state)
{
    Fixture *f = *state;
    enum { PROGRAMS = 3 };
    Err err = {0};
    pool_close(f->pool); /* a fork is safe only from a single thread */
    assert_int_equal(path_make_folders(f->cache, &err), 0);
    int building = open(f->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(building, LOCK_EX), 0);
    for (int i = 0; i < PROGRAMS; i++) {
        if (fork() == 0) {
            close(building);
            Pool *pool = pool_open(1);
            FILE *notes = tmpfile();
            Log *log = log_open(notes, notes);
            PackSettings settings = {.resize = RESIZE, .pool = pool, .log = log};
            Pack *pack = pack_open_or_build(&f->list, &settings, f->cache, &err);
            bool sound = pack && pack_verify(pack, pool, NULL, &err) == 0;
            char text[2000] = "";
            rewind(notes);
            size_t bytes = fread(text, 1, sizeof text - 1, notes);
            _exit(!sound ? 9 : bytes > 0 && strstr(text, "packed 80 pictures") ? 1 : 0);
        }
    }
    usleep(200000);
    assert_true(access(f->path, F_OK) != 0);
    assert_int_equal(flock(building, LOCK_UN), 0);
    close(building);
    int built = 0;
    for (int i = 0; i < PROGRAMS; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status));
        built += WEXITSTATUS(status);
    }
    assert_int_equal(built, 1);
    f->pool = pool_open(1);
}

static void the_cache_lies_beside_the_data(void **state)
{
    Fixture *f = *state;
    char *beside = path_join(f->root, "rodeo-cache");
    char *chosen = pack_default_cache_dir(f->root);
    assert_string_equal(chosen, beside);
    free(chosen);
    free(beside);
    chosen = pack_default_cache_dir("/nonexistent");
    assert_string_equal(chosen, "./rodeo-cache");
    free(chosen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_network_sees_the_same_as_without_a_pack, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_file_does_not_depend_on_the_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stale_packs_are_built_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(truncated_packs_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_pixel_is_found_and_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_first_bad_picture_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_pictures_may_be_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_pictures_stop_before_the_build, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failing_write_leaves_nothing_behind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_leaves_nothing_behind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_interrupted_build_leaves_no_pack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_programs_build_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_cache_lies_beside_the_data, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
