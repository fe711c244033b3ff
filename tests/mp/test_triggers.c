/* test_triggers.c -- what the dead held comes back without being asked for: each trigger alone does it,
 * and the counters tell exactly what came back.
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "crowd.h"
#include "heap/arena.h"
#include "heap/heap.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

enum { VICTIMS = 3, THREADS = 2, BLOCKS = 300, SLOTS = VICTIMS * THREADS };

struct counts {
    uint64_t threads;
    uint64_t processes;
    uint64_t bytes;
    uint64_t recovered;
    uint64_t taken_over;
};

struct signals {        /* shared, not in a heap */
    atomic_int ready;   /* threads of victims */
    atomic_int reapers; /* that have begun */
    atomic_int may_open;
    atomic_int is_over;
    atomic_int reaped;
    struct counts seen;
    int error;
};

static char path[SCRATCH_MAX];
static sharena_t *heap;
static struct signals *signals;
static void *warm[BLOCKS * 4];

/* ---- counters and caches ---- */

static uint64_t stat_of(sharena_t *of, const char *name) {
    uint64_t value = UINT64_MAX;
    size_t length = sizeof(value);
    return sharena_ctl(of, name, &value, &length, NULL, 0) == 0 ? value : UINT64_MAX;
}

static struct counts counts_of(sharena_t *of) {
    return (struct counts){.threads = stat_of(of, "stats.reaped"),
                           .processes = stat_of(of, "stats.reaped_processes"),
                           .bytes = stat_of(of, "stats.reaped_bytes"),
                           .recovered = stat_of(of, "stats.recovered"),
                           .taken_over = stat_of(of, "stats.taken_over")};
}

static void look_every(uint32_t ms) {
    registry_find(heap)->conf.reap_interval_ms = ms;
    registry_find(heap)->reap_due_ms = 0;
}

/* Small blocks that miss the cache, again and again, but need no memory that was not there before. */
static void miss_caches(void) {
    assert_int_equal(sharena_malloc_batch(heap, 64, BLOCKS * 4, warm), BLOCKS * 4);
    sharena_free_batch(heap, BLOCKS * 4, warm);
}

static int open_heap(void **state) {
    (void)state;
    memset(signals, 0, sizeof(*signals));
    heap = clean_open(scratch_path(path, "triggers"));
    look_every(CONF_MS_NEVER);
    registry_find(heap)->conf.narenas = 1;      /* or each thread would make the heap grow */
    registry_find(heap)->conf.tcache_bytes = 0; /* or a cache would soon be missed no more */
    miss_caches();
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    (void)sharena_reap(heap);
    clean_end(heap, path, 0);
    return 0;
}

/* ---- victims ---- */

static void *fill_caches(void *arg) {
    void *blocks[BLOCKS];
    const size_t bytes = (uintptr_t)arg;
    if (sharena_malloc_batch(heap, bytes, BLOCKS, blocks) != BLOCKS) {
        abort();
    }
    sharena_free_batch(heap, BLOCKS, blocks);
    (void)atomic_fetch_add(&signals->ready, 1);
    (void)pause();
    return NULL;
}

/* What the kernel does for the dead is kept from it: no mutex of this thread is marked. */
static void break_robust_list(void) {
    static struct robust_list_head empty;
    empty.list.next = &empty.list;
    if (syscall(SYS_set_robust_list, &empty, sizeof(empty)) != 0) {
        abort();
    }
}

static int be_victim(void *arg) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, fill_caches, (void *)(uintptr_t)200) == 0);
    (void)arg;
    (void)fill_caches((void *)(uintptr_t)48);
    return 1;
}

/* Kills VICTIMS processes with THREADS threads each; how many bytes their caches have. */
static uint64_t kill_victims(void) {
    pid_t pids[VICTIMS];
    atomic_store(&signals->ready, 0);
    for (int i = 0; i < VICTIMS; i++) {
        pids[i] = child_start(be_victim, NULL);
    }
    while (atomic_load(&signals->ready) < SLOTS) {
        (void)sched_yield();
    }
    for (int i = 0; i < VICTIMS; i++) {
        crowd_kill(pids[i]);
    }
    assert_int_equal(sharena_ctl(heap, "thread.tcache.flush", NULL, NULL, NULL, 0), 0);
    uint64_t bytes = stat_of(heap, "stats.cached");
    assert_true(bytes >= SLOTS * 48);
    return bytes;
}

static void assert_nothing_reaped(const struct counts *before) {
    struct counts now = counts_of(heap);
    assert_memory_equal(&now, before, sizeof(now));
}

/* All victims came back, once each. */
static void assert_reaped(const struct counts *before, const struct counts *now, uint64_t bytes) {
    assert_int_equal(now->threads, before->threads + SLOTS);
    assert_int_equal(now->processes, before->processes + VICTIMS);
    assert_int_equal(now->bytes, before->bytes + bytes);
}

static void assert_reaped_now(const struct counts *before, uint64_t bytes) {
    struct counts now = counts_of(heap);
    assert_reaped(before, &now, bytes);
}

/* ---- by a slow tick ---- */

static uint64_t wait_for_tick(const struct counts *before) {
    uint64_t turns = 0;
    for (; stat_of(heap, "stats.reaped") == before->threads && turns < 2000; turns++) {
        crowd_sleep_us(1000);
        errno = 4711;
        miss_caches();
        assert_int_equal(errno, 4711);
    }
    return turns;
}

static void test_tick(void **state) {
    (void)state;
    static const uint32_t intervals[] = {0, 20, 200};
    uint64_t mapped = stat_of(heap, "stats.mapped");
    for (size_t i = 0; i < sizeof(intervals) / sizeof(intervals[0]); i++) {
        struct counts before = counts_of(heap);
        uint64_t bytes = kill_victims();
        for (int j = 0; j < 100; j++) {
            miss_caches(); /* never: nobody looks */
        }
        assert_nothing_reaped(&before);
        look_every(intervals[i]);
        uint64_t turns = wait_for_tick(&before);
        look_every(CONF_MS_NEVER);
        assert_in_range(turns, 1, 1999);
        assert_reaped_now(&before, bytes);
    }
    struct counts now = counts_of(heap);
    assert_int_equal(now.recovered, 0);                      /* no lock of the dead was met */
    assert_int_equal(stat_of(heap, "stats.mapped"), mapped); /* nor did the heap grow */
}

/* Between two ticks nobody looks, however many slow paths are taken. */
static void test_tick_is_slow(void **state) {
    (void)state;
    struct counts before = counts_of(heap);
    look_every(3600000);
    miss_caches(); /* the tick */
    uint64_t bytes = kill_victims();
    for (int i = 0; i < 1000; i++) {
        miss_caches();
    }
    assert_nothing_reaped(&before);
    look_every(3600000); /* as if the hour were over */
    miss_caches();
    assert_reaped_now(&before, bytes);
}

static int be_unmarked_victim(void *arg) {
    (void)arg;
    sharena_free(heap, sharena_malloc(heap, 1)); /* it has its slot before */
    break_robust_list();
    (void)fill_caches((void *)(uintptr_t)48);
    return 1;
}

/* Nothing tells that it is dead but the token of its process. */
static void test_tick_finds_the_unmarked(void **state) {
    (void)state;
    struct counts before = counts_of(heap);
    pid_t pid = child_start(be_unmarked_victim, NULL);
    while (atomic_load(&signals->ready) < 1) {
        (void)sched_yield();
    }
    look_every(0);
    for (int i = 0; i < 100; i++) {
        miss_caches();
    }
    assert_nothing_reaped(&before); /* they live */
    crowd_kill(pid);
    miss_caches();
    struct counts now = counts_of(heap);
    assert_int_equal(now.threads, before.threads + 1);
    assert_int_equal(now.processes, before.processes + 1);
}

static void *end_raw(void *arg) {
    void **block = arg;
    *block = sharena_malloc(heap, 64);
    (void)syscall(SYS_exit, 0); /* runs no destructor */
    return NULL;
}

/* Its process lives: only the word of its token tells. */
static void test_tick_finds_a_dead_thread(void **state) {
    (void)state;
    void *block = NULL;
    struct counts before = counts_of(heap);
    pthread_t thread = crowd_start_raw(end_raw, &block);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_non_null(block);
    miss_caches();
    assert_nothing_reaped(&before);
    look_every(0);
    miss_caches();
    struct counts now = counts_of(heap);
    assert_int_equal(now.threads, before.threads + 1);
    assert_int_equal(now.processes, before.processes);
    sharena_free(heap, block);
}

static void test_tick_leaves_the_stopped_alone(void **state) {
    (void)state;
    int status;
    struct counts before = counts_of(heap);
    pid_t pid = child_start(be_victim, NULL);
    while (atomic_load(&signals->ready) < THREADS) {
        (void)sched_yield();
    }
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    look_every(0);
    for (int i = 0; i < 100; i++) {
        miss_caches();
    }
    assert_nothing_reaped(&before);
    crowd_kill(pid);
    miss_caches();
    assert_int_equal(counts_of(heap).threads, before.threads + THREADS);
}

/* ---- at the first use after an open ---- */

/* Begins before the heap is there, so that it can attach later. */
static int be_opener(void *arg) {
    const struct sharena_options *options = arg;
    sharena_t *own = NULL;
    while (!atomic_load(&signals->may_open)) {
        crowd_sleep_us(200);
    }
    REQUIRE(sharena_open(path, options, &own) == 0);
    if (options->flags != SHARENA_READONLY) {
        sharena_free(own, sharena_malloc(own, 64)); /* the first use */
    }
    signals->seen = counts_of(own);
    return 0;
}

static void test_attach(void **state) {
    (void)state;
    struct sharena_options options = {.flags = SHARENA_READONLY, .conf = "reap_interval_ms:-1"};
    (void)scratch_path(path, "triggers"); /* the heap that open_heap() makes */
    memset(signals, 0, sizeof(*signals));
    pid_t reader = child_start(be_opener, &options);
    options.flags = SHARENA_OPEN_ONLY;
    pid_t opener = child_start(be_opener, &options);
    assert_int_equal(kill(opener, SIGSTOP), 0);
    heap = clean_open(path);
    look_every(CONF_MS_NEVER);
    sharena_free(heap, sharena_malloc(heap, 64));
    struct counts before = counts_of(heap);
    uint64_t bytes = kill_victims();
    atomic_store(&signals->may_open, 1);
    assert_int_equal(child_wait(reader), 0);
    assert_memory_equal(&signals->seen, &before, sizeof(before)); /* it only looks */
    assert_nothing_reaped(&before);
    assert_int_equal(kill(opener, SIGCONT), 0);
    assert_int_equal(child_wait(opener), 0);
    assert_reaped(&before, &signals->seen, bytes);
    (void)close_heap(state);
}

/* ---- before growing ---- */

static void test_growth_by_a_huge_block(void **state) {
    (void)state;
    void *block = sharena_malloc(heap, 3 * MIB);
    struct counts before = counts_of(heap);
    sharena_free(heap, block);
    uint64_t bytes = kill_victims();
    block = sharena_malloc(heap, 3 * MIB); /* the memory is there already */
    assert_non_null(block);
    miss_caches();
    assert_nothing_reaped(&before);
    void *more = sharena_malloc(heap, 3 * MIB);
    assert_non_null(more);
    assert_reaped_now(&before, bytes);
    sharena_free(heap, more);
    sharena_free(heap, block);
}

static void test_growth_by_small_blocks(void **state) {
    (void)state;
    enum { MANY = 30000 };
    void **blocks = calloc(MANY, sizeof(void *));
    struct counts before = counts_of(heap);
    uint64_t bytes = kill_victims();
    uint64_t mapped = stat_of(heap, "stats.mapped");
    int count = 0;
    while (count < MANY && stat_of(heap, "stats.mapped") == mapped) {
        assert_nothing_reaped(&before);
        for (int i = 0; i < 20; i++) {
            blocks[count] = sharena_malloc(heap, 500);
            assert_non_null(blocks[count]);
            count++;
        }
    }
    assert_in_range(count, 1000, MANY - 1);
    assert_reaped_now(&before, bytes);
    sharena_free_batch(heap, (size_t)count, blocks);
    free(blocks);
}

/* ---- at a lock ---- */

static struct bin *bin_of_survivor(void) {
    const struct thread_slot *self = heap_enter(heap);
    return &heap_arena(heap, shared_get(&self->arena) - 1)->bins[sizeclass_of(64)];
}

static int die_in_section(void *arg) {
    struct bin *bin = arg;
    struct thread_slot *self = heap_enter(heap);
    lock_acquire(heap, self, &bin->lock);
    journal_set(self, &bin->runs, 4711u);
    return kill(getpid(), SIGKILL);
}

static void test_lock(void **state) {
    (void)state;
    struct counts before = counts_of(heap);
    uint64_t bytes = kill_victims();
    (void)child_wait(child_start(die_in_section, bin_of_survivor()));
    for (int i = 0; i < 100; i++) {
        assert_int_equal(sharena_malloc_batch(heap, 500, 20, warm), 20); /* another bin's lock */
        sharena_free_batch(heap, 20, warm);
    }
    struct counts now = counts_of(heap);
    assert_int_equal(now.threads, before.threads);
    assert_int_equal(now.processes, before.processes + 1); /* whose slot the last one took */
    miss_caches();
    now = counts_of(heap);
    assert_int_equal(now.recovered, before.recovered + 1);
    assert_int_equal(now.taken_over, before.taken_over); /* the kernel had marked it */
    assert_int_equal(now.threads, before.threads + SLOTS + 1);
    assert_int_equal(now.processes, before.processes + VICTIMS + 1);
    assert_int_equal(now.bytes, before.bytes + bytes);
}

static int die_unmarked(void *arg) {
    struct thread_slot *self = heap_enter(heap);
    (void)self;
    break_robust_list();
    return die_in_section(arg);
}

static void test_lock_that_the_kernel_did_not_mark(void **state) {
    (void)state;
    struct counts before = counts_of(heap);
    (void)child_wait(child_start(die_unmarked, bin_of_survivor()));
    miss_caches(); /* waits for 100 ms */
    struct counts now = counts_of(heap);
    assert_int_equal(now.taken_over, before.taken_over + 1);
    assert_int_equal(now.recovered, before.recovered + 1);
    assert_int_equal(now.threads, before.threads + 1);
    assert_int_equal(now.processes, before.processes + 1);
}

/* ---- when slots run out ---- */

static void *use_heap(void *arg) {
    void **block = arg;
    *block = sharena_malloc(heap, 64);
    signals->error = errno;
    return NULL;
}

/* Slots whose makers were killed are nobody's, so a full table is cheap to have. */
static void test_no_slot_left(void **state) {
    (void)state;
    shared_u32 *threads_high = &heap_state(heap)->threads_high;
    struct counts before = counts_of(heap);
    uint64_t bytes = kill_victims();
    uint32_t high = shared_get(threads_high);
    void *block = NULL;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, use_heap, &block), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_non_null(block);
    sharena_free(heap, block);
    high = shared_get(threads_high);
    assert_nothing_reaped(&before);       /* there was room for one more */
    for (uint32_t i = 0; i < high; i++) { /* the one that it left */
        if (shared_get(&heap_thread(heap, i)->state) == SLOT_FREE) {
            shared_store(&heap_thread(heap, i)->state, SLOT_RAW);
        }
    }
    shared_store(threads_high, THREADS_MAX);
    block = NULL;
    assert_int_equal(pthread_create(&thread, NULL, use_heap, &block), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    shared_store(threads_high, high);
    assert_non_null(block);
    assert_reaped_now(&before, bytes);
    sharena_free(heap, block);
}

/* ---- on call ---- */

static void test_call(void **state) {
    (void)state;
    struct counts before = counts_of(heap);
    uint64_t bytes = kill_victims();
    assert_nothing_reaped(&before);
    assert_int_equal(sharena_reap(heap), SLOTS);
    assert_reaped_now(&before, bytes);
    assert_int_equal(sharena_reap(heap), 0);
    assert_reaped_now(&before, bytes);
}

/* Several at once: each of the dead comes back to exactly one of them. */
static int be_reaper(void *arg) {
    (void)arg;
    (void)atomic_fetch_add(&signals->reapers, 1);
    while (!atomic_load(&signals->is_over)) {
        (void)atomic_fetch_add(&signals->reaped, sharena_reap(heap));
    }
    return sharena_close(heap);
}

static void test_several_reapers(void **state) {
    (void)state;
    enum { REAPERS = 3, ROUNDS = 20 };
    pid_t reapers[REAPERS];
    struct counts before = counts_of(heap);
    for (int i = 0; i < REAPERS; i++) {
        reapers[i] = child_start(be_reaper, NULL);
    }
    for (int i = 0; i < ROUNDS; i++) {
        pid_t pid;
        atomic_store(&signals->ready, 0);
        pid = child_start(be_victim, NULL);
        while (atomic_load(&signals->ready) < THREADS) {
            (void)sched_yield();
        }
        crowd_kill(pid);
    }
    (void)atomic_fetch_add(&signals->reaped, sharena_reap(heap));
    atomic_store(&signals->is_over, 1);
    crowd_wait(reapers, REAPERS);
    struct counts now = counts_of(heap);
    assert_int_equal(atomic_load(&signals->reaped), ROUNDS * THREADS);
    assert_int_equal(now.threads, before.threads + ROUNDS * THREADS);
    assert_int_equal(now.processes, before.processes + ROUNDS);
}

/* Reapers that are killed at any instant: each may lose one increment, none counts twice. */
static void test_killed_reapers(void **state) {
    (void)state;
    enum { ROUNDS = 40 };
    struct counts before = counts_of(heap);
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(&signals->ready, 0);
        pid_t victim = child_start(be_victim, NULL);
        while (atomic_load(&signals->ready) < THREADS) {
            (void)sched_yield();
        }
        pid_t reaper = child_start(be_reaper, NULL);
        while (atomic_load(&signals->reapers) <= i) {
            (void)sched_yield();
        }
        crowd_kill(victim);
        crowd_sleep_us(i * 5);
        crowd_kill(reaper);
    }
    (void)sharena_reap(heap);
    struct counts now = counts_of(heap);
    assert_in_range(now.threads - before.threads, ROUNDS * THREADS - ROUNDS, ROUNDS * THREADS);
    assert_in_range(now.processes - before.processes, 2 * ROUNDS - ROUNDS, 2 * ROUNDS);
    assert_int_equal(sharena_ctl(heap, "thread.tcache.flush", NULL, NULL, NULL, 0), 0);
    assert_int_equal(stat_of(heap, "stats.cached"), 0);
    print_message("%d killed reapers: %llu of %d threads and %llu of %d processes were counted\n",
                  ROUNDS, (unsigned long long)(now.threads - before.threads), ROUNDS * THREADS,
                  (unsigned long long)(now.processes - before.processes), 2 * ROUNDS);
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    signals = crowd_memory(sizeof(*signals));
    (void)alarm(120);
    const struct CMUnitTest tests[] = {
        with_heap(test_tick),
        with_heap(test_tick_is_slow),
        with_heap(test_tick_finds_the_unmarked),
        with_heap(test_tick_finds_a_dead_thread),
        with_heap(test_tick_leaves_the_stopped_alone),
        cmocka_unit_test(test_attach),
        with_heap(test_growth_by_a_huge_block),
        with_heap(test_growth_by_small_blocks),
        with_heap(test_lock),
        with_heap(test_lock_that_the_kernel_did_not_mark),
        with_heap(test_no_slot_left),
        with_heap(test_call),
        with_heap(test_several_reapers),
        with_heap(test_killed_reapers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
