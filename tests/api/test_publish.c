/* ctest: inprocess */
/* test_publish.c -- sharena_malloc_to and sharena_free_from, as their users see them. */
#include "clean_heap.h"

static char path[SCRATCH_MAX];
static sharena_t *heap;
static void **slots; /* pointer variables in the heap */

enum { SLOTS = 512 };

static int open_heap(void **state) {
    (void)state;
    heap = clean_open(scratch_path(path, "publish"));
    slots = sharena_calloc(heap, SLOTS, sizeof(void *));
    assert_non_null(slots);
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    sharena_free(heap, slots);
    clean_end(heap, path, 0);
    return 0;
}

static const size_t sizes[] = {0, 8, 100, 14336, 14337, 60000, 2 * MIB, 5 * MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void test_every_size(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (int round = 0; round < 3; round++) {
            assert_int_equal(sharena_malloc_to(heap, sizes[i], &slots[7]), 0);
            assert_non_null(slots[7]);
            assert_true(sharena_usable_size(heap, slots[7]) >= sizes[i]);
            clean_fill(slots[7], sharena_usable_size(heap, slots[7]), i);
            clean_check(heap, 2);
            assert_int_equal(sharena_free_from(heap, &slots[7]), 0);
            assert_null(slots[7]);
            clean_check(heap, 1);
        }
    }
}

/* They mix with malloc and free, and with caches that fill and flush on the way. */
static void test_many(void **state) {
    (void)state;
    uint64_t random = 9;
    for (int step = 0; step < 20000; step++) {
        size_t at = clean_random(&random) % SLOTS;
        size_t bytes = clean_random(&random) % 300;
        if (slots[at] == NULL) {
            if (step % 3 == 0) {
                slots[at] = sharena_malloc(heap, bytes);
            } else {
                assert_int_equal(sharena_malloc_to(heap, bytes, &slots[at]), 0);
            }
            memset(slots[at], 0x3c, bytes);
        } else if (step % 2 == 0) {
            sharena_free(heap, slots[at]);
            slots[at] = NULL;
        } else {
            assert_int_equal(sharena_free_from(heap, &slots[at]), 0);
            assert_null(slots[at]);
        }
    }
    uint64_t live = 1;
    for (int i = 0; i < SLOTS; i++) {
        live += slots[i] != NULL;
    }
    clean_check(heap, live);
    for (int i = 0; i < SLOTS; i++) {
        assert_int_equal(sharena_free_from(heap, &slots[i]), 0); /* NULL is fine */
    }
}

static void test_old_value_is_overwritten(void **state) {
    (void)state;
    void *old = sharena_malloc(heap, 10);
    slots[0] = old;
    assert_int_equal(sharena_malloc_to(heap, 10, &slots[0]), 0);
    assert_ptr_not_equal(slots[0], old);
    clean_check(heap, 3); /* not freed */
    sharena_free(heap, old);
    assert_int_equal(sharena_free_from(heap, &slots[0]), 0);
}

static void test_a_place_that_is_none(void **state) {
    (void)state;
    void *local = (void *)(uintptr_t)4711;
    void **const places[] = {NULL, &local, (void **)(void *)heap,
                             (void **)(void *)((char *)slots + 4)};
    for (size_t i = 0; i < 4; i++) {
        assert_refused(sharena_malloc_to(heap, 10, places[i]), EINVAL, "not in the heap");
        assert_refused(sharena_free_from(heap, places[i]), EINVAL, "not in the heap");
    }
    assert_ptr_equal(local, (void *)(uintptr_t)4711);
}

static void test_failure_leaves_the_place(void **state) {
    (void)state;
    slots[1] = (void *)(uintptr_t)4711;
    assert_refused(sharena_malloc_to(heap, 4 * GIB, &slots[1]), ENOMEM, "capacity");
    assert_refused(sharena_malloc_to(heap, SIZE_MAX, &slots[1]), ENOMEM, "capacity");
    assert_refused(sharena_malloc_to(heap, GIB - 2 * MIB, &slots[1]), ENOMEM, "capacity");
    assert_ptr_equal(slots[1], (void *)(uintptr_t)4711);
    slots[1] = NULL;
}

/* A list in which every link is a place: nothing is ever held outside of the heap. */
static void test_list(void **state) {
    (void)state;
    void **where = &slots[0];
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(sharena_malloc_to(heap, 16 + (size_t)i % 200, where), 0);
        void **node = *where;
        node[0] = NULL;
        where = &node[0];
    }
    clean_check(heap, 5001);
    while (slots[0] != NULL) { /* take the second, free the first, in the caller's own way */
        void *next = *(void **)slots[0];
        assert_int_equal(sharena_free_from(heap, &slots[0]), 0);
        slots[0] = next;
    }
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_every_size),
        with_heap(test_many),
        with_heap(test_old_value_is_overwritten),
        with_heap(test_a_place_that_is_none),
        with_heap(test_failure_leaves_the_place),
        with_heap(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
