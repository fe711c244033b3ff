/* test_aligned.c -- alignments from 1 byte to half of the capacity, and those that are none. */
#include "clean_heap.h"

static char path[SCRATCH_MAX];

static int is_aligned(const void *ptr, size_t alignment) {
    return ((uintptr_t)ptr & (alignment - 1)) == 0;
}

/* 1 byte to 1 GiB and beyond, in a heap of the default capacity, wherever its base came to lie. */
static void test_every_power_of_two(void **state) {
    (void)state;
    for (int heaps = 0; heaps < 4; heaps++) {
        sharena_t *heap = clean_open_with(scratch_path(path, "aligned"), NULL);
        for (int lg = 0; lg <= 34; lg++) {
            size_t alignment = (size_t)1 << lg;
            unsigned char *block = sharena_aligned_alloc(heap, alignment, 100);
            if (block == NULL) {
                fail_msg("alignment 1 << %d: %s", lg, sharena_errormsg());
            }
            if (!is_aligned(block, alignment)) {
                fail_msg("alignment 1 << %d: %p, heap %p", lg, (void *)block, (void *)heap);
            }
            memset(block, 1, 100);
            sharena_free(heap, block);
        }
        clean_end(heap, path, 0);
    }
}

static const size_t sizes[] = {0,           1,       8,           100,       4095,
                               4096,        10000,   14337,       100 * KIB, 7 * MIB / 4,
                               2 * MIB - 5, 2 * MIB, 2 * MIB + 1, 5 * MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* All sizes at all alignments up to 8 MiB at once: nothing overlaps. */
static void test_sizes_at_alignments(void **state) {
    (void)state;
    sharena_t *heap = clean_open(scratch_path(path, "aligned"));
    static unsigned char *blocks[24][SIZES];
    for (int lg = 0; lg <= 23; lg++) {
        for (size_t i = 0; i < SIZES; i++) {
            int flags = SHARENA_LG_ALIGN(lg) | (i % 2 ? SHARENA_TCACHE_NONE : 0);
            blocks[lg][i] = sharena_mallocx(heap, sizes[i], flags);
            if (blocks[lg][i] == NULL) {
                fail_msg("%zu bytes at 1 << %d: %s", sizes[i], lg, sharena_errormsg());
            }
            assert_true(is_aligned(blocks[lg][i], (size_t)1 << lg));
            assert_true(sharena_usable_size(heap, blocks[lg][i]) >= sizes[i]);
            assert_int_equal(sharena_usable_size(heap, blocks[lg][i]),
                             sharena_nallocx(heap, sizes[i], SHARENA_LG_ALIGN(lg)));
            clean_fill(blocks[lg][i], sizes[i] < 20000 ? sizes[i] : 20000, (uint64_t)lg * 100 + i);
        }
    }
    clean_check(heap, 24 * SIZES);
    for (int lg = 23; lg >= 0; lg--) {
        for (size_t i = 0; i < SIZES; i++) {
            size_t bytes = sizes[i] < 20000 ? sizes[i] : 20000;
            assert_int_equal(clean_compare(blocks[lg][i], bytes, (uint64_t)lg * 100 + i), bytes);
            sharena_sdallocx(heap, blocks[lg][i], sizes[i], SHARENA_LG_ALIGN(lg));
        }
    }
    clean_end(heap, path, 0);
}

/* Twice the same, so that the second comes from memory that is dirty, cached or split. */
static void test_again_from_used_memory(void **state) {
    (void)state;
    sharena_t *heap = clean_open(scratch_path(path, "aligned"));
    uint64_t random = 5;
    void *blocks[200] = {NULL};
    for (int step = 0; step < 5000; step++) {
        size_t at = clean_random(&random) % 200;
        int lg = (int)(clean_random(&random) % 16);
        size_t bytes = clean_random(&random) % ((size_t)1 << clean_random(&random) % 18);
        sharena_free(heap, blocks[at]);
        blocks[at] = sharena_aligned_alloc(heap, (size_t)1 << lg, bytes);
        assert_non_null(blocks[at]);
        assert_true(is_aligned(blocks[at], (size_t)1 << lg));
        memset(blocks[at], 0x5c, bytes);
    }
    for (int i = 0; i < 200; i++) {
        sharena_free(heap, blocks[i]);
    }
    clean_end(heap, path, 0);
}

static void test_zeroed_and_aligned(void **state) {
    (void)state;
    sharena_t *heap = clean_open(scratch_path(path, "aligned"));
    for (int lg = 5; lg <= 22; lg++) {
        for (int round = 0; round < 2; round++) {
            unsigned char *block =
                sharena_mallocx(heap, 70 * KIB, SHARENA_ZERO | SHARENA_LG_ALIGN(lg));
            assert_true(is_aligned(block, (size_t)1 << lg));
            assert_true(clean_is_zero(block, 70 * KIB));
            memset(block, 0xff, 70 * KIB);
            sharena_free(heap, block);
        }
    }
    clean_end(heap, path, 0);
}

static volatile size_t bad[] = {0,
                                3,
                                24,
                                100,
                                4095,
                                GIB - 1,
                                SIZE_MAX,
                                ((size_t)1 << 63) + 1,
                                2 * GIB,
                                GIB,
                                (size_t)1 << 47,
                                (size_t)1 << 63};

/* Not a power of two, or more than half of the capacity. */
static void test_bad_alignments(void **state) {
    (void)state;
    sharena_t *heap = clean_open(scratch_path(path, "aligned"));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        errno = 0;
        assert_null(sharena_aligned_alloc(heap, bad[i], 64));
        assert_int_equal(errno, EINVAL);
        assert_non_null(strstr(sharena_errormsg(), "power of two"));
    }
    void *block = sharena_aligned_alloc(heap, GIB / 2, 64);
    assert_non_null(block);
    assert_true(is_aligned(block, GIB / 2));
    sharena_free(heap, block);
    errno = 0;
    assert_null(sharena_aligned_alloc(heap, 64, GIB * 2));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(SHARENA_ALIGN(1), 0);
    assert_int_equal(SHARENA_ALIGN(4096), SHARENA_LG_ALIGN(12));
    clean_end(heap, path, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_power_of_two),     cmocka_unit_test(test_sizes_at_alignments),
        cmocka_unit_test(test_again_from_used_memory), cmocka_unit_test(test_zeroed_and_aligned),
        cmocka_unit_test(test_bad_alignments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
