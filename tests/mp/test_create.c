/* test_create.c -- processes that create, open, empty and remove one path at once. */
#include <fcntl.h>
#include <sys/stat.h>

#include "crowd.h"

enum { PROCESSES = 4, ROUNDS = 100 };

static char path[SCRATCH_MAX];
static const struct sharena_options small = {.capacity_bytes = GIB};
static const struct sharena_options exclusive = {.flags = SHARENA_CREATE | SHARENA_EXCL,
                                                 .capacity_bytes = GIB};

struct race { /* shared, not in a heap */
    atomic_int gates[3];
    sharena_t *heaps[PROCESSES];
    int errors[PROCESSES];
    unsigned long long inodes[PROCESSES];
    int is_exclusive;
    int delay_us;
};
static struct race *race;

static int count_up(void *ptr, void *arg) {
    (void)arg;
    atomic_store((atomic_int *)ptr, 100);
    return 0;
}

static int racer(void *arg) {
    intptr_t index = (intptr_t)arg;
    struct stat status;
    sharena_t *heap = NULL;
    crowd_meet(&race->gates[0], PROCESSES);
    int error = sharena_open(path, race->is_exclusive ? &exclusive : &small, &heap);
    race->errors[index] = error;
    race->heaps[index] = heap;
    REQUIRE(error == 0 || (race->is_exclusive && error == EEXIST));
    crowd_meet(&race->gates[1], PROCESSES);
    if (error == 0) {
        atomic_int *count = sharena_root_create(heap, "count", sizeof(*count), count_up, NULL);
        REQUIRE(count != NULL);
        atomic_fetch_add(count, 1);
        REQUIRE(stat(path, &status) == 0);
        race->inodes[index] = status.st_ino;
    }
    crowd_meet(&race->gates[2], PROCESSES);
    REQUIRE(error != 0 || sharena_close(heap) == 0);
    return 0;
}

static void run_race(int is_exclusive) {
    pid_t pids[PROCESSES];
    for (int round = 0; round < ROUNDS; round++) {
        memset(race, 0, sizeof(*race));
        race->is_exclusive = is_exclusive;
        scratch_path(path, "create");
        for (intptr_t i = 0; i < PROCESSES; i++) {
            pids[i] = child_start(racer, (void *)i);
        }
        crowd_wait(pids, PROCESSES);
        int winners = 0;
        sharena_t *made = NULL;
        for (int i = 0; i < PROCESSES; i++) {
            winners += race->errors[i] == 0;
            made = race->heaps[i] != NULL ? race->heaps[i] : made;
        }
        assert_int_equal(winners, is_exclusive ? 1 : PROCESSES);
        sharena_t *heap = clean_open(path);
        for (int i = 0; i < PROCESSES; i++) {
            assert_true(race->heaps[i] == NULL || race->heaps[i] == heap);
        }
        assert_ptr_equal(heap, made);
        atomic_int *count = sharena_root_get(heap, "count");
        assert_non_null(count);
        assert_int_equal(atomic_load(count), 100 + winners);
        clean_end(heap, path, 1);
    }
}

static void test_all_get_one_heap(void **state) {
    (void)state;
    run_race(0);
}

static void test_one_wins_exclusively(void **state) {
    (void)state;
    run_race(1);
}

/* ---- open, use, close, unlink in a loop: whoever is attached has the heap that the path names ---- */

static int come_and_go(void *arg) {
    uint64_t random = (uintptr_t)arg + 77;
    crowd_meet(&race->gates[0], PROCESSES);
    for (int i = 0; i < 150; i++) {
        sharena_t *heap;
        sharena_t *same;
        int error = sharena_open(path, &small, &heap);
        REQUIRE(error == 0);
        void *block = sharena_malloc(heap, 100);
        REQUIRE(block != NULL);
        REQUIRE(sharena_open(path, &small, &same) == 0); /* by name again: the same one */
        REQUIRE(same == heap);
        REQUIRE(sharena_close(same) == 0);
        sharena_free(heap, block);
        REQUIRE(sharena_close(heap) == 0);
        if (clean_random(&random) % 2) {
            error = sharena_unlink(path);
            REQUIRE(error == 0 || error == EBUSY || error == ENOENT || error == EUCLEAN);
        } else if (clean_random(&random) % 2) {
            struct sharena_options truncate = {.flags = SHARENA_CREATE | SHARENA_TRUNCATE,
                                               .capacity_bytes = GIB};
            error = sharena_open(path, &truncate, &heap);
            REQUIRE(error == 0 || error == EBUSY);
            REQUIRE(error != 0 || sharena_close(heap) == 0);
        }
    }
    return 0;
}

static void test_create_against_unlink(void **state) {
    (void)state;
    pid_t pids[PROCESSES];
    memset(race, 0, sizeof(*race));
    scratch_path(path, "create");
    for (intptr_t i = 0; i < PROCESSES; i++) {
        pids[i] = child_start(come_and_go, (void *)i);
    }
    crowd_wait(pids, PROCESSES);
    sharena_t *heap = clean_open(path);
    clean_end(heap, path, 0);
}

/* ---- creators that are killed ---- */

static int create_and_use(void *arg) {
    sharena_t *heap;
    (void)arg;
    REQUIRE(sharena_open(path, &small, &heap) == 0);
    REQUIRE(sharena_malloc(heap, 100) != NULL);
    (void)pause();
    return 1;
}

/* Whatever the dead left is not taken for a heap, or is a whole one. */
static void test_killed_creators(void **state) {
    (void)state;
    int heaps_found = 0;
    for (int round = 0; round < 150; round++) {
        scratch_path(path, "create");
        pid_t pid = child_start(create_and_use, NULL);
        for (volatile int spin = 0; spin < round * 3000; spin++) {
        }
        (void)sched_yield();
        crowd_kill(pid);
        struct sharena_options look = {.flags = SHARENA_OPEN_ONLY};
        sharena_t *heap;
        int error = sharena_open(path, &look, &heap);
        assert_true(error == 0 || error == ENOENT || error == EUCLEAN);
        heaps_found += error == 0;
        if (error != 0) {
            heap = clean_open(path); /* begins anew */
        }
        struct sharena_report report;
        if (sharena_check(heap, &report) != 0) {
            fail_msg("%s", sharena_errormsg());
        }
        assert_true(report.blocks_live <= 1);
        void *block = sharena_malloc(heap, 1000);
        assert_non_null(block);
        sharena_free(heap, block);
        assert_int_equal(sharena_close(heap), 0);
        assert_int_equal(sharena_unlink(path), 0);
    }
    print_message("%d of 150 creators had finished\n", heaps_found);
}

/* ---- unlink ---- */

static int hold(void *arg) {
    sharena_t *heap;
    const struct sharena_options *options = arg;
    REQUIRE(sharena_open(path, options, &heap) == 0);
    atomic_store(&race->gates[0], 1);
    while (atomic_load(&race->gates[1]) == 0) {
        crowd_sleep_us(100);
    }
    return atomic_load(&race->gates[1]) == 1 ? sharena_close(heap) : 0;
}

/* Busy while another process is attached; not when it has closed, exited or was killed. */
static void test_unlink_while_attached_elsewhere(void **state) {
    (void)state;
    static const struct sharena_options readonly = {.flags = SHARENA_READONLY};
    for (int way = 0; way < 6; way++) {
        memset(race, 0, sizeof(*race));
        scratch_path(path, "create");
        assert_int_equal(sharena_close(clean_open(path)), 0);
        pid_t pid = child_start(hold, (void *)(uintptr_t)(way < 3 ? &small : &readonly));
        while (atomic_load(&race->gates[0]) == 0) {
            crowd_sleep_us(100);
        }
        assert_refused(sharena_unlink(path), EBUSY, "in use");
        assert_int_equal(access(path, F_OK), 0);
        if (way % 3 == 2) {
            crowd_kill(pid);
        } else {
            atomic_store(&race->gates[1], way % 3 + 1);
            assert_int_equal(child_wait(pid), 0);
        }
        assert_int_equal(sharena_unlink(path), 0);
        assert_int_equal(access(path, F_OK), -1);
    }
}

int main(void) {
    race = crowd_memory(sizeof(*race));
    (void)alarm(120);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_get_one_heap),
        cmocka_unit_test(test_one_wins_exclusively),
        cmocka_unit_test(test_create_against_unlink),
        cmocka_unit_test(test_killed_creators),
        cmocka_unit_test(test_unlink_while_attached_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
