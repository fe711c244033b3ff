/* test_huge.c -- blocks of whole chunks: backed as far as needed, and resized where they are. */
#include "heap/huge.h"

#include "heap/alloc.h"
#include "heap/backing.h"
#include "heap/chunk.h"
#include "heap/large.h"
#include "heap/publish.h"
#include "heap/tcache.h"
#include "heap_parts.h"

#define CLASS_2M SIZE_CLASSES_LARGE_END
#define CLASS_2M5 (CLASS_2M + 1)
#define CLASS_3M (CLASS_2M + 2)
#define CLASS_4M (CLASS_2M + 4)
#define CLASS_5M (CLASS_2M + 5)
#define CLASS_6M (CLASS_2M + 6)
#define CLASS_8M (CLASS_2M + 8)
#define CLASS_16M (CLASS_2M + 12)
#define PAGES_2M CHUNK_PAGES

static sharena_t *heap;
static struct thread_slot *self;
static uint64_t dirty_bytes;

static int open_huge(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    return error;
}

#define with_huge(f) cmocka_unit_test_setup_teardown(f, open_huge, heap_fixture_close)

static uint32_t pages_of_class(uint32_t size_class) {
    return (uint32_t)(sizeclass_bytes(size_class) / PAGE_BYTES);
}

static char *take_aligned(uint32_t size_class, uint32_t align) {
    char *block = huge_alloc(heap, self, size_class, align, &dirty_bytes);
    if (block != NULL) {
        assert_int_equal(shared_get(&self->pending.kind), PENDING_MALLOC);
        assert_ptr_equal(shared_get(&self->pending.block), block);
        publish_end(self);
    }
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    return block;
}

static char *take(uint32_t size_class) {
    char *block = take_aligned(size_class, 1);
    assert_non_null(block);
    return block;
}

static void give(char *block) {
    publish_begin(self, PENDING_FREE, NULL, block);
    huge_free(heap, self, block, NULL);
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    publish_end(self);
}

static const struct chunk *chunk_of(const char *block) {
    return heap_chunk(heap, chunk_of_page(page_of(heap, block)));
}

static uint64_t stored_of(const char *block, uint32_t chunks) {
    return stored_pages(page_of(heap, block), (uint64_t)chunks * CHUNK_PAGES);
}

/* The block is of that class, in so many chunks, so much of which is backed. */
static void assert_is(const char *block, uint32_t size_class, uint32_t chunks, uint32_t backed) {
    assert_true(huge_is_block(heap, block));
    assert_int_equal(alloc_class_of(heap, block), size_class);
    assert_int_equal(shared_get(&chunk_of(block)->state), CHUNK_HUGE);
    assert_int_equal(shared_get(&chunk_of(block)->size), chunks);
    assert_int_equal(shared_get(&chunk_of(block)->backed), backed);
    assert_int_equal(stored_of(block, chunks), backed);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_int_equal(shared_get(&self->hand.charged), 0);
}

/* ---- taking and giving ---- */

static void test_only_what_is_needed_is_backed(void **state) {
    (void)state;
    for (uint32_t i = CLASS_2M; i <= CLASS_16M; i++) {
        uint64_t file = file_pages();
        char *block = take(i);
        uint32_t chunks = (pages_of_class(i) + CHUNK_PAGES - 1) / CHUNK_PAGES;
        assert_int_equal((uintptr_t)block % CHUNK_BYTES, 0);
        assert_int_equal(dirty_bytes, 0);
        assert_is(block, i, chunks, pages_of_class(i));
        assert_in_range(file_pages() - file, pages_of_class(i), pages_of_class(i) + 16);
        assert_true(clean_is_zero(block, sizeclass_bytes(i)));
        assert_int_equal(books_now().report.bytes_live, sizeclass_bytes(i));
        give(block);
        assert_false(huge_is_block(heap, block));
        pool_purge(heap, self);
    }
}

static void test_only_the_start_is_the_block(void **state) {
    (void)state;
    char *block = take(CLASS_4M);
    void *small = sharena_malloc(heap, 100);
    assert_true(huge_is_block(heap, block));
    assert_false(huge_is_block(heap, block + 1));
    assert_false(huge_is_block(heap, block + PAGE_BYTES));
    assert_false(huge_is_block(heap, block + CHUNK_BYTES));
    assert_false(huge_is_block(heap, small));
    sharena_free(heap, small);
    give(block);
}

/* What was backed is used again, and known not to be zero; the rest is new and zero. */
static void test_dirty_memory_is_used_again(void **state) {
    (void)state;
    char *block = take(CLASS_4M);
    char *wall = take(CLASS_2M);
    memset(block, 0xff, sizeclass_bytes(CLASS_4M));
    give(block);
    uint64_t charged = charged_pages();
    char *smaller = take(CLASS_3M); /* two chunks: backed to the end */
    assert_ptr_equal(smaller, block);
    assert_int_equal(dirty_bytes, sizeclass_bytes(CLASS_3M));
    assert_is(smaller, CLASS_3M, 2, 2 * CHUNK_PAGES);
    assert_int_equal(charged_pages(), charged);
    give(smaller);
    pool_purge(heap, self);
    give(take(CLASS_2M5));
    memset(block, 0xff, sizeclass_bytes(CLASS_2M5));
    char *larger = take(CLASS_4M);
    assert_ptr_equal(larger, block);
    assert_int_equal(dirty_bytes, sizeclass_bytes(CLASS_2M5));
    assert_true(clean_is_zero(larger + dirty_bytes, sizeclass_bytes(CLASS_4M) - dirty_bytes));
    assert_is(larger, CLASS_4M, 2, 2 * CHUNK_PAGES);
    give(larger);
    give(wall);
}

static void test_aligned_blocks(void **state) {
    (void)state;
    char *wall = take(CLASS_2M);
    for (uint32_t align = 1; align <= 128; align *= 2) {
        char *block = take_aligned(CLASS_2M5, align);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % ((uint64_t)align * CHUNK_BYTES), 0);
        (void)books_now();
        give(block);
    }
    give(wall);
}

/* A large class that wants a chunk's alignment: one chunk, and never cached. */
static void test_a_large_class_in_a_chunk(void **state) {
    (void)state;
    uint32_t large = SIZE_CLASSES_SMALL + 2;
    char *block = take_aligned(large, 4);
    assert_int_equal((uintptr_t)block % (4ull * CHUNK_BYTES), 0);
    assert_is(block, large, 1, pages_of_class(large));
    assert_int_equal(shared_get(heap_page_map(heap) + page_of(heap, block)),
                     TCACHE_UNCACHED * sizeof(struct tcache_stack));
    assert_int_equal(books_now().report.bytes_live, sizeclass_bytes(large));
    give(block);
}

static void test_page_map_tells_what_is_cached(void **state) {
    (void)state;
    char *cached = take(CLASS_4M);
    char *uncached = take(CLASS_5M);
    assert_int_equal(shared_get(heap_page_map(heap) + page_of(heap, cached)),
                     stack_offset_of(CLASS_4M));
    assert_int_equal(shared_get(heap_page_map(heap) + page_of(heap, uncached)),
                     TCACHE_UNCACHED * sizeof(struct tcache_stack));
    give(cached);
    give(uncached);
}

/* ---- resizing ---- */

static void test_shrinks_by_chunks(void **state) {
    (void)state;
    char *block = take(CLASS_16M);
    clean_fill(block, sizeclass_bytes(CLASS_16M), 1);
    assert_true(huge_resize(heap, self, block, CLASS_6M));
    assert_is(block, CLASS_6M, 3, 3 * PAGES_2M);
    const struct chunk *behind = chunk_of(block + 3 * (size_t)CHUNK_BYTES);
    assert_int_equal(shared_get(&behind->state), CHUNK_FREE_DIRTY);
    assert_int_equal(shared_get(&behind->size), 5);
    assert_int_equal(shared_get(&behind->backed), 5 * PAGES_2M);
    assert_true(huge_resize(heap, self, block, CLASS_5M)); /* as many chunks: it keeps its memory */
    assert_is(block, CLASS_5M, 3, 3 * PAGES_2M);
    assert_true(huge_resize(heap, self, block, CLASS_2M));
    assert_is(block, CLASS_2M, 1, PAGES_2M);
    assert_int_equal(shared_get(&behind->state), CHUNK_FREE_DIRTY);
    assert_int_equal(clean_compare(block, sizeclass_bytes(CLASS_2M), 1), sizeclass_bytes(CLASS_2M));
    (void)books_now();
    give(block);
}

static void test_grows_within_its_chunks(void **state) {
    (void)state;
    char *block = take(CLASS_2M5);
    clean_fill(block, sizeclass_bytes(CLASS_2M5), 2);
    uint64_t charged = charged_pages();
    assert_is(block, CLASS_2M5, 2, pages_of_class(CLASS_2M5));
    assert_true(huge_resize(heap, self, block, CLASS_3M));
    assert_is(block, CLASS_3M, 2, pages_of_class(CLASS_3M));
    assert_int_equal(charged_pages() - charged, 128);
    assert_int_equal(clean_compare(block, sizeclass_bytes(CLASS_2M5), 2),
                     sizeclass_bytes(CLASS_2M5));
    assert_true(clean_is_zero(block + sizeclass_bytes(CLASS_2M5), CHUNK_BYTES / 4));
    (void)books_now();
    give(block);
}

/* Into chunks that are dirty, dirty in part, and clean. */
static void test_grows_into_the_chunks_behind(void **state) {
    (void)state;
    const uint32_t used[] = {CLASS_2M, CLASS_2M5, CLASS_3M, CLASS_8M};
    give(take(CLASS_16M)); /* so that what follows lies side by side */
    pool_purge(heap, self);
    for (size_t i = 0; i < 2 * sizeof(used) / sizeof(used[0]); i++) {
        char *block = take(CLASS_2M5);
        char *behind = take(used[i / 2]);
        char *wall = take(CLASS_2M);
        int fits = used[i / 2] != CLASS_2M; /* one chunk behind is not enough for 8 MiB */
        clean_fill(block, sizeclass_bytes(CLASS_2M5), i);
        memset(behind, 0xff, sizeclass_bytes(used[i / 2]));
        give(behind);
        if (i % 2 == 1) {
            pool_purge(heap, self);
        }
        assert_true(huge_resize(heap, self, block, CLASS_6M));
        assert_is(block, CLASS_6M, 3, 3 * CHUNK_PAGES);
        (void)books_now();
        assert_int_equal(huge_resize(heap, self, block, CLASS_8M), fits);
        assert_is(block, fits ? CLASS_8M : CLASS_6M, fits ? 4 : 3, (fits ? 4 : 3) * CHUNK_PAGES);
        assert_int_equal(clean_compare(block, sizeclass_bytes(CLASS_2M5), i),
                         sizeclass_bytes(CLASS_2M5));
        (void)books_now();
        give(block);
        give(wall);
        pool_purge(heap, self);
    }
}

/* A part of a chunk behind is backed: the block gets that, and what is missing is new. */
static void test_grows_into_a_chunk_that_is_backed_in_part(void **state) {
    (void)state;
    char *block = take(CLASS_2M);
    char *behind = take(CLASS_2M5); /* 512 + 128 pages */
    char *wall = take(CLASS_2M);
    give(behind);
    assert_true(huge_resize(heap, self, block, CLASS_2M5)); /* needs less than is there */
    assert_is(block, CLASS_2M5, 2, 2 * PAGES_2M);
    uint64_t charged = charged_pages();
    assert_true(huge_resize(heap, self, block, CLASS_5M)); /* 256 of the third chunk, 128 there */
    assert_is(block, CLASS_5M, 3, 2 * PAGES_2M + 256);
    assert_int_equal(charged_pages() - charged, 128);
    (void)books_now();
    give(block);
    give(wall);
}

static void test_does_not_grow_into_others(void **state) {
    (void)state;
    char *block = take(CLASS_2M);
    char *wall = take(CLASS_2M);
    struct books before = books_now();
    assert_false(huge_resize(heap, self, block, CLASS_2M5));
    assert_books_are(&before);
    assert_is(block, CLASS_2M, 1, PAGES_2M);
    give(block);
    assert_false(huge_resize(heap, self, wall, CLASS_4M)); /* the heap ends behind it */
    give(wall);
}

/* ---- no more memory ---- */

static void test_no_memory(void **state) {
    (void)state;
    give(take(CLASS_5M)); /* so that its metadata is there */
    pool_purge(heap, self);
    struct books before = books_now();
    allow_pages(pages_of_class(CLASS_5M) - 1);
    assert_refused(take_aligned(CLASS_5M, 1) != NULL, 0, "limit");
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    assert_books_are(&before);
    allow_all();
    char *last = page_address(heap, first_page_of_chunk(first_chunk(heap)) + 1279);
    refuse_storage(last, 1);
    assert_refused(take_aligned(CLASS_5M, 1) != NULL, 0, "file system");
    assert_books_are(&before);
    grant_storage(last, 1);
    assert_refused(take_aligned(CLASS_2M + 44, 1) != NULL, 0, "capacity");
    assert_books_are(&before);
    allow_pages(pages_of_class(CLASS_5M));
    char *block = take(CLASS_5M);
    allow_all();
    give(block);
}

static void test_growing_without_memory_changes_nothing(void **state) {
    (void)state;
    char *block = take(CLASS_2M5);
    char *behind = take(CLASS_4M);
    give(behind);
    pool_purge(heap, self);
    struct books before = books_now();
    allow_pages(127);
    assert_false(huge_resize(heap, self, block, CLASS_3M)); /* its own chunk */
    assert_books_are(&before);
    assert_is(block, CLASS_2M5, 2, pages_of_class(CLASS_2M5));
    refuse_storage(block + sizeclass_bytes(CLASS_3M) - PAGE_BYTES, 1);
    allow_all();
    assert_false(huge_resize(heap, self, block, CLASS_3M));
    assert_books_are(&before);
    grant_storage(block + sizeclass_bytes(CLASS_3M) - PAGE_BYTES, 1);
    uint32_t tail = 2 * CHUNK_PAGES - pages_of_class(CLASS_2M5);
    allow_pages(tail + 255);
    assert_false(huge_resize(heap, self, block, CLASS_5M)); /* the chunk behind */
    assert_int_equal(books_now().report.bytes_live, sizeclass_bytes(CLASS_2M5));
    assert_is(block, CLASS_2M5, 2, 2 * CHUNK_PAGES); /* it keeps what it got in its own */
    assert_int_equal(charged_pages(), before.charged + tail);
    allow_pages(256);
    assert_true(huge_resize(heap, self, block, CLASS_5M));
    assert_is(block, CLASS_5M, 3, pages_of_class(CLASS_5M));
    allow_all();
    give(block);
}

static void test_random_resizes(void **state) {
    (void)state;
    uint64_t seed = 10;
    char *blocks[4];
    for (uint32_t i = 0; i < 4; i++) {
        blocks[i] = take(CLASS_2M);
        *(uint64_t *)(void *)blocks[i] = i;
    }
    for (uint32_t step = 0; step < 400; step++) {
        uint32_t i = (uint32_t)(clean_random(&seed) % 4);
        uint32_t size_class = CLASS_2M + (uint32_t)(clean_random(&seed) % 12);
        size_t last = sizeclass_bytes(size_class) - sizeof(uint64_t);
        assert_int_equal(*(uint64_t *)(void *)blocks[i], i);
        if (!huge_resize(heap, self, blocks[i], size_class)) {
            give(blocks[i]);
            blocks[i] = take_aligned(size_class, 1u << step % 3);
            assert_non_null(blocks[i]);
            *(uint64_t *)(void *)blocks[i] = i;
        }
        *(uint64_t *)(void *)(blocks[i] + last) = i; /* backed to its end */
        if (step % 40 == 0) {
            struct books books = books_now();
            assert_int_equal(books.report.blocks_live, 4);
            assert_int_equal(books.stored, books.report.pages_backed);
            pool_purge(heap, self);
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        give(blocks[i]);
    }
}

/* ---- the dead, and misuse ---- */

/* Dies while the tail of its block is being backed. */
static int die_growing(void *arg) {
    struct thread_slot *own = fixture_self();
    uint32_t page = page_of(heap, arg);
    journal_set(own, &own->hand.kind, HAND_TAIL);
    journal_commit(own);
    REQUIRE(backing_add(heap, own, page + pages_of_class(CLASS_2M5), 128) == 0);
    (void)raise(SIGKILL);
    return 0;
}

static void test_a_tail_of_the_dead_is_given_back(void **state) {
    (void)state;
    char *block = take(CLASS_2M5);
    clean_fill(block, sizeclass_bytes(CLASS_2M5), 3);
    struct books before = books_now();
    int status = child_wait(child_start(die_growing, block));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(sharena_reap(heap), 1);
    assert_books_are(&before);
    assert_int_equal(clean_compare(block, sizeclass_bytes(CLASS_2M5), 3),
                     sizeclass_bytes(CLASS_2M5));
    give(block);
}

static int free_twice(void *arg) {
    struct thread_slot *own = fixture_self();
    huge_free(heap, own, arg, NULL);
    huge_free(heap, own, arg, NULL);
    return 0;
}

static int free_second_chunk(void *arg) {
    huge_free(heap, fixture_self(), (char *)arg + CHUNK_BYTES, NULL);
    return 0;
}

static int free_second_line(void *arg) {
    huge_free(heap, fixture_self(), (char *)arg + 64, NULL);
    return 0;
}

static unsigned reports;

static int go_on(const struct sharena_misuse *what, void *arg) {
    reports += what->ptr == arg && what->kind == SHARENA_MISUSE_NOT_A_BLOCK;
    return 0;
}

/* With a hook that lets it pass, what is bad leaves its owner, and that is all. */
static void test_misuse_that_passes_is_dropped(void **state) {
    (void)state;
    struct thread_slot *own = fixture_self();
    char *block = take(CLASS_4M);
    struct books before = books_now();
    assert_int_equal(sharena_set_misuse_hook(heap, go_on, block + 64), 0);
    reports = 0;
    publish_begin(own, PENDING_FREE, NULL, block + 64);
    huge_free(heap, own, block + 64, NULL);
    assert_int_equal(reports, 1);
    assert_int_equal(shared_get(&own->pending.kind), PENDING_NONE);
    struct tcache_stack *stack = &slot_tcache(own)->stacks[CLASS_4M + 1];
    shared_ptr *bottom = shared_get(&stack->bottom);
    assert_int_equal(stack_count(stack), 0);
    shared_store(&bottom[0], block + 64);
    shared_store(&stack->top, bottom + 1);
    huge_free(heap, own, block + 64, stack);
    assert_int_equal(reports, 2);
    assert_int_equal(stack_count(stack), 0);
    assert_true(journal_is_empty(own));
    assert_int_equal(sharena_set_misuse_hook(heap, NULL, NULL), 0);
    assert_books_are(&before);
    huge_free(heap, own, block, NULL);
}

static void test_misuse_stops_and_changes_nothing(void **state) {
    (void)state;
    char *block = take(CLASS_4M);
    struct books before = books_now();
    child_stops(free_second_chunk, block, "not a live large or huge block");
    child_stops(free_second_line, block, "not a live large or huge block");
    (void)sharena_reap(heap);
    assert_books_are(&before);
    child_stops(free_twice, block, "not a live large or huge block");
    (void)sharena_reap(heap);
    assert_int_equal(books_now().report.blocks_live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_huge(test_only_what_is_needed_is_backed),
        with_huge(test_only_the_start_is_the_block),
        with_huge(test_dirty_memory_is_used_again),
        with_huge(test_aligned_blocks),
        with_huge(test_a_large_class_in_a_chunk),
        with_huge(test_page_map_tells_what_is_cached),
        with_huge(test_shrinks_by_chunks),
        with_huge(test_grows_within_its_chunks),
        with_huge(test_grows_into_the_chunks_behind),
        with_huge(test_grows_into_a_chunk_that_is_backed_in_part),
        with_huge(test_does_not_grow_into_others),
        with_huge(test_no_memory),
        with_huge(test_growing_without_memory_changes_nothing),
        with_huge(test_random_resizes),
        with_huge(test_a_tail_of_the_dead_is_given_back),
        with_huge(test_misuse_stops_and_changes_nothing),
        with_huge(test_misuse_that_passes_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
