/* ctest: inprocess */
/* test_malloc.c -- sharena_malloc, calloc, free and the sizes they speak of. */
#include "clean_heap.h"

static char path[SCRATCH_MAX];
static sharena_t *heap;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open(scratch_path(path, "malloc"));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

/* Sizes around every boundary there is: quantum, table, small, large, chunk. */
static const size_t sizes[] = {0,
                               1,
                               7,
                               8,
                               9,
                               15,
                               16,
                               17,
                               24,
                               32,
                               33,
                               127,
                               128,
                               129,
                               255,
                               1023,
                               1024,
                               4095,
                               4096,
                               4097,
                               14335,
                               14336,
                               14337,
                               16384,
                               16385,
                               32768,
                               32769,
                               65536,
                               MIB,
                               7 * MIB / 4,
                               7 * MIB / 4 + 1,
                               2 * MIB - 1,
                               2 * MIB,
                               2 * MIB + 1,
                               5 * MIB,
                               17 * MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void test_every_size_holds_what_was_asked(void **state) {
    (void)state;
    void *blocks[SIZES];
    for (size_t i = 0; i < SIZES; i++) {
        blocks[i] = sharena_malloc(heap, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % (sizes[i] <= 8 ? 8 : 16), 0);
        assert_true(sharena_usable_size(heap, blocks[i]) >= sizes[i]);
        assert_int_equal(sharena_usable_size(heap, blocks[i]), sharena_good_size(heap, sizes[i]));
        assert_int_equal(sharena_sallocx(heap, blocks[i], 0), sharena_good_size(heap, sizes[i]));
        clean_fill(blocks[i], sharena_usable_size(heap, blocks[i]), i);
    }
    for (size_t i = 0; i < SIZES; i++) { /* filled to the brim, no block has touched another */
        size_t bytes = sharena_usable_size(heap, blocks[i]);
        assert_int_equal(clean_compare(blocks[i], bytes, i), bytes);
        sharena_free(heap, blocks[i]);
    }
}

/* At most 20 % of a block is waste: four classes per doubling. */
static void test_good_size_wastes_little(void **state) {
    (void)state;
    size_t before = 0;
    for (size_t size = 1; size < 64 * MIB; size += size / 37 + 1) {
        size_t good = sharena_good_size(heap, size);
        assert_true(good >= size && good >= before);
        assert_int_equal(sharena_good_size(heap, good), good);
        if (size > 128 && !(size > 14336 && size <= 16384)) {
            assert_true((good - size) * 5 <= good);
        }
        before = good;
    }
    assert_int_equal(sharena_good_size(heap, 2 * GIB), 0);
    assert_int_equal(sharena_good_size(heap, SIZE_MAX), 0);
}

static void test_size_zero_is_unique(void **state) {
    (void)state;
    void *blocks[64];
    for (int i = 0; i < 64; i++) {
        blocks[i] = sharena_malloc(heap, 0);
        assert_non_null(blocks[i]);
        for (int j = 0; j < i; j++) {
            assert_ptr_not_equal(blocks[i], blocks[j]);
        }
    }
    for (int i = 0; i < 64; i++) {
        sharena_free(heap, blocks[i]);
    }
    void *zeroed = sharena_calloc(heap, 0, 16);
    assert_non_null(zeroed);
    sharena_free(heap, zeroed);
}

static void assert_no_memory(void *result) {
    assert_null(result);
    assert_int_equal(errno, ENOMEM);
    assert_true(sharena_errormsg()[0] != '\0');
    errno = 0;
}

static volatile size_t huge_sizes[] = {SIZE_MAX,
                                       SIZE_MAX - 1,
                                       SIZE_MAX - 4096,
                                       (size_t)PTRDIFF_MAX,
                                       (size_t)PTRDIFF_MAX + 1,
                                       (size_t)1 << 47,
                                       (size_t)1 << 40,
                                       GIB + 1,
                                       2 * GIB};

static void test_more_than_can_be_had(void **state) {
    (void)state;
    void *kept = sharena_malloc(heap, 100);
    clean_fill(kept, 100, 1);
    for (size_t i = 0; i < sizeof(huge_sizes) / sizeof(huge_sizes[0]); i++) {
        size_t size = huge_sizes[i];
        assert_no_memory(sharena_malloc(heap, size));
        assert_no_memory(sharena_calloc(heap, 1, size));
        assert_no_memory(sharena_calloc(heap, size, 1));
        assert_no_memory(sharena_realloc(heap, kept, size));
        assert_no_memory(sharena_mallocx(heap, size, SHARENA_ZERO));
        assert_no_memory(sharena_rallocx(heap, kept, size, 0));
        assert_no_memory(sharena_aligned_alloc(heap, 64, size));
        assert_int_equal(sharena_nallocx(heap, size, 0), 0);
    }
    assert_int_equal(clean_compare(kept, 100, 1), 100);
    sharena_free(heap, kept);
}

static void test_calloc_overflow(void **state) {
    (void)state;
    volatile size_t half = (size_t)1 << 32;
    volatile size_t most = SIZE_MAX;
    assert_no_memory(sharena_calloc(heap, half, half));
    assert_non_null(strstr(sharena_errormsg(), "counted"));
    assert_no_memory(sharena_calloc(heap, most, 2));
    assert_no_memory(sharena_calloc(heap, 2, most));
    assert_no_memory(sharena_calloc(heap, half + 1, half)); /* the product is 2^32 */
}

/* Each size once dirty through and through, then as calloc gives it out again. */
static void test_calloc_after_dirty_memory(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (int round = 0; round < 3; round++) {
            unsigned char *dirty = sharena_malloc(heap, sizes[i]);
            assert_non_null(dirty);
            memset(dirty, 0xa5, sharena_usable_size(heap, dirty));
            sharena_free(heap, dirty);
            unsigned char *zeroed =
                round == 0   ? sharena_calloc(heap, 1, sizes[i])
                : round == 1 ? sharena_mallocx(heap, sizes[i], SHARENA_ZERO)
                             : sharena_mallocx(heap, sizes[i], SHARENA_ZERO | SHARENA_TCACHE_NONE);
            assert_non_null(zeroed);
            assert_true(clean_is_zero(zeroed, sizes[i]));
            memset(zeroed, 0x5a, sharena_usable_size(heap, zeroed));
            sharena_free(heap, zeroed);
        }
    }
}

/* Memory that went back to the file system is zero; memory of another size's past is not. */
static void test_calloc_from_recut_memory(void **state) {
    (void)state;
    unsigned char *blocks[32];
    for (int i = 0; i < 32; i++) {
        blocks[i] = sharena_malloc(heap, 96 * KIB);
        memset(blocks[i], 0xee, 96 * KIB);
    }
    for (int i = 0; i < 32; i++) {
        sharena_free(heap, blocks[i]);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 32; i++) {
            blocks[i] = sharena_calloc(heap, 3, 20000);
            assert_non_null(blocks[i]);
            assert_true(clean_is_zero(blocks[i], 60000));
            memset(blocks[i], 0xdd, 60000);
        }
        for (int i = 0; i < 32; i++) {
            sharena_free(heap, blocks[i]);
        }
        assert_int_equal(sharena_purge(heap), 0);
    }
}

static void test_free_keeps_errno(void **state) {
    (void)state;
    static const size_t some[] = {1, 100, 5000, 20000, 50000, 3 * MIB, 9 * MIB};
    sharena_free(heap, NULL);
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        void *a = sharena_malloc(heap, some[i]);
        void *b = sharena_malloc(heap, some[i]);
        void *c = sharena_malloc(heap, some[i]);
        errno = 4711;
        sharena_free(heap, a);
        sharena_free_sized(heap, b, some[i]);
        sharena_dallocx(heap, c, SHARENA_TCACHE_NONE);
        sharena_free(heap, NULL);
        sharena_free_sized(heap, NULL, 5);
        assert_int_equal(errno, 4711);
    }
    void *many[2000];
    assert_int_equal(sharena_malloc_batch(heap, 64, 2000, many), 2000);
    errno = 4712; /* flushes of full caches on the way */
    sharena_free_batch(heap, 2000, many);
    assert_int_equal(errno, 4712);
}

static void test_usable_size_of_null(void **state) {
    (void)state;
    assert_int_equal(sharena_usable_size(heap, NULL), 0);
}

/* What is live stays apart, whatever order it is freed in. */
static void test_random_mix_keeps_contents(void **state) {
    (void)state;
    enum { LIVE = 512, STEPS = 20000 };
    static struct {
        unsigned char *block;
        size_t bytes;
    } live[LIVE];
    uint64_t random = 42;
    for (uint64_t step = 0; step < STEPS; step++) {
        size_t at = clean_random(&random) % LIVE;
        if (live[at].block != NULL) {
            assert_int_equal(clean_compare(live[at].block, live[at].bytes, (uintptr_t)&live[at]),
                             live[at].bytes);
            sharena_free(heap, live[at].block);
        }
        size_t bytes = clean_random(&random) % ((size_t)1 << clean_random(&random) % 17);
        live[at].block = sharena_malloc(heap, bytes);
        live[at].bytes = bytes;
        assert_non_null(live[at].block);
        clean_fill(live[at].block, bytes, (uintptr_t)&live[at]);
    }
    uint64_t count = 0;
    for (size_t i = 0; i < LIVE; i++) {
        count += live[i].block != NULL;
    }
    clean_check(heap, count);
    for (size_t i = 0; i < LIVE; i++) {
        sharena_free(heap, live[i].block);
        live[i].block = NULL;
    }
}

static void test_batches(void **state) {
    (void)state;
    static void *ptrs[5000];
    static const size_t some[] = {0, 8, 64, 4000, 14336, 16384, 40000};
    assert_int_equal(sharena_malloc_batch(heap, 64, 0, NULL), 0);
    sharena_free_batch(heap, 0, NULL);
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        size_t count = some[i] > 5000 ? 300 : 5000;
        assert_int_equal(sharena_malloc_batch(heap, some[i], count, ptrs), count);
        for (size_t j = 0; j < count; j++) {
            assert_true(sharena_usable_size(heap, ptrs[j]) >= some[i]);
            memcpy(ptrs[j], &ptrs[j], some[i] < sizeof(void *) ? some[i] : sizeof(void *));
        }
        for (size_t j = 0; j < count && some[i] >= sizeof(void *); j++) {
            assert_ptr_equal(*(void **)ptrs[j], ptrs[j]);
        }
        clean_check(heap, count);
        sharena_free(heap, ptrs[1]);
        ptrs[1] = NULL; /* skipped */
        sharena_free_batch(heap, count, ptrs);
        clean_check(heap, 0);
    }
}

/* 1 GiB of 64 MiB blocks: the last calls fail, and say so. */
static void test_batch_ends_where_memory_ends(void **state) {
    (void)state;
    void *ptrs[20];
    errno = 0;
    size_t made = sharena_malloc_batch(heap, 64 * MIB, 20, ptrs);
    assert_in_range(made, 14, 16);
    assert_int_equal(errno, ENOMEM);
    assert_non_null(strstr(sharena_errormsg(), "capacity"));
    sharena_free_batch(heap, made, ptrs);
    assert_int_equal(sharena_malloc_batch(heap, 64 * MIB, 1, ptrs), 1);
    sharena_free_batch(heap, 1, ptrs);
    assert_int_equal(sharena_purge(heap), 0);
}

static void test_message_stays_until_the_next_failure(void **state) {
    (void)state;
    assert_null(sharena_malloc(heap, 4 * GIB));
    char kept[512];
    (void)snprintf(kept, sizeof(kept), "%s", sharena_errormsg());
    void *block = sharena_malloc(heap, 10);
    sharena_free(heap, block);
    assert_string_equal(sharena_errormsg(), kept);
    assert_non_null(strstr(kept, "4294967296"));
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_every_size_holds_what_was_asked),
        with_heap(test_good_size_wastes_little),
        with_heap(test_size_zero_is_unique),
        with_heap(test_more_than_can_be_had),
        with_heap(test_calloc_overflow),
        with_heap(test_calloc_after_dirty_memory),
        with_heap(test_calloc_from_recut_memory),
        with_heap(test_free_keeps_errno),
        with_heap(test_usable_size_of_null),
        with_heap(test_random_mix_keeps_contents),
        with_heap(test_batches),
        with_heap(test_batch_ends_where_memory_ends),
        with_heap(test_message_stays_until_the_next_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
