/* test_prof.c -- processes and threads that profile, beside others that do not. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "clean_heap.h"

static char path[SCRATCH_MAX];

static sharena_t *open_as(const char *conf) {
    const struct sharena_options options = {.capacity_bytes = GIB, .conf = conf};
    sharena_t *heap;
    if (sharena_open(path, &options, &heap) != 0) {
        fail_msg("no heap: %s", sharena_errormsg());
    }
    return heap;
}

static size_t samples(sharena_t *heap) {
    size_t value = 0;
    size_t length = sizeof(value);
    assert_int_equal(sharena_ctl(heap, "prof.samples", &value, &length, NULL, 0), 0);
    return value;
}

static int set_active(sharena_t *heap, bool active) {
    return sharena_ctl(heap, "prof.active", NULL, NULL, &active, sizeof(active));
}

static bool is_active(sharena_t *heap) {
    bool active = false;
    size_t length = sizeof(active);
    assert_int_equal(sharena_ctl(heap, "prof.active", &active, &length, NULL, 0), 0);
    return active;
}

static void end(sharena_t *heap) {
    struct sharena_report report;
    if (sharena_check(heap, &report) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
    assert_int_equal(report.blocks_live, 0);
    assert_int_equal(samples(heap), 0);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(unlink(path), 0);
}

/* ---- prof.active ---- */

static void active_by_configuration(void **state) {
    (void)state;
    (void)scratch_path(path, "prof");
    sharena_t *heap = open_as("prof:true,lg_prof_sample:0");
    assert_true(is_active(heap));
    void *sampled = sharena_malloc(heap, 100);
    assert_int_equal(samples(heap), 1);
    assert_int_equal(set_active(heap, false), 0);
    assert_false(is_active(heap));
    void *plain = sharena_malloc(heap, 100);
    assert_int_equal(samples(heap), 1);
    assert_int_equal(set_active(heap, true), 0);
    void *again = sharena_malloc(heap, 100);
    assert_int_equal(samples(heap), 2);
    sharena_free(heap, sampled);
    sharena_free(heap, plain);
    sharena_free(heap, again);
    end(heap);
}

static void never_without_it(void **state) {
    (void)state;
    (void)scratch_path(path, "prof");
    sharena_t *heap = open_as("lg_prof_sample:0");
    assert_false(is_active(heap));
    assert_refused(set_active(heap, true), EINVAL, "prof:true");
    assert_int_equal(set_active(heap, false), 0);
    sharena_free(heap, sharena_malloc(heap, 100000));
    end(heap);
}

/* ---- everybody at once ---- */

enum { THREADS = 3, BOXES = 512, STEPS = 12000 };

struct scene {
    sharena_t *heap;
    _Atomic(uint64_t *) box[BOXES];
    atomic_int failures;
};

static struct scene *scene; /* shared by all processes */

/* Blocks of all sizes go into boxes that all share; who finds one there frees it. */
static void *exchange(void *arg) {
    uint64_t random = (uintptr_t)arg;
    sharena_t *heap = scene->heap;
    for (int step = 0; step < STEPS; step++) {
        uint64_t bytes = 16 + clean_random(&random) % ((uint64_t)1 << (4 + step % 14));
        uint64_t *block = sharena_malloc(heap, bytes);
        if (block != NULL && step % 5 == 0) {
            bytes = 16 + clean_random(&random) % 60000;
            uint64_t *moved = sharena_realloc(heap, block, bytes);
            block = moved != NULL ? moved : block;
        }
        if (block == NULL) {
            (void)atomic_fetch_add(&scene->failures, 1);
            continue;
        }
        block[0] = (uint64_t)(uintptr_t)block;
        block[1] = bytes;
        uint64_t *other = atomic_exchange(&scene->box[clean_random(&random) % BOXES], block);
        if (other != NULL) {
            (void)atomic_fetch_add(&scene->failures, other[0] != (uintptr_t)other);
            sharena_free_sized(heap, other, other[1]);
        }
    }
    return NULL;
}

static int work(void *arg) {
    pthread_t threads[THREADS];
    sharena_t *heap = open_as(arg);
    REQUIRE(heap == scene->heap);
    for (uintptr_t i = 0; i < THREADS; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, exchange, (void *)(i + (uintptr_t)getpid())) ==
                0);
    }
    for (int i = 0; i < THREADS; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
    (void)sharena_close(heap);
    return 0;
}

static void profiling_beside_others(void **state) {
    (void)state;
    static char confs[3][40] = {"prof:true,lg_prof_sample:12", "", "prof:true,lg_prof_sample:0"};
    pid_t pids[3];
    (void)scratch_path(path, "prof");
    scene = mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(scene, MAP_FAILED);
    sharena_t *heap = open_as("");
    assert_int_equal(sharena_close(heap), 0); /* not attached when they are made */
    scene->heap = heap;
    for (int i = 0; i < 3; i++) {
        pids[i] = child_start(work, confs[i]);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(child_wait(pids[i]), 0);
    }
    assert_int_equal(atomic_load(&scene->failures), 0);
    heap = open_as("");
    assert_true(samples(heap) > 10);
    for (int i = 0; i < BOXES; i++) {
        sharena_free(heap, scene->box[i]);
    }
    (void)munmap(scene, sizeof(*scene));
    end(heap);
}

/* ---- roots, and blocks of the dead ---- */

static int dies_holding(void *arg) {
    (void)arg;
    sharena_t *heap = open_as("prof:true,lg_prof_sample:0");
    REQUIRE(sharena_root_create(heap, "root", 500, NULL, NULL) != NULL);
    for (int i = 0; i < 10; i++) {
        REQUIRE(sharena_malloc(heap, 5000) != NULL);
    }
    (void)raise(SIGKILL);
    return 1;
}

static void samples_outlive_their_process(void **state) {
    (void)state;
    struct sharena_report report;
    (void)scratch_path(path, "prof");
    sharena_t *heap = open_as("");
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(child_wait(child_start(dies_holding, NULL)), SIGKILL);
    heap = open_as("");
    (void)sharena_reap(heap);
    assert_int_equal(samples(heap), 11);
    void *root = sharena_root_get(heap, "root");
    assert_non_null(root);
    assert_int_equal(sharena_root_set(heap, "root", NULL), 0);
    sharena_free(heap, root);
    assert_int_equal(samples(heap), 10);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_live, 10);
    assert_int_equal(sharena_close(heap), 0);
    heap = open_as(""); /* and a cold open */
    assert_int_equal(samples(heap), 10);
    assert_int_equal(sharena_check(heap, NULL), 0);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(unlink(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(active_by_configuration),
        cmocka_unit_test(never_without_it),
        cmocka_unit_test(profiling_beside_others),
        cmocka_unit_test(samples_outlive_their_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
