/* test_census.c -- the sums against known blocks, the checker's sums, and the file system's. */
/* ctest: inprocess */
#include <sys/stat.h>

#include "heap/alloc.h"
#include "heap/census.h"
#include "heap/sizeclass.h"
#include "heap/tcache.h"
#include "heap_fixture.h"

#define with_heap(f) cmocka_unit_test_setup_teardown(f, heap_fixture_open, heap_fixture_close)

/* The sums of all arenas, spans and huge blocks. */
struct sums {
    uint64_t block_bytes;
    uint64_t active_pages;
    uint64_t used_chunks;
    uint64_t free_chunks;
    uint64_t dirty_pages;
};

static struct sums taken_by(struct thread_slot *self) {
    struct census_spans spans;
    struct census_arena sum = {0};
    for (uint32_t i = 0; i < census_arenas(fixture_heap()); i++) {
        struct census_arena arena;
        census_arena(fixture_heap(), i, &arena);
        census_add_arena(&sum, &arena);
    }
    census_spans(fixture_heap(), self, &spans);
    struct census_blocks huge = census_huge(fixture_heap(), NULL);
    assert_int_equal(huge.bytes, spans.huge_pages * PAGE_BYTES);
    assert_int_equal(sum.pages_active + sum.pages_dirty + sum.pages_clean,
                     sum.chunks * CHUNK_PAGES);
    assert_int_equal(census_out_bytes(fixture_heap()),
                     sum.small.bytes + sum.large.bytes + huge.bytes);
    return (struct sums){.block_bytes = census_out_bytes(fixture_heap()),
                         .active_pages = sum.pages_active + spans.huge_pages,
                         .used_chunks = spans.used_chunks,
                         .free_chunks = spans.free_chunks,
                         .dirty_pages = sum.pages_dirty + spans.free_dirty};
}

static struct sums taken(void) {
    return taken_by(fixture_self());
}

/* What the application has. */
static uint64_t live_bytes(void) {
    return taken().block_bytes - census_cached_bytes(fixture_heap());
}

static void *block_of(size_t size) {
    void *block = sharena_malloc(fixture_heap(), size);
    assert_non_null(block);
    return block;
}

static void flush(void) {
    tcache_flush(fixture_heap(), fixture_self());
}

static void nothing_is_in_a_new_heap(void **state) {
    (void)state;
    struct sums census = taken();
    assert_int_equal(census.block_bytes, 0);
    assert_int_equal(census.active_pages, 0);
    assert_int_equal(census.used_chunks, 0);
    assert_int_equal(census.free_chunks, 0);
    assert_int_equal(census_cached_bytes(fixture_heap()), 0);
    assert_int_equal(census_table_bytes(fixture_heap()), 0);
}

static void one_block_of_each_cached_class_counts_its_size(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        uint64_t before = live_bytes();
        void *block = block_of(sizeclass_bytes(i));
        assert_int_equal(live_bytes() - before, sizeclass_bytes(i));
        sharena_free(fixture_heap(), block);
        assert_int_equal(live_bytes(), before);
    }
    flush();
    assert_int_equal(taken().block_bytes, 0);
    assert_int_equal(census_cached_bytes(fixture_heap()), 0);
}

static void a_huge_block_counts_its_class_and_its_chunks(void **state) {
    (void)state;
    void *block = block_of(9 << 20); /* class of 10 MiB: 5 chunks, all its pages active */
    struct sums census = taken();
    assert_int_equal(census.block_bytes, 10 << 20);
    assert_int_equal(census.active_pages, (10 << 20) / PAGE_BYTES);
    assert_int_equal(census.used_chunks, 5);
    assert_int_equal(census.free_chunks, 0);
    sharena_free(fixture_heap(), block);
    census = taken();
    assert_int_equal(census.block_bytes, 0);
    assert_int_equal(census.active_pages, 0);
    assert_int_equal(census.used_chunks, 0);
    assert_int_equal(census.free_chunks, 5);
}

static void a_huge_block_ends_within_its_last_chunk(void **state) {
    (void)state;
    void *block = block_of(5 << 19); /* 2.5 MiB in 4 */
    struct sums census = taken();
    assert_int_equal(census.active_pages, (5 << 19) / PAGE_BYTES);
    assert_int_equal(census.used_chunks, 2);
    sharena_free(fixture_heap(), block);
}

static void a_run_is_active_as_a_whole(void **state) {
    (void)state;
    uint32_t size_class = sizeclass_of(64);
    void *block = block_of(64);
    struct sums census = taken();
    assert_int_equal(census.active_pages, sizeclass_run_shape(size_class)->pages);
    assert_int_equal(census.used_chunks, 1);
    assert_true(census_cached_bytes(fixture_heap()) > 0); /* a fill takes more than one */
    assert_int_equal(census.block_bytes, 64 + census_cached_bytes(fixture_heap()));
    sharena_free(fixture_heap(), block);
}

/* Blocks of all kinds, some of them freed again, as a checker sees them. */
static void the_checker_agrees(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 24, 100, 700, 3000, 9000, 20000, 300000, 1 << 20, 3 << 20};
    void *blocks[400];
    struct sharena_report report;
    for (size_t i = 0; i < 400; i++) {
        blocks[i] = block_of(sizes[i * 7 % 10] + i % 5);
    }
    for (size_t i = 0; i < 400; i += 3) {
        sharena_free(fixture_heap(), blocks[i]);
    }
    struct sums census = taken();
    assert_int_equal(sharena_check(fixture_heap(), &report), 0);
    assert_int_equal(census_cached_bytes(fixture_heap()), report.bytes_cached);
    assert_int_equal(census.block_bytes, report.bytes_live + report.bytes_cached);
    assert_int_equal(census.used_chunks + census.free_chunks, report.chunks);
    assert_int_equal(census.free_chunks, report.chunks_free);
    assert_int_equal(census.dirty_pages, report.pages_dirty);
    assert_true(census.block_bytes <= census.active_pages * PAGE_BYTES);
    assert_true(census.active_pages <= census.used_chunks * CHUNK_PAGES);
    for (size_t i = 0; i < 400; i++) {
        sharena_free(fixture_heap(), i % 3 != 0 ? blocks[i] : NULL);
    }
}

static void without_locks_the_same_is_found(void **state) {
    (void)state;
    void *blocks[100];
    for (size_t i = 0; i < 100; i++) {
        blocks[i] = block_of(1000 * i);
    }
    struct sums locked = taken();
    struct sums unlocked = taken_by(NULL);
    assert_memory_equal(&unlocked, &locked, sizeof(locked));
    sharena_free_batch(fixture_heap(), 100, blocks);
}

/* The slot of another thread that lives, and caches. */
static void *cache_and_wait(void *arg) {
    sharena_free(fixture_heap(), sharena_malloc(fixture_heap(), 64));
    (void)pthread_barrier_wait(arg);
    (void)pthread_barrier_wait(arg);
    return NULL;
}

static void caches_of_all_threads_count(void **state) {
    (void)state;
    pthread_barrier_t barrier;
    pthread_t thread;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, cache_and_wait, &barrier), 0);
    (void)pthread_barrier_wait(&barrier);
    uint64_t cached = census_cached_bytes(fixture_heap());
    assert_true(cached >= 64 && cached % 64 == 0);
    assert_int_equal(taken().block_bytes, cached);
    (void)pthread_barrier_wait(&barrier);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(census_cached_bytes(fixture_heap()), 0); /* its exit flushed */
    (void)pthread_barrier_destroy(&barrier);
}

/* tmpfs holds what the books say, in pages of 4 KiB; each of three tables may begin within one. */
static void the_file_holds_what_the_books_say(void **state) {
    (void)state;
    void *blocks[300];
    struct stat status;
    for (size_t i = 0; i < 300; i++) {
        blocks[i] = block_of(i * i);
    }
    uint64_t backed = shared_get(&heap_state(fixture_heap())->backed_pages);
    uint64_t books = census_fixed_bytes(fixture_heap()) + backed * PAGE_BYTES;
    assert_int_equal(stat(fixture_path(), &status), 0);
    uint64_t file = (uint64_t)status.st_blocks * 512;
    assert_true(books <= file);
    assert_true(file <= books + 3 * PAGE_BYTES);
    assert_true(census_table_bytes(fixture_heap()) < backed * PAGE_BYTES);
    sharena_free_batch(fixture_heap(), 300, blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(nothing_is_in_a_new_heap),
        with_heap(one_block_of_each_cached_class_counts_its_size),
        with_heap(a_huge_block_counts_its_class_and_its_chunks),
        with_heap(a_huge_block_ends_within_its_last_chunk),
        with_heap(a_run_is_active_as_a_whole),
        with_heap(the_checker_agrees),
        with_heap(without_locks_the_same_is_found),
        with_heap(caches_of_all_threads_count),
        with_heap(the_file_holds_what_the_books_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
