/* test_purge.c -- whoever comes by gives back what is due, and no more. */
#include "heap/purge.h"

#include "heap/arena.h"
#include "heap/chunk.h"
#include "heap/decay.h"
#include "heap_parts.h"

#define LONG_MS 3600000u /* of which no test takes a noticeable part */
#define EPOCH_NS (LONG_MS * 1000000ull / DECAY_STEPS)
#define LARGE (64 * KIB)
#define LARGE_PAGES 16u

static sharena_t *heap;
static struct thread_slot *self;
static struct attachment *attachment;

static int open_heap(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    attachment = fixture_attachment();
    return error;
}

#define with_purge(f) cmocka_unit_test_setup_teardown(f, open_heap, heap_fixture_close)

static struct arena *arena_at(uint32_t index) {
    return heap_arena(heap, index);
}

static uint64_t dirty_of(uint32_t index) {
    return index == PURGE_POOL ? shared_get(&heap_pool(heap)->pages_dirty)
                               : shared_get(&arena_at(index)->pages_dirty);
}

static struct decay *decay_at(uint32_t index) {
    return index == PURGE_POOL ? &heap_pool(heap)->decay : &arena_at(index)->decay;
}

/* So many pages of the arena are dirty, in runs of 16; others keep them apart. */
static void *kept[4096];
static uint32_t kept_count;

static void make_dirty(uint32_t arena, uint32_t pages) {
    static void *blocks[4096];
    uint32_t count = pages / LARGE_PAGES;
    int flags = SHARENA_ARENA(arena) | SHARENA_TCACHE_NONE;
    for (uint32_t i = 0; i < count; i++) {
        blocks[i] = sharena_mallocx(heap, LARGE, flags);
        kept[kept_count++] = sharena_mallocx(heap, LARGE, flags);
        assert_non_null(blocks[i]);
        memset(blocks[i], 0xff, LARGE);
    }
    arena_purge(heap, self, arena); /* what is left of batches */
    for (uint32_t i = 0; i < count; i++) {
        sharena_dallocx(heap, blocks[i], SHARENA_TCACHE_NONE);
    }
    assert_int_equal(dirty_of(arena), pages);
}

static void free_kept(void) {
    while (kept_count != 0) {
        sharena_dallocx(heap, kept[--kept_count], SHARENA_TCACHE_NONE);
    }
}

/* As if the epoch of that space had begun so much earlier, and this process had not looked since. */
static void pass(uint32_t index, uint32_t epochs) {
    struct decay *decay = decay_at(index);
    shared_store(&decay->start_ns, shared_get(&decay->start_ns) - epochs * EPOCH_NS);
    __atomic_store_n(&attachment->purge_due_ns, 0, __ATOMIC_RELAXED);
}

static void tick(void) {
    purge_tick(attachment, self);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_true(journal_is_empty(self));
}

/* ---- by time ---- */

static void pages_go_along_the_curve(void **state) {
    (void)state;
    make_dirty(0, 1600);
    attachment->conf.dirty_decay_ms = LONG_MS;
    tick();
    assert_int_equal(dirty_of(0), 1600);
    uint64_t stored = file_pages();
    uint64_t purged = shared_get(&arena_at(0)->decay.purged);
    uint64_t before = 1600;
    for (uint32_t i = 0; i < 20; i++) {
        pass(0, DECAY_STEPS / 20);
        tick();
        assert_true(dirty_of(0) < before);
        before = dirty_of(0);
        uint64_t left = 1600 * decay_curve(DECAY_STEPS - (i + 1) * DECAY_STEPS / 20);
        assert_in_range(before, left >> LG_DECAY_ONE, (left >> LG_DECAY_ONE) + 1);
        assert_int_equal(stored - file_pages(), 1600 - before);
    }
    assert_int_equal(before, 0);
    assert_int_equal(shared_get(&arena_at(0)->decay.purged) - purged, 1600);
    free_kept();
}

static void a_look_that_is_not_due_takes_no_lock(void **state) {
    (void)state;
    make_dirty(0, 160);
    attachment->conf.dirty_decay_ms = LONG_MS;
    tick();
    pass(0, 1);
    tick();
    uint64_t acquired = shared_get(&arena_at(0)->lock.acquired);
    uint64_t of_pool = shared_get(&heap_pool(heap)->lock.acquired);
    for (int i = 0; i < 1000; i++) {
        tick();
    }
    assert_int_equal(shared_get(&arena_at(0)->lock.acquired), acquired);
    assert_int_equal(shared_get(&heap_pool(heap)->lock.acquired), of_pool);
    free_kept();
}

static void never_is_never(void **state) {
    (void)state;
    make_dirty(0, 160);
    tick();
    assert_int_equal(shared_get(&arena_at(0)->decay.start_ns), 0); /* it did not even look */
    pass(0, 100000);
    tick();
    assert_int_equal(dirty_of(0), 160);
    free_kept();
}

/* Whose threads are idle, or gone: somebody else's ticks come by. */
static void other_arenas_decay_too(void **state) {
    (void)state;
    assert_int_equal(arena_bind(heap, self, 1), 0);
    assert_int_equal(arena_bind(heap, self, 2), 0);
    assert_int_equal(arena_bind(heap, self, 0), 0);
    make_dirty(1, 160);
    make_dirty(2, 320);
    attachment->conf.dirty_decay_ms = LONG_MS;
    for (int i = 0; i < 3; i++) {
        pass(0, 0);
        tick();
    }
    assert_int_equal(dirty_of(1) + dirty_of(2), 480);
    for (int i = 0; i < 3; i++) {
        pass(1, DECAY_STEPS);
        pass(2, DECAY_STEPS);
        tick();
    }
    assert_int_equal(dirty_of(1) + dirty_of(2), 0);
    free_kept();
}

static void chunks_of_the_pool_decay_too(void **state) {
    (void)state;
    void *huge = sharena_malloc(heap, 20 * MIB);
    void *behind = sharena_malloc(heap, 4 * MIB);
    sharena_free(heap, huge);
    assert_int_equal(dirty_of(PURGE_POOL), 20 * MIB / PAGE_BYTES);
    attachment->conf.dirty_decay_ms = LONG_MS;
    tick();
    assert_int_equal(dirty_of(PURGE_POOL), 20 * MIB / PAGE_BYTES);
    uint64_t stored = file_pages();
    pass(PURGE_POOL, DECAY_STEPS / 2);
    tick();
    assert_in_range(dirty_of(PURGE_POOL), 10 * MIB / PAGE_BYTES, 10 * MIB / PAGE_BYTES + 1);
    assert_int_equal(stored - file_pages(), 20 * MIB / PAGE_BYTES - dirty_of(PURGE_POOL));
    (void)books_now();
    void *again = sharena_malloc(heap, 8 * MIB); /* from what is left */
    assert_ptr_equal(again, huge);
    pass(PURGE_POOL, DECAY_STEPS / 2);
    tick();
    assert_int_equal(dirty_of(PURGE_POOL), 0);
    sharena_free(heap, again);
    sharena_free(heap, behind);
}

/* A slow path gives back a piece at a time; who has the time, all. */
static void much_goes_in_pieces(void **state) {
    (void)state;
    sharena_free(heap, sharena_malloc(heap, 64 * MIB));
    attachment->conf.dirty_decay_ms = LONG_MS;
    tick();
    pass(PURGE_POOL, DECAY_STEPS);
    tick();
    assert_int_equal(dirty_of(PURGE_POOL), 64 * MIB / PAGE_BYTES - 4096);
    tick(); /* without another epoch */
    assert_int_equal(dirty_of(PURGE_POOL), 64 * MIB / PAGE_BYTES - 8192);
    purge_due(attachment, self, PURGE_POOL);
    assert_int_equal(dirty_of(PURGE_POOL), 0);
}

static void a_period_set_in_the_heap_is_for_all(void **state) {
    (void)state;
    make_dirty(0, 160);
    size_t period = LONG_MS; /* this process's option is never */
    assert_int_equal(
        sharena_ctl(heap, "arena.0.dirty_decay_ms", NULL, NULL, &period, sizeof(period)), 0);
    tick();
    pass(0, DECAY_STEPS);
    tick();
    assert_int_equal(dirty_of(0), 0);
    free_kept();
}

static void errno_is_kept(void **state) {
    (void)state;
    make_dirty(0, 160);
    attachment->conf.dirty_decay_ms = 0;
    errno = 4711;
    tick();
    assert_int_equal(errno, 4711);
    assert_int_equal(dirty_of(0), 0);
    free_kept();
}

/* ---- at once, and by ratio ---- */

static void at_once_is_when_it_is_freed(void **state) {
    (void)state;
    attachment->conf.dirty_decay_ms = 0;
    void *large = sharena_malloc(heap, 100 * KIB);
    void *huge = sharena_malloc(heap, 5 * MIB);
    tick();
    sharena_dallocx(heap, large, SHARENA_TCACHE_NONE);
    assert_int_equal(dirty_of(0), 0);
    assert_true(sharena_xallocx(heap, huge, 2 * MIB + 1, 0, 0) < 5 * MIB);
    assert_int_equal(dirty_of(PURGE_POOL), 0);
    sharena_free(heap, huge);
    assert_int_equal(dirty_of(PURGE_POOL), 0);
    assert_int_equal(books_now().report.pages_dirty, 0);
}

static void a_ratio_is_kept(void **state) {
    (void)state;
    attachment->conf.purge = PURGE_RATIO;
    attachment->conf.lg_dirty_mult = 2;
    static void *blocks[1000];
    uint64_t most_seen = 0;
    for (size_t i = 0; i < 1000; i++) {
        blocks[i] = sharena_mallocx(heap, LARGE, SHARENA_TCACHE_NONE);
    }
    for (size_t i = 0; i < 1000; i++) {
        sharena_dallocx(heap, blocks[i], SHARENA_TCACHE_NONE);
        uint64_t most = shared_get(&arena_at(0)->pages_used) >> 2;
        assert_in_range(dirty_of(0), 0, most < CHUNK_PAGES ? CHUNK_PAGES : most);
        most_seen = dirty_of(0) > most_seen ? dirty_of(0) : most_seen;
    }
    assert_true(most_seen > 2 * CHUNK_PAGES); /* not less is kept than what is allowed */
    assert_true(shared_get(&arena_at(0)->decay.purged) > 2000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_purge(pages_go_along_the_curve),
        with_purge(a_look_that_is_not_due_takes_no_lock),
        with_purge(never_is_never),
        with_purge(other_arenas_decay_too),
        with_purge(chunks_of_the_pool_decay_too),
        with_purge(much_goes_in_pieces),
        with_purge(a_period_set_in_the_heap_is_for_all),
        with_purge(errno_is_kept),
        with_purge(at_once_is_when_it_is_freed),
        with_purge(a_ratio_is_kept),
    };
    (void)alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
