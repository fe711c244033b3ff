/* test_exchange.c -- 4 processes of 2 threads free each other's blocks.
 *
 * SHARENA_TEST_OPERATIONS: mallocs and frees in all; default 10 million.
 */
#include <pthread.h>

#include "crowd.h"

enum { PROCESSES = 4, THREADS = 2, BOXES = 4096 };

struct block { /* what every block begins with */
    uint64_t bytes;
    uint64_t stamp;
};

struct boxes { /* in the heap */
    _Atomic(struct block *) box[BOXES];
};

static char path[SCRATCH_MAX];
static sharena_t *heap;
static uint64_t operations;
static atomic_int *gate;

static uint64_t stamp_of(const struct block *block) {
    return ((uint64_t)(uintptr_t)block + block->bytes) * 0x9e3779b97f4a7c15ull;
}

/* A stamp at both ends: an overlap of two blocks breaks one. */
static uint64_t *last_word(struct block *block) {
    return (uint64_t *)(void *)((char *)block + block->bytes - sizeof(uint64_t));
}

/* Mostly small, now and then large, rarely huge. */
static uint64_t random_bytes(uint64_t *random) {
    uint64_t draw = clean_random(random);
    uint64_t most = draw % 100 < 90 ? 512 : draw % 10000 < 9970 ? 16384 : 300000;
    if (draw % 1000000 == 1) {
        most = 4 * MIB;
    }
    return (sizeof(struct block) + sizeof(uint64_t) + clean_random(random) % most) / 8 * 8;
}

struct worker {
    struct boxes *boxes;
    uint64_t random;
    uint64_t steps;
    uint64_t wrong;
};

static void *work(void *arg) {
    struct worker *worker = arg;
    for (uint64_t step = 0; step < worker->steps; step++) {
        uint64_t bytes = random_bytes(&worker->random);
        struct block *block = sharena_malloc(heap, bytes);
        if (block == NULL) {
            worker->wrong += 1000000;
            break;
        }
        block->bytes = bytes;
        block->stamp = stamp_of(block);
        *last_word(block) = ~block->stamp;
        size_t at = clean_random(&worker->random) % BOXES;
        struct block *other = atomic_exchange(&worker->boxes->box[at], block);
        if (other != NULL) {
            worker->wrong += other->stamp != stamp_of(other) || *last_word(other) != ~other->stamp;
            other->stamp = 0;
            sharena_free(heap, other);
        }
    }
    return NULL;
}

/* Two inherit the heap, two open it anew; two close it, two just exit. */
static int process(void *arg) {
    uintptr_t index = (uintptr_t)arg;
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    if (index % 2) {
        REQUIRE(sharena_close(heap) == 0);
        REQUIRE(sharena_open(path, NULL, &heap) == 0);
    }
    struct boxes *boxes = sharena_root_get(heap, "boxes");
    REQUIRE(boxes != NULL);
    crowd_meet(gate, PROCESSES);
    for (uintptr_t i = 0; i < THREADS; i++) {
        uint64_t steps = operations / 2 / (PROCESSES * THREADS); /* of a malloc and a free */
        workers[i] = (struct worker){boxes, index * THREADS + i + 1, steps, 0};
        REQUIRE(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
        REQUIRE(workers[i].wrong == 0);
    }
    return index >= 2 ? sharena_close(heap) : 0;
}

static void test_exchange(void **state) {
    (void)state;
    pid_t pids[PROCESSES];
    operations = crowd_number("SHARENA_TEST_OPERATIONS", 10000000);
    gate = crowd_memory(sizeof(*gate));
    heap = clean_open_with(scratch_path(path, "exchange"), NULL);
    struct boxes *boxes = sharena_calloc(heap, 1, sizeof(*boxes));
    assert_non_null(boxes);
    assert_int_equal(sharena_root_set(heap, "boxes", boxes), 0);
    for (uintptr_t i = 0; i < PROCESSES; i++) {
        pids[i] = child_start(process, (void *)i);
    }
    for (int i = 0; i < 10; i++) { /* the proof in the middle of it */
        crowd_sleep_us(20000);
        if (sharena_check(heap, NULL) != 0) {
            fail_msg("%s", sharena_errormsg());
        }
    }
    crowd_wait(pids, PROCESSES);
    (void)sharena_reap(heap);
    uint64_t live = 1;
    for (int i = 0; i < BOXES; i++) {
        struct block *block = boxes->box[i];
        live += block != NULL;
        assert_true(block == NULL || block->stamp == stamp_of(block));
    }
    clean_check(heap, live);
    for (int i = 0; i < BOXES; i++) {
        sharena_free(heap, boxes->box[i]);
    }
    sharena_free(heap, boxes);
    assert_int_equal(sharena_root_set(heap, "boxes", NULL), 0);
    clean_end(heap, path, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
