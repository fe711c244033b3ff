/* test_quarantine.c -- freed blocks wait in their order, and nothing of them is lost. */
#include "heap/quarantine.h"

#include <pthread.h>

#include "heap/census.h"
#include "heap/fill.h"
#include "heap/publish.h"
#include "heap/tcache.h"
#include "heap_parts.h"

static sharena_t *heap;
static struct thread_slot *self;
static struct conf *conf;

static int open_quarantine(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    conf = &fixture_attachment()->conf;
    self = fixture_self();
    conf->quarantine_bytes = 4096;
    quarantine_open(heap, self, conf);
    return error;
}

#define with_quarantine(f) cmocka_unit_test_setup_teardown(f, open_quarantine, heap_fixture_close)

/* A live block past the cache. */
static void *make(size_t size) {
    void *block = sharena_mallocx(heap, size, SHARENA_TCACHE_NONE);
    assert_non_null(block);
    return block;
}

static void push(void *block) {
    quarantine_push(self, block, sharena_usable_size(heap, block));
    assert_true(journal_is_empty(self));
}

static void assert_holds(uint32_t count, uint64_t bytes) {
    assert_int_equal(quarantine_count(self), count);
    assert_int_equal(shared_get(&slot_quarantine(self)->bytes), bytes);
    assert_true(quarantine_is_sound(self));
}

static void test_it_is_backed_if_it_is_wanted(void **state) {
    (void)state;
    struct quarantine *quarantine = slot_quarantine(self);
    assert_int_equal(shared_get(&quarantine->is_backed), 1);
    shared_store(&quarantine->is_backed, 0u);
    conf->quarantine_bytes = 0;
    quarantine_open(heap, self, conf);
    assert_int_equal(shared_get(&quarantine->is_backed), 0);
    conf->quarantine_bytes = 1;
    refuse_storage(slot_quarantine_storage(self), QUARANTINE_BYTES / PAGE_BYTES);
    quarantine_open(heap, self, conf);
    grant_storage(slot_quarantine_storage(self), QUARANTINE_BYTES / PAGE_BYTES);
    assert_int_equal(shared_get(&quarantine->is_backed), 0);
    conf->quarantine_bytes = 4096;
    assert_false(quarantine_takes(self, conf, 1));
    quarantine_open(heap, self, conf);
    assert_true(quarantine_takes(self, conf, 1));
}

static void test_what_it_takes(void **state) {
    (void)state;
    assert_true(quarantine_takes(self, conf, sizeclass_of(4096) + 1));
    assert_false(quarantine_takes(self, conf, sizeclass_of(4097) + 1));
    conf->quarantine_bytes = 1u << 30;
    assert_true(quarantine_takes(self, conf, SIZE_CLASSES_CACHED));
    assert_false(quarantine_takes(self, conf, 0));
    assert_false(quarantine_takes(self, conf, TCACHE_UNCACHED));
}

static void test_first_in_first_out(void **state) {
    (void)state;
    void *blocks[4];
    for (int i = 0; i < 4; i++) {
        blocks[i] = make(1000);
        push(blocks[i]);
        assert_int_equal(quarantine_has(self, blocks[i]), 1);
        assert_ptr_equal(quarantine_entry(self, (uint32_t)i), blocks[i]);
    }
    assert_holds(4, 4096);
    assert_int_equal(books_now().report.blocks_cached, 4);
    assert_int_equal(books_now().report.bytes_cached, 4096);
    quarantine_make_room(heap, self, conf, 0);
    assert_holds(4, 4096);
    quarantine_make_room(heap, self, conf, 1); /* the oldest goes to the cache */
    assert_holds(3, 3072);
    assert_int_equal(quarantine_has(self, blocks[0]), 0);
    assert_ptr_equal(sharena_malloc(heap, 1000), blocks[0]);
    quarantine_make_room(heap, self, conf, 3072);
    assert_holds(1, 1024);
    assert_ptr_equal(quarantine_entry(self, 0), blocks[3]);
    quarantine_drain(heap, self);
    assert_holds(0, 0);
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    sharena_free(heap, blocks[0]);
}

/* Its counters go on beyond 2^32, its entries round the ring; the ring has an end before the bytes
 * have. */
static void test_round_and_round(void **state) {
    (void)state;
    shared_store(&slot_quarantine(self)->head, UINT32_MAX - 5);
    shared_store(&slot_quarantine(self)->tail, UINT32_MAX - 5);
    conf->quarantine_bytes = 1u << 30;
    void *first = make(8);
    push(first);
    for (uint32_t i = 1; i < QUARANTINE_ENTRIES; i++) {
        push(sharena_malloc(heap, 8));
    }
    assert_holds(QUARANTINE_ENTRIES, (uint64_t)QUARANTINE_ENTRIES * 8);
    assert_ptr_equal(quarantine_entry(self, 0), first);
    quarantine_make_room(heap, self, conf, 8);
    assert_holds(QUARANTINE_ENTRIES - 1, (QUARANTINE_ENTRIES - 1ull) * 8);
    assert_int_equal(quarantine_has(self, first), 0);
    assert_int_equal(books_now().report.blocks_live, 0);
    assert_int_equal(sharena_purge(heap), 0);
    assert_holds(0, 0);
    assert_int_equal(books_now().report.blocks_cached, 0);
}

/* Those without a cache go back to their owners, and large ones do. */
static void test_blocks_of_all_kinds(void **state) {
    (void)state;
    static const size_t sizes[] = {8, 14336, 16384, 100000, 1800000, 3 * MIB};
    struct books before = books_now();
    conf->quarantine_bytes = 1u << 30;
    for (int with_cache = 0; with_cache < 2; with_cache++) {
        conf->tcache = (uint32_t)with_cache;
        tcache_open(heap, self, conf);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            push(make(sizes[i]));
        }
        assert_int_equal(books_now().report.blocks_cached, 6);
        quarantine_drain(heap, self);
        tcache_flush(heap, self);
        assert_int_equal(books_now().report.blocks_live, before.report.blocks_live);
        assert_int_equal(books_now().report.blocks_cached, 0);
    }
}

static void test_the_census_counts_it(void **state) {
    (void)state;
    uint32_t size_class = sizeclass_of(1000);
    uint64_t cached = census_cached_bytes(heap);
    struct census_blocks blocks = census_cache(self, size_class);
    push(make(1000));
    push(make(100));
    assert_int_equal(census_cached_bytes(heap), cached + 1024 + 112);
    assert_int_equal(census_cache(self, size_class).out, blocks.out + 1);
    assert_int_equal(census_cache(self, size_class).bytes, blocks.bytes + 1024);
    quarantine_drain(heap, self);
}

/* ---- the dead ---- */

/* What is newest decides about a step of sharena_free_from() that was cut off behind the push. */
static void test_a_cut_off_step_is_settled(void **state) {
    (void)state;
    void **where = make(sizeof(*where));
    void *block = make(64);
    *where = NULL;
    publish_begin(self, PENDING_FREE, where, block);
    push(block);
    publish_settle(heap, self);
    assert_holds(1, 64);
    clean_check(heap, 1);
    void *other = make(64); /* and one that did not get there */
    publish_begin(self, PENDING_FREE, where, other);
    publish_settle(heap, self);
    clean_check(heap, 1);
    sharena_free(heap, where);
}

static int die_with_blocks(void *arg) {
    (void)arg;
    self = fixture_self();
    quarantine_open(heap, self, conf);
    for (int i = 0; i < 4; i++) {
        void *block = make(1000);
        memset(block, 7, 1000); /* no pattern: the reaper did not write it, and does not ask */
        push(block);
    }
    return raise(SIGKILL);
}

static void test_a_reaper_drains_it(void **state) {
    (void)state;
    conf->junk = JUNK_FREE;
    uint64_t before = shared_get(&heap_state(heap)->reaped_bytes);
    (void)child_wait(child_start(die_with_blocks, NULL));
    assert_int_equal(books_now().report.blocks_cached, 0); /* a check reaps first */
    assert_int_equal(books_now().report.blocks_live, 0);
    assert_int_equal(shared_get(&heap_state(heap)->reaped_bytes), before + 4096);
}

static void *push_and_end(void *arg) {
    struct thread_slot *slot = fixture_self();
    void *block = make(500);
    quarantine_open(heap, slot, conf);
    quarantine_push(slot, block, 512);
    return arg;
}

static void test_a_thread_drains_it_when_it_ends(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, push_and_end, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(books_now().report.blocks_cached, 0);
    assert_int_equal(books_now().report.blocks_live, 0);
}

/* ---- write after free ---- */

static struct sharena_misuse seen;
static unsigned reports;

static int note(const struct sharena_misuse *what, void *arg) {
    (void)arg;
    seen = *what;
    reports++;
    return 0;
}

static void test_a_broken_pattern_is_reported(void **state) {
    (void)state;
    char *block = make(1000);
    char *good = make(1000);
    conf->junk = JUNK_FREE;
    reports = 0;
    assert_int_equal(sharena_set_misuse_hook(heap, note, NULL), 0);
    fill_range(block, 0, 1024, FILL_FREED);
    fill_range(good, 0, 1024, FILL_FREED);
    push(good);
    push(block);
    block[1023] = 1;
    quarantine_drain(heap, self);
    assert_int_equal(reports, 1);
    assert_int_equal(seen.kind, SHARENA_MISUSE_WRITE_AFTER_FREE);
    assert_ptr_equal(seen.ptr, block + 1023);
    assert_ptr_equal(seen.block, block);
    assert_int_equal(seen.freed_pid, getpid());
    assert_int_equal(seen.freed_tid, gettid());
    assert_int_equal(sharena_set_misuse_hook(heap, NULL, NULL), 0);
    conf->junk = 0;
    clean_check(heap, 0); /* and it went back all the same */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_quarantine(test_it_is_backed_if_it_is_wanted),
        with_quarantine(test_what_it_takes),
        with_quarantine(test_first_in_first_out),
        with_quarantine(test_round_and_round),
        with_quarantine(test_blocks_of_all_kinds),
        with_quarantine(test_the_census_counts_it),
        with_quarantine(test_a_cut_off_step_is_settled),
        with_quarantine(test_a_reaper_drains_it),
        with_quarantine(test_a_thread_drains_it_when_it_ends),
        with_quarantine(test_a_broken_pattern_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
