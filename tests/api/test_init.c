/* test_init.c -- the first calls of a process race: initialisation happens once, and all get one heap. */
/* ctest: inprocess */
#include <pthread.h>

#include "clean_heap.h"

enum { THREADS = 8 };

static char path[SCRATCH_MAX];
static pthread_barrier_t barrier;

struct opener {
    pthread_t thread;
    sharena_t *heap;
    int error;
    int allocated;
};

static void *open_first(void *arg) {
    struct opener *opener = arg;
    const struct sharena_options options = clean_options();
    (void)pthread_barrier_wait(&barrier);
    opener->error = sharena_open(path, &options, &opener->heap);
    if (opener->error == 0) {
        void *block = sharena_malloc(opener->heap, 100);
        opener->allocated = block != NULL;
        sharena_free(opener->heap, block);
    }
    return NULL;
}

/* Must be the first test of the program: nothing of the library was called before. */
static void test_first_opens_race(void **state) {
    (void)state;
    struct opener openers[THREADS] = {0};
    (void)scratch_path(path, "init");
    assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&openers[i].thread, NULL, open_first, &openers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(openers[i].thread, NULL), 0);
        assert_int_equal(openers[i].error, 0);
        assert_ptr_equal(openers[i].heap, openers[0].heap);
        assert_true(openers[i].allocated);
    }
    assert_int_equal(sharena_check(openers[0].heap, NULL), 0);
    for (int i = 0; i < THREADS; i++) { /* each open was counted */
        assert_int_equal(sharena_close(openers[i].heap), 0);
    }
    assert_int_equal(sharena_close(openers[0].heap), EINVAL);
    assert_int_equal(sharena_unlink(path), 0);
    (void)pthread_barrier_destroy(&barrier);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_opens_race)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
