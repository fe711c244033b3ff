/* test_limits.c -- where memory ends: limit, capacity, a full file system. ENOMEM, and never SIGBUS. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "clean_heap.h"

static char path[SCRATCH_MAX];

static int clean_up(void **state) {
    (void)state;
    (void)unlink(path);
    return 0;
}

enum { BLOCKS_MAX = 400000 };
static void *blocks[BLOCKS_MAX];

/* Allocates and fills until there is no more; how many. */
static size_t fill_up(sharena_t *heap, size_t bytes) {
    size_t count = 0;
    errno = 0;
    while (count < BLOCKS_MAX && (blocks[count] = sharena_malloc(heap, bytes)) != NULL) {
        memset(blocks[count], (int)count | 1, bytes);
        count++;
    }
    return count;
}

/* Full, emptied, full again as before: for small, large and huge blocks. */
static void go_round(sharena_t *heap, uint64_t least_bytes, const char *word) {
    static const size_t sizes[] = {64, 1000, 14336, 40000, MIB, 2 * MIB + 1, 3000, 128};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t first = fill_up(heap, sizes[i]);
        assert_int_equal(errno, ENOMEM);
        assert_true(first * sizes[i] >= least_bytes);
        if (strstr(sharena_errormsg(), word) == NULL) {
            fail_msg("no '%s' in: %s", word, sharena_errormsg());
        }
        clean_check(heap, first);
        sharena_free(heap, blocks[first / 2]); /* one back: one of that size can be had */
        blocks[first / 2] = sharena_malloc(heap, sizes[i]);
        assert_non_null(blocks[first / 2]);
        sharena_free_batch(heap, first, blocks);
        clean_check(heap, 0);
        size_t second = fill_up(heap, sizes[i]);
        assert_true(second + second / 8 + 1 >= first);
        sharena_free_batch(heap, second, blocks);
    }
}

static void test_limit(void **state) {
    (void)state;
    struct sharena_options options = {.capacity_bytes = GIB, .limit_bytes = 20 * MIB};
    struct sharena_report report;
    struct stat status;
    sharena_t *heap = clean_open_with(scratch_path(path, "limits"), &options);
    go_round(heap, 10 * MIB, "limit");
    size_t count = fill_up(heap, 5000);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_true(report.pages_backed * 4096 <= 20 * MIB);
    assert_int_equal(stat(path, &status), 0);
    assert_true((uint64_t)status.st_blocks * 512 <= 22 * MIB); /* 1 MiB of it is fixed tables */
    errno = 0;
    assert_null(sharena_malloc(heap, 30 * MIB));
    assert_int_equal(errno, ENOMEM);
    assert_non_null(strstr(sharena_errormsg(), "limit"));
    sharena_free_batch(heap, count, blocks);
    clean_end(heap, path, 0);
}

/* A limit under which nothing fits beside the tables of one chunk. */
static void test_limit_of_almost_nothing(void **state) {
    (void)state;
    static const uint64_t limits[] = {1, 4096, 8192, 32768};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct sharena_options options = {.capacity_bytes = GIB, .limit_bytes = limits[i]};
        sharena_t *heap = clean_open_with(scratch_path(path, "limits"), &options);
        static const size_t sizes[] = {1, 100, 100000, 5 * MIB};
        for (size_t j = 0; j < 4; j++) {
            errno = 0;
            assert_null(sharena_malloc(heap, sizes[j]));
            assert_int_equal(errno, ENOMEM);
            assert_non_null(strstr(sharena_errormsg(), "limit"));
            assert_null(sharena_aligned_alloc(heap, 4096, sizes[j]));
        }
        clean_end(heap, path, 0);
    }
}

static void test_capacity(void **state) {
    (void)state;
    struct sharena_options options = {.capacity_bytes = 24 * MIB};
    sharena_t *heap = clean_open_with(scratch_path(path, "limits"), &options);
    go_round(heap, 10 * MIB, "capacity");
    clean_end(heap, path, 0);
}

/* What fails half-way in a heap that is full leaves everything as it was. */
static void test_every_call_in_a_full_heap(void **state) {
    (void)state;
    struct sharena_options options = {.capacity_bytes = 8 * MIB};
    sharena_t *heap = clean_open_with(scratch_path(path, "limits"), &options);
    size_t large = fill_up(heap, 100000);
    void *kept[BLOCKS_MAX / 1000];
    memcpy(kept, blocks, large * sizeof(void *));
    size_t small = fill_up(heap, 48);
    clean_fill(blocks[0], 48, 1);
    errno = 0;
    assert_null(sharena_calloc(heap, 1000, 1000));
    assert_int_equal(errno, ENOMEM);
    assert_null(sharena_realloc(heap, blocks[0], 300000));
    assert_int_equal(clean_compare(blocks[0], 48, 1), 48);
    assert_int_equal(sharena_xallocx(heap, kept[0], 1000000, 0, 0),
                     sharena_usable_size(heap, kept[0]));
    assert_int_equal(sharena_malloc_to(heap, 48 * 1024, blocks[0]), ENOMEM);
    assert_int_equal(clean_compare(blocks[0], 48, 1), 48);
    assert_null(sharena_root_create(heap, "root", 500000, NULL, NULL));
    assert_null(sharena_root_get(heap, "root"));
    assert_int_equal(sharena_root_set(heap, "name", blocks[0]), 0); /* names need no space */
    assert_int_equal(sharena_root_set(heap, "name", NULL), 0);
    assert_int_equal(sharena_purge(heap), 0);
    (void)sharena_reap(heap);
    clean_check(heap, large + small);
    sharena_free_batch(heap, small, blocks);
    sharena_free_batch(heap, large, kept);
    clean_end(heap, path, 0);
}

/* ---- what still works in a heap that is full ---- */

static int ask(sharena_t *heap, const char *name, uint64_t *value) {
    size_t length = sizeof(*value);
    *value = 0;
    return sharena_ctl(heap, name, value, &length, NULL, 0);
}

static void count_text(void *arg, const char *text) {
    *(size_t *)arg += strlen(text);
}

/* For children as well. Nothing of this needs room, and nobody is given any. */
static int look_after_a_full_heap(sharena_t *heap) {
    static const char *const names[] = {
        "stats.allocated",        "stats.active",          "stats.resident",    "stats.metadata",
        "stats.arenas.0.pdirty",  "stats.arenas.0.purged", "stats.pool.pdirty", "stats.mapped",
        "arena.0.dirty_decay_ms", "opt.dirty_decay_ms"};
    uint64_t value;
    size_t printed = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        REQUIRE(ask(heap, names[i], &value) == 0);
    }
    REQUIRE(ask(heap, "stats.allocated", &value) == 0 && value > 0);
    sharena_stats_print(heap, count_text, &printed, "J");
    REQUIRE(printed > 1000);
    REQUIRE(sharena_reap(heap) == 0);
    REQUIRE(sharena_ctl(heap, "arena.0.decay", NULL, NULL, NULL, 0) == 0);
    REQUIRE(sharena_ctl(heap, "arena.0.purge", NULL, NULL, NULL, 0) == 0);
    REQUIRE(sharena_purge(heap) == 0);
    REQUIRE(clean_is_not(heap) == 0);
    return 0;
}

static void test_looking_after_a_full_heap(void **state) {
    (void)state;
    static const struct sharena_options full[] = {{.capacity_bytes = GIB, .limit_bytes = 12 * MIB},
                                                  {.capacity_bytes = 8 * MIB}};
    for (size_t i = 0; i < 2; i++) {
        sharena_t *heap = clean_open_with(scratch_path(path, "limits"), &full[i]);
        size_t count = fill_up(heap, 3000);
        assert_int_equal(look_after_a_full_heap(heap), 0);
        assert_null(sharena_malloc(heap, MIB));
        sharena_free_batch(heap, count, blocks);
        void *block = sharena_malloc(heap, 4 * MIB);
        assert_non_null(block);
        sharena_free(heap, block);
        clean_end(heap, path, 0);
    }
}

/* ---- what is tried before it is said that there is no more ---- */

#define QUIET "dirty_decay_ms:-1,reap_interval_ms:-1,narenas:2"

/* Free memory that another arena keeps, in the gaps between blocks. */
static void test_dirty_memory_of_another_arena_is_found(void **state) {
    (void)state;
    struct sharena_options options = {
        .capacity_bytes = GIB, .limit_bytes = 20 * MIB, .conf = QUIET};
    sharena_t *heap = clean_open_with(scratch_path(path, "limits"), &options);
    static const size_t bytes = 64 * KIB;
    void *row[256];
    uint64_t dirty;
    size_t taken = 0;
    for (size_t i = 0; i < 256; i++) {
        row[i] = sharena_mallocx(heap, bytes, SHARENA_ARENA(0) | SHARENA_TCACHE_NONE);
        assert_non_null(row[i]);
    }
    for (size_t i = 0; i < 256; i += 2) {
        sharena_dallocx(heap, row[i], SHARENA_TCACHE_NONE);
    }
    assert_int_equal(ask(heap, "stats.arenas.0.pdirty", &dirty), 0);
    assert_true(dirty * 4096 >= 8 * MIB);
    unsigned next = 1;
    assert_int_equal(sharena_ctl(heap, "thread.arena", NULL, NULL, &next, sizeof(next)), 0);
    while ((blocks[taken] = sharena_malloc(heap, bytes)) != NULL) {
        memset(blocks[taken++], 1, bytes);
    }
    assert_true(taken * bytes > 10 * MIB); /* 4 MiB were never used */
    clean_check(heap, 128 + taken);
    sharena_free_batch(heap, taken, blocks);
    for (size_t i = 1; i < 256; i += 2) {
        sharena_free(heap, row[i]);
    }
    clean_end(heap, path, 0);
}

static int die_with_a_full_cache(void *arg) {
    void *mine[20];
    for (size_t i = 0; i < 20; i++) {
        mine[i] = sharena_malloc(arg, 28 * KIB);
        REQUIRE(mine[i] != NULL);
    }
    for (size_t i = 0; i < 20; i++) {
        sharena_free(arg, mine[i]);
    }
    return raise(SIGKILL);
}

/* What the dead have in their caches: a heap of one chunk, which only has room with it. */
static void test_memory_of_the_dead_is_found(void **state) {
    (void)state;
    struct sharena_options options = {.capacity_bytes = 2 * MIB, .conf = QUIET};
    sharena_t *heap = clean_open_with(scratch_path(path, "limits"), &options);
    sharena_free(heap, sharena_malloc(heap, 1));
    size_t room = fill_up(heap, 28 * KIB);
    sharena_free_batch(heap, room, blocks);
    assert_int_equal(sharena_purge(heap), 0);
    (void)child_wait(child_start(die_with_a_full_cache, heap));
    assert_in_range(fill_up(heap, 28 * KIB), room, room); /* 20 of them are the dead's */
    sharena_free_batch(heap, room, blocks);
    clean_end(heap, path, 0);
}

/* ---- a full file system ---- */

static const char folder[] = "/tmp/sharena-test-tmpfs";

/* 0, or CHILD_SKIP where that is not allowed (a container), or not possible (a chroot). */
static int mount_small(const char *size) {
    char options[64];
    (void)snprintf(options, sizeof(options), "size=%s,mode=0700", size);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return CHILD_SKIP;
    }
    REQUIRE(mkdir(folder, 0700) == 0 || errno == EEXIST);
    return mount("tmpfs", folder, "tmpfs", 0, options) == 0 ? 0 : CHILD_SKIP;
}

/* In a child with a mount namespace of its own. cmocka's assertions are not for children, so go_round()
 * is not used. */
static int fill_and_empty(sharena_t *heap, size_t bytes, uint64_t least_bytes) {
    size_t count = fill_up(heap, bytes);
    REQUIRE(errno == ENOMEM);
    REQUIRE(strstr(sharena_errormsg(), "file system") != NULL);
    REQUIRE(count * bytes >= least_bytes);
    REQUIRE(clean_is_not(heap) == 0);
    for (size_t i = 0; i < count; i++) { /* every page is really there */
        REQUIRE(*(unsigned char *)blocks[i] == (((int)i | 1) & 0xff));
    }
    REQUIRE(sharena_root_set(heap, "name", blocks[0]) == 0);
    REQUIRE(look_after_a_full_heap(heap) == 0);
    sharena_free_batch(heap, count, blocks); /* needs no space */
    REQUIRE(sharena_root_set(heap, "name", NULL) == 0);
    REQUIRE(clean_is_not(heap) == 0);
    void *again = sharena_malloc(heap, 4 * MIB);
    REQUIRE(again != NULL);
    memset(again, 1, 4 * MIB);
    sharena_free(heap, again);
    return 0;
}

static int fill_small_tmpfs(void *arg) {
    (void)arg;
    sharena_t *heap;
    struct sharena_report report;
    static const struct sharena_options options = {.capacity_bytes = GIB};
    int mounted = mount_small("16M");
    if (mounted != 0) {
        return mounted;
    }
    REQUIRE(sharena_open("/tmp/sharena-test-tmpfs/heap", &options, &heap) == 0);
    static const size_t sizes[] = {64, 3000, 20000, MIB, 2 * MIB, 14336};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        REQUIRE(fill_and_empty(heap, sizes[i], 9 * MIB) == 0);
    }
    /* Somebody else fills the rest: what is backed can still be used. */
    REQUIRE(sharena_purge(heap) == 0);
    void *kept = sharena_malloc(heap, 100000);
    int fd = open("/tmp/sharena-test-tmpfs/other", O_RDWR | O_CREAT, 0600);
    REQUIRE(kept != NULL && fd >= 0);
    static char page[4096];
    while (write(fd, page, sizeof(page)) > 0) {
    }
    REQUIRE(sharena_malloc(heap, 50 * MIB) == NULL && errno == ENOMEM);
    memset(kept, 7, 100000);
    sharena_free(heap, kept);
    for (int i = 0; i < 1000; i++) {
        void *block = sharena_malloc(heap, 1000);
        REQUIRE(block != NULL || errno == ENOMEM);
        sharena_free(heap, block);
    }
    REQUIRE(sharena_purge(heap) == 0);
    REQUIRE(sharena_check(heap, &report) == 0 && report.blocks_live == 0);
    /* What the purge gave back, tables too, is somebody else's now. */
    while (write(fd, page, sizeof(page)) > 0) {
    }
    static const size_t all_sizes[] = {1, 100, 20000, MIB, 3 * MIB};
    for (size_t i = 0; i < 5; i++) {
        REQUIRE(sharena_malloc(heap, all_sizes[i]) == NULL && errno == ENOMEM);
    }
    REQUIRE(sharena_purge(heap) == 0 && clean_is_not(heap) == 0);
    REQUIRE(ftruncate(fd, 0) == 0);
    kept = sharena_malloc(heap, MIB);
    REQUIRE(kept != NULL);
    memset(kept, 7, MIB);
    sharena_free(heap, kept);
    REQUIRE(clean_is_not(heap) == 0);
    REQUIRE(sharena_close(heap) == 0);
    return 0;
}

/* From no room at all, page by page, to room enough: never SIGBUS. */
static int open_in_tiny_tmpfs(void *arg) {
    (void)arg;
    static const struct sharena_options options = {.capacity_bytes = GIB};
    int mounted = mount_small("2M");
    if (mounted != 0) {
        return mounted;
    }
    int fd = open("/tmp/sharena-test-tmpfs/other", O_RDWR | O_CREAT, 0600);
    static char page[4096];
    off_t used = 0;
    while (write(fd, page, sizeof(page)) > 0) {
        used += (off_t)sizeof(page);
    }
    int opened = 0;
    int served = 0;
    for (; used >= 0; used -= (off_t)sizeof(page)) {
        sharena_t *heap;
        int error = sharena_open("/tmp/sharena-test-tmpfs/heap", &options, &heap);
        REQUIRE(error == 0 || error == ENOMEM || error == ENOSPC);
        REQUIRE(error == 0 || access("/tmp/sharena-test-tmpfs/heap", F_OK) != 0);
        if (error == 0) {
            opened++;
            void *block = sharena_malloc(heap, 100);
            REQUIRE(block != NULL || (errno == ENOMEM && strlen(sharena_errormsg()) > 0));
            served += block != NULL;
            sharena_free(heap, block);
            REQUIRE(block == NULL || clean_is_not(heap) == 0);
            REQUIRE(sharena_close(heap) == 0);
            REQUIRE(sharena_unlink("/tmp/sharena-test-tmpfs/heap") == 0);
        }
        REQUIRE(ftruncate(fd, used) == 0);
    }
    REQUIRE(opened > 100 && served > 10 && served < opened);
    return 0;
}

static void test_full_tmpfs(void **state) {
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can mount a small tmpfs\n");
        skip();
    }
    child_run(fill_small_tmpfs, NULL);
    child_run(open_in_tiny_tmpfs, NULL);
    (void)rmdir(folder);
}

#define clean(f) cmocka_unit_test_teardown(f, clean_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        clean(test_limit),
        clean(test_limit_of_almost_nothing),
        clean(test_capacity),
        clean(test_every_call_in_a_full_heap),
        clean(test_looking_after_a_full_heap),
        clean(test_dirty_memory_of_another_arena_is_found),
        clean(test_memory_of_the_dead_is_found),
        clean(test_full_tmpfs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
