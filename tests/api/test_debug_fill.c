/* test_debug_fill.c -- what blocks are filled with, by every way to get one. */
#include "clean_heap.h"

static char path[SCRATCH_MAX];
static sharena_t *heap;
static void **cell; /* a variable in the heap, for malloc_to */

static void begin(const char *conf) {
    struct sharena_options options = clean_options();
    options.conf = conf;
    heap = clean_open_with(scratch_path(path, "fill"), &options);
    cell = sharena_calloc(heap, 1, sizeof(*cell));
    assert_non_null(cell);
}

static void end(void) {
    sharena_free(heap, cell);
    clean_end(heap, path, 0);
}

/* ---- ways to get a block ---- */

static void *by_malloc(size_t size) {
    return sharena_malloc(heap, size);
}

static void *by_calloc(size_t size) {
    return sharena_calloc(heap, 1, size);
}

static void *by_aligned_alloc(size_t size) {
    return sharena_aligned_alloc(heap, 256, size);
}

static void *by_wide_alignment(size_t size) {
    return sharena_aligned_alloc(heap, 64 * KIB, size);
}

static void *by_mallocx(size_t size) {
    return sharena_mallocx(heap, size, SHARENA_TCACHE_NONE);
}

static void *by_mallocx_zero(size_t size) {
    return sharena_mallocx(heap, size, SHARENA_ZERO);
}

static void *by_realloc_of_nothing(size_t size) {
    return sharena_realloc(heap, NULL, size);
}

static void *by_batch(size_t size) {
    void *block = NULL;
    assert_int_equal(sharena_malloc_batch(heap, size, 1, &block), 1);
    return block;
}

static void *by_malloc_to(size_t size) {
    assert_int_equal(sharena_malloc_to(heap, size, cell), 0);
    return *cell;
}

struct way {
    void *(*get)(size_t size);
    int zeroes; /* whatever the options */
};

static const struct way ways[] = {
    {by_malloc, 0},    {by_calloc, 1},       {by_aligned_alloc, 0},      {by_wide_alignment, 0},
    {by_mallocx, 0},   {by_mallocx_zero, 1}, {by_realloc_of_nothing, 0}, {by_batch, 0},
    {by_malloc_to, 0},
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static const size_t sizes[] = {1, 8, 100, 5000, 14336, 20000, 100000, 3 * MIB, 9 * MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* ---- what is in it ---- */

static int is_all(const void *block, size_t from, size_t to, unsigned char value) {
    const unsigned char *byte = block;
    for (size_t i = from; i < to; i++) {
        if (byte[i] != value) {
            (void)fprintf(stderr, "byte %zu of %zu is %#x, not %#x\n", i, to, byte[i], value);
            return 0;
        }
    }
    return 1;
}

/* The storage that is handed out next has other contents. */
static void soil(size_t size) {
    void *blocks[3];
    for (int i = 0; i < 3; i++) {
        blocks[i] = sharena_mallocx(heap, size, i == 2 ? SHARENA_TCACHE_NONE : 0);
        assert_non_null(blocks[i]);
        memset(blocks[i], 0x77, sharena_usable_size(heap, blocks[i]));
    }
    for (int i = 0; i < 3; i++) {
        sharena_dallocx(heap, blocks[i], i == 2 ? SHARENA_TCACHE_NONE : 0);
    }
}

static void assert_new_blocks_are(unsigned char value) {
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t way = 0; way < WAYS; way++) {
            soil(sizes[i]);
            char *block = ways[way].get(sizes[i]);
            assert_non_null(block);
            size_t bytes = ways[way].zeroes ? sizes[i] : sharena_usable_size(heap, block);
            assert_true(is_all(block, 0, bytes, ways[way].zeroes ? 0 : value));
            sharena_free(heap, block);
        }
    }
}

struct growth {
    size_t from;
    size_t to;
};

/* Elsewhere and in place, of all kinds. */
static const struct growth growths[] = {{10, 100},       {100, 20000},      {20000, 40000},
                                        {40000, 200000}, {200000, 3 * MIB}, {3 * MIB, 7 * MIB}};
#define GROWTHS (sizeof(growths) / sizeof(growths[0]))

static void assert_new_tails_are(unsigned char value, int flags) {
    for (size_t i = 0; i < GROWTHS; i++) {
        soil(growths[i].to);
        char *block = sharena_malloc(heap, growths[i].from);
        assert_non_null(block);
        size_t before = sharena_usable_size(heap, block);
        memset(block, 0x11, before);
        block = sharena_rallocx(heap, block, growths[i].to, flags);
        assert_non_null(block);
        assert_true(is_all(block, 0, before, 0x11));
        assert_true(is_all(block, before, sharena_usable_size(heap, block), value));
        sharena_free(heap, block);
    }
}

static void assert_tail_in_place_is(unsigned char value, int flags) {
    assert_int_equal(sharena_purge(heap), 0);
    soil(300000); /* the block comes from there */
    char *block = sharena_mallocx(heap, 20000, SHARENA_TCACHE_NONE);
    assert_non_null(block);
    size_t before = sharena_usable_size(heap, block);
    memset(block, 0x11, before);
    size_t after = sharena_xallocx(heap, block, 50000, 0, flags);
    assert_true(after >= 50000);
    assert_true(is_all(block, 0, before, 0x11));
    assert_true(is_all(block, before, after, value));
    sharena_free(heap, block);
}

/* ---- zero ---- */

static void test_zero(void **state) {
    (void)state;
    begin("zero:true");
    assert_new_blocks_are(0);
    assert_new_tails_are(0, 0);
    assert_new_tails_are(0, SHARENA_ZERO);
    assert_tail_in_place_is(0, 0);
    end();
}

/* ---- junk ---- */

static void test_junk_of_new_blocks(void **state) {
    (void)state;
    begin("junk:alloc,zero:true");
    assert_new_blocks_are(0xa5);
    assert_new_tails_are(0xa5, 0);
    assert_new_tails_are(0, SHARENA_ZERO);
    assert_tail_in_place_is(0xa5, 0);
    assert_tail_in_place_is(0, SHARENA_ZERO);
    end();
}

static void by_free(void *block) {
    sharena_free(heap, block);
}

static void by_free_sized(void *block) {
    sharena_free_sized(heap, block, 1);
}

static void by_dallocx(void *block) {
    sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
}

static void by_realloc_to_nothing(void *block) {
    sharena_free(heap, sharena_realloc(heap, block, 0));
}

static void by_free_batch(void *block) {
    sharena_free_batch(heap, 1, &block);
}

static void by_free_from(void *block) {
    *cell = block;
    assert_int_equal(sharena_free_from(heap, cell), 0);
}

static void (*const ends[])(void *block) = {by_free,       by_free_sized, by_dallocx,
                                            by_free_batch, by_free_from,  by_realloc_to_nothing};

/* What was freed stays readable: the run, or the chunk, is not given back at once. */
static void test_junk_of_freed_blocks(void **state) {
    (void)state;
    begin("junk:free,dirty_decay_ms:-1");
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t end_by = 0; end_by < sizeof(ends) / sizeof(ends[0]); end_by++) {
            if (sizes[i] <= 8 && ends[end_by] == by_realloc_to_nothing) {
                continue; /* stays where it is */
            }
            char *block = sharena_malloc(heap, sizes[i]);
            assert_non_null(block);
            size_t bytes = sharena_usable_size(heap, block);
            memset(block, 0x11, bytes);
            ends[end_by](block);
            assert_true(is_all(block, 0, bytes, 0x5a));
        }
    }
    end();
}

/* What a block loses at its end, where it is or by a move. */
static void test_junk_of_what_shrinks(void **state) {
    (void)state;
    begin("junk:free,dirty_decay_ms:-1");
    for (size_t i = 0; i < GROWTHS; i++) {
        char *block = sharena_malloc(heap, growths[i].to);
        assert_non_null(block);
        size_t before = sharena_usable_size(heap, block);
        memset(block, 0x11, before);
        char *now = sharena_realloc(heap, block, growths[i].from);
        assert_non_null(now);
        size_t after = sharena_usable_size(heap, now);
        assert_true(is_all(now, 0, growths[i].from, 0x11));
        assert_true(is_all(block, now == block ? after : 0, before, 0x5a));
        sharena_free(heap, now);
    }
    end();
}

static void test_junk_of_all(void **state) {
    (void)state;
    begin("junk:true");
    char *block = sharena_malloc(heap, 100);
    assert_true(is_all(block, 0, 112, 0xa5));
    sharena_free(heap, block);
    assert_true(is_all(block, 0, 112, 0x5a));
    end();
}

/* The same storage without the option, so that the test above could have failed. */
static void test_nothing_is_filled_without(void **state) {
    (void)state;
    begin(NULL);
    soil(100);
    char *block = sharena_malloc(heap, 100);
    assert_true(is_all(block, 0, 100, 0x77));
    sharena_free(heap, block);
    assert_tail_in_place_is(0, SHARENA_ZERO);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero),
        cmocka_unit_test(test_junk_of_new_blocks),
        cmocka_unit_test(test_junk_of_freed_blocks),
        cmocka_unit_test(test_junk_of_what_shrinks),
        cmocka_unit_test(test_junk_of_all),
        cmocka_unit_test(test_nothing_is_filled_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
