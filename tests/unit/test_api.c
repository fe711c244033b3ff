/* ctest: inprocess */
/* test_api.c -- the fast paths: what they touch, and what makes them slow. */
#include <pthread.h>

#include "heap/tcache.h"
#include "heap_parts.h"

static uint64_t locks_taken(void) {
    sharena_t *heap = fixture_heap();
    const struct arena *arena = heap_arena(heap, 0);
    uint64_t taken = shared_get(&heap_pool(heap)->lock.acquired) +
                     shared_get(&heap_roots(heap)->lock.acquired) +
                     shared_get(&arena->lock.acquired);
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        taken += shared_get(&arena->bins[i].lock.acquired);
    }
    return taken;
}

/* Once the cache has some, a pair takes no lock; the newest block comes first. */
static void test_pairs_take_no_lock(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 8, 64, 1000, 4096, 4097, 14336, 16384, 32768};
    sharena_t *heap = fixture_heap();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *warm[2];
        assert_int_equal(sharena_malloc_batch(heap, sizes[i], 2, warm), 2);
        sharena_free_batch(heap, 2, warm);
        uint64_t before = locks_taken();
        for (int j = 0; j < 10000; j++) {
            void *block = sharena_malloc(heap, sizes[i]);
            assert_ptr_equal(block, warm[1]);
            sharena_free(heap, block);
        }
        assert_int_equal(locks_taken(), before);
    }
}

/* Fills and flushes go by batches: far fewer locks than blocks. */
static void test_batches_of_the_cache(void **state) {
    (void)state;
    static void *blocks[20000];
    sharena_t *heap = fixture_heap();
    uint64_t before = locks_taken();
    assert_int_equal(sharena_malloc_batch(heap, 64, 20000, blocks), 20000);
    sharena_free_batch(heap, 20000, blocks);
    assert_true(locks_taken() - before < 20000 / 5);
}

/* The size table leads to the stack of the class, for every size that it covers. */
static void test_stack_by_size(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct tcache *tcache = slot_tcache(fixture_self());
    for (size_t size = 0; size <= LOOKUP_BYTES_MAX; size++) {
        uint32_t offset = sizeclass_stack_offset[size];
        const struct tcache_stack *stack =
            (const struct tcache_stack *)(const void *)((const char *)tcache + offset);
        assert_ptr_equal(stack, &tcache->stacks[sizeclass_of(size) + 1]);
    }
    (void)heap;
}

/* A pop at the low-water mark is slow once, and then goes on below it. */
static void test_low_water_mark(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *blocks[20];
    assert_int_equal(sharena_malloc_batch(heap, 64, 20, blocks), 20);
    sharena_free_batch(heap, 20, blocks);
    struct tcache_stack *stack = &slot_tcache(fixture_self())->stacks[sizeclass_of(64) + 1];
    uint32_t count = stack_count(stack);
    shared_store(&stack->base, shared_get(&stack->top)); /* as the cache's GC sets it */
    void *block = sharena_malloc(heap, 64);
    assert_ptr_equal(block, blocks[19]);
    assert_int_equal(stack_count(stack), count - 1);
    assert_true(shared_get(&stack->base) < shared_get(&stack->top));
    sharena_free(heap, block);
}

/* Without its hint a thread finds its slot again. */
static void test_lost_hint(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    void *block = sharena_malloc(heap, 64);
    thread_record->hint_heap = NULL;
    errno = 4711;
    sharena_free(heap, block);
    assert_int_equal(errno, 4711);
    assert_ptr_equal(thread_record->hint_heap, heap);
    thread_record->hint_heap = NULL;
    assert_ptr_equal(sharena_malloc(heap, 64), block);
    assert_ptr_equal(fixture_self(), self);
    sharena_free(heap, block);
    for (size_t size = 5000; size < 100000; size *= 2) {
        thread_record->hint_heap = NULL;
        block = sharena_malloc(heap, size);
        thread_record->hint_heap = NULL;
        sharena_free(heap, block);
    }
}

/* What the page map calls no block leads to a stack that is always full and always empty. */
static void test_stack_of_no_block(void **state) {
    (void)state;
    const struct tcache_stack *stack = &slot_tcache(fixture_self())->stacks[0];
    assert_ptr_equal(shared_get(&stack->top), shared_get(&stack->full));
    assert_ptr_equal(shared_get(&stack->top), shared_get(&stack->base));
    stack = &slot_tcache(fixture_self())->stacks[TCACHE_UNCACHED];
    assert_ptr_equal(shared_get(&stack->top), shared_get(&stack->full));
}

static void test_dallocx_flags(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    const struct tcache_stack *stack = &slot_tcache(fixture_self())->stacks[sizeclass_of(64) + 1];
    void *block = sharena_malloc(heap, 64);
    uint32_t count = stack_count(stack);
    sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
    assert_int_equal(stack_count(stack), count);
    block = sharena_mallocx(heap, 64, SHARENA_ARENA(0));
    assert_int_equal(stack_count(stack), count);
    sharena_sdallocx(heap, block, 64, SHARENA_ARENA(0));
    assert_int_equal(stack_count(stack), count);
    block = sharena_mallocx(heap, 64, SHARENA_ARENA(0));
    sharena_dallocx(heap, block, 0);
    assert_int_equal(stack_count(stack), count + 1);
}

/* Nothing stays held, in hand or pending when a public call returns. */
static void test_nothing_is_left_open(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    uint64_t random = 1;
    void *blocks[100] = {NULL};
    for (int i = 0; i < 5000; i++) {
        size_t at = clean_random(&random) % 100;
        size_t size = clean_random(&random) % ((size_t)1 << clean_random(&random) % 23);
        blocks[at] = i % 3 ? sharena_realloc(heap, blocks[at], size) : blocks[at];
        assert_true(journal_is_empty(self));
        assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
        assert_int_equal(shared_get(&self->hand.charged), 0);
        assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
        assert_int_equal(shared_get(&self->lock_wanted), 0);
        if (i % 3 == 0) {
            sharena_free(heap, blocks[at]);
            blocks[at] = NULL;
        }
    }
    sharena_free_batch(heap, 100, blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_pairs_take_no_lock), with_heap(test_batches_of_the_cache),
        with_heap(test_stack_by_size),      with_heap(test_low_water_mark),
        with_heap(test_lost_hint),          with_heap(test_stack_of_no_block),
        with_heap(test_dallocx_flags),      with_heap(test_nothing_is_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
