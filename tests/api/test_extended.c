/* ctest: inprocess */
/* test_extended.c -- mallocx, sallocx, dallocx, sdallocx, nallocx and their flags. */
#include "clean_heap.h"

static char path[SCRATCH_MAX];
static sharena_t *heap;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open(scratch_path(path, "extended"));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

static void test_unknown_flags(void **state) {
    (void)state;
    static const int bad[] = {0x100, 0x800, 0x80000, 0x40 | 0x200, SHARENA_LG_ALIGN(63), -1};
    void *kept = sharena_malloc(heap, 32);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        errno = 0;
        assert_null(sharena_mallocx(heap, 32, bad[i]));
        assert_int_equal(errno, EINVAL);
        assert_non_null(strstr(sharena_errormsg(), "flags"));
        errno = 0;
        assert_null(sharena_rallocx(heap, kept, 64, bad[i]));
        assert_int_equal(errno, EINVAL);
        assert_int_equal(sharena_nallocx(heap, 32, bad[i]), 0);
        assert_int_equal(sharena_xallocx(heap, kept, 64, 0, bad[i]), 32);
    }
    sharena_free(heap, kept);
}

static void test_arenas(void **state) {
    (void)state;
    errno = 0;
    assert_null(sharena_mallocx(heap, 32, SHARENA_ARENA(1000)));
    assert_int_equal(errno, EINVAL);
    assert_non_null(strstr(sharena_errormsg(), "arena 1000"));
    errno = 0;
    assert_null(sharena_mallocx(heap, 32, SHARENA_ARENA(1024))); /* there can never be one */
    assert_int_equal(errno, EINVAL);
    static const size_t some[] = {8, 5000, 100000, 3 * MIB};
    for (size_t i = 0; i < 4; i++) { /* a heap in use has arena 0 */
        void *block = sharena_mallocx(heap, some[i], SHARENA_ARENA(0));
        assert_non_null(block);
        assert_int_equal(sharena_sallocx(heap, block, 0), sharena_nallocx(heap, some[i], 0));
        block = sharena_rallocx(heap, block, some[i] * 2, SHARENA_ARENA(0));
        assert_non_null(block);
        sharena_dallocx(heap, block, SHARENA_ARENA(0));
    }
}

/* Past the cache: the report counts nothing as cached that was not there before. */
static void test_tcache_none(void **state) {
    (void)state;
    struct sharena_report before;
    struct sharena_report after;
    void *blocks[100];
    assert_int_equal(sharena_purge(heap), 0);
    assert_int_equal(sharena_check(heap, &before), 0);
    for (int i = 0; i < 100; i++) {
        blocks[i] = sharena_mallocx(heap, 64, SHARENA_TCACHE_NONE);
        assert_non_null(blocks[i]);
    }
    assert_int_equal(sharena_check(heap, &after), 0);
    assert_int_equal(after.blocks_live, before.blocks_live + 100);
    assert_int_equal(after.bytes_live, before.bytes_live + 100 * 64);
    assert_int_equal(after.blocks_cached, before.blocks_cached);
    for (int i = 0; i < 100; i++) {
        sharena_sdallocx(heap, blocks[i], 64, SHARENA_TCACHE_NONE);
    }
    assert_int_equal(sharena_check(heap, &after), 0);
    assert_int_equal(after.blocks_live, before.blocks_live);
    assert_int_equal(after.blocks_cached, before.blocks_cached);
}

static void test_through_the_cache(void **state) {
    (void)state;
    struct sharena_report report;
    void *block = sharena_malloc(heap, 64);
    sharena_free(heap, block);
    assert_ptr_equal(sharena_malloc(heap, 64), block); /* the newest first */
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_true(report.blocks_cached > 0);
    assert_true(report.bytes_cached >= report.blocks_cached * 64);
    sharena_free(heap, block);
}

static void test_sized_free_of_every_size(void **state) {
    (void)state;
    for (size_t size = 0; size < 3 * MIB; size += size / 5 + 1) {
        void *block = sharena_malloc(heap, size);
        size_t real = sharena_usable_size(heap, block);
        sharena_free_sized(heap, block, size);
        block = sharena_malloc(heap, size);
        sharena_free_sized(heap, block, real); /* what it really holds is right as well */
        block = sharena_mallocx(heap, size, SHARENA_LG_ALIGN(9));
        sharena_sdallocx(heap, block, size, SHARENA_LG_ALIGN(9));
    }
    sharena_sdallocx(heap, NULL, 7, 0);
}

static void test_nallocx_is_what_mallocx_gives(void **state) {
    (void)state;
    for (size_t size = 0; size < 5 * MIB; size += size / 3 + 1) {
        for (int lg = 0; lg < 14; lg += 3) {
            void *block = sharena_mallocx(heap, size, SHARENA_LG_ALIGN(lg));
            assert_int_equal(sharena_sallocx(heap, block, 0),
                             sharena_nallocx(heap, size, SHARENA_LG_ALIGN(lg)));
            sharena_dallocx(heap, block, 0);
        }
    }
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_unknown_flags),
        with_heap(test_arenas),
        with_heap(test_tcache_none),
        with_heap(test_through_the_cache),
        with_heap(test_sized_free_of_every_size),
        with_heap(test_nallocx_is_what_mallocx_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
