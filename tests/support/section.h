/* section.h -- for tests of deaths: a thread in the middle of a critical section, and who waits for it.
 *
 * The heaps of these tests have one arena, and caches that do not grow, so that everybody needs the
 * locks that are held; and no step is taken but those of the test.
 */
#ifndef TESTS_SUPPORT_SECTION_H
#define TESTS_SUPPORT_SECTION_H

#include <sys/syscall.h>

#include "crowd.h"
#include "heap/heap.h"
#include "ipc/lock.h"

enum section { SECTION_NONE, SECTION_BIN, SECTION_ARENA, SECTION_POOL, SECTIONS };

#define SECTION_SIZE 64u /* of the blocks of the bin */

#define SECTION_CONF "narenas:1,tcache_bytes:0,dirty_decay_ms:-1"

static inline const struct sharena_options *section_options(void) {
    static const struct sharena_options options = {.capacity_bytes = GIB, .conf = SECTION_CONF};
    return &options;
}

static inline struct bin *section_bin(const sharena_t *heap) {
    return &heap_arena(heap, 0)->bins[sizeclass_of(SECTION_SIZE)];
}

static inline struct shared_lock *section_lock(const sharena_t *heap, enum section section) {
    switch (section) {
    case SECTION_BIN:
        return &section_bin(heap)->lock;
    case SECTION_ARENA:
        return &heap_arena(heap, 0)->lock;
    default:
        return &heap_pool(heap)->lock;
    }
}

/* What makes the heap unclean unless it is rolled back: the lock is held, the journal open. */
static inline void section_spoil(sharena_t *heap, struct thread_slot *self, enum section section) {
    struct bin *bin = section_bin(heap);
    struct arena *arena = heap_arena(heap, 0);
    struct pool *pool = heap_pool(heap);
    switch (section) {
    case SECTION_BIN:
        journal_set(self, &bin->runs, shared_get(&bin->runs) + 7);
        journal_set(self, &bin->current, 0u);
        break;
    case SECTION_ARENA:
        journal_set(self, &arena->pages_used, shared_get(&arena->pages_used) + 7);
        journal_set(self, &arena->free_dirty, 0u);
        break;
    default:
        journal_set(self, &pool->dirty, 0u);
        journal_set(self, &arena->threads, shared_get(&arena->threads) + 7);
        break;
    }
}

/* The calling thread uses the heap and leaves something in its cache. */
static inline int section_prepare(sharena_t *heap) {
    void *blocks[50];
    REQUIRE(sharena_malloc_batch(heap, SECTION_SIZE, 50, blocks) == 50);
    sharena_free_batch(heap, 50, blocks);
    return 0;
}

/* And goes into the section. */
static inline void section_enter(sharena_t *heap, enum section section) {
    if (section != SECTION_NONE) {
        struct thread_slot *self = heap_enter(heap);
        lock_acquire(heap, self, section_lock(heap, section));
        section_spoil(heap, self, section);
    }
}

/* And out of it again, as if nothing had been. */
static inline void section_leave(sharena_t *heap, enum section section) {
    if (section != SECTION_NONE) {
        struct thread_slot *self = heap_enter(heap);
        journal_roll_back(heap, self);
        lock_release(heap, self, section_lock(heap, section));
    }
}

/* Needs every lock: of the bin, the arena and the pool. NULL, or what is wrong. */
static inline const char *section_use_all(sharena_t *heap) {
    enum { COUNT = 2000 };
    void *blocks[COUNT];
    if (sharena_malloc_batch(heap, SECTION_SIZE, COUNT, blocks) != COUNT) {
        return "no small blocks";
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        clean_fill(blocks[i], SECTION_SIZE, i);
    }
    void *large = sharena_malloc(heap, 300 * KIB);
    void *huge = sharena_malloc(heap, 5 * MIB);
    if (large == NULL || huge == NULL) {
        return "no large or huge block";
    }
    clean_fill(large, 300 * KIB, 5);
    clean_fill(huge, 5 * MIB, 6);
    for (uint64_t i = 0; i < COUNT; i++) {
        if (clean_compare(blocks[i], SECTION_SIZE, i) != SECTION_SIZE) {
            return "a small block was handed out twice";
        }
    }
    if (clean_compare(large, 300 * KIB, 5) != 300 * KIB ||
        clean_compare(huge, 5 * MIB, 6) != 5 * MIB) {
        return "a big block was handed out twice";
    }
    sharena_free_batch(heap, COUNT, blocks);
    sharena_free(heap, large);
    sharena_free(heap, huge);
    return NULL;
}

/* Waits until the number is at least that high; 0 if that does not come in ten seconds. */
static inline int section_await(const atomic_int *number, int value) {
    for (int i = 0; i < 100000 && atomic_load(number) < value; i++) {
        crowd_sleep_us(100);
    }
    return atomic_load(number) >= value;
}

/* Waits until somebody waits for the lock; 0 if that does not come in ten seconds. */
static inline int section_await_waiter(const sharena_t *heap, enum section section) {
    const pthread_mutex_t *mutex = &section_lock(heap, section)->mutex;
    for (int i = 0; i < 100000; i++) {
        if ((uint32_t)__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) & 0x80000000u) {
            return 1;
        }
        crowd_sleep_us(100);
    }
    return 0;
}

/* How many sections were rolled back so far. */
static inline uint64_t section_recovered(const sharena_t *heap) {
    return shared_get(&heap_state(heap)->recovered);
}

/* Clean, with that many blocks of the application, and nothing in any cache but the caller's. */
static inline void section_check(sharena_t *heap, uint64_t blocks_live) {
    struct sharena_report report;
    assert_int_equal(sharena_purge(heap), 0); /* the caller's cache */
    if (sharena_check(heap, &report) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
    assert_int_equal(report.blocks_live, blocks_live);
    assert_int_equal(report.blocks_cached, 0);
}

/* ---- who waits: a thread of this process, and a process ---- */

struct waiters {
    pthread_t thread;
    pid_t process;
};

static inline void *waiters_use_in_thread(void *arg) {
    return (void *)(uintptr_t)section_use_all(arg);
}

static inline int waiters_use_in_process(void *arg) {
    const char *wrong = section_use_all(arg);
    if (wrong != NULL) {
        (void)fprintf(stderr, "child: %s (%s)\n", wrong, sharena_errormsg());
    }
    return wrong != NULL;
}

static inline struct waiters waiters_start(sharena_t *heap, enum section section) {
    struct waiters waiters;
    waiters.process = child_start(waiters_use_in_process, heap);
    assert_int_equal(pthread_create(&waiters.thread, NULL, waiters_use_in_thread, heap), 0);
    assert_true(section == SECTION_NONE || section_await_waiter(heap, section));
    crowd_sleep_us(20000);
    return waiters;
}

/* Both still wait. */
static inline void waiters_are_waiting(struct waiters waiters) {
    int status;
    assert_int_equal(pthread_tryjoin_np(waiters.thread, NULL), EBUSY);
    assert_int_equal(waitpid(waiters.process, &status, WNOHANG), 0);
}

static inline void waiters_join(struct waiters waiters) {
    void *wrong;
    assert_int_equal(pthread_join(waiters.thread, &wrong), 0);
    assert_null(wrong);
    assert_int_equal(child_wait(waiters.process), 0);
}

#endif
