/* test_arena.c -- runs from dirty memory first, chunks that come and go, threads that choose. */
#include "heap/arena.h"

#include "heap/backing.h"
#include "heap/chunk.h"
#include "heap_parts.h"
#include "ipc/lock.h"

#define BATCH 16u /* pages that are backed at once, at least */

static sharena_t *heap;
static struct thread_slot *self;
static struct arena *arena;

static int open_arena(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    arena = heap_arena(heap, 0);
    return error;
}

#define with_arena(f) cmocka_unit_test_setup_teardown(f, open_arena, heap_fixture_close)

/* Takes a run, and puts it away. */
static struct hand hold_aligned(uint32_t pages, uint32_t align) {
    assert_int_equal(arena_take(heap, self, 0, pages, align), 0);
    struct hand held = self->hand;
    assert_int_equal(shared_get(&held.kind), HAND_RUN);
    assert_int_equal(shared_get(&held.arena), 0);
    assert_int_equal(shared_get(&held.count), pages);
    assert_int_equal(shared_get(&held.charged), 0);
    assert_true((shared_get(&held.flags) & HAND_DIRTY) != 0);
    assert_int_equal(shared_get(&heap_run(heap, shared_get(&held.first))->state), RUN_HAND);
    assert_int_equal(stored_pages(shared_get(&held.first), pages), pages);
    assert_true(journal_is_empty(self));
    hand_empty(self);
    return held;
}

static struct hand hold(uint32_t pages) {
    return hold_aligned(pages, 1);
}

static void give(const struct hand *held) {
    hand_fill(self, held);
    arena_give(heap, self);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
}

/* What was in it has been written to. */
static void soil(struct hand *held) {
    memset(page_address(heap, shared_get(&held->first)), 0xff,
           shared_get(&held->count) * (size_t)PAGE_BYTES);
    shared_store(&held->flags, HAND_DIRTY);
}

static uint32_t first_of(const struct hand *held) {
    return shared_get(&held->first);
}

static int is_zero(const struct hand *held) {
    return (shared_get(&held->flags) & HAND_ZERO) != 0;
}

static uint32_t chunk_of(const struct hand *held) {
    return chunk_of_page(first_of(held));
}

static uint32_t dirty_pages(void) {
    return shared_get(&arena->pages_dirty);
}

static uint32_t used_pages(void) {
    return shared_get(&arena->pages_used);
}

/* ---- taking ---- */

static void test_the_first_run_comes_from_a_new_chunk(void **state) {
    (void)state;
    uint64_t charged = charged_pages();
    uint64_t metadata = pool_metadata_pages(first_chunk(heap));
    struct hand a = hold(1);
    assert_int_equal(first_of(&a), first_page_of_chunk(first_chunk(heap)));
    assert_true(is_zero(&a));
    assert_true(clean_is_zero(page_address(heap, first_of(&a)), PAGE_BYTES));
    assert_int_equal(shared_get(&arena->chunks), 1);
    assert_int_equal(shared_get(&heap_chunk(heap, chunk_of(&a))->state), CHUNK_ARENA);
    assert_int_equal(shared_get(&heap_chunk(heap, chunk_of(&a))->arena), 0);
    assert_int_equal(used_pages(), 1);
    assert_int_equal(dirty_pages(), BATCH - 1); /* backed in one go */
    assert_int_equal(charged_pages() - charged, BATCH + RUN_TABLE_PAGES +
                                                    pool_metadata_pages(first_chunk(heap) + 1) -
                                                    metadata);
    give(&a);
    assert_int_equal(used_pages(), 0);
    assert_int_equal(dirty_pages(), BATCH);
}

static void test_batches_grow_with_the_arena(void **state) {
    (void)state;
    struct hand a = hold(CHUNK_PAGES);
    assert_int_equal(dirty_pages(), 0); /* just what was wanted */
    struct hand b = hold(40);
    assert_int_equal(dirty_pages(), 0); /* a sixteenth of 512 is less */
    struct hand c = hold(1);
    assert_int_equal(dirty_pages(), (CHUNK_PAGES + 40) / 16 - 1);
    give(&c);
    give(&b);
    give(&a);
}

/* What is left of a batch is still zero; what was used is not known to be. */
static void test_dirty_runs_first(void **state) {
    (void)state;
    struct hand a = hold(4);
    struct hand b = hold(2);
    assert_int_equal(first_of(&b), first_of(&a) + 4);
    assert_true(is_zero(&b));
    soil(&a);
    soil(&b);
    give(&a);
    uint64_t charged = charged_pages();
    struct hand c = hold(3);
    assert_int_equal(first_of(&c), first_of(&a)); /* the best fit, though there is clean memory */
    assert_false(is_zero(&c));
    assert_int_equal(charged_pages(), charged);
    struct hand d = hold(1);
    assert_int_equal(first_of(&d), first_of(&a) + 3);
    struct hand e = hold(10); /* the rest of the batch */
    assert_int_equal(first_of(&e), first_of(&b) + 2);
    assert_true(is_zero(&e));
    assert_int_equal(charged_pages(), charged);
    struct hand f = hold(20);
    assert_int_equal(charged_pages(), charged + 20);
    struct hand *all[] = {&b, &c, &d, &e, &f};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        give(all[i]);
    }
    assert_int_equal(shared_get(&arena->spare), chunk_of(&a));
}

static void test_zero_is_never_promised_of_used_pages(void **state) {
    (void)state;
    uint64_t seed = 6;
    struct hand held[8];
    uint32_t count = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        if (count == 8 || (count != 0 && clean_random(&seed) % 2 == 0)) {
            uint32_t at = (uint32_t)(clean_random(&seed) % count);
            give(&held[at]);
            held[at] = held[--count];
        } else {
            struct hand taken = hold((uint32_t)(clean_random(&seed) % 20) + 1);
            char *memory = page_address(heap, first_of(&taken));
            size_t bytes = shared_get(&taken.count) * (size_t)PAGE_BYTES;
            assert_true(!is_zero(&taken) || clean_is_zero(memory, bytes));
            if (clean_random(&seed) % 2 == 0) {
                memory[clean_random(&seed) % bytes] = 1;
                shared_store(&taken.flags, HAND_DIRTY);
            }
            held[count++] = taken;
        }
        if (i % 500 == 499) {
            arena_purge(heap, self, 0);
            assert_int_equal(dirty_pages(), 0);
        }
    }
    while (count != 0) {
        give(&held[--count]);
    }
}

static void test_aligned_runs(void **state) {
    (void)state;
    struct hand held[10];
    uint32_t count = 0;
    for (uint32_t align = 1; align <= CHUNK_PAGES / 2; align *= 2) {
        held[count] = hold_aligned(3, align);
        assert_int_equal(first_of(&held[count]) % align, 0);
        count++;
    }
    for (uint32_t i = 0; i < count; i++) { /* none lies in another */
        for (uint32_t j = 0; j < i; j++) {
            assert_true(first_of(&held[i]) + 3 <= first_of(&held[j]) ||
                        first_of(&held[j]) + 3 <= first_of(&held[i]));
        }
    }
    while (count != 0) {
        give(&held[--count]);
    }
}

/* ---- giving ---- */

static void test_an_empty_chunk_is_kept_and_the_next_one_leaves(void **state) {
    (void)state;
    struct hand a = hold(CHUNK_PAGES);
    struct hand b = hold(300);
    struct hand c = hold(CHUNK_PAGES - 300);
    assert_int_equal(chunk_of(&c), chunk_of(&b));
    assert_int_equal(shared_get(&arena->chunks), 2);
    give(&a);
    assert_int_equal(shared_get(&arena->spare), chunk_of(&a));
    assert_int_equal(shared_get(&arena->chunks), 2);
    give(&b);
    assert_int_equal(shared_get(&arena->chunks), 2);
    give(&c);
    assert_int_equal(shared_get(&arena->spare), chunk_of(&a));
    assert_int_equal(shared_get(&arena->chunks), 1);
    const struct chunk *gone = heap_chunk(heap, chunk_of(&c));
    assert_int_equal(shared_get(&gone->state), CHUNK_FREE_DIRTY);
    assert_int_equal(shared_get(&gone->backed), CHUNK_PAGES);
    assert_int_equal(books_now().report.pages_dirty, 2 * CHUNK_PAGES);
    struct hand d = hold(1); /* the spare is used first */
    assert_int_equal(chunk_of(&d), chunk_of(&a));
    assert_int_equal(shared_get(&arena->spare), 0);
    give(&d);
}

/* A chunk of the pool brings its backed pages along. */
static void test_a_chunk_comes_back_with_its_memory(void **state) {
    (void)state;
    struct hand a = hold(CHUNK_PAGES);
    struct hand b = hold(100);
    uint32_t backed = 100;
    assert_int_equal(shared_get(&heap_chunk(heap, chunk_of(&b))->free_pages), CHUNK_PAGES - backed);
    soil(&b);
    give(&a);
    give(&b);
    assert_int_equal(shared_get(&heap_chunk(heap, chunk_of(&b))->backed), backed);
    uint64_t charged = charged_pages();
    struct hand c = hold(CHUNK_PAGES);
    struct hand d = hold(90);
    assert_int_equal(first_of(&d), first_of(&b));
    assert_false(is_zero(&d));
    assert_int_equal(charged_pages(), charged);
    assert_int_equal(dirty_pages(), 10);
    give(&d);
    give(&c);
}

/* What its pages were does not count: here a dirty run began where the clean one begins now. */
static void test_a_former_life_of_a_chunk_is_forgotten(void **state) {
    (void)state;
    struct hand spare = hold(CHUNK_PAGES);
    struct hand a = hold(100);
    struct hand b = hold(CHUNK_PAGES - 100);
    uint32_t page = first_of(&a);
    give(&spare);
    give(&b);
    give(&a);
    pool_purge(heap, self);
    assert_int_equal(pool_take(heap, self, 1, 1), 0);
    assert_int_equal(shared_get(&self->hand.first), chunk_of_page(page));
    assert_int_equal(backing_add(heap, self, page, 100), 0);
    journal_set(self, &heap_chunk(heap, chunk_of_page(page))->backed, 100u);
    journal_set(self, &self->hand.charged, 0u);
    journal_commit(self);
    pool_give(heap, self);
    struct hand c = hold(CHUNK_PAGES); /* the spare */
    struct hand d = hold(50);
    assert_int_equal(first_of(&d), page);
    assert_int_equal(dirty_pages(), 50);
    assert_int_equal(shared_get(&heap_run(heap, page + 100)->size), CHUNK_PAGES - 100);
    give(&d);
    give(&c);
}

/* Dirty pages behind clean ones cannot go to the pool: they are given to the file system first. */
static void test_an_untidy_chunk_is_purged_and_leaves(void **state) {
    (void)state;
    struct hand spare = hold(CHUNK_PAGES);
    struct hand a = hold(100);
    struct hand b = hold(200);
    struct hand c = hold(CHUNK_PAGES - 300);
    soil(&a);
    soil(&c);
    give(&a);
    arena_purge(heap, self, 0);
    give(&c);
    give(&spare);
    uint32_t page = first_of(&a);
    uint64_t charged = charged_pages();
    assert_int_equal(stored_pages(page, CHUNK_PAGES), CHUNK_PAGES - 100);
    give(&b); /* clean, dirty */
    const struct chunk *gone = heap_chunk(heap, chunk_of_page(page));
    assert_int_equal(shared_get(&gone->state), CHUNK_FREE_CLEAN);
    assert_int_equal(shared_get(&gone->backed), 0);
    assert_int_equal(stored_pages(page, CHUNK_PAGES), 0);
    assert_int_equal(charged - charged_pages(), CHUNK_PAGES - 100 + RUN_TABLE_PAGES);
    assert_int_equal(shared_get(&arena->chunks), 1);
    assert_int_equal(used_pages(), 0);
}

/* Dirty, clean, dirty, clean: nothing but the first part could stay. */
static void test_a_chunk_with_dirty_islands_leaves(void **state) {
    (void)state;
    struct hand spare = hold(CHUNK_PAGES);
    struct hand parts[8];
    for (uint32_t i = 0; i < 8; i++) {
        parts[i] = hold(CHUNK_PAGES / 8);
    }
    for (uint32_t i = 1; i < 8; i += 2) {
        give(&parts[i]);
    }
    arena_purge(heap, self, 0);
    give(&spare);
    for (uint32_t i = 0; i < 8; i += 2) {
        give(&parts[i]);
    }
    const struct chunk *gone = heap_chunk(heap, chunk_of(&parts[0]));
    assert_true(shared_get(&gone->state) == CHUNK_FREE_CLEAN ||
                shared_get(&gone->state) == CHUNK_FREE_DIRTY);
    assert_int_equal(stored_pages(first_of(&parts[0]), CHUNK_PAGES), shared_get(&gone->backed));
    assert_int_equal(shared_get(&arena->chunks), 1);
}

static void test_release_of_a_chunk_that_is_not_free(void **state) {
    (void)state;
    struct hand a = hold(10);
    arena_release_chunk(heap, self, 0, chunk_of(&a)); /* in use again */
    assert_int_equal(shared_get(&arena->spare), 0);
    assert_int_equal(shared_get(&arena->chunks), 1);
    give(&a);
    arena_release_chunk(heap, self, 0, chunk_of(&a)); /* it is the spare */
    assert_int_equal(shared_get(&arena->spare), chunk_of(&a));
    assert_int_equal(shared_get(&arena->chunks), 1);
    assert_int_equal(arena_bind(heap, self, 1), 0);
    arena_release_chunk(heap, self, 1, chunk_of(&a)); /* another arena's */
    assert_int_equal(shared_get(&heap_arena(heap, 1)->spare), 0);
}

static void test_purge_gives_all_free_memory_back(void **state) {
    (void)state;
    struct hand a = hold(CHUNK_PAGES);
    struct hand b = hold(100);
    struct hand c = hold(100);
    soil(&a);
    soil(&b);
    give(&a);
    give(&b);
    assert_int_equal(shared_get(&arena->spare), chunk_of(&a));
    uint64_t charged = charged_pages();
    uint64_t file = file_pages();
    arena_purge(heap, self, 0);
    assert_int_equal(dirty_pages(), 0);
    assert_int_equal(charged - charged_pages(), CHUNK_PAGES + 100 + RUN_TABLE_PAGES);
    assert_int_equal(file - file_pages(), CHUNK_PAGES + 100 + RUN_TABLE_PAGES);
    assert_int_equal(shared_get(&arena->spare), 0); /* an empty chunk without memory is no use */
    assert_int_equal(shared_get(&arena->chunks), 1);
    assert_int_equal(stored_pages(first_of(&c), 100), 100);
    struct hand d = hold(100);
    assert_int_equal(first_of(&d), first_of(&b));
    assert_true(is_zero(&d));
    assert_true(clean_is_zero(page_address(heap, first_of(&d)), 100 * (size_t)PAGE_BYTES));
    give(&c);
    give(&d);
    arena_purge(heap, self, 0);
    assert_int_equal(shared_get(&arena->chunks), 0);
    assert_int_equal(books_now().stored, 0);
}

/* The last pages of the longest run, to the page. */
static void test_purge_of_some_pages(void **state) {
    (void)state;
    struct hand a = hold(100);
    struct hand b = hold(10);
    struct hand c = hold(40);
    struct hand d = hold(10);
    arena_purge(heap, self, 0); /* what is left of a batch */
    give(&a);
    give(&c);
    uint64_t charged = charged_pages();
    arena_purge_pages(heap, self, 0, 70);
    assert_int_equal(dirty_pages(), 70);
    assert_int_equal(stored_pages(first_of(&a), 100), 30);
    assert_int_equal(stored_pages(first_of(&c), 40), 40);
    assert_int_equal(stored_pages(first_of(&a), 30), 30);
    arena_purge_pages(heap, self, 0, 15);
    assert_int_equal(stored_pages(first_of(&c), 40), 25);
    assert_int_equal(charged - charged_pages(), 85);
    assert_int_equal(shared_get(&arena->decay.purged) >= 85, 1);
    arena_purge_pages(heap, self, 0, 0);
    assert_int_equal(dirty_pages(), 55);
    arena_purge_pages(heap, self, 0, UINT32_MAX);
    assert_int_equal(dirty_pages(), 0);
    assert_int_equal(shared_get(&arena->chunks), 1);
    give(&b);
    give(&d);
}

/* ---- no more memory ---- */

static void assert_refused_take(uint32_t pages, uint32_t align, const char *why) {
    assert_refused(arena_take(heap, self, 0, pages, align), ENOMEM, why);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    assert_true(journal_is_empty(self));
}

/* The heap is empty: metadata of a chunk, its run table, the pages. */
static void test_each_limit_up_to_the_first_page(void **state) {
    (void)state;
    uint64_t before = charged_pages();
    uint64_t needed = pool_metadata_pages(first_chunk(heap) + 1) -
                      pool_metadata_pages(first_chunk(heap)) + RUN_TABLE_PAGES + 1;
    for (uint64_t more = 1; more < needed; more++) {
        set_limit_pages(before + more);
        assert_refused_take(1, 1, "limit");
        assert_int_equal(books_now().report.pages_backed, 0);
        assert_int_equal(books_now().stored, 0);
        assert_true(charged_pages() <= before + more);
    }
    set_limit_pages(before + needed);
    struct hand a = hold(1); /* a batch is too much, one page is not */
    assert_int_equal(charged_pages(), before + needed);
    assert_refused_take(1, 1, "limit");
    give(&a);
    struct hand b = hold(1);
    give(&b);
    allow_all();
}

static void test_a_refused_run_changes_nothing(void **state) {
    (void)state;
    struct hand a = hold(5); /* there are 11 dirty ones now, the rest is clean */
    hand_fill(self, &a);
    struct books before = books_now();
    hand_empty(self);
    for (uint64_t more = 0; more < 40; more++) {
        allow_pages(more);
        assert_refused_take(40, 1, "limit");
        assert_refused_take(40, 8, "limit");
        hand_fill(self, &a);
        assert_books_are(&before);
        hand_empty(self);
    }
    allow_pages(40);
    struct hand b = hold(40);
    assert_int_equal(charged_pages(), before.charged + 40);
    give(&b);
    give(&a);
    allow_all();
}

static void test_a_full_file_system(void **state) {
    (void)state;
    struct hand a = hold(BATCH);
    uint32_t next = first_of(&a) + BATCH;
    hand_fill(self, &a);
    struct books before = books_now();
    hand_empty(self);
    refuse_storage(page_address(heap, next + 6), 1);
    assert_refused_take(7, 1, "file system");
    hand_fill(self, &a);
    assert_books_are(&before);
    hand_empty(self);
    struct hand b = hold(6); /* there is room for just this */
    assert_int_equal(first_of(&b), next);
    grant_storage(page_address(heap, next + 6), 1);
    give(&b);
    give(&a);
}

static void test_the_capacity_is_used_up(void **state) {
    (void)state;
    assert_int_equal(pool_take(heap, self, FIXTURE_CAPACITY / CHUNK_BYTES - 1, 1), 0);
    struct hand chunks = self->hand;
    hand_empty(self);
    struct hand a = hold(CHUNK_PAGES - 1);
    struct hand b = hold(1);
    assert_refused_take(1, 1, "capacity");
    give(&b);
    assert_refused_take(2, 1, "capacity");
    give(&a);
    hand_fill(self, &chunks);
    pool_give(heap, self);
}

static void test_back_hand_in_place(void **state) {
    (void)state;
    struct hand a = hold(8);
    soil(&a);
    give(&a);
    arena_purge(heap, self, 0); /* the chunk was the spare: it went to the pool */
    struct hand b = hold(8);
    hand_fill(self, &b);
    backing_remove(heap, self, first_of(&b), 8);
    allow_pages(7);
    assert_refused(arena_back_hand(heap, self), ENOMEM, "limit");
    assert_int_equal(shared_get(&self->hand.kind), HAND_RUN);
    assert_int_equal(shared_get(&self->hand.flags), 0);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    allow_pages(8);
    assert_int_equal(arena_back_hand(heap, self), 0);
    assert_int_equal(shared_get(&self->hand.flags), HAND_DIRTY | HAND_ZERO);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    assert_int_equal(stored_pages(first_of(&b), 8), 8);
    (void)books_now();
    arena_give(heap, self);
    allow_all();
}

/* ---- threads and arenas ---- */

static uint32_t bound(void) {
    return shared_get(&self->arena) - 1;
}

static uint32_t threads_of(uint32_t index) {
    return shared_get(&heap_arena(heap, index)->threads);
}

/* As if so many threads more used that arena. */
static void load(uint32_t index, uint32_t threads) {
    lock_acquire(heap, self, &heap_pool(heap)->lock);
    journal_set(self, &heap_arena(heap, index)->threads, threads);
    journal_commit(self);
    lock_release(heap, self, &heap_pool(heap)->lock);
}

static void test_choose_unused_then_new_then_least_loaded(void **state) {
    (void)state;
    assert_int_equal(bound(), 0);
    assert_int_equal(shared_get(&heap_pool(heap)->arenas_made), 1);
    assert_int_equal(arena_choose(heap, self, 3), 0); /* 0 is in use, by ourselves */
    assert_int_equal(bound(), 1);
    assert_int_equal(threads_of(0), 0);
    assert_int_equal(threads_of(1), 1);
    assert_int_equal(arena_choose(heap, self, 3), 0); /* 0 is unused again */
    assert_int_equal(bound(), 0);
    load(1, 7);
    assert_int_equal(arena_choose(heap, self, 3), 0);
    assert_int_equal(bound(), 2);
    assert_int_equal(shared_get(&heap_pool(heap)->arenas_made), 3);
    load(0, 3);
    load(2, 1 + 4);
    assert_int_equal(arena_choose(heap, self, 3), 0);
    assert_int_equal(bound(), 0);
    assert_int_equal(threads_of(0), 4);
    assert_int_equal(threads_of(2), 4);
    load(0, 1);
    load(1, 0);
    load(2, 0);
}

static void test_a_new_arena_works(void **state) {
    (void)state;
    assert_int_equal(arena_bind(heap, self, 1), 0);
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        assert_int_equal(heap_arena(heap, 1)->bins[i].lock.rank, RANK_BIN);
    }
    assert_int_equal(heap_arena(heap, 1)->lock.rank, RANK_ARENA);
    assert_int_equal(arena_take(heap, self, 1, 3, 1), 0);
    assert_int_equal(shared_get(&self->hand.arena), 1);
    assert_int_equal(shared_get(&heap_chunk(heap, chunk_of(&self->hand))->arena), 1);
    assert_int_equal(shared_get(&heap_run(heap, first_of(&self->hand))->arena), 1);
    arena_give(heap, self);
    assert_int_equal(shared_get(&heap_arena(heap, 1)->chunks), 1);
}

static void test_bind_makes_the_next_one_only(void **state) {
    (void)state;
    assert_refused(arena_bind(heap, self, 2), ENOENT, "no arena 2");
    assert_int_equal(bound(), 0);
    assert_int_equal(arena_bind(heap, self, 1), 0);
    assert_int_equal(arena_bind(heap, self, 2), 0);
    assert_int_equal(bound(), 2);
    assert_int_equal(threads_of(0) + threads_of(1), 0);
    assert_int_equal(arena_bind(heap, self, 0), 0);
    assert_int_equal(arena_bind(heap, self, 0), 0); /* where it is already */
    assert_int_equal(threads_of(0), 1);
    assert_int_equal(shared_get(&heap_pool(heap)->arenas_made), 3);
    assert_refused(arena_bind(heap, self, ARENAS_MAX), ENOENT, "no arena");
    assert_refused(arena_bind(heap, self, UINT32_MAX), ENOENT, "no arena");
}

static void test_all_arenas_there_can_be(void **state) {
    (void)state;
    for (uint32_t i = 1; i < ARENAS_MAX; i++) {
        assert_int_equal(arena_bind(heap, self, i), 0);
    }
    assert_refused(arena_bind(heap, self, ARENAS_MAX), ENOENT, "no arena");
    assert_int_equal(arena_choose(heap, self, ARENAS_MAX), 0);
    assert_int_equal(bound(), 0);
}

static void test_leaving(void **state) {
    (void)state;
    arena_leave(heap, self);
    assert_int_equal(shared_get(&self->arena), 0);
    assert_int_equal(threads_of(0), 0);
    arena_leave(heap, self); /* again: nothing to leave */
    assert_int_equal(threads_of(0), 0);
    assert_int_equal(arena_choose(heap, self, 4), 0);
    assert_int_equal(bound(), 0);
    assert_int_equal(threads_of(0), 1);
}

/* Where there is one arena, threads can share it; bind says what it wanted. */
static void test_no_storage_for_another_arena(void **state) {
    (void)state;
    struct arena *next = heap_arena(heap, 1);
    refuse_storage(next, ARENA_STRIDE / PAGE_BYTES);
    assert_refused(arena_bind(heap, self, 1), ENOMEM, "metadata");
    assert_int_equal(arena_choose(heap, self, 4), 0);
    assert_int_equal(bound(), 0);
    assert_int_equal(threads_of(0), 1);
    assert_int_equal(shared_get(&heap_pool(heap)->arenas_made), 1);
    grant_storage(next, ARENA_STRIDE / PAGE_BYTES);
    assert_int_equal(arena_choose(heap, self, 4), 0);
    assert_int_equal(bound(), 1);
}

static void test_no_storage_for_the_first_arena(void **state) {
    (void)state;
    heap = fixture_heap();
    refuse_storage(heap_arena(heap, 0), ARENA_STRIDE / PAGE_BYTES);
    errno = 0;
    assert_null(heap_enter(heap));
    assert_int_equal(errno, ENOMEM);
    grant_storage(heap_arena(heap, 0), ARENA_STRIDE / PAGE_BYTES);
    assert_non_null(heap_enter(heap));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_arena(test_the_first_run_comes_from_a_new_chunk),
        with_arena(test_batches_grow_with_the_arena),
        with_arena(test_dirty_runs_first),
        with_arena(test_zero_is_never_promised_of_used_pages),
        with_arena(test_aligned_runs),
        with_arena(test_an_empty_chunk_is_kept_and_the_next_one_leaves),
        with_arena(test_a_chunk_comes_back_with_its_memory),
        with_arena(test_a_former_life_of_a_chunk_is_forgotten),
        with_arena(test_an_untidy_chunk_is_purged_and_leaves),
        with_arena(test_a_chunk_with_dirty_islands_leaves),
        with_arena(test_release_of_a_chunk_that_is_not_free),
        with_arena(test_purge_gives_all_free_memory_back),
        with_arena(test_purge_of_some_pages),
        with_arena(test_each_limit_up_to_the_first_page),
        with_arena(test_a_refused_run_changes_nothing),
        with_arena(test_a_full_file_system),
        with_arena(test_the_capacity_is_used_up),
        with_arena(test_back_hand_in_place),
        with_arena(test_choose_unused_then_new_then_least_loaded),
        with_arena(test_a_new_arena_works),
        with_arena(test_bind_makes_the_next_one_only),
        with_arena(test_all_arenas_there_can_be),
        with_arena(test_leaving),
        with_arena(test_no_storage_for_another_arena),
        with_heap(test_no_storage_for_the_first_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
