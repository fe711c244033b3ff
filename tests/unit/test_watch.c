/* test_watch.c -- what is done at each call, where the configuration asks for it. */
#include "heap/watch.h"

#include <pthread.h>

#include "heap/fill.h"
#include "heap/publish.h"
#include "heap/quarantine.h"
#include "heap_parts.h"

static sharena_t *heap;
static struct conf *conf;

static int open_watch(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    conf = &fixture_attachment()->conf;
    (void)fixture_self();
    return error;
}

#define with_watch(f) cmocka_unit_test_setup_teardown(f, open_watch, heap_fixture_close)

static void test_is_on_by_the_configuration(void **state) {
    (void)state;
    assert_false(watch_is_on(heap));
    conf->junk = JUNK_ALLOC;
    (void)fixture_self(); /* enters the heap */
    assert_true(watch_is_on(heap));
    conf->junk = 0;
    (void)fixture_self();
    assert_false(watch_is_on(heap));
}

static void test_what_is_freed_is_filled(void **state) {
    (void)state;
    char *block = sharena_malloc(heap, 64);
    memset(block, 1, 64);
    watch_freed(heap, block, 0, 64);
    assert_int_equal(block[0], 1);
    conf->junk = JUNK_ALLOC;
    (void)fixture_self();
    watch_freed(heap, block, 0, 64);
    assert_int_equal(block[0], 1);
    conf->junk = JUNK_FREE;
    watch_freed(heap, block, 8, 64);
    assert_int_equal(block[7], 1);
    assert_int_equal(fill_broken_at(block + 8, 56), 56);
    sharena_free(heap, block);
}

/* ---- who has it ---- */

static struct sharena_misuse seen;
static unsigned reports;

static int note(const struct sharena_misuse *what, void *arg) {
    (void)arg;
    seen = *what;
    reports++;
    return 0;
}

static int is_live(const void *block) {
    struct thread_slot *self = fixture_self();
    reports = 0;
    return watch_look(heap, self, block, sizeclass_of(sharena_usable_size(heap, block)));
}

static void begin_reports(uint32_t quarantine_bytes, uint32_t junk) {
    conf->quarantine_bytes = quarantine_bytes;
    conf->junk = junk;
    quarantine_open(heap, fixture_self(), conf);
    assert_int_equal(sharena_set_misuse_hook(heap, note, NULL), 0);
}

static void assert_reported(const void *block, int pid, int tid) {
    assert_int_equal(reports, 1);
    assert_int_equal(seen.kind, SHARENA_MISUSE_DOUBLE_FREE);
    assert_ptr_equal(seen.ptr, block);
    assert_int_equal(seen.freed_pid, pid);
    assert_int_equal(seen.freed_tid, tid);
}

/* Also without a pattern. */
static void test_what_is_in_the_own_cache(void **state) {
    (void)state;
    begin_reports(0, JUNK_ALLOC);
    void *live = sharena_malloc(heap, 64);
    void *block = sharena_malloc(heap, 64);
    memset(live, FILL_BYTE_FREED, 64); /* looks free, but is not */
    assert_true(is_live(block) && reports == 0);
    sharena_free(heap, block);
    assert_false(is_live(block));
    assert_reported(block, getpid(), gettid());
    assert_true(is_live(live) && reports == 0);
    sharena_free(heap, live);
}

static void test_what_is_in_the_own_quarantine(void **state) {
    (void)state;
    begin_reports(4096, 0);
    void *block = sharena_malloc(heap, 2000);
    sharena_free(heap, block);
    assert_int_equal(quarantine_has(fixture_self(), block), 1);
    assert_false(is_live(block));
    assert_reported(block, getpid(), gettid());
    assert_int_equal(sharena_purge(heap), 0);
}

struct other {
    void *blocks[2];
    pthread_barrier_t barrier;
    int tid;
};

/* Frees one into its quarantine, and one into its cache; then it stays. */
static void *free_both(void *arg) {
    struct other *other = arg;
    quarantine_open(heap, fixture_self(), conf);
    other->tid = gettid();
    sharena_free(heap, other->blocks[0]);
    conf->quarantine_bytes = 0;
    sharena_free(heap, other->blocks[1]);
    (void)pthread_barrier_wait(&other->barrier);
    (void)pthread_barrier_wait(&other->barrier);
    return NULL;
}

static void test_what_another_thread_has(void **state) {
    (void)state;
    struct other other;
    pthread_t thread;
    begin_reports(4096, JUNK_FREE);
    for (int i = 0; i < 2; i++) {
        other.blocks[i] = sharena_malloc(heap, 1000);
        memset(other.blocks[i], FILL_BYTE_FREED, 1024);
        assert_true(is_live(other.blocks[i]));
    }
    assert_int_equal(pthread_barrier_init(&other.barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, free_both, &other), 0);
    (void)pthread_barrier_wait(&other.barrier);
    for (int i = 0; i < 2; i++) {
        assert_false(is_live(other.blocks[i]));
        assert_reported(other.blocks[i], getpid(), other.tid);
    }
    ((char *)other.blocks[1])[7] = 0; /* without the pattern others are not asked */
    assert_true(is_live(other.blocks[1]));
    memset(other.blocks[1], FILL_BYTE_FREED, 8);
    (void)pthread_barrier_wait(&other.barrier);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)pthread_barrier_destroy(&other.barrier);
}

static void test_what_is_kept(void **state) {
    (void)state;
    begin_reports(2048, JUNK_FREE);
    struct thread_slot *self = fixture_self();
    char *block = sharena_mallocx(heap, 1000, SHARENA_TCACHE_NONE);
    char *big = sharena_mallocx(heap, 5000, SHARENA_TCACHE_NONE);
    publish_begin(self, PENDING_FREE, NULL, block);
    assert_true(watch_keep(heap, self, block, sizeclass_of(1000)));
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    assert_int_equal(quarantine_has(self, block), 1);
    assert_int_equal(fill_broken_at(block, 1024), 1024);
    assert_false(watch_keep(heap, self, big, sizeclass_of(5000)));
    assert_int_equal(fill_broken_at(big, 5120), 5120);
    sharena_free(heap, big);
    assert_int_equal(sharena_purge(heap), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_watch(test_is_on_by_the_configuration), with_watch(test_what_is_freed_is_filled),
        with_watch(test_what_is_in_the_own_cache),   with_watch(test_what_is_in_the_own_quarantine),
        with_watch(test_what_another_thread_has),    with_watch(test_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
