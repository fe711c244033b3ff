/* ctest: inprocess */
/* test_threads.c -- threads of one process: exchange, come and go, outlive a close. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#include "clean_heap.h"

static char path[SCRATCH_MAX];
static sharena_t *heap;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open(scratch_path(path, "threads"));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

static pthread_t start(void *(*body)(void *), void *arg) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, body, arg), 0);
    return thread;
}

static void join(pthread_t thread) {
    void *wrong;
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
}

/* ---- exchange: every block is freed by whoever draws it from the common box ---- */

enum { THREADS = 4, BOXES = 1024, STEPS = 20000 };
static _Atomic(uint64_t *) boxes[BOXES];

static uint64_t stamp_of(const void *block, uint64_t bytes) {
    return (uint64_t)(uintptr_t)block * 31 + bytes;
}

static void *exchange(void *arg) {
    uint64_t random = (uintptr_t)arg;
    intptr_t wrong = 0;
    for (int step = 0; step < STEPS; step++) {
        uint64_t bytes = 16 + clean_random(&random) % ((uint64_t)1 << (4 + step % 13));
        uint64_t *block = sharena_malloc(heap, bytes);
        if (block == NULL) {
            return (void *)(intptr_t)-1;
        }
        block[0] = bytes;
        block[1] = stamp_of(block, bytes);
        uint64_t *other = atomic_exchange(&boxes[clean_random(&random) % BOXES], block);
        if (other != NULL) {
            wrong += other[1] != stamp_of(other, other[0]);
            other[1] = 0;
            if (step % 2) {
                sharena_free(heap, other);
            } else {
                sharena_free_sized(heap, other, other[0]);
            }
        }
    }
    return (void *)wrong;
}

static void test_exchange(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        threads[i] = start(exchange, (void *)(i + 1));
    }
    for (int i = 0; i < 20; i++) { /* the proof does not need a heap at rest */
        if (sharena_check(heap, NULL) != 0) {
            fail_msg("%s", sharena_errormsg());
        }
    }
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    uint64_t live = 0;
    for (int i = 0; i < BOXES; i++) {
        live += boxes[i] != NULL;
    }
    clean_check(heap, live);
    for (int i = 0; i < BOXES; i++) {
        sharena_free(heap, atomic_exchange(&boxes[i], NULL));
    }
}

/* ---- come and go ---- */

static void *use_briefly(void *arg) {
    void *blocks[100];
    size_t made = sharena_malloc_batch(heap, (uintptr_t)arg, 100, blocks);
    sharena_free_batch(heap, made, blocks);
    return made == 100 ? NULL : (void *)(intptr_t)1;
}

/* What threads cached comes back at their end, and so do their slots. */
static void test_threads_come_and_go(void **state) {
    (void)state;
    struct sharena_report report;
    for (uintptr_t i = 0; i < 300; i++) {
        pthread_t threads[3];
        for (int j = 0; j < 3; j++) {
            threads[j] = start(use_briefly, (void *)(8 + i * 30));
        }
        for (int j = 0; j < 3; j++) {
            join(threads[j]);
        }
    }
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_cached, 0); /* this thread has none yet */
    assert_int_equal(sharena_reap(heap), 0);
}

/* ---- close and reopen under threads that used the heap ---- */

struct idler {
    sem_t used;
    sem_t go_on;
    int may_end_early;
};

static void *use_then_idle(void *arg) {
    struct idler *idler = arg;
    void *blocks[50];
    size_t made = sharena_malloc_batch(heap, 100, 50, blocks);
    sharena_free_batch(heap, made, blocks);
    (void)sem_post(&idler->used);
    if (!idler->may_end_early) {
        (void)sem_wait(&idler->go_on);
    }
    return made == 50 ? NULL : (void *)(intptr_t)1;
}

static void test_thread_outlives_the_close(void **state) {
    (void)state;
    struct idler idler = {.may_end_early = 0};
    assert_int_equal(sem_init(&idler.used, 0, 0), 0);
    assert_int_equal(sem_init(&idler.go_on, 0, 0), 0);
    pthread_t thread = start(use_then_idle, &idler);
    (void)sem_wait(&idler.used);
    void *block = sharena_malloc(heap, 10);
    assert_int_equal(sharena_close(heap), 0);
    assert_null(sharena_heap_of(block)); /* closed, whatever lingers */
    assert_refused(sharena_close(heap), EINVAL, "not an attached heap");
    errno = 0;
    assert_null(sharena_malloc(heap, 10));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(sharena_check(heap, NULL), EINVAL);
    assert_ptr_equal(clean_open(path), heap); /* again, while the thread lives */
    struct sharena_report report;
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_live, 1);
    assert_int_equal(report.blocks_cached, 0); /* its cache too was flushed by the close */
    (void)sem_post(&idler.go_on);
    join(thread);
    sharena_free(heap, block);
    clean_check(heap, 0);
    (void)sem_destroy(&idler.used);
    (void)sem_destroy(&idler.go_on);
}

static void test_last_thread_ends_after_the_close(void **state) {
    (void)state;
    struct idler idler = {.may_end_early = 0};
    assert_int_equal(sem_init(&idler.used, 0, 0), 0);
    assert_int_equal(sem_init(&idler.go_on, 0, 0), 0);
    pthread_t thread = start(use_then_idle, &idler);
    (void)sem_wait(&idler.used);
    assert_int_equal(sharena_close(heap), 0);
    assert_refused(sharena_unlink(path), EBUSY, "in use"); /* as the header says */
    (void)sem_post(&idler.go_on);
    join(thread);
    assert_int_equal(sharena_unlink(path), 0); /* with it the attachment went */
    heap = clean_open(path);
    (void)sem_destroy(&idler.used);
    (void)sem_destroy(&idler.go_on);
}

/* Threads that end at the very moment of the close. */
static void test_threads_end_while_the_heap_closes(void **state) {
    (void)state;
    for (int round = 0; round < 300; round++) {
        struct idler idler = {.may_end_early = 1};
        pthread_t threads[3];
        assert_int_equal(sem_init(&idler.used, 0, 0), 0);
        for (int i = 0; i < 3; i++) {
            threads[i] = start(use_then_idle, &idler);
        }
        for (int i = 0; i < 3; i++) {
            (void)sem_wait(&idler.used);
        }
        assert_int_equal(sharena_close(heap), 0);
        for (int i = 0; i < 3; i++) {
            join(threads[i]);
        }
        heap = clean_open(path);
        struct sharena_report report;
        assert_int_equal(sharena_check(heap, &report), 0);
        assert_int_equal(report.blocks_live, 0);
        assert_int_equal(report.blocks_cached, 0);
        (void)sem_destroy(&idler.used);
    }
}

/* Many threads open and close one heap at once: each has what it opened. */
static void *open_and_close(void *arg) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        sharena_t *mine;
        const struct sharena_options options = clean_options();
        if (sharena_open(path, &options, &mine) != 0) {
            return (void *)(intptr_t)1;
        }
        void *block = sharena_malloc(mine, 100);
        if (block == NULL || sharena_heap_of(block) != mine) {
            return (void *)(intptr_t)2;
        }
        sharena_free(mine, block);
        if (sharena_close(mine) != 0) {
            return (void *)(intptr_t)3;
        }
    }
    return NULL;
}

static void test_threads_open_and_close(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    assert_int_equal(sharena_close(heap), 0);
    for (int i = 0; i < THREADS; i++) {
        threads[i] = start(open_and_close, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    heap = clean_open(path);
}

/* ---- sharena_heap_of against a concurrent close ---- */

static atomic_int is_over;
static atomic_uintptr_t place;

static void *ask_whose(void *arg) {
    (void)arg;
    intptr_t wrong = 0;
    while (!atomic_load(&is_over)) {
        uintptr_t ptr = atomic_load(&place);
        sharena_t *owner = sharena_heap_of((void *)ptr);
        wrong += owner != NULL && owner != (sharena_t *)(ptr / GIB * GIB);
#ifdef __SANITIZE_THREAD__
        /* It remembers little, and must still know that it was registry_heap_of() that read: what
         * orders that against the close is in liburcu, which it does not see. */
        (void)usleep(20);
#endif
    }
    return (void *)wrong;
}

static void test_heap_of_while_heaps_come_and_go(void **state) {
    (void)state;
    pthread_t threads[2];
    atomic_store(&is_over, 0);
    atomic_store(&place, (uintptr_t)heap + 5000);
    for (int i = 0; i < 2; i++) {
        threads[i] = start(ask_whose, NULL);
    }
    for (int i = 0; i < 200; i++) {
        assert_int_equal(sharena_close(heap), 0);
        heap = clean_open(path);
    }
    atomic_store(&is_over, 1);
    for (int i = 0; i < 2; i++) {
        join(threads[i]);
    }
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_exchange),
        with_heap(test_threads_come_and_go),
        with_heap(test_thread_outlives_the_close),
        with_heap(test_last_thread_ends_after_the_close),
        with_heap(test_threads_end_while_the_heap_closes),
        with_heap(test_threads_open_and_close),
        with_heap(test_heap_of_while_heaps_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
