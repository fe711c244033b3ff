/* test_run.c -- the free runs of a chunk: carved, and joined again as far as they are of a kind. */
#include "heap/run.h"

#include "heap/arena.h"
#include "heap_parts.h"
#include "ipc/lock.h"

static sharena_t *heap;
static struct thread_slot *self;
static struct arena *arena;
static uint32_t page; /* the first of a chunk that is wholly free, dirty and not known to be zero */

static unsigned char is_used[2 * CHUNK_PAGES + 1]; /* of it, and of the next chunk */

static int open_chunk(void **state) {
    if (heap_fixture_open(state) != 0) {
        return 1;
    }
    heap = fixture_heap();
    self = fixture_self();
    arena = heap_arena(heap, 0);
    assert_int_equal(arena_take(heap, self, 0, CHUNK_PAGES, 1), 0);
    page = shared_get(&self->hand.first);
    journal_set(self, &self->hand.flags, HAND_DIRTY);
    journal_commit(self);
    arena_give(heap, self);
    assert_int_equal(shared_get(&arena->spare), chunk_of_page(page));
    memset(is_used, 0, sizeof(is_used));
    return 0;
}

#define with_chunk(f) cmocka_unit_test_setup_teardown(f, open_chunk, heap_fixture_close)

/* ---- steps, each a section of its own ---- */

static void enter(void) {
    lock_acquire(heap, self, &arena->lock);
}

static void leave(void) {
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
}

static int carve(uint32_t from, uint32_t start, uint32_t pages) {
    enter();
    int zero = run_carve(heap, self, arena, page + from, page + start, pages, RUN_HAND);
    leave();
    memset(is_used + start, 1, pages);
    return zero;
}

/* What is inserted may be a part of a used run: what is left of that ends here, if in use. */
static void cut(uint32_t at) {
    if (is_used[at]) {
        run_mark_used(heap, self, page + at, 1, RUN_HAND);
    }
}

static int insert(uint32_t start, uint32_t pages, int dirty, int zero) {
    enter();
    cut(start == 0 ? start : start - 1);
    cut(start + pages);
    int is_empty = run_insert_free(heap, self, arena, page + start, pages, dirty, zero);
    leave();
    memset(is_used + start, 0, pages);
    return is_empty;
}

static uint32_t find(int dirty, uint32_t pages, uint32_t align, uint32_t *start) {
    enter();
    uint32_t found = run_find(heap, arena, dirty, pages, align, start);
    leave();
    return found == 0 ? 0 : found - page + 1; /* 0: none; else the place in the chunk + 1 */
}

static uint32_t nodes(int dirty) {
    return tree_audit(run_tree(heap, arena, dirty));
}

static uint32_t free_pages(void) {
    return shared_get(&heap_chunk(heap, chunk_of_page(page))->free_pages);
}

static const struct run *run_at(uint32_t start) {
    return heap_run(heap, page + start);
}

static void assert_kinds(uint32_t start, uint32_t pages, uint32_t kind) {
    uint32_t last = shared_get(heap_page_kind(heap, page + start + pages - 1));
    assert_int_equal(last, kind | (pages - 1));
    if (pages > 1) {
        assert_int_equal(shared_get(heap_page_kind(heap, page + start)), kind);
    }
}

static void assert_free_run(uint32_t start, uint32_t pages, int dirty, int zero) {
    const struct run *run = run_at(start);
    assert_int_equal(shared_get(&run->state), dirty ? RUN_FREE_DIRTY : RUN_FREE_CLEAN);
    assert_int_equal(shared_get(&run->size), pages);
    assert_int_equal(shared_get(&run->extra), zero ? RUN_ZERO : 0);
    assert_int_equal(shared_get(&run->arena), 0);
    assert_kinds(start, pages, dirty ? KIND_FREE | KIND_DIRTY : KIND_FREE);
}

/* All pages become free and dirty: what the test calls clean was backed all the time. */
static void free_all_as_dirty(void) {
    for (uint32_t at = 0; at < CHUNK_PAGES; at++) {
        if (!is_used[at]) { /* a free run begins here */
            (void)carve(at, at, shared_get(&run_at(at)->size));
        }
    }
    (void)insert(0, CHUNK_PAGES, 1, 0);
    assert_free_run(0, CHUNK_PAGES, 1, 0);
    assert_int_equal(nodes(0), 0);
    assert_int_equal(nodes(1), 1);
    assert_int_equal(shared_get(&arena->pages_dirty), CHUNK_PAGES);
}

/* ---- carving ---- */

static void test_carving_leaves_the_rest_free(void **state) {
    (void)state;
    assert_int_equal(free_pages(), CHUNK_PAGES);
    (void)carve(0, 100, 50);
    assert_free_run(0, 100, 1, 0);
    assert_free_run(150, CHUNK_PAGES - 150, 1, 0);
    assert_int_equal(shared_get(&run_at(100)->state), RUN_HAND);
    assert_int_equal(shared_get(&run_at(100)->size), 50);
    assert_int_equal(shared_get(&run_at(100)->arena), 0);
    assert_kinds(100, 50, 0);
    assert_int_equal(free_pages(), CHUNK_PAGES - 50);
    assert_int_equal(shared_get(&arena->pages_dirty), CHUNK_PAGES - 50);
    assert_int_equal(nodes(1), 2);
    assert_int_equal(shared_get(&arena->spare), 0); /* it is in use */
    free_all_as_dirty();
}

static void test_carving_at_either_end_and_all(void **state) {
    (void)state;
    (void)carve(0, 0, 1);
    assert_free_run(1, CHUNK_PAGES - 1, 1, 0);
    (void)carve(1, CHUNK_PAGES - 1, 1);
    assert_free_run(1, CHUNK_PAGES - 2, 1, 0);
    assert_kinds(0, 1, 0);
    assert_kinds(CHUNK_PAGES - 1, 1, 0);
    (void)carve(1, 1, CHUNK_PAGES - 2);
    assert_int_equal(nodes(1), 0);
    assert_int_equal(free_pages(), 0);
    assert_int_equal(shared_get(&arena->pages_dirty), 0);
    free_all_as_dirty();
}

/* ---- joining ---- */

static void test_joins_both_neighbours_of_its_kind(void **state) {
    (void)state;
    (void)carve(0, 0, CHUNK_PAGES);
    assert_false(insert(10, 10, 1, 0));
    assert_false(insert(30, 10, 1, 0));
    assert_int_equal(nodes(1), 2);
    assert_false(insert(20, 10, 1, 0));
    assert_free_run(10, 30, 1, 0);
    assert_int_equal(nodes(1), 1);
    assert_false(insert(9, 1, 1, 0)); /* in front only */
    assert_free_run(9, 31, 1, 0);
    assert_false(insert(40, 1, 1, 0)); /* behind only */
    assert_free_run(9, 32, 1, 0);
    assert_int_equal(free_pages(), 32);
    free_all_as_dirty();
}

static void test_neighbours_of_the_other_kind_stay_apart(void **state) {
    (void)state;
    (void)carve(0, 0, CHUNK_PAGES);
    (void)insert(10, 10, 1, 0);
    (void)insert(20, 10, 0, 1);
    (void)insert(30, 10, 1, 0);
    assert_free_run(10, 10, 1, 0);
    assert_free_run(20, 10, 0, 1);
    assert_free_run(30, 10, 1, 0);
    assert_int_equal(nodes(0), 1);
    assert_int_equal(nodes(1), 2);
    assert_int_equal(shared_get(&arena->pages_dirty), 20);
    assert_int_equal(free_pages(), 30);
    free_all_as_dirty();
}

static void test_zero_only_if_both_are(void **state) {
    (void)state;
    (void)carve(0, 0, CHUNK_PAGES);
    (void)insert(0, 10, 1, 1);
    assert_free_run(0, 10, 1, 1);
    (void)insert(10, 10, 1, 1);
    assert_free_run(0, 20, 1, 1);
    assert_true(carve(0, 5, 5)); /* and each part is */
    assert_free_run(0, 5, 1, 1);
    assert_free_run(10, 10, 1, 1);
    (void)insert(5, 5, 1, 0);
    assert_free_run(0, 20, 1, 0);
    assert_false(carve(0, 0, 5));
    (void)insert(0, 5, 1, 1);
    assert_free_run(0, 20, 1, 0);
    (void)insert(20, 5, 1, 1); /* a zero one behind one that is not */
    assert_free_run(0, 25, 1, 0);
    free_all_as_dirty();
}

static void test_says_when_the_chunk_is_wholly_free(void **state) {
    (void)state;
    (void)carve(0, 7, 3);
    assert_true(insert(7, 3, 1, 0));
    (void)carve(0, 0, CHUNK_PAGES);
    assert_false(insert(0, 200, 1, 0));
    assert_false(insert(300, CHUNK_PAGES - 300, 0, 1));
    assert_true(insert(200, 100, 0, 1)); /* though of two kinds */
    free_all_as_dirty();
}

/* Chunks are apart even where they lie side by side: one may leave without the other. */
static void test_does_not_join_across_chunks(void **state) {
    (void)state;
    assert_int_equal(arena_take(heap, self, 0, CHUNK_PAGES, 1), 0); /* the one we have */
    struct hand first = self->hand;
    hand_empty(self);
    assert_int_equal(arena_take(heap, self, 0, CHUNK_PAGES, 1), 0);
    struct hand second = self->hand;
    hand_empty(self);
    assert_int_equal(shared_get(&second.first), page + CHUNK_PAGES);
    assert_true(insert(0, CHUNK_PAGES, 1, 0));
    assert_true(insert(CHUNK_PAGES, CHUNK_PAGES, 1, 0));
    assert_free_run(0, CHUNK_PAGES, 1, 0);
    assert_free_run(CHUNK_PAGES, CHUNK_PAGES, 1, 0);
    (void)carve(0, 0, CHUNK_PAGES);
    (void)carve(CHUNK_PAGES, CHUNK_PAGES, CHUNK_PAGES);
    assert_int_equal(run_free_at(heap, page + CHUNK_PAGES), 0);
    hand_fill(self, &second);
    arena_give(heap, self);
    assert_int_equal(run_free_at(heap, page + CHUNK_PAGES), 0); /* free, but of another chunk */
    hand_fill(self, &first);
    arena_give(heap, self);
}

/* ---- finding ---- */

static void test_best_fit_at_the_lowest_address(void **state) {
    (void)state;
    uint32_t start;
    (void)carve(0, 0, CHUNK_PAGES);
    (void)insert(100, 8, 1, 0);
    (void)insert(200, 5, 1, 0);
    (void)insert(300, 5, 1, 0);
    (void)insert(400, 4, 0, 1);
    assert_int_equal(find(1, 1, 1, &start), 200 + 1);
    assert_int_equal(start, page + 200);
    assert_int_equal(find(1, 5, 1, &start), 200 + 1);
    assert_int_equal(find(1, 6, 1, &start), 100 + 1);
    assert_int_equal(find(1, 9, 1, &start), 0);
    assert_int_equal(find(0, 4, 1, &start), 400 + 1);
    assert_int_equal(find(0, 5, 1, &start), 0);
    free_all_as_dirty();
}

static void test_finds_aligned_pages(void **state) {
    (void)state;
    uint32_t start;
    (void)carve(0, 0, CHUNK_PAGES);
    (void)insert(97, 30, 1, 0);
    for (uint32_t align = 1; align <= 16; align *= 2) {
        uint32_t pages = 30 - align + 1; /* fits wherever the run begins */
        assert_int_equal(find(1, pages, align, &start), 97 + 1);
        assert_int_equal(start % align, 0);
        assert_in_range(start, page + 97, page + 97 + 30 - pages);
        assert_int_equal(find(1, pages + 1, align, &start), 0);
    }
    free_all_as_dirty();
}

static void test_free_at(void **state) {
    (void)state;
    (void)carve(0, 10, 10);
    (void)carve(20, 30, 10);
    assert_int_equal(run_free_at(heap, page + 10), 0);
    assert_int_equal(run_free_at(heap, page + 20), 10);
    assert_int_equal(run_free_at(heap, page + 30), 0);
    assert_int_equal(run_free_at(heap, page + 40), CHUNK_PAGES - 40);
    assert_int_equal(run_free_at(heap, page), 0); /* begins a chunk: it cannot be behind a run */
    (void)insert(30, 10, 0, 1);
    assert_int_equal(run_free_at(heap, page + 30), 10);
    free_all_as_dirty();
}

static void test_mark_used_tells_the_run_and_its_ends(void **state) {
    (void)state;
    (void)carve(0, 50, 20);
    enter();
    run_mark_used(heap, self, page + 50, 12, RUN_LARGE);
    run_mark_used(heap, self, page + 62, 8, RUN_HAND);
    leave();
    assert_int_equal(shared_get(&run_at(50)->state), RUN_LARGE);
    assert_int_equal(shared_get(&run_at(50)->size), 12);
    assert_kinds(50, 12, 0);
    assert_int_equal(shared_get(&run_at(62)->state), RUN_HAND);
    assert_kinds(62, 8, 0);
    free_all_as_dirty();
}

/* ---- the journal ---- */

struct snapshot {
    struct run runs[CHUNK_PAGES];
    shared_u16 kinds[CHUNK_PAGES];
    struct chunk chunk;
    struct arena arena;
};

static void take_snapshot(struct snapshot *snapshot) {
    memcpy(snapshot->runs, heap_run(heap, page), sizeof(snapshot->runs));
    memcpy(snapshot->kinds, heap_page_kind(heap, page), sizeof(snapshot->kinds));
    snapshot->chunk = *heap_chunk(heap, chunk_of_page(page));
    snapshot->arena = *arena;
}

static void test_what_was_not_committed_is_undone_exactly(void **state) {
    (void)state;
    static struct snapshot before;
    static struct snapshot after;
    (void)carve(0, 0, CHUNK_PAGES);
    for (uint32_t at = 0; at + 16 <= CHUNK_PAGES; at += 16) {
        (void)insert(at, 4, 1, 0);
        (void)insert(at + 4, 4, 0, 1);
    }
    enter();
    take_snapshot(&before);
    (void)run_insert_free(heap, self, arena, page + 24, 8, 1, 0); /* joins behind */
    (void)run_carve(heap, self, arena, page + 64, page + 65, 2, RUN_HAND);
    journal_roll_back(heap, self);
    take_snapshot(&after);
    leave();
    assert_memory_equal(&before, &after, sizeof(before));
    free_all_as_dirty();
}

/* ---- against a model ---- */

enum use { USED, DIRTY, CLEAN };

struct page_model {
    enum use use;
    int zero;
};

static struct page_model model[CHUNK_PAGES];

static uint32_t same_from(uint32_t start) {
    uint32_t end = start;
    while (end < CHUNK_PAGES && model[end].use == model[start].use) {
        end++;
    }
    return end - start;
}

static int is_zero(uint32_t start, uint32_t pages) {
    int zero = 1;
    for (uint32_t i = start; i < start + pages; i++) {
        zero &= model[i].zero;
    }
    return zero;
}

static void set_model(uint32_t start, uint32_t pages, enum use use, int zero) {
    for (uint32_t i = start; i < start + pages; i++) {
        model[i] = (struct page_model){use, zero};
    }
}

/* Free runs are just the stretches of one kind, and the counts and trees know them. */
static void assert_is_the_model(void) {
    uint32_t runs[2] = {0, 0};
    uint32_t pages_of[2] = {0, 0};
    for (uint32_t at = 0; at < CHUNK_PAGES;) {
        uint32_t pages = same_from(at);
        if (model[at].use != USED) {
            int dirty = model[at].use == DIRTY;
            assert_free_run(at, pages, dirty, is_zero(at, pages));
            runs[dirty]++;
            pages_of[dirty] += pages;
        }
        at += pages;
    }
    assert_int_equal(nodes(0), runs[0]);
    assert_int_equal(nodes(1), runs[1]);
    assert_int_equal(free_pages(), pages_of[0] + pages_of[1]);
    assert_int_equal(shared_get(&arena->pages_dirty), pages_of[1]);
}

/* Begin of the stretch that page is in. */
static uint32_t begin_of(uint32_t at) {
    while (at > 0 && model[at - 1].use == model[at].use) {
        at--;
    }
    return at;
}

static void random_step(uint64_t *seed) {
    uint32_t at = (uint32_t)(clean_random(seed) % CHUNK_PAGES);
    uint32_t begin = begin_of(at);
    uint32_t room = begin + same_from(begin) - at;
    uint32_t pages = (uint32_t)(clean_random(seed) % (room < 40 ? room : 40)) + 1;
    if (model[at].use == USED) {
        int dirty = clean_random(seed) % 2 == 0;
        int zero = !dirty || clean_random(seed) % 2 == 0;
        set_model(at, pages, dirty ? DIRTY : CLEAN, zero);
        if (dirty) { /* of what is joined, one that is not zero spoils all */
            uint32_t from = begin_of(at);
            set_model(from, same_from(from), DIRTY, is_zero(from, same_from(from)));
        }
        assert_int_equal(insert(at, pages, dirty, zero), free_pages() == CHUNK_PAGES);
    } else {
        uint32_t size = same_from(begin);
        assert_int_equal(carve(begin, at, pages), is_zero(begin, size));
        set_model(at, pages, USED, 0);
    }
}

static void test_random_steps(void **state) {
    (void)state;
    uint64_t seed = 5;
    set_model(0, CHUNK_PAGES, DIRTY, 0);
    for (uint32_t i = 0; i < 20000; i++) {
        random_step(&seed);
        assert_is_the_model();
    }
    free_all_as_dirty();
}

/* The pages are free already. */
static int insert_too_much(void *arg) {
    (void)arg;
    struct thread_slot *own = fixture_self();
    lock_acquire(heap, own, &arena->lock);
    (void)run_insert_free(heap, own, arena, page, 1, 1, 0);
    return 0;
}

static void test_more_than_a_chunk_stops(void **state) {
    (void)state;
    child_stops(insert_too_much, NULL, "free_pages <= CHUNK_PAGES");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_chunk(test_carving_leaves_the_rest_free),
        with_chunk(test_carving_at_either_end_and_all),
        with_chunk(test_joins_both_neighbours_of_its_kind),
        with_chunk(test_neighbours_of_the_other_kind_stay_apart),
        with_chunk(test_zero_only_if_both_are),
        with_chunk(test_says_when_the_chunk_is_wholly_free),
        with_chunk(test_does_not_join_across_chunks),
        with_chunk(test_best_fit_at_the_lowest_address),
        with_chunk(test_finds_aligned_pages),
        with_chunk(test_free_at),
        with_chunk(test_mark_used_tells_the_run_and_its_ends),
        with_chunk(test_what_was_not_committed_is_undone_exactly),
        with_chunk(test_random_steps),
        with_chunk(test_more_than_a_chunk_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
