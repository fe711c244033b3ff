/* test_thread_exit.c -- how threads end: with late destructors, by a raw system call, with the process. */
#include <pthread.h>
#include <sys/syscall.h>

#include "crowd.h"

enum { THREADS = 8, KEPT = 100 };

static char path[SCRATCH_MAX];
static sharena_t *heap;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open_with(scratch_path(path, "exit"), NULL);
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    (void)sharena_reap(heap);
    clean_end(heap, path, 0);
    return 0;
}

static void run_threads(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, body, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
}

/* ---- destructors before and after the one of sharena ---- */

static pthread_key_t keys[3]; /* one made before the heap was first opened, two after */
static atomic_int ends;

static void *leave_to_destructors(void *arg) {
    (void)arg;
    for (uint64_t i = 0; i < 3; i++) {
        uint64_t *block = sharena_malloc(heap, 64);
        block[0] = i;
        block[1] = 2;
        if (pthread_setspecific(keys[i], block) != 0) {
            return (void *)(intptr_t)1;
        }
    }
    return NULL;
}

/* Uses the heap in three of the rounds that libc grants, so also when sharena's own destructor has run. */
static void at_exit(void *value) {
    uint64_t copy[2] = {((uint64_t *)value)[0], ((uint64_t *)value)[1]};
    uint64_t *again = sharena_malloc(heap, 64);
    if (again != NULL) {
        memcpy(again, copy, sizeof(copy));
        sharena_free(heap, value);
        value = again;
    }
    if (copy[1] == 0) {
        atomic_fetch_add(&ends, 1);
        sharena_free(heap, value);
        return;
    }
    ((uint64_t *)value)[1]--;
    (void)pthread_setspecific(keys[copy[0]], value);
}

static void test_late_destructors(void **state) {
    (void)state;
    atomic_store(&ends, 0);
    for (int i = 0; i < 10; i++) {
        run_threads(leave_to_destructors);
    }
    assert_int_equal(atomic_load(&ends), 10 * THREADS * 3);
    assert_int_equal(sharena_reap(heap), 0); /* nobody left anything to be reaped */
}

/* A thread whose first use of any heap is in a destructor. */
static void first_use(void *value) {
    (void)value;
    sharena_free(heap, sharena_malloc(heap, 5000));
}

static pthread_key_t first_key;

static void *use_only_in_the_destructor(void *arg) {
    (void)arg;
    return (void *)(intptr_t)pthread_setspecific(first_key, &first_key);
}

static void test_first_use_in_a_destructor(void **state) {
    (void)state;
    assert_int_equal(pthread_key_create(&first_key, first_use), 0);
    run_threads(use_only_in_the_destructor);
    assert_int_equal(pthread_key_delete(first_key), 0);
    assert_int_equal(sharena_reap(heap), 0);
}

/* ---- raw ---- */

static void *end_raw(void *arg) {
    void *blocks[KEPT];
    (void)arg;
    if (sharena_malloc_batch(heap, 200, KEPT, blocks) == KEPT) {
        sharena_free_batch(heap, KEPT, blocks); /* stays in its cache */
        (void)syscall(SYS_exit, 0);
    }
    return (void *)(intptr_t)1;
}

/* No destructor ran, but the kernel marks the token: what the thread cached comes back. */
static void test_raw_exit(void **state) {
    (void)state;
    struct sharena_report report;
    for (int round = 0; round < 5; round++) {
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++) {
            threads[i] = crowd_start_raw(end_raw, NULL);
        }
        for (int i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        }
        assert_in_range(sharena_reap(heap), 0, THREADS); /* growth has reaped some, perhaps */
        assert_int_equal(sharena_check(heap, &report), 0);
        assert_int_equal(report.blocks_live, 0);
        assert_int_equal(report.blocks_cached, 0);
    }
}

/* The process can still detach wholly. */
static void test_raw_exit_then_close(void **state) {
    (void)state;
    for (int is_reaped = 0; is_reaped < 2; is_reaped++) {
        pthread_t thread = crowd_start_raw(end_raw, NULL);
        assert_int_equal(pthread_join(thread, NULL), 0);
        if (is_reaped) {
            assert_int_equal(sharena_reap(heap), 1);
        }
        assert_int_equal(sharena_close(heap), 0);
        assert_int_equal(sharena_unlink(path), 0);
        heap = clean_open_with(path, NULL);
    }
}

/* ---- with the process ---- */

static atomic_int *running;

static void *use_for_ever(void *arg) {
    sharena_free(heap, sharena_malloc(heap, 100)); /* now it has a slot */
    atomic_fetch_add(running, 1);
    for (;;) {
        sharena_free(heap, sharena_malloc(heap, 100));
        sharena_free(heap, sharena_malloc(heap, 30000));
    }
    return arg;
}

/* The ways in which a process ends while its threads are at it. */
static int end_process(void *arg) {
    pthread_t thread;
    atomic_store(running, 0);
    for (int i = 0; i < 3; i++) {
        REQUIRE(pthread_create(&thread, NULL, use_for_ever, NULL) == 0);
    }
    while (atomic_load(running) < 3) {
    }
    REQUIRE(sharena_malloc(heap, 8) != NULL);
    crowd_sleep_us(1000);
    switch ((intptr_t)arg % 3) {
    case 0:
        exit(0);
    case 1:
        _exit(0);
    default:
        (void)raise(SIGKILL);
    }
    return 1;
}

static void test_process_ends_under_its_threads(void **state) {
    (void)state;
    struct sharena_report report;
    running = crowd_memory(sizeof(*running));
    for (intptr_t i = 0; i < 15; i++) {
        (void)fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            _exit(end_process((void *)i));
        }
        int status = child_wait(pid);
        assert_true(i % 3 == 2 ? WIFSIGNALED(status) : status == 0);
        assert_int_equal(sharena_reap(heap), 4);
        assert_int_equal(sharena_check(heap, &report), 0);
        assert_true(report.blocks_live <= (uint64_t)(i + 1) * 4); /* one in flight per thread */
        assert_true(report.blocks_live >= (uint64_t)(i + 1));     /* and what it kept */
    }
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(sharena_unlink(path), 0);
    heap = clean_open_with(path, NULL);
}

/* More threads than slots were ever needed before: slots are used again. */
static void *use_once(void *arg) {
    (void)arg;
    sharena_free(heap, sharena_malloc(heap, 64));
    return NULL;
}

static void test_slots_are_used_again(void **state) {
    (void)state;
    for (int i = 0; i < 600; i++) { /* 4800 threads; 4096 slots */
        run_threads(use_once);
    }
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    assert_int_equal(pthread_key_create(&keys[0], at_exit), 0);
    (void)open_heap(NULL); /* makes sharena's key */
    (void)close_heap(NULL);
    assert_int_equal(pthread_key_create(&keys[1], at_exit), 0);
    assert_int_equal(pthread_key_create(&keys[2], at_exit), 0);
    (void)alarm(120);
    const struct CMUnitTest tests[] = {
        with_heap(test_late_destructors),
        with_heap(test_first_use_in_a_destructor),
        with_heap(test_raw_exit),
        with_heap(test_raw_exit_then_close),
        with_heap(test_process_ends_under_its_threads),
        with_heap(test_slots_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
