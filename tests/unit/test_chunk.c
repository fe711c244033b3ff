/* test_chunk.c -- spans of chunks: found, split, joined, and what of them is backed. */
#include "heap/chunk.h"

#include "heap/backing.h"
#include "heap_parts.h"
#include "ipc/lock.h"

#define CHUNKS ((uint32_t)(FIXTURE_CAPACITY / CHUNK_BYTES))

static sharena_t *heap;
static struct thread_slot *self;
static uint32_t begin; /* chunk 0 of the user data */

static int open_pool(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    begin = first_chunk(heap);
    return error;
}

#define with_pool(f) cmocka_unit_test_setup_teardown(f, open_pool, heap_fixture_close)

/* ---- holding spans outside of the hand ---- */

static uint32_t backed_of(uint32_t first) {
    return shared_get(&heap_chunk(heap, first)->backed);
}

static uint32_t size_of(uint32_t first) {
    return shared_get(&heap_chunk(heap, first)->size);
}

static uint32_t state_of(uint32_t first) {
    return shared_get(&heap_chunk(heap, first)->state);
}

static uint32_t hold_aligned(uint32_t count, uint32_t align) {
    assert_int_equal(pool_take(heap, self, count, align), 0);
    uint32_t first = shared_get(&self->hand.first);
    assert_int_equal(shared_get(&self->hand.kind), HAND_SPAN);
    assert_int_equal(shared_get(&self->hand.count), count);
    assert_int_equal(state_of(first), CHUNK_HAND);
    assert_int_equal(size_of(first), count);
    assert_true(journal_is_empty(self));
    hand_empty(self);
    return first;
}

static uint32_t hold(uint32_t count) {
    return hold_aligned(count, 1);
}

static void to_hand(uint32_t first) {
    journal_set(self, &self->hand.kind, HAND_SPAN);
    journal_set(self, &self->hand.first, first);
    journal_set(self, &self->hand.count, size_of(first));
    journal_set(self, &self->hand.flags, 0u);
    journal_commit(self);
}

static void give(uint32_t first) {
    to_hand(first);
    pool_give(heap, self);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
}

/* That many leading pages of the held span are backed from now on. */
static void back(uint32_t first, uint32_t pages) {
    uint32_t backed = backed_of(first);
    if (pages == backed) {
        return;
    }
    to_hand(first);
    assert_int_equal(backing_add(heap, self, first_page_of_chunk(first) + backed, pages - backed),
                     0);
    lock_acquire(heap, self, &heap_pool(heap)->lock);
    journal_set(self, &heap_chunk(heap, first)->backed, pages);
    journal_set(self, &self->hand.charged, 0u);
    journal_commit(self);
    lock_release(heap, self, &heap_pool(heap)->lock);
    hand_empty(self);
}

static void assert_free(uint32_t first, uint32_t size, uint32_t backed) {
    assert_int_equal(state_of(first), backed != 0 ? CHUNK_FREE_DIRTY : CHUNK_FREE_CLEAN);
    assert_int_equal(size_of(first), size);
    assert_int_equal(backed_of(first), backed);
    assert_int_equal(shared_get(&heap_chunk(heap, first + size - 1)->first), first);
    assert_int_equal(state_of(first + size - 1), state_of(first));
}

/* ---- where chunks come from ---- */

static void test_the_heap_grows_by_what_is_taken(void **state) {
    (void)state;
    uint64_t charged = charged_pages();
    uint64_t metadata = pool_metadata_pages(end_chunk(heap));
    assert_int_equal(end_chunk(heap), begin);
    assert_int_equal(hold(1), begin);
    assert_int_equal(hold(5), begin + 1);
    assert_int_equal(hold(20), begin + 6);
    assert_int_equal(end_chunk(heap), begin + 26);
    assert_int_equal(backed_of(begin + 6), 0);
    assert_int_equal(charged_pages() - charged, pool_metadata_pages(begin + 26) - metadata);
    assert_int_equal(stored_pages(first_page_of_chunk(begin), 26 * CHUNK_PAGES), 0);
    give(begin);
    give(begin + 6);
    give(begin + 1);
    assert_free(begin, 26, 0);
}

/* The tables of the first `end` chunks, in pages. */
static void test_pages_of_metadata(void **state) {
    (void)state;
    for (uint64_t end = 0; end < 3000; end++) {
        uint64_t map_bytes = end * CHUNK_PAGES * sizeof(uint16_t);
        uint64_t table_bytes = end * sizeof(struct chunk);
        assert_int_equal(pool_metadata_pages(end),
                         2 * ((map_bytes + 4095) / 4096) + (table_bytes + 4095) / 4096);
    }
    assert_int_equal(RUN_TABLE_PAGES, 8);
}

static void test_best_fit_at_the_lowest_address(void **state) {
    (void)state;
    uint32_t a = hold(3);
    uint32_t wall_a = hold(1);
    uint32_t b = hold(2);
    uint32_t wall_b = hold(1);
    uint32_t c = hold(2);
    uint32_t wall_c = hold(1);
    give(c);
    give(a);
    give(b);
    assert_int_equal(hold(2), b); /* not a, which is larger; not c, which is higher */
    assert_int_equal(hold(2), c);
    assert_int_equal(hold(2), a);
    assert_int_equal(hold(1), a + 2); /* what was left of it */
    const uint32_t held[] = {a, a + 2, b, c, wall_a, wall_b, wall_c};
    for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++) {
        give(held[i]);
    }
    assert_free(a, 10, 0);
}

static void test_dirty_before_clean_before_new(void **state) {
    (void)state;
    uint32_t clean = hold(1);
    uint32_t wall = hold(1);
    uint32_t dirty = hold(4);
    uint32_t wall_2 = hold(1);
    uint32_t end = end_chunk(heap);
    back(dirty, 7);
    give(clean);
    give(dirty);
    assert_int_equal(hold(1), dirty); /* a worse fit, but it has memory */
    assert_int_equal(backed_of(dirty), 7);
    assert_free(dirty + 1, 3, 0); /* the rest has none */
    assert_int_equal(hold(1), clean);
    assert_int_equal(hold(3), dirty + 1);
    assert_int_equal(end_chunk(heap), end);
    assert_int_equal(hold(1), end);
    const uint32_t held[] = {clean, wall, dirty, dirty + 1, wall_2, end};
    for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++) {
        give(held[i]);
    }
}

/* ---- joining and splitting ---- */

static void test_joins_on_both_sides(void **state) {
    (void)state;
    uint32_t a = hold(2);
    uint32_t b = hold(3);
    uint32_t c = hold(4);
    uint32_t wall = hold(1);
    give(a);
    give(c);
    assert_free(a, 2, 0);
    assert_free(c, 4, 0);
    give(b);
    assert_free(a, 9, 0);
    assert_int_equal(tree_audit(pool_tree(heap, CHUNK_FREE_CLEAN)), 1);
    give(wall);
    assert_free(a, 10, 0);
}

/* Which neighbours join: two clean ones; two dirty ones if the first is backed to its end. */
static void test_joins_only_what_stays_a_backed_prefix(void **state) {
    (void)state;
    const struct {
        uint32_t before;
        uint32_t after;
        int joins;
    } cases[] = {{0, 0, 1},
                 {CHUNK_PAGES, CHUNK_PAGES, 1},
                 {CHUNK_PAGES, 3, 1},
                 {CHUNK_PAGES, 0, 0},
                 {CHUNK_PAGES - 1, 3, 0},
                 {3, 0, 0},
                 {0, 3, 0},
                 {0, CHUNK_PAGES, 0}};
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t before = cases[i / 2].before;
        uint32_t after = cases[i / 2].after;
        uint32_t a = hold(1);
        uint32_t b = hold(1);
        uint32_t wall = hold(1);
        assert_true(b == a + 1 && wall == b + 1);
        back(a, before);
        back(b, after);
        give(i % 2 == 0 ? a : b); /* joined from behind, and from in front */
        give(i % 2 == 0 ? b : a);
        if (cases[i / 2].joins) {
            assert_free(a, 2, before + after);
        } else {
            assert_free(a, 1, before);
            assert_free(b, 1, after);
        }
        give(wall);
        (void)books_now();
        pool_purge(heap, self);
        assert_free(begin, 3, 0);
    }
}

static void test_a_split_divides_what_is_backed(void **state) {
    (void)state;
    uint32_t a = hold(5);
    uint32_t wall = hold(1);
    back(a, 2 * CHUNK_PAGES + 100);
    give(a);
    assert_free(a, 5, 2 * CHUNK_PAGES + 100);
    assert_int_equal(hold(1), a);
    assert_int_equal(backed_of(a), CHUNK_PAGES);
    assert_free(a + 1, 4, CHUNK_PAGES + 100);
    assert_int_equal(hold(2), a + 1);
    assert_int_equal(backed_of(a + 1), CHUNK_PAGES + 100);
    assert_free(a + 3, 2, 0);
    give(a + 1);
    give(a);
    assert_free(a, 3, 2 * CHUNK_PAGES + 100);
    assert_free(a + 3, 2, 0); /* dirty beside clean */
    give(wall);
}

/* ---- alignment ---- */

static void assert_aligned(uint32_t first, uint32_t align) {
    uintptr_t address = (uintptr_t)page_address(heap, first_page_of_chunk(first));
    assert_int_equal(address % ((uint64_t)align * CHUNK_BYTES), 0);
}

static void test_alignment_skips_chunks_that_stay_free(void **state) {
    (void)state;
    uint32_t wall = hold(1);
    for (uint32_t align = 2; align <= 64; align *= 2) {
        uint32_t end = end_chunk(heap);
        uint32_t first = hold_aligned(1, align);
        assert_aligned(first, align);
        if (first > end) {
            assert_int_equal(state_of(first - 1), CHUNK_FREE_CLEAN);
        }
        give(first);
    }
    give(wall);
    assert_free(begin, end_chunk(heap) - begin, 0);
}

/* In the middle of a free span: what is in front and behind stays free, and backed as it was. */
static void test_alignment_within_a_free_span(void **state) {
    (void)state;
    uint32_t wall = hold_aligned(1, 4);
    uint32_t a = hold(9);
    uint32_t aligned = a + 3;
    uint32_t in_front = 3;
    back(a, in_front * CHUNK_PAGES + 9);
    give(a);
    assert_int_equal(hold_aligned(2, 4), aligned);
    assert_int_equal(backed_of(aligned), 9);
    assert_free(a, in_front, in_front * CHUNK_PAGES);
    assert_free(aligned + 2, 9 - in_front - 2, 0);
    give(aligned);
    give(wall);
}

/* It is the address that is aligned: a heap may begin anywhere. */
static void test_alignment_is_that_of_the_address(void **state) {
    (void)state;
    char path[SCRATCH_MAX];
    const struct sharena_options options = {.capacity_bytes = 5 * GIB,
                                            .base_address = 0x200000000000 + GIB};
    assert_int_equal(sharena_open(scratch_path(path, "odd"), &options, &heap), 0);
    self = heap_enter(heap);
    assert_non_null(self);
    assert_int_equal(pool_take(heap, self, 1, 2 * (uint32_t)(GIB / CHUNK_BYTES)), 0);
    assert_aligned(shared_get(&self->hand.first), 2 * (uint32_t)(GIB / CHUNK_BYTES));
    pool_give(heap, self);
    clean_end(heap, path, 0);
}

/* ---- a span at its place ---- */

static int take_at(uint32_t first, uint32_t count) {
    lock_acquire(heap, self, &heap_pool(heap)->lock);
    int taken = pool_take_at(heap, self, first, count);
    journal_commit(self);
    lock_release(heap, self, &heap_pool(heap)->lock);
    if (taken) {
        assert_int_equal(shared_get(&self->hand.first), first);
        assert_int_equal(shared_get(&self->hand.count), count);
        hand_empty(self);
    }
    return taken;
}

static void test_take_at_wants_a_free_span_there(void **state) {
    (void)state;
    uint32_t a = hold(1);
    uint32_t b = hold(3);
    uint32_t wall = hold(1);
    assert_false(take_at(b, 1)); /* in use */
    give(b);
    assert_false(take_at(b, 4)); /* too small */
    assert_true(take_at(b, 2));
    assert_free(b + 2, 1, 0);
    assert_true(take_at(b + 2, 1));
    assert_false(take_at(end_chunk(heap), 1)); /* the heap ends here */
    give(b);
    give(b + 2);
    assert_free(b, 3, 0);
    give(a);
    give(wall);
}

/* ---- no more memory ---- */

static void test_capacity(void **state) {
    (void)state;
    assert_refused(pool_take(heap, self, CHUNKS + 1, 1), ENOMEM, "capacity");
    assert_refused(pool_take(heap, self, UINT32_MAX, 1), ENOMEM, "capacity");
    assert_refused(pool_take(heap, self, CHUNKS, 2 * CHUNKS), ENOMEM, "capacity");
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_int_equal(end_chunk(heap), begin);
    uint32_t all = hold(CHUNKS);
    assert_int_equal(all, begin);
    assert_refused(pool_take(heap, self, 1, 1), ENOMEM, "capacity");
    give(all);
    assert_int_equal(hold(CHUNKS - 1), begin);
    assert_int_equal(hold(1), begin + CHUNKS - 1);
    assert_refused(pool_take(heap, self, 1, 1), ENOMEM, "capacity");
    give(begin);
    assert_refused(pool_take(heap, self, CHUNKS, 1), ENOMEM, "capacity");
    give(begin + CHUNKS - 1);
}

static void test_metadata_counts_against_the_limit(void **state) {
    (void)state;
    struct books before = books_now();
    uint64_t needed = pool_metadata_pages(begin + 100) - pool_metadata_pages(begin);
    assert_true(needed > 1);
    allow_pages(needed - 1);
    assert_refused(pool_take(heap, self, 100, 1), ENOMEM, "limit");
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_books_are(&before);
    allow_pages(needed);
    uint32_t first = hold(100);
    assert_refused(pool_take(heap, self, 100, 1), ENOMEM, "limit");
    give(first);
    assert_int_equal(hold(100), first); /* what exists needs no more */
    give(first);
    allow_all();
}

static void assert_metadata_is_needed(void *table, uint64_t pages) {
    struct books before = books_now();
    refuse_storage(table, pages);
    assert_refused(pool_take(heap, self, 50, 1), ENOMEM, "metadata");
    grant_storage(table, pages);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_books_are(&before);
}

static void test_no_storage_for_metadata(void **state) {
    (void)state;
    uint32_t end_page = first_page_of_chunk(begin + 49);
    assert_metadata_is_needed(heap_page_map(heap) + end_page, 1);
    assert_metadata_is_needed(heap_page_kind(heap, end_page), 1);
    assert_metadata_is_needed(heap_chunk(heap, begin + 49), 1);
    uint32_t first = hold(50);
    give(first);
}

static void test_run_tables_are_charged_once(void **state) {
    (void)state;
    uint32_t first = hold(1);
    to_hand(first);
    uint64_t charged = charged_pages();
    allow_pages(RUN_TABLE_PAGES - 1);
    assert_refused(pool_prepare_runs(heap, self), ENOMEM, "limit");
    assert_int_equal(shared_get(&heap_chunk(heap, first)->has_runs), 0);
    assert_int_equal(charged_pages(), charged);
    allow_pages(RUN_TABLE_PAGES);
    refuse_storage(heap_run(heap, first_page_of_chunk(first)), 1);
    assert_refused(pool_prepare_runs(heap, self), ENOMEM, "file system");
    grant_storage(heap_run(heap, first_page_of_chunk(first)), 1);
    assert_int_equal(charged_pages(), charged);
    assert_int_equal(pool_prepare_runs(heap, self), 0);
    assert_int_equal(charged_pages(), charged + RUN_TABLE_PAGES);
    assert_int_equal(
        stored_pages(page_of(heap, heap_run(heap, first_page_of_chunk(first))), RUN_TABLE_PAGES),
        RUN_TABLE_PAGES);
    assert_int_equal(pool_prepare_runs(heap, self), 0);
    assert_int_equal(charged_pages(), charged + RUN_TABLE_PAGES);
    pool_give(heap, self);
    allow_all();
}

static uint64_t stored_tables(uint32_t first, uint32_t chunks) {
    return stored_pages(page_of(heap, heap_run(heap, first_page_of_chunk(first))),
                        chunks * RUN_TABLE_PAGES);
}

/* A chunk with a run table, and with that many pages that are backed. */
static uint32_t hold_used(uint32_t pages) {
    uint32_t first = hold(1);
    to_hand(first);
    assert_int_equal(pool_prepare_runs(heap, self), 0);
    hand_empty(self);
    back(first, pages);
    return first;
}

/* What is not backed at all has no use for its run table, what is may be an arena's soon. */
static void test_run_tables_go_with_the_last_page(void **state) {
    (void)state;
    uint32_t first = hold_used(0);
    uint32_t second = hold_used(3);
    uint64_t charged = charged_pages();
    assert_int_equal(stored_tables(first, 2), 2 * RUN_TABLE_PAGES);
    give(first);
    assert_int_equal(stored_tables(first, 2), RUN_TABLE_PAGES);
    assert_int_equal(charged - charged_pages(), RUN_TABLE_PAGES);
    assert_int_equal(shared_get(&heap_chunk(heap, first)->has_runs), 0);
    give(second);
    assert_int_equal(shared_get(&heap_chunk(heap, second)->has_runs), 1);
    (void)books_now();
    pool_purge(heap, self);
    assert_int_equal(stored_tables(first, 2), 0);
    assert_int_equal(charged - charged_pages(), 2 * RUN_TABLE_PAGES + 3);
    (void)books_now();
    uint32_t again = hold_used(0);
    assert_int_equal(again, first);
    assert_int_equal(stored_tables(first, 2), RUN_TABLE_PAGES);
    give(again);
}

/* More than one section has room for, with gaps between them, and a first chunk that has pages. */
static void test_run_tables_of_a_long_span(void **state) {
    (void)state;
    enum { CHUNKS_HELD = 450, GAP = 150 };
    for (uint32_t i = 0; i < CHUNKS_HELD; i++) {
        assert_int_equal(i % GAP == GAP - 1 ? hold(1) : hold_used(0), begin + i);
    }
    back(begin, 5);
    uint64_t charged = charged_pages();
    lock_acquire(heap, self, &heap_pool(heap)->lock);
    pool_mark_span(heap, self, begin, CHUNKS_HELD, CHUNK_HAND);
    journal_commit(self);
    lock_release(heap, self, &heap_pool(heap)->lock);
    assert_int_equal(stored_tables(begin, CHUNKS_HELD), (CHUNKS_HELD - 3) * RUN_TABLE_PAGES);
    give(begin);
    assert_free(begin, CHUNKS_HELD, 5);
    assert_int_equal(stored_tables(begin, CHUNKS_HELD), RUN_TABLE_PAGES);
    assert_int_equal(charged - charged_pages(), (CHUNKS_HELD - 4) * RUN_TABLE_PAGES);
    pool_purge(heap, self);
    assert_free(begin, CHUNKS_HELD, 0);
    assert_int_equal(stored_tables(begin, CHUNKS_HELD), 0);
}

/* ---- purge ---- */

static void test_purge_makes_one_clean_span_of_all(void **state) {
    (void)state;
    uint64_t charged = charged_pages();
    uint32_t held[6];
    for (uint32_t i = 0; i < 6; i++) {
        held[i] = hold(2);
        back(held[i], i * 100);
        memset(page_address(heap, first_page_of_chunk(held[i])), 0xff, i * 100 * PAGE_BYTES);
    }
    for (uint32_t i = 0; i < 6; i++) {
        give(held[i]);
    }
    uint64_t file = file_pages();
    pool_purge(heap, self);
    assert_free(begin, 12, 0);
    assert_int_equal(shared_get(&heap_pool(heap)->dirty), 0);
    assert_int_equal(file - file_pages(), 1500);
    assert_int_equal(stored_pages(first_page_of_chunk(begin), 12 * CHUNK_PAGES), 0);
    assert_int_equal(charged_pages() - charged,
                     pool_metadata_pages(begin + 12) - pool_metadata_pages(begin));
    pool_purge(heap, self); /* nothing is left */
    assert_free(begin, 12, 0);
}

/* The end of the longest span goes first; what is left is one span, in front. */
static void test_some_pages_of_a_long_span(void **state) {
    (void)state;
    uint32_t first = hold(3);
    uint32_t between = hold(1);
    uint32_t second = hold(1);
    back(first, 2 * CHUNK_PAGES + 100);
    back(second, 50);
    give(first);
    give(second);
    uint64_t charged = charged_pages();
    shared_u64 *dirty = &heap_pool(heap)->pages_dirty;
    assert_int_equal(shared_get(dirty), 2 * CHUNK_PAGES + 150);
    pool_purge_pages(heap, self, 30);
    assert_free(first, 3, 2 * CHUNK_PAGES + 70);
    pool_purge_pages(heap, self, 70 + 12); /* into the chunk in front */
    assert_free(first, 3, 2 * CHUNK_PAGES - 12);
    assert_int_equal(stored_pages(first_page_of_chunk(first), 3 * CHUNK_PAGES),
                     2 * CHUNK_PAGES - 12);
    assert_int_equal(shared_get(dirty), 2 * CHUNK_PAGES + 38);
    assert_int_equal(charged - charged_pages(), 112);
    pool_purge_pages(heap, self, 0);
    assert_int_equal(shared_get(dirty), 2 * CHUNK_PAGES + 38);
    pool_purge_pages(heap, self, UINT64_MAX);
    assert_free(first, 3, 0);
    assert_int_equal(shared_get(dirty), 0);
    give(between);
    assert_free(first, 5, 0);
}

/* ---- against a model ---- */

#define HELD_MAX 24u

struct held {
    uint32_t first;
    uint32_t count;
    uint32_t backed;
};

static struct held holds[HELD_MAX];
static uint32_t held_count;

/* Free spans tile what is not held, are joined as far as they may be, and stand in their tree. */
static void assert_pool_is_whole(void) {
    uint32_t spans[2] = {0, 0};
    uint32_t free_before = 0; /* the free span in front */
    for (uint32_t at = begin; at < end_chunk(heap); at += size_of(at)) {
        assert_in_range(size_of(at), 1, end_chunk(heap) - at);
        if (state_of(at) == CHUNK_HAND) {
            free_before = 0;
            continue;
        }
        assert_free(at, size_of(at), backed_of(at));
        spans[backed_of(at) != 0]++;
        if (free_before != 0) {
            uint32_t backed = backed_of(free_before);
            int is_full = backed == size_of(free_before) * CHUNK_PAGES;
            assert_true((backed != 0) != (backed_of(at) != 0) || (backed != 0 && !is_full));
        }
        free_before = at;
    }
    assert_int_equal(tree_audit(pool_tree(heap, CHUNK_FREE_CLEAN)), spans[0]);
    assert_int_equal(tree_audit(pool_tree(heap, CHUNK_FREE_DIRTY)), spans[1]);
}

/* Where a span of that size is to be taken from, by looking at all of them; 0: from new chunks. */
static uint32_t expected_place(uint32_t count) {
    for (int dirty = 1; dirty >= 0; dirty--) {
        uint32_t best = 0;
        for (uint32_t at = begin; at < end_chunk(heap); at += size_of(at)) {
            if (state_of(at) == (dirty ? CHUNK_FREE_DIRTY : CHUNK_FREE_CLEAN) &&
                size_of(at) >= count && (best == 0 || size_of(at) < size_of(best))) {
                best = at;
            }
        }
        if (best != 0) {
            return best;
        }
    }
    return 0;
}

static void random_take(uint64_t *seed) {
    uint32_t count = (uint32_t)(clean_random(seed) % 7) + 1;
    uint32_t expected = expected_place(count);
    uint32_t first = hold(count);
    if (expected != 0) {
        assert_int_equal(first, expected);
    }
    if (clean_random(seed) % 2 == 0) { /* use it: wholly, or a part */
        uint32_t pages = clean_random(seed) % 2 == 0
                             ? count * CHUNK_PAGES
                             : (uint32_t)(clean_random(seed) % (count * CHUNK_PAGES));
        if (pages > backed_of(first)) {
            back(first, pages);
        }
    }
    holds[held_count++] = (struct held){first, count, backed_of(first)};
}

static void random_give(uint64_t *seed) {
    uint32_t at = (uint32_t)(clean_random(seed) % held_count);
    struct held held = holds[at];
    assert_int_equal(size_of(held.first), held.count); /* nobody has touched it meanwhile */
    assert_int_equal(backed_of(held.first), held.backed);
    assert_int_equal(state_of(held.first), CHUNK_HAND);
    give(held.first);
    holds[at] = holds[--held_count];
}

static void test_random_takes_and_gives(void **state) {
    (void)state;
    uint64_t seed = 4;
    held_count = 0;
    for (uint32_t i = 0; i < 1500; i++) {
        if (held_count == 0 || (held_count < HELD_MAX && clean_random(&seed) % 2 == 0)) {
            random_take(&seed);
        } else {
            random_give(&seed);
        }
        assert_pool_is_whole();
        if (i % 300 == 299) {
            pool_purge(heap, self);
            assert_pool_is_whole();
            assert_int_equal(shared_get(&heap_pool(heap)->dirty), 0);
        }
    }
    while (held_count != 0) {
        random_give(&seed);
    }
    struct books books = books_now();
    assert_int_equal(books.stored, books.report.pages_dirty);
    pool_purge(heap, self);
    assert_free(begin, end_chunk(heap) - begin, 0);
    assert_int_equal(books_now().stored, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_pool(test_the_heap_grows_by_what_is_taken),
        with_pool(test_pages_of_metadata),
        with_pool(test_best_fit_at_the_lowest_address),
        with_pool(test_dirty_before_clean_before_new),
        with_pool(test_joins_on_both_sides),
        with_pool(test_joins_only_what_stays_a_backed_prefix),
        with_pool(test_a_split_divides_what_is_backed),
        with_pool(test_alignment_skips_chunks_that_stay_free),
        with_pool(test_alignment_within_a_free_span),
        cmocka_unit_test(test_alignment_is_that_of_the_address),
        with_pool(test_take_at_wants_a_free_span_there),
        with_pool(test_capacity),
        with_pool(test_metadata_counts_against_the_limit),
        with_pool(test_no_storage_for_metadata),
        with_pool(test_run_tables_are_charged_once),
        with_pool(test_purge_makes_one_clean_span_of_all),
        with_pool(test_some_pages_of_a_long_span),
        with_pool(test_run_tables_go_with_the_last_page),
        with_pool(test_run_tables_of_a_long_span),
        with_pool(test_random_takes_and_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
