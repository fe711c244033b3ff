/* test_roots.c -- processes race to make a root: it is made once, also when its makers are killed. */
#include "crowd.h"

enum { PROCESSES = 8, ROUNDS = 40 };

struct object {
    atomic_int inits;
    atomic_int users;
    int filler[100];
};

struct race { /* shared, not in a heap */
    atomic_int gates[ROUNDS];
    atomic_int deaths; /* makers still to be killed in init() */
    atomic_int calls;
    atomic_int refusals;
};

static char path[SCRATCH_MAX];
static sharena_t *heap;
static struct race *race;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open_with(scratch_path(path, "roots"), NULL);
    memset(race, 0, sizeof(*race));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    (void)sharena_reap(heap);
    clean_end(heap, path, 0);
    return 0;
}

static void name_of(char name[32], int round) {
    (void)snprintf(name, 32, "object-%d", round);
}

static int init_object(void *ptr, void *arg) {
    struct object *object = ptr;
    (void)arg;
    if (!clean_is_zero(object, sizeof(*object))) {
        return EBADMSG;
    }
    atomic_fetch_add(&race->calls, 1);
    object->filler[0] = 1;
    if (atomic_fetch_sub(&race->deaths, 1) > 0) {
        crowd_sleep_us(500); /* until others wait for it */
        (void)kill(getpid(), SIGKILL);
    }
    if (atomic_fetch_sub(&race->refusals, 1) > 0) {
        return ECANCELED;
    }
    crowd_sleep_us(200);
    for (int i = 0; i < 100; i++) {
        object->filler[i] = i;
    }
    atomic_fetch_add(&object->inits, 1);
    return 0;
}

static int use_object(int round) {
    char name[32];
    struct object *object;
    name_of(name, round);
    do {
        object = sharena_root_create(heap, name, sizeof(*object), init_object, NULL);
    } while (object == NULL && errno == ECANCELED);
    REQUIRE(object != NULL);
    REQUIRE(atomic_load(&object->inits) == 1);
    for (int i = 0; i < 100; i++) {
        REQUIRE(object->filler[i] == i);
    }
    REQUIRE(sharena_root_get(heap, name) == object);
    atomic_fetch_add(&object->users, 1);
    return 0;
}

static int race_through(void *arg) {
    (void)arg;
    for (int round = 0; round < ROUNDS; round++) {
        crowd_meet(&race->gates[round], PROCESSES);
        REQUIRE(use_object(round) == 0);
    }
    return 0;
}

static void end_object(int round, int users) {
    char name[32];
    name_of(name, round);
    struct object *object = sharena_root_get(heap, name);
    assert_non_null(object);
    assert_int_equal(atomic_load(&object->inits), 1);
    assert_int_equal(atomic_load(&object->users), users);
    assert_int_equal(sharena_root_set(heap, name, NULL), 0);
    sharena_free(heap, object);
}

static void test_made_once(void **state) {
    (void)state;
    pid_t pids[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = child_start(race_through, NULL);
    }
    crowd_wait(pids, PROCESSES);
    assert_int_equal(atomic_load(&race->calls), ROUNDS);
    for (int round = 0; round < ROUNDS; round++) {
        end_object(round, PROCESSES);
    }
}

static int race_once(void *arg) {
    intptr_t round = (intptr_t)arg;
    crowd_meet(&race->gates[round], PROCESSES);
    return use_object((int)round);
}

/* The first makers die in init(), up to all but one. */
static void test_makers_are_killed(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[PROCESSES];
        int deaths = round % PROCESSES;
        int killed = 0;
        atomic_store(&race->deaths, deaths);
        atomic_store(&race->calls, 0);
        for (int i = 0; i < PROCESSES; i++) {
            pids[i] = child_start(race_once, (void *)(intptr_t)round);
        }
        for (int i = 0; i < PROCESSES; i++) {
            int status = child_wait(pids[i]);
            killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
            assert_true(WIFSIGNALED(status) || status == 0);
        }
        assert_int_equal(killed, deaths);
        assert_int_equal(atomic_load(&race->calls), deaths + 1);
        (void)sharena_reap(heap);
        clean_check(heap, 1); /* the blocks of the dead makers are free */
        end_object(round, PROCESSES - deaths);
    }
}

/* init() that fails frees the block; the next one tries. */
static void test_makers_give_up(void **state) {
    (void)state;
    pid_t pids[PROCESSES];
    atomic_store(&race->refusals, 5);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = child_start(race_once, NULL);
    }
    crowd_wait(pids, PROCESSES);
    assert_int_equal(atomic_load(&race->calls), 6);
    (void)sharena_reap(heap);
    clean_check(heap, 1);
    end_object(0, PROCESSES);
}

/* The last maker dies, all are gone: whoever opens the file next begins anew. */
static int make_and_die(void *arg) {
    (void)arg;
    REQUIRE(sharena_open(path, NULL, &heap) == 0);
    return sharena_root_create(heap, "object-0", sizeof(struct object), init_object, NULL) == NULL;
}

static void test_cold_open_after_a_killed_maker(void **state) {
    (void)state;
    assert_int_equal(sharena_close(heap), 0);
    for (int i = 0; i < 10; i++) {
        atomic_store(&race->deaths, 1);
        int status = child_wait(child_start(make_and_die, NULL));
        assert_true(WIFSIGNALED(status));
    }
    heap = clean_open(path);
    assert_null(sharena_root_get(heap, "object-0"));
    assert_refused(sharena_root_set(heap, "object-0", NULL), EBUSY, "being made");
    assert_int_equal(use_object(0), 0);
    clean_check(heap, 1);
    end_object(0, 1);
}

/* Names come and go in all processes; what is found is what somebody set. */
static int set_and_get(void *arg) {
    uint64_t random = (uintptr_t)arg;
    for (int i = 0; i < 20000; i++) {
        char name[32];
        name_of(name, (int)(clean_random(&random) % 10));
        if (clean_random(&random) % 3 == 0) {
            int *block = sharena_root_get(heap, "object-0");
            REQUIRE(sharena_root_set(heap, name, block) == 0);
        } else {
            const int *block = sharena_root_get(heap, name);
            REQUIRE(block == NULL || *block == 4711);
            REQUIRE(block != NULL || errno == ENOENT);
        }
    }
    return 0;
}

static void test_set_and_get_by_all(void **state) {
    (void)state;
    pid_t pids[4];
    int *block = sharena_malloc(heap, sizeof(int));
    *block = 4711;
    assert_int_equal(sharena_root_set(heap, "object-0", block), 0);
    for (uintptr_t i = 0; i < 4; i++) {
        pids[i] = child_start(set_and_get, (void *)i);
    }
    crowd_wait(pids, 4);
    for (int i = 0; i < 10; i++) {
        char name[32];
        name_of(name, i);
        assert_int_equal(sharena_root_set(heap, name, NULL), 0);
    }
    sharena_free(heap, block);
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    race = crowd_memory(sizeof(*race));
    (void)alarm(120);
    const struct CMUnitTest tests[] = {
        with_heap(test_made_once),          with_heap(test_makers_are_killed),
        with_heap(test_makers_give_up),     with_heap(test_cold_open_after_a_killed_maker),
        with_heap(test_set_and_get_by_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
