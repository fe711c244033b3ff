/* test_prof_samples.c -- samples travel between the pool's list, a hand, and a block; none is lost. */
#include "heap/prof_samples.h"

#include "heap/huge.h"
#include "heap/large.h"
#include "heap/publish.h"
#include "heap/reap.h"
#include "heap_parts.h"

static uint32_t used(void) {
    return shared_get(&heap_pool(fixture_heap())->samples_used);
}

static uint32_t high(void) {
    return shared_get(&heap_pool(fixture_heap())->samples_high);
}

static uint64_t dropped(void) {
    return shared_get(&heap_pool(fixture_heap())->samples_dropped);
}

static struct sample *take(void) {
    struct sample *sample = prof_take(fixture_heap(), fixture_self());
    assert_non_null(sample);
    assert_ptr_equal(heap_sample(fixture_heap(), shared_get(&fixture_self()->hand.sample) - 1),
                     sample);
    assert_null(shared_get(&sample->block));
    return sample;
}

static void given_samples_are_taken_again(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    struct sample *first = take();
    assert_int_equal(used(), 1);
    assert_int_equal(books_now().report.findings, 0); /* in the hand */
    prof_give(heap, self);
    prof_give(heap, self); /* nothing more to give */
    assert_int_equal(used(), 0);
    assert_ptr_equal(take(), first);
    prof_give(heap, self);
    assert_int_equal(high(), 1);
    assert_int_equal(dropped(), 0);
}

static void *sampled_block(uint32_t size_class) {
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    uint64_t dirty;
    int zero;
    (void)take();
    void *block = size_class < SIZE_CLASSES_LARGE_END
                      ? large_alloc(heap, self, 0, size_class, 1, 1, &zero)
                      : huge_alloc(heap, self, size_class, 1, &dirty);
    assert_non_null(block);
    publish_end(self);
    assert_int_equal(shared_get(&self->hand.sample), 0);
    return block;
}

static void a_block_has_it_until_it_is_freed(void **state) {
    (void)state;
    const uint32_t classes[] = {SIZE_CLASSES_SMALL, SIZE_CLASSES_LARGE_END - 1,
                                SIZE_CLASSES_LARGE_END, SIZE_CLASSES_CACHED + 3};
    sharena_t *heap = fixture_heap();
    for (uint32_t i = 0; i < 4; i++) {
        void *block = sampled_block(classes[i]);
        uint32_t page = page_of(heap, block);
        uint32_t link = classes[i] < SIZE_CLASSES_LARGE_END
                            ? shared_get(&heap_run(heap, page)->left)
                            : shared_get(&heap_chunk(heap, chunk_of_page(page))->left);
        assert_true(prof_is_sampled(heap, page));
        assert_ptr_equal(shared_get(&heap_sample(heap, link - 1)->block), block);
        assert_int_equal(sharena_usable_size(heap, block), sizeclass_bytes(classes[i]));
        assert_int_equal(used(), 1);
        assert_int_equal(books_now().report.blocks_live, 1);
        sharena_free(heap, block); /* not into a cache: it is gone at once */
        assert_int_equal(used(), 0);
        assert_int_equal(books_now().report.blocks_live, 0);
        assert_false(prof_is_sampled(heap, page));
        assert_int_equal(shared_get(&fixture_self()->hand.sample), 0);
    }
    assert_int_equal(high(), 1);
}

/* Large and huge blocks that are not sampled are what they were. */
static void other_blocks_are_cached(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *sampled = sampled_block(SIZE_CLASSES_SMALL);
    void *block = sharena_malloc(heap, LARGE_BYTES_MIN);
    assert_false(prof_is_sampled(heap, page_of(heap, block)));
    sharena_free(heap, block);
    assert_int_equal(books_now().report.blocks_cached, 1);
    sharena_free(heap, sampled);
    assert_int_equal(books_now().report.blocks_cached, 1);
}

static void a_full_table_is_counted(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct pool *pool = heap_pool(heap);
    shared_u32 full = {SAMPLES_MAX};
    void *block = sampled_block(SIZE_CLASSES_SMALL);
    uint32_t kept = high();
    pool->samples_high = full;
    assert_null(prof_take(heap, fixture_self()));
    assert_int_equal(shared_get(&fixture_self()->hand.sample), 0);
    assert_int_equal(dropped(), 1);
    sharena_free(heap, block); /* one is free again */
    (void)take();
    prof_give(heap, fixture_self());
    full.value_ = kept;
    pool->samples_high = full;
}

static void no_storage_is_counted(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    const void *table = heap_sample(heap, 0);
    refuse_storage(table, 8);
    assert_null(prof_take(heap, fixture_self()));
    assert_int_equal(dropped(), 1);
    assert_int_equal(high(), 0);
    grant_storage(table, 8);
    (void)take();
    prof_give(heap, fixture_self());
    assert_true(prof_table_bytes(heap) >= sizeof(struct sample));
}

/* More than one piece of the table. */
static void many(void **state) {
    (void)state;
    enum { COUNT = 300 };
    sharena_t *heap = fixture_heap();
    void *blocks[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        blocks[i] = sampled_block(SIZE_CLASSES_SMALL);
    }
    assert_int_equal(used(), COUNT);
    assert_int_equal(books_now().report.blocks_live, COUNT);
    for (uint32_t i = 0; i < COUNT; i += 2) {
        sharena_free(heap, blocks[i]);
    }
    assert_int_equal(used(), COUNT / 2);
    assert_int_equal(books_now().report.blocks_live, COUNT / 2);
    for (uint32_t i = 0; i < COUNT; i += 2) {
        blocks[i] = sampled_block(SIZE_CLASSES_SMALL);
    }
    assert_int_equal(high(), COUNT);
    sharena_free_batch(heap, COUNT, blocks);
    assert_int_equal(used(), 0);
}

static int dies_with_a_sample(void *arg) {
    sharena_t *heap = arg;
    struct thread_slot *self = heap_enter(heap);
    REQUIRE(self != NULL && prof_take(heap, self) != NULL);
    (void)raise(SIGKILL);
    return 1;
}

static void the_hand_of_the_dead_is_emptied(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    (void)fixture_self();
    assert_int_equal(child_wait(child_start(dies_with_a_sample, heap)), SIGKILL);
    assert_int_equal(used(), 1);
    assert_int_equal(sharena_reap(heap), 1);
    assert_int_equal(used(), 0);
    assert_int_equal(books_now().report.findings, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(given_samples_are_taken_again),   with_heap(a_block_has_it_until_it_is_freed),
        with_heap(other_blocks_are_cached),         with_heap(a_full_table_is_counted),
        with_heap(no_storage_is_counted),           with_heap(many),
        with_heap(the_hand_of_the_dead_is_emptied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
