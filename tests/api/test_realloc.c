/* ctest: inprocess */
/* test_realloc.c -- sharena_realloc, rallocx and xallocx in all directions between small, large, huge. */
#include "clean_heap.h"

static char path[SCRATCH_MAX];
static sharena_t *heap;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open(scratch_path(path, "realloc"));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

static const size_t sizes[] = {0,           1,       8,       9,       100,     1000,
                               4096,        14336,   14337,   20000,   65536,   MIB,
                               7 * MIB / 4, 2 * MIB, 3 * MIB, 4 * MIB, 5 * MIB, 9 * MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* From every size to every size, with a neighbour in the way and without. */
static void move_between(size_t from, size_t to, int is_hemmed, int flags) {
    unsigned char *block = sharena_malloc(heap, from);
    assert_non_null(block);
    void *neighbour = is_hemmed ? sharena_malloc(heap, from) : NULL;
    clean_fill(block, from, from + 7);
    unsigned char *moved =
        flags < 0 ? sharena_realloc(heap, block, to) : sharena_rallocx(heap, block, to, flags);
    assert_non_null(moved);
    assert_true(sharena_usable_size(heap, moved) >= to);
    assert_int_equal(clean_compare(moved, smaller(from, to), from + 7), smaller(from, to));
    memset(moved, 0x77, sharena_usable_size(heap, moved));
    sharena_free(heap, moved);
    sharena_free(heap, neighbour);
}

static void test_every_direction(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t j = 0; j < SIZES; j++) {
            move_between(sizes[i], sizes[j], 0, -1);
            move_between(sizes[i], sizes[j], 1, -1);
        }
    }
    clean_check(heap, 0);
}

static void test_every_direction_past_the_cache(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t j = 0; j < SIZES; j++) {
            move_between(sizes[i], sizes[j], (int)(i + j) % 2, SHARENA_TCACHE_NONE);
        }
    }
}

/* Grows step by step from one byte to 10 MiB and back: contents stay. */
static void test_long_chain(void **state) {
    (void)state;
    size_t bytes = 1;
    unsigned char *block = sharena_realloc(heap, NULL, bytes); /* NULL: malloc */
    clean_fill(block, bytes, 3);
    while (bytes < 10 * MIB) {
        size_t more = bytes + bytes / 3 + 1;
        block = sharena_realloc(heap, block, more);
        assert_non_null(block);
        assert_int_equal(clean_compare(block, bytes, 3), bytes);
        clean_fill(block, more, 3);
        bytes = more;
    }
    clean_check(heap, 1);
    while (bytes > 1) {
        bytes -= bytes / 4 + 1;
        block = sharena_realloc(heap, block, bytes);
        assert_non_null(block);
        assert_int_equal(clean_compare(block, bytes, 3), bytes);
    }
    sharena_free(heap, block);
}

static void test_size_zero_frees(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        void *block = sharena_malloc(heap, sizes[i]);
        void *left = sharena_realloc(heap, block, 0);
        assert_non_null(left);
        assert_int_equal(sharena_usable_size(heap, left), sharena_good_size(heap, 0));
        clean_check(heap, 1);
        sharena_free(heap, left);
    }
    void *first = sharena_realloc(heap, NULL, 0);
    assert_non_null(first);
    sharena_free(heap, first);
}

/* Same class: nothing moves, whatever is live around it. */
static void test_same_class_stays(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        void *block = sharena_malloc(heap, sizes[i]);
        size_t real = sharena_usable_size(heap, block);
        assert_ptr_equal(sharena_realloc(heap, block, real), block);
        assert_ptr_equal(sharena_rallocx(heap, block, real, 0), block);
        assert_int_equal(sharena_xallocx(heap, block, real, 0, 0), real);
        sharena_free(heap, block);
    }
}

/* Large and huge blocks grow and shrink where they are, if there is room behind. */
static void test_in_place(void **state) {
    (void)state;
    void *large = sharena_malloc(heap, 100 * KIB);
    assert_ptr_equal(sharena_realloc(heap, large, 900 * KIB), large);
    assert_ptr_equal(sharena_realloc(heap, large, 50 * KIB), large);
    void *huge = sharena_malloc(heap, 20 * MIB);
    assert_ptr_equal(sharena_realloc(heap, huge, 6 * MIB), huge);
    assert_ptr_equal(sharena_realloc(heap, huge, 19 * MIB), huge);
    clean_check(heap, 2);
    sharena_free(heap, large);
    sharena_free(heap, huge);
}

static void test_failure_leaves_the_block(void **state) {
    (void)state;
    static const size_t some[] = {100, 50000, 8 * MIB};
    for (size_t i = 0; i < 3; i++) {
        void *block = sharena_malloc(heap, some[i]);
        clean_fill(block, some[i], i);
        errno = 0;
        assert_null(sharena_realloc(heap, block, 2 * GIB));
        assert_int_equal(errno, ENOMEM);
        assert_null(sharena_realloc(heap, block, GIB - 1 * MIB)); /* fits the class, not the heap */
        assert_int_equal(clean_compare(block, some[i], i), some[i]);
        clean_check(heap, 1);
        sharena_free(heap, block);
    }
}

/* ---- xallocx ---- */

/* Never moves; the result is the real size, whether it changed or not. */
static void test_xallocx_returns_the_real_size(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t j = 0; j < SIZES; j++) {
            unsigned char *block = sharena_malloc(heap, sizes[i]);
            clean_fill(block, sizes[i], 5);
            size_t before = sharena_usable_size(heap, block);
            size_t real = sharena_xallocx(heap, block, sizes[j], 0, 0);
            assert_int_equal(real, sharena_usable_size(heap, block));
            assert_true(real == before || real == sharena_good_size(heap, sizes[j]));
            size_t kept = smaller(sizes[i], real);
            assert_int_equal(clean_compare(block, kept, 5), kept);
            sharena_free(heap, block);
        }
    }
}

static void test_xallocx_small_stays(void **state) {
    (void)state;
    void *block = sharena_malloc(heap, 100);
    assert_int_equal(sharena_xallocx(heap, block, 200, 0, 0), 112);
    assert_int_equal(sharena_xallocx(heap, block, 10, 0, 0), 112);
    assert_int_equal(sharena_xallocx(heap, block, 50, 1000, 0), 112);
    assert_int_equal(sharena_xallocx(heap, block, 50, SIZE_MAX, 0), 112);
    assert_int_equal(sharena_xallocx(heap, block, SIZE_MAX, SIZE_MAX, 0), 112);
    sharena_free(heap, block);
}

static void test_xallocx_takes_the_extra(void **state) {
    (void)state;
    void *block = sharena_malloc(heap, 64 * KIB);
    assert_int_equal(sharena_xallocx(heap, block, 64 * KIB, 64 * KIB, 0), 128 * KIB);
    /* More than what is left of the chunk cannot be had, so it takes that. */
    size_t real = sharena_xallocx(heap, block, 160 * KIB, SIZE_MAX, 0);
    assert_in_range(real, MIB, 7 * MIB / 4);
    assert_int_equal(sharena_usable_size(heap, block), real);
    sharena_free(heap, block);
}

/* What is big enough already does not shrink because the extra cannot be had. */
static void test_xallocx_keeps_what_is_enough(void **state) {
    (void)state;
    void *low = sharena_malloc(heap, 256 * KIB);
    void *high = sharena_malloc(heap, 256 * KIB); /* in its way */
    assert_true(low < high);
    assert_int_equal(sharena_xallocx(heap, low, 64 * KIB, 4 * MIB, 0), 256 * KIB);
    sharena_free(heap, low);
    sharena_free(heap, high);
    void *first = sharena_malloc(heap, 8 * MIB);
    void *second = sharena_malloc(heap, 8 * MIB); /* in the way of the first */
    if (second < first) {
        void *swap = first;
        first = second;
        second = swap;
    }
    assert_int_equal(sharena_xallocx(heap, first, 4 * MIB, 60 * MIB, 0), 8 * MIB);
    sharena_free(heap, first);
    sharena_free(heap, second);
}

static void test_xallocx_shrinks(void **state) {
    (void)state;
    void *block = sharena_malloc(heap, MIB);
    assert_int_equal(sharena_xallocx(heap, block, 32 * KIB, 0, 0), 32 * KIB);
    clean_check(heap, 1);
    sharena_free(heap, block);
    block = sharena_malloc(heap, 40 * MIB);
    assert_int_equal(sharena_xallocx(heap, block, 5 * MIB, 0, 0), 5 * MIB);
    clean_check(heap, 1);
    sharena_free(heap, block);
}

/* ---- zeroing ---- */

/* All that a chain of zeroing calls ever handed out is zero where nothing was written. */
static void test_rallocx_zeroes_what_is_new(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t j = 0; j < SIZES; j++) {
            void *dirty[2] = {sharena_malloc(heap, sizes[i]), sharena_malloc(heap, sizes[j])};
            for (int k = 0; k < 2; k++) {
                memset(dirty[k], 0xbb, sharena_usable_size(heap, dirty[k]));
            }
            sharena_free_batch(heap, 2, dirty);
            unsigned char *block = sharena_mallocx(heap, sizes[i], SHARENA_ZERO);
            clean_fill(block, sizes[i], 9);
            block = sharena_rallocx(heap, block, sizes[j], SHARENA_ZERO);
            assert_non_null(block);
            size_t kept = smaller(sizes[i], sizes[j]);
            assert_int_equal(clean_compare(block, kept, 9), kept);
            assert_true(clean_is_zero(block + kept, sizes[j] - kept));
            memset(block, 0xcc, sharena_usable_size(heap, block));
            sharena_free(heap, block);
        }
    }
}

static void test_xallocx_zeroes_what_is_new(void **state) {
    (void)state;
    static const size_t some[][2] = {{64 * KIB, 512 * KIB}, {6 * MIB, 28 * MIB}};
    for (int i = 0; i < 2; i++) {
        unsigned char *block = sharena_malloc(heap, some[i][1]);
        memset(block, 0xee, some[i][1]);
        assert_int_equal(sharena_xallocx(heap, block, some[i][0], 0, 0), some[i][0]);
        assert_int_equal(sharena_xallocx(heap, block, some[i][1], 0, SHARENA_ZERO), some[i][1]);
        assert_int_equal(block[0], 0xee);
        assert_int_equal(block[some[i][0] - 1], 0xee);
        assert_true(clean_is_zero(block + some[i][0], some[i][1] - some[i][0]));
        sharena_free(heap, block);
    }
}

/* ---- alignment ---- */

static void test_rallocx_keeps_its_alignment(void **state) {
    (void)state;
    for (int lg = 4; lg <= 22; lg += 3) {
        unsigned char *block = sharena_mallocx(heap, 100, SHARENA_LG_ALIGN(lg));
        size_t bytes = 100;
        clean_fill(block, bytes, (uint64_t)lg);
        for (int step = 0; step < 6; step++) {
            block = sharena_rallocx(heap, block, bytes * 5, SHARENA_LG_ALIGN(lg));
            assert_non_null(block);
            assert_int_equal((uintptr_t)block & (((uintptr_t)1 << lg) - 1), 0);
            assert_int_equal(clean_compare(block, bytes, (uint64_t)lg), bytes);
            bytes *= 5;
            clean_fill(block, bytes, (uint64_t)lg);
        }
        sharena_dallocx(heap, block, SHARENA_LG_ALIGN(lg));
    }
}

/* A block that is not aligned as wished moves, even if its size would do. */
static void test_rallocx_raises_the_alignment(void **state) {
    (void)state;
    static const size_t some[][2] = {{48, 1024}, {20 * KIB, 64 * KIB}, {2 * MIB, 8 * MIB}};
    for (int kind = 0; kind < 3; kind++) {
        void *blocks[9];
        size_t size = some[kind][0];
        for (int i = 0; i < 9; i++) {
            blocks[i] = sharena_malloc(heap, size);
            clean_fill(blocks[i], size, (uint64_t)i);
        }
        for (int i = 0; i < 9; i++) {
            blocks[i] = sharena_rallocx(heap, blocks[i], size, SHARENA_ALIGN(some[kind][1]));
            assert_int_equal((uintptr_t)blocks[i] % some[kind][1], 0);
            assert_int_equal(clean_compare(blocks[i], size, (uint64_t)i), size);
        }
        sharena_free_batch(heap, 9, blocks);
    }
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_every_direction),
        with_heap(test_every_direction_past_the_cache),
        with_heap(test_long_chain),
        with_heap(test_size_zero_frees),
        with_heap(test_same_class_stays),
        with_heap(test_in_place),
        with_heap(test_failure_leaves_the_block),
        with_heap(test_xallocx_returns_the_real_size),
        with_heap(test_xallocx_small_stays),
        with_heap(test_xallocx_takes_the_extra),
        with_heap(test_xallocx_keeps_what_is_enough),
        with_heap(test_xallocx_shrinks),
        with_heap(test_rallocx_zeroes_what_is_new),
        with_heap(test_xallocx_zeroes_what_is_new),
        with_heap(test_rallocx_keeps_its_alignment),
        with_heap(test_rallocx_raises_the_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
