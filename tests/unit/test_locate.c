/* test_locate.c -- which block an address is in: every byte of every kind of block, and nothing else. */
/* ctest: inprocess */
#include "heap/locate.h"

#include "heap/run.h"
#include "heap_parts.h"

static sharena_t *heap;

static int open_locate(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    return error;
}

#define with_locate(f) cmocka_unit_test_setup_teardown(f, open_locate, heap_fixture_close)

static void assert_in(const char *ptr, const void *block, size_t bytes) {
    struct located located = locate_block(heap, ptr);
    if (located.block != block || located.bytes != bytes) {
        fail_msg("%p is in %p of %zu, not in %p of %zu", (const void *)ptr,
                 (const void *)located.block, located.bytes, block, bytes);
    }
}

static void test_every_kind_of_block(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 100, 5000, 14336, 20000, 100000, 1800000, 3 * MIB, 9 * MIB};
    char *blocks[sizeof(sizes) / sizeof(sizes[0])];
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        blocks[i] = sharena_malloc(heap, sizes[i]);
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t bytes = sharena_usable_size(heap, blocks[i]);
        for (size_t at = 0; at < bytes; at += bytes < 8192 ? 1 : 1021) {
            assert_in(blocks[i] + at, blocks[i], bytes);
        }
        assert_in(blocks[i] + bytes - 1, blocks[i], bytes);
        assert_ptr_not_equal(locate_block(heap, blocks[i] + bytes).block, blocks[i]);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        sharena_free(heap, blocks[i]);
    }
}

static void test_a_block_that_begins_at_a_line(void **state) {
    (void)state;
    fixture_attachment()->conf.cache_oblivious = 1;
    char *blocks[8];
    for (int i = 0; i < 8; i++) {
        blocks[i] = sharena_mallocx(heap, 40000, SHARENA_TCACHE_NONE);
        char *page = blocks[i] - (uintptr_t)blocks[i] % PAGE_BYTES;
        assert_in(blocks[i], blocks[i], 40960);
        assert_in(blocks[i] + 40959, blocks[i], 40960);
        if (page != blocks[i]) {
            assert_in(blocks[i] - 1, NULL, 0); /* before the block, in its page */
        }
    }
    for (int i = 0; i < 8; i++) {
        sharena_free(heap, blocks[i]);
    }
}

static void test_what_is_in_no_block(void **state) {
    (void)state;
    char *small = sharena_malloc(heap, 100);
    char *large = sharena_mallocx(heap, 100000, SHARENA_TCACHE_NONE);
    const struct run_shape *shape = sizeclass_run_shape(sizeclass_of(100));
    const char *run = page_address(heap, page_of(heap, small)); /* of one page, with a rest */
    assert_int_equal(shape->pages, 1);
    assert_in(run + (size_t)shape->regions * shape->region_bytes, NULL, 0);
    assert_in(large + 114688, NULL, 0); /* free pages behind it */
    sharena_dallocx(heap, large, SHARENA_TCACHE_NONE);
    assert_in(large, NULL, 0);
    assert_in(heap_bytes(heap), NULL, 0);
    assert_in(NULL, NULL, 0);
    assert_in(heap_bytes(heap) + heap_superblock(heap)->total_bytes - 1, NULL, 0);
    sharena_free(heap, small);
}

/* What the file says is not believed where it leads astray. */
static void test_a_run_that_is_damaged(void **state) {
    (void)state;
    char *block = sharena_malloc(heap, 100);
    uint32_t page = page_of(heap, block);
    struct run *first = heap_run(heap, first_page_of_chunk(chunk_of_page(page)));
    struct run *run = heap_run(heap, page);
    uint32_t size = shared_get(&first->size);
    uint16_t size_class = shared_get(&run->size_class);
    shared_store(&first->size, 0u);
    assert_in(block, NULL, 0);
    shared_store(&first->size, CHUNK_PAGES + 1);
    assert_in(block, NULL, 0);
    shared_store(&first->size, size);
    shared_store(&run->size_class, (uint16_t)UINT16_MAX);
    assert_in(block, NULL, 0);
    shared_store(&run->size_class, size_class);
    assert_in(block, block, 112);
    sharena_free(heap, block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_locate(test_every_kind_of_block),
        with_locate(test_a_block_that_begins_at_a_line),
        with_locate(test_what_is_in_no_block),
        with_locate(test_a_run_that_is_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
