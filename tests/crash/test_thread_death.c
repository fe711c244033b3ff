/* test_thread_death.c -- threads that end inside a critical section, alone or with their process: whoever
 * waits goes on, nothing is lost, and the process can still let go of the heap.
 */
#include <pthread.h>

#include "section.h"

enum { CROWD = 64, PLACES = 32 };

struct facts { /* shared, not in a heap */
    atomic_int is_ready;
    atomic_int may_go_on;
    atomic_int result;
};

static char path[SCRATCH_MAX];
static sharena_t *heap;
static struct facts *facts;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open_with(scratch_path(path, "thread-death"), section_options());
    assert_null(section_use_all(heap)); /* this thread has a slot, and there is an arena */
    memset(facts, 0, sizeof(*facts));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

/* ---- a thread that ends by a raw system call ---- */

static void *end_in_section(void *arg) {
    if (section_prepare(heap) != 0) {
        return arg;
    }
    section_enter(heap, (enum section)(uintptr_t)arg);
    atomic_store(&facts->is_ready, 1);
    (void)section_await(&facts->may_go_on, 1);
    (void)syscall(SYS_exit, 0);
    return arg;
}

static pthread_t start_thread_to_end(enum section section) {
    memset(facts, 0, sizeof(*facts));
    pthread_t thread = crowd_start_raw(end_in_section, (void *)(uintptr_t)section);
    assert_true(section_await(&facts->is_ready, 1));
    return thread;
}

static void end_thread(pthread_t thread) {
    atomic_store(&facts->may_go_on, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_waiters_go_on_when_a_thread_ends(void **state) {
    (void)state;
    for (enum section section = SECTION_NONE; section < SECTIONS; section++) {
        uint64_t before = section_recovered(heap);
        pthread_t thread = start_thread_to_end(section);
        struct waiters waiters = waiters_start(heap, section);
        end_thread(thread);
        waiters_join(waiters);
        assert_int_equal(section_recovered(heap), before + (section != SECTION_NONE));
        (void)sharena_reap(heap); /* whoever got the lock may have done it, and the child is gone */
        section_check(heap, 0);
    }
}

static void test_its_process_reaps(void **state) {
    (void)state;
    for (enum section section = SECTION_NONE; section < SECTIONS; section++) {
        end_thread(start_thread_to_end(section));
        assert_int_equal(sharena_reap(heap), 1);
        assert_int_equal(sharena_reap(heap), 0);
        section_check(heap, 0);
    }
}

static int reap_on_command(void *arg) {
    (void)arg;
    atomic_store(&facts->is_ready, 2);
    REQUIRE(section_await(&facts->may_go_on, 2));
    atomic_store(&facts->result, sharena_reap(heap));
    REQUIRE(clean_is_not(heap) == 0);
    return sharena_close(heap);
}

/* What another process took over no longer keeps the heap attached here. */
static void test_another_process_reaps(void **state) {
    (void)state;
    for (enum section section = SECTION_NONE; section < SECTIONS; section++) {
        pthread_t thread = start_thread_to_end(section);
        pid_t reaper = child_start(reap_on_command, NULL);
        assert_true(section_await(&facts->is_ready, 2));
        end_thread(thread);
        atomic_store(&facts->may_go_on, 2);
        assert_int_equal(child_wait(reaper), 0);
        assert_int_equal(atomic_load(&facts->result), 1);
        assert_int_equal(sharena_reap(heap), 0);
        section_check(heap, 0);
        assert_int_equal(sharena_close(heap), 0);
        assert_null(registry_find(heap));
        assert_int_equal(sharena_unlink(path), 0);
        (void)open_heap(NULL);
    }
}

/* Nor does a thread that ended in a section and was reaped by nobody. */
static void test_close_with_a_dead_thread(void **state) {
    (void)state;
    for (enum section section = SECTION_NONE; section < SECTIONS; section++) {
        end_thread(start_thread_to_end(section));
        assert_int_equal(sharena_close(heap), 0);
        assert_null(registry_find(heap));
        heap = clean_open(path);
        section_check(heap, 0);
    }
}

/* ---- a process that ends while its threads are inside ---- */

static void *stay_in_section(void *arg) {
    if (section_prepare(heap) == 0) {
        (void)atomic_fetch_add(&facts->is_ready, 1);
        (void)section_await(&facts->is_ready,
                            3); /* all have what they need before one holds a lock */
        section_enter(heap, (enum section)(uintptr_t)arg);
        (void)atomic_fetch_add(&facts->is_ready, 1);
        (void)pause();
    }
    return arg;
}

static int end_with_threads_inside(void *arg) {
    pthread_t thread;
    for (uintptr_t section = SECTION_BIN; section < SECTIONS; section++) {
        REQUIRE(pthread_create(&thread, NULL, stay_in_section, (void *)section) == 0);
    }
    REQUIRE(section_await(&facts->may_go_on, 1));
    switch ((uintptr_t)arg) {
    case 0:
        exit(0);
    case 1:
        _exit(0);
    default:
        (void)raise(SIGKILL);
    }
    return 1;
}

static void test_process_ends_with_threads_inside(void **state) {
    (void)state;
    for (uintptr_t how = 0; how < 3; how++) {
        memset(facts, 0, sizeof(*facts));
        uint64_t before = section_recovered(heap);
        pid_t pid = child_start(end_with_threads_inside, (void *)how);
        assert_true(section_await(&facts->is_ready, 6));
        struct waiters waiters = waiters_start(heap, SECTION_POOL); /* new threads need it first */
        atomic_store(&facts->may_go_on, 1);
        int status = child_wait(pid);
        assert_true(how < 2 ? status == 0 : WIFSIGNALED(status));
        waiters_join(waiters);
        assert_int_equal(section_recovered(heap), before + 3);
        (void)sharena_reap(heap);
        section_check(heap, 0);
    }
}

/* ---- many threads killed at once ---- */

static void **places; /* CROWD x PLACES, in the heap */

static void *churn(void *arg) {
    void **mine = arg;
    uint64_t random = (uintptr_t)arg;
    for (uint64_t step = 0;; step++) {
        void **place = &mine[clean_random(&random) % PLACES];
        size_t bytes = 8 + clean_random(&random) % (step % 50 != 0 ? 700 : 60000);
        int error =
            *place == NULL ? sharena_malloc_to(heap, bytes, place) : sharena_free_from(heap, place);
        if (error != 0) {
            (void)fprintf(stderr, "child: %s\n", sharena_errormsg());
            _exit(1);
        }
        if (step == 100) {
            (void)atomic_fetch_add(&facts->is_ready, 1);
        }
    }
    return NULL;
}

static int churn_with_many(void *arg) {
    (void)arg;
    pthread_t thread;
    for (int i = 1; i < CROWD; i++) {
        REQUIRE(pthread_create(&thread, NULL, churn, places + i * PLACES) == 0);
    }
    (void)churn(places);
    return 1;
}

static void test_many_threads_are_killed(void **state) {
    (void)state;
    places = sharena_calloc(heap, (size_t)CROWD * PLACES, sizeof(void *));
    for (int round = 0; round < 10; round++) {
        memset(facts, 0, sizeof(*facts));
        pid_t pid = child_start(churn_with_many, NULL);
        assert_true(section_await(&facts->is_ready, CROWD));
        crowd_kill(pid);
        assert_null(section_use_all(heap)); /* may reap */
        (void)sharena_reap(heap);
        uint64_t known = 1;
        for (int i = 0; i < CROWD * PLACES; i++) {
            known += places[i] != NULL;
        }
        section_check(heap, known); /* not one is missing */
        for (int i = 0; i < CROWD * PLACES; i++) {
            assert_int_equal(sharena_free_from(heap, &places[i]), 0);
        }
        section_check(heap, 1);
    }
    sharena_free(heap, places);
}

/* ---- cancelled ---- */

/* Whatever it was in is done to the end. */
/* The sanitizer does not see that a cancelled thread leaves this frame. */
__attribute__((no_sanitize_address)) static void *use_until_cancelled(void *arg) {
    (void)arg;
    (void)atomic_fetch_add(&facts->is_ready, 1);
    for (;;) {
        sharena_t *same;
        struct sharena_report report;
        void *block = sharena_malloc(heap, 3000);
        int error = sharena_open(path, section_options(), &same);
        error = error != 0 ? error : sharena_check(same, &report);
        (void)sharena_reap(heap);
        error = error != 0 ? error : sharena_unlink(path) != EBUSY;
        (void)sharena_purge(heap);
        error = error != 0 ? error : sharena_close(same);
        sharena_free(heap, block);
        if (error != 0) {
            return (void *)(intptr_t)1;
        }
        pthread_testcancel();
    }
}

static int count_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        int copy = dup(fd);
        count += copy >= 0;
        (void)close(copy);
    }
    return count;
}

static void test_cancelled_threads(void **state) {
    (void)state;
    int descriptors = count_descriptors();
    for (int round = 0; round < 100; round++) {
        pthread_t threads[3];
        atomic_store(&facts->is_ready, 0);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, use_until_cancelled, NULL), 0);
        }
        assert_true(section_await(&facts->is_ready, 3));
        crowd_sleep_us(round * 53);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pthread_cancel(threads[i]), 0);
        }
        for (int i = 0; i < 3; i++) {
            void *result;
            assert_int_equal(pthread_join(threads[i], &result), 0);
            assert_ptr_equal(result, PTHREAD_CANCELED);
        }
        assert_int_equal(sharena_reap(heap), 0); /* they ended in order */
        assert_null(section_use_all(heap));
        assert_int_equal(child_wait(child_start(waiters_use_in_process, heap)), 0);
        (void)sharena_reap(heap);
        section_check(heap, 0);
    }
    assert_int_equal(count_descriptors(), descriptors);
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    facts = crowd_memory(sizeof(*facts));
    (void)alarm(240); /* a hang is a failure */
    const struct CMUnitTest tests[] = {
        with_heap(test_waiters_go_on_when_a_thread_ends),
        with_heap(test_its_process_reaps),
        with_heap(test_another_process_reaps),
        with_heap(test_close_with_a_dead_thread),
        with_heap(test_process_ends_with_threads_inside),
        with_heap(test_many_threads_are_killed),
        with_heap(test_cancelled_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
