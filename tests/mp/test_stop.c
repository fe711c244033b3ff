/* test_stop.c -- a process that is stopped is alive: nothing is taken from it, and it goes on afterwards. */
#include "crowd.h"

enum { BLOCKS = 500, STOPS = 20 };

struct facts { /* shared, not in a heap */
    atomic_int is_ready;
    atomic_int is_over;
    atomic_uint_fast64_t steps;
};

static char path[SCRATCH_MAX];
static sharena_t *heap;
static struct facts *facts;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open_with(scratch_path(path, "stop"), NULL);
    memset(facts, 0, sizeof(*facts));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    (void)sharena_reap(heap);
    clean_end(heap, path, 0);
    return 0;
}

static void stop(pid_t pid) {
    int status;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

/* Rests with blocks of its own, and others in its cache. */
static int hold_blocks(void *arg) {
    void *blocks[BLOCKS];
    void *cached[100];
    (void)arg;
    REQUIRE(sharena_malloc_batch(heap, 300, BLOCKS, blocks) == BLOCKS);
    REQUIRE(sharena_malloc_batch(heap, 64, 100, cached) == 100);
    sharena_free_batch(heap, 100, cached);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        clean_fill(blocks[i], 300, i);
    }
    void *newest = cached[99];
    atomic_store(&facts->is_ready, 1);
    while (!atomic_load(&facts->is_over)) {
        crowd_sleep_us(200);
    }
    for (uint64_t i = 0; i < BLOCKS; i++) {
        REQUIRE(clean_compare(blocks[i], 300, i) == 300);
    }
    REQUIRE(sharena_malloc(heap, 64) == newest); /* its cache is as it was */
    sharena_free(heap, newest);
    sharena_free_batch(heap, BLOCKS, blocks);
    return sharena_close(heap);
}

static void test_a_stopped_process_keeps_what_it_has(void **state) {
    (void)state;
    struct sharena_report before;
    struct sharena_report after;
    pid_t pid = child_start(hold_blocks, NULL);
    while (!atomic_load(&facts->is_ready)) {
        crowd_sleep_us(200);
    }
    assert_int_equal(sharena_check(heap, &before), 0);
    assert_int_equal(before.blocks_live, BLOCKS);
    assert_true(before.blocks_cached >= 100);
    stop(pid);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(sharena_reap(heap), 0);
    }
    assert_refused(sharena_unlink(path), EBUSY, "in use");
    assert_int_equal(sharena_check(heap, &after), 0); /* it rests outside of all locks */
    assert_int_equal(after.blocks_live, before.blocks_live);
    assert_int_equal(after.blocks_cached, before.blocks_cached);
    void *own[BLOCKS];
    assert_int_equal(sharena_malloc_batch(heap, 300, BLOCKS, own), BLOCKS);
    for (int i = 0; i < BLOCKS; i++) {
        memset(own[i], 0xff, 300);
    }
    sharena_free_batch(heap, BLOCKS, own);
    atomic_store(&facts->is_over, 1);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(child_wait(pid), 0);
}

/* Works on a place in the heap by steps that a reaper would settle, were it dead. */
static int churn(void *arg) {
    void **places = arg;
    uint64_t random = 3;
    atomic_store(&facts->is_ready, 1);
    while (!atomic_load(&facts->is_over)) {
        void **place = &places[clean_random(&random) % 64];
        size_t bytes = 8 + clean_random(&random) % 30000;
        REQUIRE((*place == NULL ? sharena_malloc_to(heap, bytes, place)
                                : sharena_free_from(heap, place)) == 0);
        (void)atomic_fetch_add(&facts->steps, 1);
    }
    for (int i = 0; i < 64; i++) {
        REQUIRE(sharena_free_from(heap, &places[i]) == 0);
    }
    return sharena_close(heap);
}

/* Stopped anywhere, perhaps in a section or a pending step: it is waited for, not robbed. */
static void test_stopped_at_any_instant(void **state) {
    (void)state;
    void **places = sharena_calloc(heap, 64, sizeof(void *));
    pid_t pid = child_start(churn, places);
    while (!atomic_load(&facts->is_ready)) {
        crowd_sleep_us(200);
    }
    for (int i = 0; i < STOPS; i++) {
        uint64_t before = atomic_load(&facts->steps);
        crowd_sleep_us(500 + i * 77);
        stop(pid);
        assert_int_equal(sharena_reap(heap), 0);
        assert_int_equal(kill(pid, SIGCONT), 0);
        for (int waits = 0; atomic_load(&facts->steps) < before + 100 && waits < 5000; waits++) {
            crowd_sleep_us(1000);
        }
        assert_true(atomic_load(&facts->steps) >= before + 100);
        if (sharena_check(heap, NULL) != 0) {
            fail_msg("%s", sharena_errormsg());
        }
    }
    atomic_store(&facts->is_over, 1);
    assert_int_equal(child_wait(pid), 0);
    sharena_free(heap, places);
}

/* Killed while it is stopped: now it is dead. */
static void test_killed_while_stopped(void **state) {
    (void)state;
    pid_t pid = child_start(hold_blocks, NULL);
    while (!atomic_load(&facts->is_ready)) {
        crowd_sleep_us(200);
    }
    stop(pid);
    assert_int_equal(sharena_reap(heap), 0);
    crowd_kill(pid);
    assert_int_equal(sharena_reap(heap), 1);
    struct sharena_report report;
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_live, BLOCKS); /* the application's, whoever that is now */
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(sharena_unlink(path), 0);
    heap = clean_open_with(path, NULL);
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    facts = crowd_memory(sizeof(*facts));
    (void)alarm(120);
    const struct CMUnitTest tests[] = {
        with_heap(test_a_stopped_process_keeps_what_it_has),
        with_heap(test_stopped_at_any_instant),
        with_heap(test_killed_while_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
