/* test_reap.c -- what the dead held goes back: open section, pending step, hand, caches, slot. */
#include "heap/reap.h"

#include <sys/syscall.h>
#include <time.h>

#include "crowd.h"
#include "heap/alloc.h"
#include "heap/arena.h"
#include "heap/backing.h"
#include "heap/chunk.h"
#include "heap/publish.h"
#include "heap/tcache.h"
#include "heap_parts.h"
#include "ipc/lock.h"
#include "ipc/slot.h"

static sharena_t *heap;

static int open_heap(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    (void)fixture_self(); /* arena 0 exists */
    return error;
}

/* A child that runs body with its own slot and is killed by itself at the end. */
struct death {
    void (*body)(struct thread_slot *self, void *arg);
    void *arg;
};

static int run_and_die(void *arg) {
    const struct death *death = arg;
    death->body(fixture_self(), death->arg);
    return kill(getpid(), SIGKILL);
}

static void die_in(void (*body)(struct thread_slot *self, void *arg), void *arg) {
    struct death death = {body, arg};
    int status = child_wait(child_start(run_and_die, &death));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void assert_reaped(uint32_t slots, uint64_t live) {
    assert_int_equal(reap_dead(fixture_attachment()), slots);
    assert_int_equal(reap_dead(fixture_attachment()), 0);
    clean_check(heap, live);
}

static uint32_t threads_of_arena_0(void) {
    return shared_get(&heap_arena(heap, 0)->threads);
}

/* ---- one kind of property after the other ---- */

static void leave_nothing(struct thread_slot *self, void *arg) {
    (void)self;
    (void)arg;
}

static void test_a_slot_that_owns_nothing(void **state) {
    (void)state;
    uint64_t reaped = shared_get(&heap_state(heap)->reaped_threads);
    die_in(leave_nothing, NULL);
    assert_reaped(1, 0);
    assert_int_equal(shared_get(&heap_state(heap)->reaped_threads), reaped + 1);
    assert_true(threads_of_arena_0() <= 1); /* it left its arena */
}

static void leave_caches(struct thread_slot *self, void *arg) {
    static const size_t sizes[] = {8, 64, 3000, 14336, 16384, 30000};
    (void)self;
    (void)arg;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *blocks[10];
        (void)sharena_malloc_batch(heap, sizes[i], 10, blocks);
        sharena_free_batch(heap, 10, blocks);
    }
    for (size_t i = 4; i < sizeof(sizes) / sizeof(sizes[0]); i++) { /* more of them each time */
        for (int j = 0; j < 5; j++) {
            void *blocks[10];
            (void)sharena_malloc_batch(heap, sizes[i], 10, blocks);
            sharena_free_batch(heap, 10, blocks);
        }
    }
}

static void test_caches(void **state) {
    (void)state;
    struct sharena_report report;
    uint64_t bytes = shared_get(&heap_state(heap)->reaped_bytes);
    tcache_flush(heap, fixture_self());
    die_in(leave_caches, NULL);
    assert_reaped(1, 0);
    assert_true(shared_get(&heap_state(heap)->reaped_bytes) >= bytes + 8 * (30000 + 16384));
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_cached, 0);
}

static void leave_open_section(struct thread_slot *self, void *arg) {
    struct arena *arena = arg;
    lock_acquire(heap, self, &arena->lock);
    journal_set(self, &arena->pages_used, 4711);
    journal_set(self, &arena->free_dirty, 4712);
    journal_set(self, &arena->pages_used, 4713);
}

static void test_open_section(void **state) {
    (void)state;
    struct arena *arena = heap_arena(heap, 0);
    uint32_t used = shared_get(&arena->pages_used);
    uint32_t dirty = shared_get(&arena->free_dirty);
    uint64_t recovered = shared_get(&heap_state(heap)->recovered);
    die_in(leave_open_section, arena);
    assert_int_equal(shared_get(&arena->pages_used), 4713); /* dead in the middle */
    assert_reaped(1, 0);
    assert_int_equal(shared_get(&arena->pages_used), used);
    assert_int_equal(shared_get(&arena->free_dirty), dirty);
    assert_int_equal(shared_get(&heap_state(heap)->recovered), recovered + 1);
}

/* Entries of the thread's own slot, which no lock covers. */
static void leave_open_slot(struct thread_slot *self, void *arg) {
    (void)arg;
    struct tcache_stack *stack = &slot_tcache(self)->stacks[1];
    journal_begin(self, 0);
    journal_set(self, &stack->bottom, (void *)(uintptr_t)8);
    journal_set(self, &stack->top, (void *)(uintptr_t)16);
}

static void test_open_slot(void **state) {
    (void)state;
    uint64_t recovered = shared_get(&heap_state(heap)->recovered);
    uint64_t bytes = shared_get(&heap_state(heap)->reaped_bytes);
    die_in(leave_open_slot, NULL);
    assert_reaped(1, 0);
    assert_int_equal(shared_get(&heap_state(heap)->recovered), recovered + 1);
    assert_int_equal(shared_get(&heap_state(heap)->reaped_bytes), bytes); /* that stack was empty */
}

static void leave_run_in_hand(struct thread_slot *self, void *arg) {
    (void)arg;
    if (arena_take(heap, self, 0, 9, 1) != 0 || shared_get(&self->hand.kind) != HAND_RUN) {
        _exit(1);
    }
}

static void leave_span_in_hand(struct thread_slot *self, void *arg) {
    (void)arg;
    if (pool_take(heap, self, 3, 1) != 0 || shared_get(&self->hand.kind) != HAND_SPAN) {
        _exit(1);
    }
}

static void leave_span_half_backed(struct thread_slot *self, void *arg) {
    leave_span_in_hand(self, arg);
    uint32_t page = first_page_of_chunk(shared_get(&self->hand.first));
    if (backing_add(heap, self, page, 100) != 0 || shared_get(&self->hand.charged) != 100) {
        _exit(1);
    }
}

static void leave_span_half_charged(struct thread_slot *self, void *arg) {
    leave_span_in_hand(self, arg);
    journal_set(self, &self->hand.charged_first,
                first_page_of_chunk(shared_get(&self->hand.first)));
    journal_set(self, &self->hand.charged, 50u); /* the next step would have been the commit */
}

static void test_hand(void **state) {
    (void)state;
    void (*const bodies[])(struct thread_slot *, void *) = {
        leave_run_in_hand, leave_span_in_hand, leave_span_half_backed, leave_span_half_charged};
    for (size_t i = 0; i < 4; i++) {
        uint64_t charged = charged_pages();
        uint64_t stored = file_pages();
        die_in(bodies[i], NULL);
        assert_reaped(1, 0);
        if (i != 0) { /* chunks: nothing stays but their tables */
            assert_true(charged_pages() <= charged + 20);
            assert_true(file_pages() <= stored + 20 + THREAD_SLOT_BYTES / PAGE_BYTES);
        }
    }
}

static void leave_free_pending(struct thread_slot *self, void *arg) {
    void **where = arg;
    publish_begin(self, PENDING_FREE, where, *where);
    *where = NULL;
}

static void leave_block_in_flight(struct thread_slot *self, void *arg) {
    (void)arg;
    void *block = sharena_mallocx(heap, 100, SHARENA_TCACHE_NONE);
    publish_begin(self, PENDING_MALLOC, NULL, block);
}

static void test_pending_steps(void **state) {
    (void)state;
    void **where = sharena_malloc(heap, sizeof(void *));
    *where = sharena_malloc(heap, 5000);
    die_in(leave_free_pending, where);
    assert_reaped(1, 1);
    assert_null(*where);
    die_in(leave_block_in_flight, NULL);
    assert_reaped(1, 1);
    sharena_free(heap, where);
}

static void leave_everything(struct thread_slot *self, void *arg) {
    leave_caches(self, arg);
    leave_block_in_flight(self, arg);
    leave_run_in_hand(self, arg);
    leave_open_section(self, heap_arena(heap, 0));
}

static void test_everything_at_once(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        die_in(leave_everything, NULL);
    }
    assert_in_range(reap_dead(fixture_attachment()), 1,
                    5); /* each met the lock of the one before */
    assert_reaped(0, 0);
}

/* ---- who, and when ---- */

struct life {
    uint32_t is_ready; /* atomic, in the heap */
    uint32_t may_end;
    void *place;
};

static int live_with_open_step(void *arg) {
    struct life *life = arg;
    struct thread_slot *self = fixture_self();
    publish_begin(self, PENDING_MALLOC, &life->place, NULL);
    __atomic_store_n(&life->is_ready, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&life->may_end, __ATOMIC_ACQUIRE)) {
        (void)usleep(100);
    }
    publish_end(self);
    return 0;
}

static long ms_since(const struct timespec *start) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
}

static int is_busy; /* as a machine where each sleep lasts long */

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are reserved names */
int nanosleep(const struct timespec *pause, struct timespec *rest) {
    const struct timespec longer = {0, 20000000};
    return clock_nanosleep(CLOCK_MONOTONIC, 0, is_busy ? &longer : pause, rest) == 0 ? 0 : -1;
}

/* The living keep what they have; their open steps are waited for, but not for ever. */
static void test_the_living(void **state) {
    (void)state;
    struct timespec start;
    struct life *life = sharena_calloc(heap, 1, sizeof(*life));
    pid_t pid = child_start(live_with_open_step, life);
    while (!__atomic_load_n(&life->is_ready, __ATOMIC_ACQUIRE)) {
        (void)usleep(100);
    }
    assert_int_equal(reap_dead(fixture_attachment()), 0);
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    assert_int_equal(reap_settled(fixture_attachment()), 0);
    assert_in_range(ms_since(&start), 80, 5000);
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    assert_int_equal(sharena_reap(heap), 0); /* who inherits a guard relies on it */
    assert_in_range(ms_since(&start), 80, 5000);
    is_busy = 1;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    assert_int_equal(sharena_reap(heap), 0);
    assert_in_range(ms_since(&start), 80, 5000);
    is_busy = 0;
    __atomic_store_n(&life->may_end, 1, __ATOMIC_RELEASE);
    assert_int_equal(child_wait(pid), 0);
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    assert_int_equal(reap_settled(fixture_attachment()), 1); /* it has exited without a close */
    assert_int_equal(reap_settled(fixture_attachment()), 0);
    sharena_free(heap, life);
}

/* Whoever meets a lock of the dead reaps at the next slow path. */
static void test_reaping_by_itself(void **state) {
    (void)state;
    struct arena *arena = heap_arena(heap, 0);
    die_in(leave_open_section, arena);
    struct thread_slot *self = fixture_self();
    lock_acquire(heap, self, &arena->lock); /* EOWNERDEAD */
    lock_release(heap, self, &arena->lock);
    assert_int_equal(fixture_attachment()->reap_wanted, 1);
    (void)heap_enter(heap);
    assert_int_equal(fixture_attachment()->reap_wanted, 0);
    assert_reaped(0, 0);
    reap_tick(fixture_attachment()); /* nobody wants it */
    die_in(leave_nothing, NULL);
    reap_tick(fixture_attachment());
    assert_reaped(1, 0);
}

/* A thread of this very process that the kernel ended. */
static void *end_raw(void *arg) {
    leave_caches(NULL, arg);
    (void)syscall(SYS_exit, 0);
    return NULL;
}

static void test_the_dead_hold_no_slot(void **state) {
    (void)state;
    uint32_t before = slot_count_held_by_us(fixture_attachment());
    pthread_t thread = crowd_start_raw(end_raw, NULL);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(slot_count_held_by_us(fixture_attachment()), before);
    assert_reaped(1, 0);
    assert_int_equal(slot_count_held_by_us(fixture_attachment()), before);
    die_in(leave_caches, NULL); /* one of another process */
    assert_reaped(1, 0);
    assert_int_equal(slot_count_held_by_us(fixture_attachment()), before);
}

/* Before a cold open makes all mutexes anew: sections are undone without any lock. */
static void test_roll_back_all(void **state) {
    (void)state;
    struct arena *arena = heap_arena(heap, 0);
    uint32_t used = shared_get(&arena->pages_used);
    uint64_t recovered = shared_get(&heap_state(heap)->recovered);
    die_in(leave_open_section, arena);
    reap_roll_back_all(heap);
    assert_int_equal(shared_get(&arena->pages_used), used);
    assert_int_equal(shared_get(&heap_state(heap)->recovered), recovered + 1);
    assert_int_equal(shared_get(&heap_state(heap)->recovered_cold), 1);
    reap_roll_back_all(heap); /* again: nothing is left to do */
    assert_int_equal(shared_get(&heap_state(heap)->recovered), recovered + 1);
    assert_int_equal(shared_get(&heap_state(heap)->recovered_cold), 1);
    assert_reaped(1, 0);
}

/* By the thread itself: what is left is a slot that owns nothing. */
static void test_empty(void **state) {
    (void)state;
    struct thread_slot *self = fixture_self();
    leave_caches(self, NULL);
    leave_span_half_backed(self, NULL);
    reap_empty(heap, self);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_int_equal(shared_get(&self->hand.charged), 0);
    assert_int_equal(shared_get(&self->arena), 0);
    for (uint32_t i = 0; i < TCACHE_STACKS; i++) {
        assert_int_equal(stack_count(&slot_tcache(self)->stacks[i]), 0);
    }
    assert_int_equal(arena_choose(heap, self, 4), 0); /* so that the thread can go on */
}

#define with(f) cmocka_unit_test_setup_teardown(f, open_heap, heap_fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        with(test_a_slot_that_owns_nothing),
        with(test_caches),
        with(test_open_section),
        with(test_open_slot),
        with(test_hand),
        with(test_pending_steps),
        with(test_everything_at_once),
        with(test_the_living),
        with(test_reaping_by_itself),
        with(test_the_dead_hold_no_slot),
        with(test_roll_back_all),
        with(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
