/* test_large.c -- blocks of whole pages: taken, given, and resized where they are. */
#include "heap/large.h"

#include "heap/alloc.h"
#include "heap/arena.h"
#include "heap/chunk.h"
#include "heap/publish.h"
#include "heap/run.h"
#include "heap/tcache.h"
#include "heap_parts.h"

#define LAST (SIZE_CLASSES_LARGE_END - 1)
#define CLASS_16K SIZE_CLASSES_SMALL
#define CLASS_32K (SIZE_CLASSES_SMALL + 4)
#define CLASS_64K (SIZE_CLASSES_SMALL + 8)

static sharena_t *heap;
static struct thread_slot *self;
static struct arena *arena;
static int zero;

static int open_large(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    arena = heap_arena(heap, 0);
    return error;
}

#define with_large(f) cmocka_unit_test_setup_teardown(f, open_large, heap_fixture_close)

static char *take_as(uint32_t size_class, uint32_t align, int oblivious) {
    char *block = large_alloc(heap, self, 0, size_class, align, oblivious, &zero);
    if (block != NULL) {
        assert_int_equal(shared_get(&self->pending.kind), PENDING_MALLOC);
        assert_ptr_equal(shared_get(&self->pending.block), block);
        publish_end(self);
    }
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    return block;
}

static char *take(uint32_t size_class) {
    char *block = take_as(size_class, 1, 0);
    assert_non_null(block);
    return block;
}

static void give(char *block) {
    publish_begin(self, PENDING_FREE, NULL, block);
    large_free(heap, self, block, NULL);
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    publish_end(self);
}

static const struct run *run_of(const char *block) {
    return heap_run(heap, page_of(heap, block));
}

static uint32_t pages_of(const char *block) {
    return shared_get(&run_of(block)->size);
}

static uint32_t class_of(const char *block) {
    return alloc_class_of(heap, block);
}

/* ---- taking and giving ---- */

static void test_every_class(void **state) {
    (void)state;
    char *blocks[SIZE_CLASSES_LARGE_END];
    for (uint32_t i = CLASS_16K; i <= LAST; i++) {
        blocks[i] = take(i);
        assert_int_equal((uintptr_t)blocks[i] % PAGE_BYTES, 0);
        assert_int_equal(pages_of(blocks[i]), sizeclass_bytes(i) / PAGE_BYTES);
        assert_int_equal(shared_get(&run_of(blocks[i])->state), RUN_LARGE);
        assert_int_equal(shared_get(heap_page_map(heap) + page_of(heap, blocks[i])),
                         stack_offset_of(i));
        assert_int_equal(class_of(blocks[i]), i);
        assert_true(large_is_block(heap, blocks[i]));
        clean_fill(blocks[i], sizeclass_bytes(i), i);
    }
    struct books books = books_now();
    assert_int_equal(books.report.blocks_live, LAST - CLASS_16K + 1);
    for (uint32_t i = CLASS_16K; i <= LAST; i++) {
        assert_int_equal(shared_get(&arena->large[i - CLASS_16K].taken), 1);
        assert_int_equal(shared_get(&arena->large[i - CLASS_16K].given), 0);
    }
    for (uint32_t i = CLASS_16K; i <= LAST; i++) {
        assert_int_equal(clean_compare(blocks[i], sizeclass_bytes(i), i), sizeclass_bytes(i));
        give(blocks[i]);
        assert_false(large_is_block(heap, blocks[i]));
        assert_int_equal(shared_get(&arena->large[i - CLASS_16K].given), 1);
    }
    assert_int_equal(books_now().report.blocks_live, 0);
    assert_int_equal(shared_get(&arena->pages_used), 0);
}

static void test_only_the_start_is_the_block(void **state) {
    (void)state;
    char *block = take(CLASS_16K);
    char *shifted = take_as(CLASS_16K, 1, 1);
    void *small = sharena_malloc(heap, 100);
    assert_true(large_is_block(heap, block));
    assert_false(large_is_block(heap, block + 1));
    assert_false(large_is_block(heap, block + PAGE_BYTES));
    assert_true(large_is_block(heap, shifted));
    assert_false(large_is_block(heap, shifted + 64));
    assert_false(large_is_block(heap, small));
    sharena_free(heap, small);
    give(block);
    give(shifted);
}

static void test_aligned_blocks(void **state) {
    (void)state;
    for (uint32_t align = 1; align <= 256; align *= 2) {
        char *block = take_as(CLASS_16K, align, 1);
        if (align > 1) { /* a shifted one would not be aligned */
            assert_int_equal((uintptr_t)block % ((uint64_t)align * PAGE_BYTES), 0);
            assert_int_equal(pages_of(block), 4);
        }
        give(block);
    }
}

/* Zero is promised only of memory that really is. */
static void test_zero_means_zero(void **state) {
    (void)state;
    uint64_t seed = 8;
    uint32_t promised = 0;
    for (uint32_t i = 0; i < 600; i++) {
        uint32_t size_class = CLASS_16K + (uint32_t)(clean_random(&seed) % 20);
        size_t bytes = sizeclass_bytes(size_class);
        char *block = take_as(size_class, 1, i % 2 == 0);
        assert_true(!zero || clean_is_zero(block, bytes));
        promised += zero != 0;
        memset(block, 0xff, pages_of(block) * PAGE_BYTES - (uintptr_t)block % PAGE_BYTES);
        give(block);
        if (i % 16 == 0) {
            arena_purge(heap, self, 0);
        }
    }
    assert_true(promised >= 600 / 16);
}

/* ---- the offset ---- */

static void test_oblivious_blocks_begin_anywhere_in_their_page(void **state) {
    (void)state;
    char *blocks[100];
    unsigned char seen[PAGE_BYTES / 64] = {0};
    uint32_t lines = 0;
    for (uint32_t i = 0; i < 100; i++) {
        blocks[i] = take_as(CLASS_16K, 1, 1);
        uint32_t offset = (uint32_t)((uintptr_t)blocks[i] % PAGE_BYTES);
        assert_int_equal(offset % 64, 0);
        assert_int_equal(pages_of(blocks[i]), 5);
        lines += !seen[offset / 64];
        seen[offset / 64] = 1;
        memset(blocks[i], (int)i, sizeclass_bytes(CLASS_16K));
    }
    assert_true(lines > 32);
    (void)books_now();
    for (uint32_t i = 0; i < 100; i++) {
        for (uint32_t j = 0; j < sizeclass_bytes(CLASS_16K); j += 1021) {
            assert_int_equal((unsigned char)blocks[i][j], i);
        }
        give(blocks[i]);
    }
}

static void test_an_oblivious_block_keeps_its_page_when_resized(void **state) {
    (void)state;
    char *block = take_as(CLASS_16K, 1, 1);
    if ((uintptr_t)block % PAGE_BYTES == 0) { /* a line like any other, but it needs no page */
        give(block);
        char *wall = take(CLASS_16K);
        block = take_as(CLASS_16K, 1, 1);
        give(wall);
    }
    uint32_t offset = (uint32_t)((uintptr_t)block % PAGE_BYTES);
    assert_int_not_equal(offset, 0);
    clean_fill(block, sizeclass_bytes(CLASS_16K), 1);
    arena_purge(heap, self, 0); /* what is behind it is of one kind */
    assert_true(large_resize(heap, self, block, CLASS_64K));
    assert_int_equal(pages_of(block), 17);
    assert_true(large_is_block(heap, block));
    (void)books_now();
    assert_true(large_resize(heap, self, block, CLASS_16K));
    assert_int_equal(pages_of(block), 5);
    assert_int_equal(clean_compare(block, sizeclass_bytes(CLASS_16K), 1),
                     sizeclass_bytes(CLASS_16K));
    (void)books_now();
    give(block);
}

/* ---- resizing ---- */

static void assert_is(const char *block, uint32_t size_class) {
    assert_int_equal(class_of(block), size_class);
    assert_int_equal(pages_of(block), large_pages(size_class));
    assert_int_equal(stored_pages(page_of(heap, block), large_pages(size_class)),
                     large_pages(size_class));
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    assert_int_equal(books_now().report.bytes_live, sizeclass_bytes(size_class));
}

static void test_shrinks_in_place(void **state) {
    (void)state;
    char *block = take(LAST);
    clean_fill(block, sizeclass_bytes(LAST), 2);
    for (uint32_t i = LAST; i-- > CLASS_16K;) {
        uint32_t dirty = shared_get(&arena->pages_dirty);
        assert_true(large_resize(heap, self, block, i));
        assert_is(block, i);
        assert_int_equal(shared_get(&arena->pages_dirty) - dirty,
                         large_pages(i + 1) - large_pages(i));
    }
    assert_int_equal(clean_compare(block, sizeclass_bytes(CLASS_16K), 2),
                     sizeclass_bytes(CLASS_16K));
    give(block);
}

static void test_what_a_block_gave_up_is_not_zero(void **state) {
    (void)state;
    char *block = take(CLASS_64K);
    memset(block, 0xff, sizeclass_bytes(CLASS_64K));
    assert_true(large_resize(heap, self, block, CLASS_16K));
    char *behind = take(CLASS_32K);
    assert_ptr_equal(behind, block + sizeclass_bytes(CLASS_16K));
    assert_false(zero);
    give(behind);
    give(block);
}

/* Behind it there is first what is left of a batch, then what was never backed. */
static void test_grows_in_place_into_clean_and_dirty(void **state) {
    (void)state;
    char *block = take(CLASS_16K);
    clean_fill(block, sizeclass_bytes(CLASS_16K), 3);
    arena_purge(heap, self, 0);
    uint64_t charged = charged_pages();
    for (uint32_t i = CLASS_16K + 1; i <= LAST; i++) { /* clean */
        assert_true(large_resize(heap, self, block, i));
        assert_is(block, i);
        assert_int_equal(charged_pages() - charged, large_pages(i) - large_pages(CLASS_16K));
    }
    assert_true(large_resize(heap, self, block, CLASS_16K));
    charged = charged_pages();
    for (uint32_t i = CLASS_16K + 1; i <= LAST; i++) { /* dirty */
        assert_true(large_resize(heap, self, block, i));
        assert_is(block, i);
        assert_int_equal(charged_pages(), charged);
    }
    assert_int_equal(clean_compare(block, sizeclass_bytes(CLASS_16K), 3),
                     sizeclass_bytes(CLASS_16K));
    give(block);
}

static void test_does_not_grow_into_others(void **state) {
    (void)state;
    char *block = take(CLASS_16K);
    char *between = take(CLASS_16K);
    char *behind = take(CLASS_16K);
    assert_ptr_equal(between, block + sizeclass_bytes(CLASS_16K));
    assert_false(large_resize(heap, self, block, CLASS_32K));
    give(between);
    struct books before = books_now();
    assert_false(large_resize(heap, self, block, CLASS_64K)); /* free, but too little */
    assert_books_are(&before);
    assert_true(large_resize(heap, self, block, CLASS_32K)); /* all of it */
    assert_int_equal(pages_of(block), 8);
    assert_int_equal(class_of(behind), CLASS_16K);
    (void)books_now();
    give(block);
    give(behind);
}

static void test_does_not_grow_beyond_its_chunk(void **state) {
    (void)state;
    char *front = take(LAST);          /* 448 of the 512 pages */
    char *block = take(CLASS_64K + 4); /* 32 */
    char *last = take(CLASS_64K + 4);  /* 32: to the end of the chunk */
    char *other = take(CLASS_16K);     /* in the next one */
    assert_int_equal((page_of(heap, last) + 32) % CHUNK_PAGES, 0);
    assert_int_equal(page_of(heap, other), page_of(heap, last) + 32);
    give(other);
    assert_false(large_resize(heap, self, last, CLASS_64K + 5));
    give(block);
    assert_false(large_resize(heap, self, last, CLASS_64K + 5));
    give(last);
    give(front);
}

static void test_growing_without_memory_changes_nothing(void **state) {
    (void)state;
    char *block = take(CLASS_16K);
    arena_purge(heap, self, 0);
    struct books before = books_now();
    allow_pages(3);
    assert_false(large_resize(heap, self, block, CLASS_32K));
    assert_books_are(&before);
    assert_is(block, CLASS_16K);
    refuse_storage(block + 7 * PAGE_BYTES, 1);
    allow_all();
    assert_false(large_resize(heap, self, block, CLASS_32K));
    assert_books_are(&before);
    grant_storage(block + 7 * PAGE_BYTES, 1);
    allow_pages(4);
    assert_true(large_resize(heap, self, block, CLASS_32K));
    allow_all();
    give(block);
}

static void test_no_memory(void **state) {
    (void)state;
    char *block = take(CLASS_16K);
    arena_purge(heap, self, 0);
    struct books before = books_now();
    allow_pages(7);
    assert_refused(take_as(CLASS_32K, 1, 0) != NULL, 0, "limit");
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    assert_books_are(&before);
    allow_pages(8);
    char *other = take(CLASS_32K);
    allow_all();
    give(other);
    give(block);
}

static void test_random_resizes(void **state) {
    (void)state;
    uint64_t seed = 9;
    char *blocks[6];
    for (uint32_t i = 0; i < 6; i++) {
        blocks[i] = take(CLASS_16K);
        clean_fill(blocks[i], sizeclass_bytes(CLASS_16K), i);
    }
    for (uint32_t step = 0; step < 1000; step++) {
        uint32_t i = (uint32_t)(clean_random(&seed) % 6);
        uint32_t size_class = CLASS_16K + (uint32_t)(clean_random(&seed) % 16);
        size_t bytes = sizeclass_bytes(class_of(blocks[i]));
        int resized = large_resize(heap, self, blocks[i], size_class);
        if (!resized) {
            give(blocks[i]);
            blocks[i] = take_as(size_class, 1, step % 3 == 0);
            bytes = 0;
        }
        size_t now = sizeclass_bytes(size_class);
        bytes = bytes < now ? bytes : now;
        assert_int_equal(clean_compare(blocks[i], bytes, i), bytes);
        clean_fill(blocks[i], now, i);
        if (step % 100 == 0) {
            assert_int_equal(books_now().report.blocks_live, 6);
            arena_purge(heap, self, 0);
        }
    }
    for (uint32_t i = 0; i < 6; i++) {
        give(blocks[i]);
    }
}

/* ---- misuse ---- */

static int free_twice(void *arg) {
    struct thread_slot *own = fixture_self();
    large_free(heap, own, arg, NULL);
    large_free(heap, own, arg, NULL);
    return 0;
}

static int free_inside(void *arg) {
    large_free(heap, fixture_self(), (char *)arg + PAGE_BYTES, NULL);
    return 0;
}

static int free_second_line(void *arg) {
    large_free(heap, fixture_self(), (char *)arg + 64, NULL);
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
    char *block = take(CLASS_16K);
    struct books before = books_now();
    assert_int_equal(sharena_set_misuse_hook(heap, go_on, block + 64), 0);
    reports = 0;
    publish_begin(own, PENDING_FREE, NULL, block + 64);
    large_free(heap, own, block + 64, NULL);
    assert_int_equal(reports, 1);
    assert_int_equal(shared_get(&own->pending.kind), PENDING_NONE);
    struct tcache_stack *stack = &slot_tcache(own)->stacks[CLASS_16K + 1];
    shared_ptr *bottom = shared_get(&stack->bottom);
    assert_int_equal(stack_count(stack), 0);
    shared_store(&bottom[0], block + 64);
    shared_store(&stack->top, bottom + 1);
    large_free(heap, own, block + 64, stack);
    assert_int_equal(reports, 2);
    assert_int_equal(stack_count(stack), 0);
    assert_true(journal_is_empty(own));
    assert_int_equal(sharena_set_misuse_hook(heap, NULL, NULL), 0);
    assert_books_are(&before);
    large_free(heap, own, block, NULL);
}

static void test_misuse_stops_and_changes_nothing(void **state) {
    (void)state;
    char *block = take(CLASS_16K);
    struct books before = books_now();
    child_stops(free_inside, block, "not a live large or huge block");
    child_stops(free_second_line, block, "not a live large or huge block");
    (void)sharena_reap(heap);
    assert_books_are(&before);
    child_stops(free_twice, block, "not a live large or huge block");
    (void)sharena_reap(heap);
    assert_int_equal(books_now().report.blocks_live, before.report.blocks_live - 1);
}

/* What a dead thread's cache holds wrongly is dropped by its reaper, who did no wrong. */
static int leave_in_cache(void *arg) {
    struct thread_slot *own = fixture_self();
    struct tcache_stack *stack = &slot_tcache(own)->stacks[CLASS_16K + 1];
    shared_ptr *top = shared_get(&stack->top);
    shared_store(&top[0], arg);
    shared_store(&top[1], arg);
    shared_store(&top[2], (char *)arg + PAGE_BYTES);
    shared_store(&stack->top, top + 3);
    (void)raise(SIGKILL);
    return 0;
}

static void test_wrong_pointers_of_the_dead_are_dropped(void **state) {
    (void)state;
    char *block = take(CLASS_16K);
    int status = child_wait(child_start(leave_in_cache, block));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(sharena_reap(heap), 1);
    assert_int_equal(books_now().report.blocks_live, 0);
    assert_int_equal(books_now().report.blocks_cached, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_large(test_every_class),
        with_large(test_only_the_start_is_the_block),
        with_large(test_aligned_blocks),
        with_large(test_zero_means_zero),
        with_large(test_oblivious_blocks_begin_anywhere_in_their_page),
        with_large(test_an_oblivious_block_keeps_its_page_when_resized),
        with_large(test_shrinks_in_place),
        with_large(test_what_a_block_gave_up_is_not_zero),
        with_large(test_grows_in_place_into_clean_and_dirty),
        with_large(test_does_not_grow_into_others),
        with_large(test_does_not_grow_beyond_its_chunk),
        with_large(test_growing_without_memory_changes_nothing),
        with_large(test_no_memory),
        with_large(test_random_resizes),
        with_large(test_misuse_stops_and_changes_nothing),
        with_large(test_misuse_that_passes_is_dropped),
        with_large(test_wrong_pointers_of_the_dead_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
