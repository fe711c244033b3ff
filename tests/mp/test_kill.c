/* test_kill.c -- SIGKILL at any instant of alloc/free loops: survivors go on, the heap is clean, and what
 * was lost is at most one block per killed thread, none with malloc_to and free_from.
 */
#include <pthread.h>

#include "crowd.h"

enum { KILLS = 50, THREADS = 2, PLACES = 256, SURVIVORS = 2 };

struct places { /* in the heap: all blocks that the application knows */
    void *of_victims[THREADS][PLACES];
};

struct signals { /* shared, not in a heap */
    atomic_int started;
    atomic_int is_over;
    atomic_uint_fast64_t steps[SURVIVORS];
};

static char path[SCRATCH_MAX];
static sharena_t *heap;
static struct places *places;
static struct signals *signals;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open_with(scratch_path(path, "kill"), NULL);
    places = sharena_root_create(heap, "places", sizeof(*places), NULL, NULL);
    assert_non_null(places);
    memset(signals, 0, sizeof(*signals));
    return 0;
}

static int remove_heap(void **state) {
    (void)state;
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(sharena_unlink(path), 0);
    return 0;
}

/* ---- victims ---- */

static size_t draw_bytes(uint64_t *random) {
    uint64_t draw = clean_random(random) % 1000;
    size_t most = draw < 900 ? 600 : draw < 990 ? 20000 : draw < 999 ? 300000 : 3 * MIB;
    return 8 + clean_random(random) % most;
}

/* Between malloc and the store, and between the store and free, a block is known to nobody. */
static void *churn(void *arg) {
    void **mine = arg;
    uint64_t random = (uint64_t)getpid() * 31 + (uintptr_t)arg;
    (void)atomic_fetch_add(&signals->started, 1);
    for (;;) {
        void *volatile *place = &mine[clean_random(&random) % PLACES];
        if (*place == NULL) {
            *place = sharena_malloc(heap, draw_bytes(&random));
        } else {
            void *block = *place;
            *place = NULL;
            sharena_free(heap, block);
        }
    }
    return NULL;
}

static void *churn_published(void *arg) {
    void **mine = arg;
    uint64_t random = (uint64_t)getpid() * 37 + (uintptr_t)arg;
    (void)atomic_fetch_add(&signals->started, 1);
    for (;;) {
        void **place = &mine[clean_random(&random) % PLACES];
        int error = *(void *volatile *)place == NULL
                        ? sharena_malloc_to(heap, draw_bytes(&random), place)
                        : sharena_free_from(heap, place);
        if (error != 0) {
            abort();
        }
    }
    return NULL;
}

static int be_victim(void *arg) {
    void *(*body)(void *) = *(void *(**)(void *))arg;
    pthread_t thread;
    sharena_t *own = NULL;
    REQUIRE(sharena_open(path, NULL, &own) == 0);
    heap = own;
    places = sharena_root_get(heap, "places");
    REQUIRE(pthread_create(&thread, NULL, body, places->of_victims[1]) == 0);
    (void)body(places->of_victims[0]);
    return 1;
}

static void kill_a_victim(void *(*body)(void *), int kill_number) {
    atomic_store(&signals->started, 0);
    pid_t pid = child_start(be_victim, &body);
    while (atomic_load(&signals->started) < THREADS) {
        (void)sched_yield();
    }
    crowd_sleep_us(200 + kill_number * 137 % 4000);
    crowd_kill(pid);
}

static uint64_t count_known(void) {
    uint64_t known = 0;
    for (int i = 0; i < THREADS * PLACES; i++) {
        known += places->of_victims[i / PLACES][i % PLACES] != NULL;
    }
    return known;
}

static void free_known(void) {
    for (int i = 0; i < THREADS * PLACES; i++) {
        void **place = &places->of_victims[i / PLACES][i % PLACES];
        if (*place != NULL) {
            memset(*place, 0xdd, 8); /* it is really there */
        }
        assert_int_equal(sharena_free_from(heap, place), 0);
    }
}

static uint64_t check_live(void) {
    struct sharena_report report;
    if (sharena_check(heap, &report) != 0) {
        fail_msg("%s", sharena_errormsg());
    }
    return report.blocks_live;
}

/* ---- with a survivor that rests: what is reaped can be told exactly ---- */

static void test_slots_and_caches_come_back(void **state) {
    (void)state;
    struct sharena_report report;
    uint64_t lost = 0;
    for (int i = 0; i < KILLS; i++) {
        kill_a_victim(churn, i);
        assert_int_equal(sharena_reap(heap), THREADS);
        assert_int_equal(sharena_reap(heap), 0);
        uint64_t live = check_live();
        uint64_t known = count_known() + 1; /* and the places themselves */
        assert_true(live >= known + lost);
        assert_true(live <= known + lost + THREADS); /* at most one in flight per thread */
        lost = live - known;
        free_known();
        assert_int_equal(check_live(), 1 + lost);
    }
    assert_int_equal(sharena_purge(heap), 0);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_cached, 0); /* nothing stayed in the caches of the dead */
    assert_int_equal(report.pages_dirty, 0);
    print_message("%d kills of %d threads lost %llu blocks\n", KILLS, THREADS,
                  (unsigned long long)lost);
}

static void test_published_blocks_are_never_lost(void **state) {
    (void)state;
    for (int i = 0; i < KILLS; i++) {
        kill_a_victim(churn_published, i);
        assert_int_equal(sharena_reap(heap), THREADS);
        assert_int_equal(check_live(), count_known() + 1);
        if (i % 3 == 0) {
            free_known();
            assert_int_equal(check_live(), 1);
        }
    }
    free_known();
    assert_int_equal(check_live(), 1);
}

/* ---- with survivors that work ---- */

static int be_survivor(void *arg) {
    intptr_t index = (intptr_t)arg;
    uint64_t random = (uint64_t)index + 5;
    void *blocks[PLACES] = {NULL};
    size_t bytes[PLACES] = {0};
    while (!atomic_load(&signals->is_over)) {
        size_t at = clean_random(&random) % PLACES;
        size_t some = bytes[at] < 64 ? bytes[at] : 64;
        REQUIRE(blocks[at] == NULL || clean_compare(blocks[at], some, at) == some);
        sharena_free(heap, blocks[at]);
        bytes[at] = draw_bytes(&random);
        blocks[at] = sharena_malloc(heap, bytes[at]);
        REQUIRE(blocks[at] != NULL);
        clean_fill(blocks[at], bytes[at] < 64 ? bytes[at] : 64, at);
        (void)atomic_fetch_add(&signals->steps[index], 1);
    }
    sharena_free_batch(heap, PLACES, blocks);
    return 0;
}

/* Each survivor makes its steps within a second of every kill. */
static void assert_survivors_go_on(void) {
    for (int i = 0; i < SURVIVORS; i++) {
        uint64_t before = atomic_load(&signals->steps[i]);
        int waits = 0;
        while (atomic_load(&signals->steps[i]) < before + 100 && waits < 1000) {
            crowd_sleep_us(1000);
            waits++;
        }
        assert_true(atomic_load(&signals->steps[i]) >= before + 100);
    }
}

static void test_survivors_go_on(void **state) {
    (void)state;
    pid_t survivors[SURVIVORS];
    uint64_t most_lost = 0;
    for (intptr_t i = 0; i < SURVIVORS; i++) {
        survivors[i] = child_start(be_survivor, (void *)i);
    }
    for (int i = 0; i < KILLS; i++) {
        kill_a_victim(i % 2 ? churn : churn_published, i);
        assert_survivors_go_on();
        (void)sharena_reap(heap); /* a survivor may have been faster */
        assert_int_equal(sharena_reap(heap), 0);
        most_lost += i % 2 ? THREADS : 0;
        (void)check_live();
        free_known();
    }
    atomic_store(&signals->is_over, 1);
    crowd_wait(survivors, SURVIVORS);
    (void)sharena_reap(heap);
    uint64_t live = check_live();
    assert_in_range(live, 1, 1 + most_lost);
}

/* Several at once, reaped by several at once, some of which are killed as well. */
static int be_reaper(void *arg) {
    (void)arg;
    for (;;) {
        (void)sharena_reap(heap);
    }
    return 1;
}

static void test_killed_reapers(void **state) {
    (void)state;
    for (int i = 0; i < KILLS / 2; i++) {
        void *(*body)(void *) = churn_published;
        pid_t reapers[2];
        atomic_store(&signals->started, 0);
        pid_t victim = child_start(be_victim, &body);
        while (atomic_load(&signals->started) < THREADS) {
            (void)sched_yield();
        }
        for (int j = 0; j < 2; j++) {
            reapers[j] = child_start(be_reaper, NULL);
        }
        crowd_sleep_us(300);
        crowd_kill(victim);
        crowd_sleep_us(i * 7);
        crowd_kill(reapers[0]);
        crowd_kill(reapers[1]);
        (void)sharena_reap(heap);
        assert_int_equal(sharena_reap(heap), 0);
        assert_int_equal(check_live(), count_known() + 1);
        free_known();
    }
}

/* ---- all killed: the next open recovers the heap ---- */

static void test_all_are_killed(void **state) {
    (void)state;
    for (int i = 0; i < KILLS; i++) {
        void *(*body)(void *) = churn_published;
        void *const before = heap;
        assert_int_equal(sharena_close(heap), 0);
        atomic_store(&signals->started, 0);
        pid_t first = child_start(be_victim, &body);
        while (atomic_load(&signals->started) < THREADS) {
            (void)sched_yield();
        }
        crowd_sleep_us(100 + i * 61);
        crowd_kill(first);
        heap = clean_open(path); /* cold: nobody was attached */
        assert_ptr_equal(heap, before);
        assert_int_equal(check_live(), count_known() + 1);
        assert_int_equal(sharena_reap(heap), 0); /* attaching did it */
        free_known();
        assert_int_equal(check_live(), 1);
    }
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, remove_heap)

int main(void) {
    signals = crowd_memory(sizeof(*signals));
    (void)alarm(120);
    const struct CMUnitTest tests[] = {
        with_heap(test_slots_and_caches_come_back),
        with_heap(test_published_blocks_are_never_lost),
        with_heap(test_survivors_go_on),
        with_heap(test_killed_reapers),
        with_heap(test_all_are_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
