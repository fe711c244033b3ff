/* test_backing.c -- pages are counted before they are there, and until they are gone. */
#include "heap/backing.h"

#include "heap/arena.h"
#include "heap/chunk.h"
#include "heap_parts.h"
#include "ipc/lock.h"

#define PAGES 10u

static sharena_t *heap;
static struct thread_slot *self;
static uint32_t page; /* the first of the chunk that is in the hand */

/* A chunk that has never been backed, in the hand. */
static int open_hand(void **state) {
    if (heap_fixture_open(state) != 0) {
        return 1;
    }
    heap = fixture_heap();
    self = fixture_self();
    assert_int_equal(pool_take(heap, self, 1, 1), 0);
    page = first_page_of_chunk(shared_get(&self->hand.first));
    return 0;
}

static int close_hand(void **state) {
    allow_all();
    backing_settle(heap, self);
    if (shared_get(&self->hand.kind) == HAND_SPAN) {
        pool_give(heap, self);
    }
    return heap_fixture_close(state);
}

#define with_hand(f) cmocka_unit_test_setup_teardown(f, open_hand, close_hand)

/* The pages that are charged become the chunk's. */
static void keep(uint32_t pages) {
    lock_acquire(heap, self, &heap_pool(heap)->lock);
    journal_set(self, &heap_chunk(heap, chunk_of_page(page))->backed, pages);
    journal_set(self, &self->hand.charged, 0u);
    journal_commit(self);
    lock_release(heap, self, &heap_pool(heap)->lock);
}

static void test_added_pages_are_charged_stored_and_zero(void **state) {
    (void)state;
    uint64_t charged = charged_pages();
    uint64_t file = file_pages();
    assert_int_equal(stored_pages(page, CHUNK_PAGES), 0);
    assert_int_equal(backing_add(heap, self, page, PAGES), 0);
    assert_int_equal(charged_pages(), charged + PAGES);
    assert_int_equal(file_pages(), file + PAGES);
    assert_int_equal(stored_pages(page, CHUNK_PAGES), PAGES);
    assert_int_equal(shared_get(&self->hand.charged_first), page);
    assert_int_equal(shared_get(&self->hand.charged), PAGES);
    assert_true(clean_is_zero(page_address(heap, page), PAGES * PAGE_BYTES));
    assert_true(journal_is_empty(self));
}

static void test_settling_takes_charged_pages_back(void **state) {
    (void)state;
    uint64_t charged = charged_pages();
    uint64_t file = file_pages();
    assert_int_equal(backing_add(heap, self, page + 3, PAGES), 0);
    memset(page_address(heap, page + 3), 0xff, PAGES * PAGE_BYTES);
    backing_settle(heap, self);
    assert_int_equal(charged_pages(), charged);
    assert_int_equal(file_pages(), file);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    backing_settle(heap, self); /* there is nothing left to settle */
    assert_int_equal(charged_pages(), charged);
}

static void test_removed_pages_are_gone_and_zero(void **state) {
    (void)state;
    uint64_t charged = charged_pages();
    uint64_t file = file_pages();
    struct chunk *chunk = heap_chunk(heap, chunk_of_page(page));
    assert_int_equal(backing_add(heap, self, page, PAGES), 0);
    keep(PAGES);
    assert_int_equal(charged_pages(), charged + PAGES);
    memset(page_address(heap, page), 0xff, PAGES * PAGE_BYTES);
    backing_remove(heap, self, page, PAGES);
    assert_int_equal(charged_pages(), charged);
    assert_int_equal(file_pages(), file);
    assert_int_equal(stored_pages(page, CHUNK_PAGES), 0);
    assert_int_equal(shared_get(&chunk->backed), 0);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    assert_true(clean_is_zero(page_address(heap, page), PAGES * PAGE_BYTES));
}

/* A run in the hand is told from its flags to be clean afterwards. */
static void test_a_run_is_clean_when_its_pages_are_removed(void **state) {
    (void)state;
    pool_give(heap, self);
    assert_int_equal(arena_take(heap, self, 0, 4, 1), 0);
    assert_true((shared_get(&self->hand.flags) & HAND_DIRTY) != 0);
    uint64_t charged = charged_pages();
    uint32_t first = shared_get(&self->hand.first);
    backing_remove(heap, self, first, 4);
    assert_int_equal(shared_get(&self->hand.flags), 0);
    assert_int_equal(shared_get(&self->hand.kind), HAND_RUN);
    assert_int_equal(charged_pages(), charged - 4);
    assert_int_equal(stored_pages(first, 4), 0);
    arena_give(heap, self);
}

/* ---- no more memory ---- */

static void test_the_limit_is_exact(void **state) {
    (void)state;
    uint64_t charged = charged_pages();
    uint64_t file = file_pages();
    struct hand hand = self->hand;
    allow_pages(PAGES - 1);
    assert_refused(backing_add(heap, self, page, PAGES), ENOMEM, "limit");
    assert_memory_equal(&hand, &self->hand, sizeof(hand));
    assert_int_equal(charged_pages(), charged);
    assert_int_equal(file_pages(), file);
    allow_pages(PAGES);
    assert_int_equal(backing_add(heap, self, page, PAGES), 0);
    assert_int_equal(charged_pages(), charged + PAGES);
}

/* The limit may be below what is backed: by a heap that was made with a very small one. */
static void test_a_limit_that_is_passed_already(void **state) {
    (void)state;
    assert_int_equal(backing_add(heap, self, page, 2), 0);
    keep(2);
    assert_true(charged_pages() > 1);
    set_limit_pages(1);
    assert_refused(backing_add(heap, self, page + 2, 1), ENOMEM, "limit");
}

static void test_a_full_file_system_keeps_nothing_of_a_failed_call(void **state) {
    (void)state;
    uint64_t charged = charged_pages();
    uint64_t file = file_pages();
    refuse_storage(page_address(heap, page + PAGES - 1), 1); /* all but the last are backed first */
    assert_refused(backing_add(heap, self, page, PAGES), ENOMEM, "file system");
    assert_int_equal(charged_pages(), charged);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    assert_int_equal(shared_get(&self->hand.kind), HAND_SPAN);
    assert_int_equal(file_pages(), file);
    grant_storage(page_address(heap, page + PAGES - 1), 1);
    assert_int_equal(backing_add(heap, self, page, PAGES), 0);
}

/* ---- the hands of the dead ---- */

/* Dies with a chunk in its hand and charged pages, before it could use them. */
static int die_after_adding(void *arg) {
    (void)arg;
    struct thread_slot *own = fixture_self();
    REQUIRE(pool_take(heap, own, 1, 1) == 0);
    REQUIRE(backing_add(heap, own, first_page_of_chunk(shared_get(&own->hand.first)), PAGES) == 0);
    (void)raise(SIGKILL);
    return 0;
}

/* Dies in backing_remove, between its commit and the punch. */
static int die_before_punching(void *arg) {
    (void)arg;
    struct thread_slot *own = fixture_self();
    REQUIRE(pool_take(heap, own, 1, 1) == 0);
    uint32_t first = first_page_of_chunk(shared_get(&own->hand.first));
    REQUIRE(backing_add(heap, own, first, PAGES) == 0);
    memset(page_address(heap, first), 0xff, PAGES * PAGE_BYTES);
    (void)raise(SIGKILL); /* charged, not in chunk.backed: that is just what that commit leaves */
    return 0;
}

/* Dies with a run of an arena in its hand that is being backed. */
static int die_backing_a_run(void *arg) {
    (void)arg;
    struct thread_slot *own = fixture_self();
    REQUIRE(arena_take(heap, own, shared_get(&own->arena) - 1, 4, 1) == 0);
    backing_remove(heap, own, shared_get(&own->hand.first), 4);
    REQUIRE(backing_add(heap, own, shared_get(&own->hand.first), 4) == 0);
    (void)raise(SIGKILL);
    return 0;
}

static void assert_child_is_settled(int (*body)(void *)) {
    uint64_t charged = charged_pages();
    uint64_t stored = stored_pages(page, 3 * CHUNK_PAGES);
    int status = child_wait(child_start(body, NULL));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(charged_pages(), charged + PAGES);
    assert_int_equal(sharena_reap(heap), 1);
    assert_int_equal(charged_pages(), charged);
    assert_int_equal(stored_pages(page, 3 * CHUNK_PAGES), stored);
}

static void test_what_the_dead_had_charged_is_settled(void **state) {
    (void)state;
    struct hand held = self->hand;
    hand_empty(self); /* so that the heap has no open hand but the child's */
    assert_child_is_settled(die_after_adding);
    assert_child_is_settled(die_before_punching);
    hand_fill(self, &held);
    (void)books_now();
}

static void test_a_run_of_the_dead_goes_back_clean(void **state) {
    (void)state;
    pool_give(heap, self);
    int status = child_wait(child_start(die_backing_a_run, NULL));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(sharena_reap(heap), 1);
    struct books books = books_now();
    assert_int_equal(books.report.pages_dirty, books.report.pages_backed);
    assert_int_equal(books.stored, books.report.pages_backed);
    assert_true(books.stored > 0); /* the rest of the batch */
}

/* ---- metadata ---- */

static void test_metadata_is_backed_in_whole_pages(void **state) {
    (void)state;
    char *begin = page_address(heap, page);
    assert_int_equal(backing_add_metadata(heap, begin + 5000, begin + 5008), 0);
    assert_int_equal(stored_pages(page, CHUNK_PAGES), 1);
    assert_int_equal(stored_pages(page + 1, 1), 1);
    assert_int_equal(backing_add_metadata(heap, begin + 2 * PAGE_BYTES - 1, begin + 8193), 0);
    assert_int_equal(stored_pages(page + 1, 2), 2);
    assert_int_equal(stored_pages(page, CHUNK_PAGES), 2);
    memset(begin + PAGE_BYTES, 0x5a, 2 * PAGE_BYTES);
    uint64_t file = file_pages();
    assert_int_equal(backing_add_metadata(heap, begin + 4096, begin + 12288), 0); /* repeated */
    assert_int_equal(file_pages(), file);
    for (uint32_t i = 0; i < 2 * PAGE_BYTES; i++) {
        assert_int_equal(begin[PAGE_BYTES + i], 0x5a); /* what was there is not touched */
    }
    assert_int_equal(mapping_punch(heap, heap_offset(heap, begin), CHUNK_BYTES), 0);
}

static void test_metadata_may_be_refused(void **state) {
    (void)state;
    char *begin = page_address(heap, page);
    assert_int_equal(backing_add_metadata(heap, begin, begin + 1), 0);
    begin[0] = 77;
    refuse_storage(begin + 2 * PAGE_BYTES, 1);
    assert_refused(backing_add_metadata(heap, begin, begin + 3 * PAGE_BYTES), ENOMEM, "metadata");
    assert_int_equal(begin[0], 77); /* others may use it already */
    grant_storage(begin + 2 * PAGE_BYTES, 1);
    assert_int_equal(mapping_punch(heap, heap_offset(heap, begin), CHUNK_BYTES), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_hand(test_added_pages_are_charged_stored_and_zero),
        with_hand(test_settling_takes_charged_pages_back),
        with_hand(test_removed_pages_are_gone_and_zero),
        with_hand(test_a_run_is_clean_when_its_pages_are_removed),
        with_hand(test_the_limit_is_exact),
        with_hand(test_a_limit_that_is_passed_already),
        with_hand(test_a_full_file_system_keeps_nothing_of_a_failed_call),
        with_hand(test_what_the_dead_had_charged_is_settled),
        with_hand(test_a_run_of_the_dead_goes_back_clean),
        with_hand(test_metadata_is_backed_in_whole_pages),
        with_hand(test_metadata_may_be_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
