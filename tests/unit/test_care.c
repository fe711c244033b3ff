/* ctest: inprocess */
/* test_care.c -- looking after a heap, and whose an address is. */
#include <pthread.h>
#include <sys/stat.h>

#include "heap/heap.h"
#include "heap_parts.h"

static void test_bounds_of_contains(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *block = sharena_malloc(heap, 100);
    const char *begin = (const char *)(uintptr_t)heap_state(heap)->data_begin;
    uint64_t bytes = shared_get(&heap_state(heap)->data_bytes);
    assert_true(bytes >= CHUNK_BYTES);
    assert_int_equal(sharena_contains(heap, begin - 1), 0);
    assert_int_equal(sharena_contains(heap, begin), 1);
    assert_int_equal(sharena_contains(heap, begin + bytes - 1), 1);
    assert_int_equal(sharena_contains(heap, begin + bytes), 0); /* capacity, but never used */
    assert_int_equal(sharena_contains(NULL, begin), 0);
    assert_int_equal(sharena_contains((sharena_t *)block, block), 0);
    sharena_free(heap, block);
}

static void test_bounds_of_heap_of(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    char *base = (char *)heap;
    uint64_t total = heap_superblock(heap)->total_bytes;
    assert_null(sharena_heap_of(base - 1));
    assert_ptr_equal(sharena_heap_of(base), heap);
    assert_ptr_equal(sharena_heap_of(base + total - 1), heap); /* the address range, used or not */
    assert_null(sharena_heap_of(base + total));
}

static void *read_message(void *arg) {
    *(int *)arg = sharena_errormsg()[0] == '\0';
    assert_null(sharena_malloc(fixture_heap(), SIZE_MAX));
    return NULL;
}

/* Each thread has its own message; a new one has none. */
static void test_message_is_the_threads_own(void **state) {
    (void)state;
    int is_empty = 0;
    pthread_t thread;
    assert_int_equal(sharena_root_set(fixture_heap(), "", NULL), EINVAL);
    assert_int_equal(pthread_create(&thread, NULL, read_message, &is_empty), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(is_empty, 1);
    assert_says("empty");
}

static void test_purge(void **state) {
    (void)state;
    static const size_t sizes[] = {64, 5000, 20000, 300000, 3 * MIB};
    sharena_t *heap = fixture_heap();
    struct sharena_report report;
    static void *blocks[1000];
    uint64_t least = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t count = sizes[i] > 100000 ? 20 : 1000;
        assert_int_equal(sharena_malloc_batch(heap, sizes[i], count, blocks), count);
        uint64_t full = file_pages();
        sharena_free_batch(heap, count, blocks);
        assert_int_equal(sharena_purge(heap), 0);
        assert_int_equal(sharena_check(heap, &report), 0);
        assert_int_equal(report.pages_dirty, 0);
        assert_int_equal(report.pages_backed, 0);
        assert_int_equal(report.blocks_cached, 0);
        assert_true(file_pages() < full);
        least = i == 0 ? file_pages() : least;
    }
    assert_true(file_pages() <= least + 150); /* tables of the chunks that came since */
}

/* What is live stays, and so does what another thread has cached. */
static void test_purge_spares_the_living(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *blocks[100];
    assert_int_equal(sharena_malloc_batch(heap, 40000, 100, blocks), 100);
    for (uint64_t i = 0; i < 100; i++) {
        clean_fill(blocks[i], 40000, i);
    }
    for (int i = 0; i < 100; i += 2) {
        sharena_free(heap, blocks[i]);
    }
    assert_int_equal(sharena_purge(heap), 0);
    for (uint64_t i = 1; i < 100; i += 2) {
        assert_int_equal(clean_compare(blocks[i], 40000, i), 40000);
        sharena_free(heap, blocks[i]);
    }
    clean_check(heap, 0);
}

static void test_sync_and_reap(void **state) {
    (void)state;
    assert_int_equal(sharena_sync(fixture_heap()), 0);
    assert_int_equal(sharena_reap(fixture_heap()), 0);
    assert_refused(sharena_sync(NULL), EINVAL, "not an attached heap");
    assert_refused(sharena_purge(NULL), EINVAL, "not an attached heap");
    assert_int_equal(sharena_reap(NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_bounds_of_contains),         with_heap(test_bounds_of_heap_of),
        with_heap(test_message_is_the_threads_own), with_heap(test_purge),
        with_heap(test_purge_spares_the_living),    with_heap(test_sync_and_reap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
