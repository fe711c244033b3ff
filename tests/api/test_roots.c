/* ctest: inprocess */
/* test_roots.c -- names for objects: set, get, create once, visit all. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "clean_heap.h"

static char path[SCRATCH_MAX];
static sharena_t *heap;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open(scratch_path(path, "roots"));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

#define assert_no_root(result, error, word)                                                        \
    do {                                                                                           \
        errno = 0;                                                                                 \
        assert_null(result);                                                                       \
        assert_int_equal(errno, (error));                                                          \
        assert_says(word);                                                                         \
    } while (0)

static void test_set_get_replace_remove(void **state) {
    (void)state;
    void *a = sharena_malloc(heap, 10);
    char *b = sharena_malloc(heap, 10);
    assert_no_root(sharena_root_get(heap, "x"), ENOENT, "no root x");
    assert_int_equal(sharena_root_set(heap, "x", NULL), 0); /* nothing to remove: no error */
    assert_int_equal(sharena_root_set(heap, "x", a), 0);
    assert_ptr_equal(sharena_root_get(heap, "x"), a);
    assert_int_equal(sharena_root_set(heap, "x", b), 0);
    assert_ptr_equal(sharena_root_get(heap, "x"), b);
    assert_int_equal(sharena_root_set(heap, "y", b + 3), 0); /* into a block is fine */
    assert_ptr_equal(sharena_root_get(heap, "y"), b + 3);
    clean_check(heap, 2);
    assert_int_equal(sharena_root_set(heap, "x", NULL), 0);
    assert_no_root(sharena_root_get(heap, "x"), ENOENT, "x");
    assert_ptr_equal(sharena_root_get(heap, "y"), b + 3);
    assert_int_equal(sharena_root_set(heap, "y", NULL), 0);
    sharena_free(heap, a);
    sharena_free(heap, b);
}

static void test_names(void **state) {
    (void)state;
    char name[66];
    void *a = sharena_malloc(heap, 10);
    memset(name, 'n', sizeof(name));
    name[63] = '\0';
    assert_int_equal(sharena_root_set(heap, name, a), 0);
    assert_ptr_equal(sharena_root_get(heap, name), a);
    name[62] = '\0'; /* one that begins like it is another */
    assert_no_root(sharena_root_get(heap, name), ENOENT, "nnn");
    name[62] = 'n';
    name[63] = 'n';
    name[64] = '\0';
    assert_refused(sharena_root_set(heap, name, a), ENAMETOOLONG, "63");
    assert_refused(sharena_root_set(heap, name, NULL), ENAMETOOLONG, "63");
    assert_no_root(sharena_root_get(heap, name), ENAMETOOLONG, "63");
    assert_no_root(sharena_root_create(heap, name, 8, NULL, NULL), ENAMETOOLONG, "63");
    assert_refused(sharena_root_set(heap, "", a), EINVAL, "empty");
    assert_refused(sharena_root_set(heap, NULL, a), EINVAL, "empty");
    assert_no_root(sharena_root_get(heap, ""), EINVAL, "empty");
    assert_no_root(sharena_root_create(heap, "", 8, NULL, NULL), EINVAL, "empty");
    name[63] = '\0';
    assert_int_equal(sharena_root_set(heap, name, NULL), 0);
    static const char odd[] = "any bytes: \x01\xff\n,=%s";
    assert_int_equal(sharena_root_set(heap, odd, a), 0);
    assert_ptr_equal(sharena_root_get(heap, odd), a);
    assert_int_equal(sharena_root_set(heap, odd, NULL), 0);
    sharena_free(heap, a);
}

static void test_outside_of_the_heap(void **state) {
    (void)state;
    int local;
    void *const outside[] = {&local, heap, (char *)heap + 4096, (void *)(uintptr_t)8};
    for (size_t i = 0; i < 4; i++) {
        assert_refused(sharena_root_set(heap, "x", outside[i]), EINVAL, "not in the heap");
    }
    assert_no_root(sharena_root_get(heap, "x"), ENOENT, "x");
}

static void name_of(char *name, int i) {
    (void)snprintf(name, 32, "root-%d", i);
}

static int visit_mark(const char *name, void *ptr, void *arg) {
    int number = (int)strtol(name + 5, NULL, 10);
    ((unsigned char *)arg)[number] += *(int *)ptr == number;
    return 0;
}

static void test_as_many_as_there_can_be(void **state) {
    (void)state;
    static int *objects[SHARENA_ROOTS_MAX];
    static unsigned char seen[SHARENA_ROOTS_MAX];
    char name[32];
    for (int i = 0; i < SHARENA_ROOTS_MAX; i++) {
        name_of(name, i);
        objects[i] = sharena_malloc(heap, sizeof(int));
        *objects[i] = i;
        assert_int_equal(sharena_root_set(heap, name, objects[i]), 0);
    }
    assert_refused(sharena_root_set(heap, "one more", objects[0]), ENOSPC, "1024");
    assert_no_root(sharena_root_create(heap, "one more", 8, NULL, NULL), ENOSPC, "1024");
    assert_int_equal(sharena_root_set(heap, "root-5", objects[5]), 0); /* replacing needs none */
    assert_int_equal(sharena_root_foreach(heap, visit_mark, seen), 0);
    for (int i = 0; i < SHARENA_ROOTS_MAX; i++) {
        name_of(name, i);
        assert_int_equal(seen[i], 1);
        assert_ptr_equal(sharena_root_get(heap, name), objects[i]);
    }
    assert_int_equal(sharena_root_set(heap, "root-700", NULL), 0);
    assert_int_equal(sharena_root_set(heap, "one more", objects[700]), 0);
    assert_int_equal(sharena_root_set(heap, "one more", NULL), 0);
    for (int i = 0; i < SHARENA_ROOTS_MAX; i++) {
        name_of(name, i);
        assert_int_equal(sharena_root_set(heap, name, NULL), 0);
        sharena_free(heap, objects[i]);
    }
    memset(seen, 0, sizeof(seen));
    assert_int_equal(sharena_root_foreach(heap, visit_mark, seen), 0);
    assert_true(clean_is_zero(seen, sizeof(seen)));
}

static int visit_two(const char *name, void *ptr, void *arg) {
    int *left = arg;
    (void)ptr;
    assert_true(strlen(name) > 0);
    return --*left == 0 ? 42 : 0;
}

/* The visitor may change the roots that it visits. */
static int visit_remove(const char *name, void *ptr, void *arg) {
    (void)arg;
    assert_int_equal(sharena_root_set(heap, name, NULL), 0);
    sharena_free(heap, ptr);
    return 0;
}

static void test_foreach(void **state) {
    (void)state;
    int left = 2;
    assert_int_equal(sharena_root_foreach(heap, visit_two, &left), 0); /* there is none */
    for (int i = 0; i < 5; i++) {
        char name[32];
        name_of(name, i);
        assert_int_equal(sharena_root_set(heap, name, sharena_malloc(heap, 10)), 0);
    }
    assert_int_equal(sharena_root_foreach(heap, visit_two, &left), 42);
    assert_int_equal(left, 0);
    assert_int_equal(sharena_root_foreach(heap, visit_remove, NULL), 0);
    left = 1;
    assert_int_equal(sharena_root_foreach(heap, visit_two, &left), 0);
}

/* ---- create ---- */

struct init_facts {
    int calls;
    int result;
    int was_zero;
    size_t size;
    int set_error;
    void *get_result;
    int create_errno;
};

static int init_object(void *ptr, void *arg) {
    struct init_facts *facts = arg;
    facts->calls++;
    facts->was_zero = clean_is_zero(ptr, facts->size);
    facts->set_error = sharena_root_set(heap, "made", ptr);
    facts->get_result = sharena_root_get(heap, "made");
    errno = 0;
    facts->create_errno =
        sharena_root_create(heap, "made", 8, init_object, arg) == NULL ? errno : 0;
    memset(ptr, 0x77, facts->size);
    return facts->result;
}

static void test_create(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 8, 1000, 50000, 3 * MIB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct init_facts facts = {.size = sizes[i]};
        void *dirty = sharena_malloc(heap, sizes[i]);
        memset(dirty, 0xee, sizes[i]);
        sharena_free(heap, dirty);
        void *made = sharena_root_create(heap, "made", sizes[i], init_object, &facts);
        assert_non_null(made);
        assert_int_equal(facts.calls, 1);
        assert_true(facts.was_zero);
        assert_int_equal(facts.set_error, EBUSY); /* it is being made */
        assert_null(facts.get_result);            /* nobody sees it yet */
        assert_int_equal(facts.create_errno, EDEADLK);
        assert_ptr_equal(sharena_root_get(heap, "made"), made);
        assert_ptr_equal(sharena_root_create(heap, "made", sizes[i], init_object, &facts), made);
        assert_int_equal(facts.calls, 1);
        clean_check(heap, 1);
        assert_int_equal(sharena_root_set(heap, "made", NULL), 0);
        sharena_free(heap, made);
    }
}

static void test_create_without_init(void **state) {
    (void)state;
    char *made = sharena_root_create(heap, "plain", 100, NULL, NULL);
    assert_non_null(made);
    assert_true(clean_is_zero(made, 100));
    assert_int_equal(sharena_root_set(heap, "plain", NULL), 0);
    sharena_free(heap, made);
}

static void test_init_that_fails(void **state) {
    (void)state;
    struct init_facts facts = {.size = 64, .result = ECANCELED};
    assert_no_root(sharena_root_create(heap, "made", 64, init_object, &facts), ECANCELED, "init");
    assert_int_equal(facts.calls, 1);
    assert_null(sharena_root_get(heap, "made"));
    clean_check(heap, 0); /* the block is free again */
    facts.result = 0;
    void *made = sharena_root_create(heap, "made", 64, init_object, &facts);
    assert_non_null(made);
    assert_true(facts.was_zero);
    assert_int_equal(sharena_root_set(heap, "made", NULL), 0);
    sharena_free(heap, made);
}

/* init may make other roots, and these others: up to a depth. */
static int init_chain(void *ptr, void *arg) {
    int depth = *(int *)arg;
    int deeper = depth - 1;
    char name[32];
    name_of(name, deeper);
    *(int *)ptr = depth;
    if (deeper == 0) {
        return 0;
    }
    void *other = sharena_malloc(heap, 100);
    if (other == NULL || sharena_root_set(heap, "extra", other) != 0) {
        return ENOMEM;
    }
    sharena_free(heap, other);
    return sharena_root_create(heap, name, sizeof(int), init_chain, &deeper) != NULL ? 0 : errno;
}

static void test_init_that_makes_others(void **state) {
    (void)state;
    int depth = 10;
    assert_non_null(sharena_root_create(heap, "root-10", sizeof(int), init_chain, &depth));
    clean_check(heap, 10);
    assert_int_equal(sharena_root_set(heap, "extra", NULL), 0);
    for (int i = 1; i <= 10; i++) {
        char name[32];
        name_of(name, i);
        int *object = sharena_root_get(heap, name);
        assert_non_null(object);
        assert_int_equal(*object, i);
        assert_int_equal(sharena_root_set(heap, name, NULL), 0);
        sharena_free(heap, object);
    }
}

static void test_create_of_too_much(void **state) {
    (void)state;
    assert_no_root(sharena_root_create(heap, "big", 4 * GIB, NULL, NULL), ENOMEM, "capacity");
    assert_int_equal(sharena_root_set(heap, "big", NULL), 0); /* and the name is not stuck */
    assert_null(sharena_root_get(heap, "big"));
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 200 };
static atomic_int calls[ROUNDS];
static atomic_int at_round;

static int init_slowly(void *ptr, void *arg) {
    const struct timespec pause = {0, 20000};
    int round = *(int *)arg;
    atomic_fetch_add(&calls[round], 1);
    (void)nanosleep(&pause, NULL);
    *(int *)ptr = round + 1000;
    return round % 5 == 4 && atomic_load(&calls[round]) < 3 ? EAGAIN : 0;
}

static void *race(void *arg) {
    (void)arg;
    intptr_t wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char name[32];
        name_of(name, round);
        atomic_fetch_add(&at_round, 1);
        while (atomic_load(&at_round) < (round + 1) * THREADS) {
        }
        int *object;
        do {
            object = sharena_root_create(heap, name, sizeof(int), init_slowly, &round);
        } while (object == NULL && errno == EAGAIN);
        wrong += object == NULL || *object != round + 1000;
    }
    return (void *)wrong;
}

static void test_threads_create_once(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, race, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    clean_check(heap, ROUNDS);
    for (int i = 0; i < ROUNDS; i++) {
        char name[32];
        name_of(name, i);
        assert_int_equal(atomic_load(&calls[i]), i % 5 == 4 ? 3 : 1);
        sharena_free(heap, sharena_root_get(heap, name));
        assert_int_equal(sharena_root_set(heap, name, NULL), 0);
    }
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_set_get_replace_remove),
        with_heap(test_names),
        with_heap(test_outside_of_the_heap),
        with_heap(test_as_many_as_there_can_be),
        with_heap(test_foreach),
        with_heap(test_create),
        with_heap(test_create_without_init),
        with_heap(test_init_that_fails),
        with_heap(test_init_that_makes_others),
        with_heap(test_create_of_too_much),
        with_heap(test_threads_create_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
