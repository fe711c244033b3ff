/* test_publish.c -- every state in which a pending step can be found, and what settling makes of it. */
#include "heap/publish.h"

#include "heap/alloc.h"
#include "heap/tcache.h"
#include "heap_parts.h"

static const size_t sizes[] = {64, 5000, 20000, 500000, 3 * MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static sharena_t *heap;
static struct thread_slot *self;
static void **where;

static int open_with_place(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    where = sharena_calloc(heap, 1, sizeof(void *));
    assert_non_null(where);
    return error;
}

static int close_with_place(void **state) {
    sharena_free(heap, where);
    clean_check(heap, 0);
    return heap_fixture_close(state);
}

static void assert_settled(void) {
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    assert_null(shared_get(&self->pending.where));
}

static struct tcache_stack *stack_for(const void *block) {
    return stack_of(heap, self, block);
}

static int is_on_top(const void *block) {
    const struct tcache_stack *stack = stack_for(block);
    return stack_count(stack) != 0 &&
           shared_get((shared_ptr *)shared_get(&stack->top) - 1) == block;
}

/* A live block that is in no cache, and one that is on top of its cache. */
static void *make_live(size_t size) {
    void *block = sharena_mallocx(heap, size, SHARENA_TCACHE_NONE);
    assert_non_null(block);
    return block;
}

static void *make_cached(size_t size) {
    sharena_free(heap, sharena_malloc(heap, size)); /* so that there is room */
    void *block = make_live(size);
    sharena_free(heap, block);
    assert_true(is_on_top(block));
    return block;
}

/* Settling may be killed and repeated. */
static void settle_twice(void) {
    struct pending copy = self->pending;
    publish_settle(heap, self);
    assert_settled();
    shared_store(&self->pending.where, shared_get(&copy.where));
    publish_settle(heap, self);
    assert_settled();
}

/* ---- malloc_to ---- */

static void test_malloc_from_the_cache(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) { /* the cached sizes */
        void *block = make_cached(sizes[i]);
        *where = NULL;
        publish_begin(self, PENDING_MALLOC, where, block); /* killed before it was published */
        settle_twice();
        assert_true(is_on_top(block));
        assert_null(*where);
        clean_check(heap, 1);

        publish_begin(self, PENDING_MALLOC, where, block); /* ... before it was popped */
        *where = block;
        settle_twice();
        assert_false(is_on_top(block));
        assert_ptr_equal(*where, block);
        clean_check(heap, 2);

        publish_begin(self, PENDING_MALLOC, where, block); /* ... before it was disarmed */
        settle_twice();
        assert_ptr_equal(*where, block);
        clean_check(heap, 2);
        sharena_free(heap, block);
    }
}

static void test_malloc_from_the_owner(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        *where = self;                                    /* an old value that is no block */
        publish_begin(self, PENDING_MALLOC, where, NULL); /* killed before there was a block */
        settle_twice();
        assert_ptr_equal(*where, self);
        clean_check(heap, 1);

        publish_begin(self, PENDING_MALLOC, where, make_live(sizes[i])); /* before published */
        settle_twice();
        assert_ptr_equal(*where, self);
        clean_check(heap, 1); /* given back */

        void *block = make_live(sizes[i]);
        publish_begin(self, PENDING_MALLOC, where, block); /* before disarmed */
        *where = block;
        settle_twice();
        assert_ptr_equal(*where, block);
        clean_check(heap, 2);
        sharena_free(heap, block);

        publish_begin(self, PENDING_MALLOC, NULL, make_live(sizes[i])); /* on its way to malloc's */
        settle_twice();                                                 /* caller               */
        clean_check(heap, 1);
    }
    *where = NULL;
}

/* ---- free_from ---- */

static void test_freeing(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        void *block = make_live(sizes[i]);
        *where = block;
        publish_begin(self, PENDING_FREE, where, block); /* killed before it was taken */
        settle_twice();
        assert_ptr_equal(*where, block);
        clean_check(heap, 2);

        publish_begin(self, PENDING_FREE, where, block); /* ... before it was freed */
        *where = NULL;
        settle_twice();
        assert_null(*where);
        clean_check(heap, 1);
    }
    for (size_t i = 0; i < 3; i++) {
        void *block = make_cached(sizes[i]);
        publish_begin(self, PENDING_FREE, where, block); /* ... before it was disarmed */
        settle_twice();
        assert_true(is_on_top(block));
        clean_check(heap, 1);
    }
}

/* On its way to be freed, without a place. */
static void test_freeing_in_flight(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        publish_begin(self, PENDING_FREE, NULL, make_live(sizes[i]));
        settle_twice();
        clean_check(heap, 1);
    }
}

/* What lies below an empty stack is no block of it, whatever stands there. */
static void test_remains_below_an_empty_stack(void **state) {
    (void)state;
    tcache_flush(heap, self);
    for (int kind = PENDING_MALLOC; kind <= PENDING_FREE; kind++) {
        void *block = make_live(64);
        tcache_flush(heap, self);
        struct tcache_stack *stack = stack_for(block);
        assert_int_equal(stack_count(stack), 0);
        shared_store((shared_ptr *)shared_get(&stack->top) - 1, block);
        publish_begin(self, (enum pending_kind)kind, NULL, block);
        settle_twice();
        clean_check(heap, 1);
    }
}

/* A place that meanwhile holds another block: the old one is free, the other is not touched. */
static void test_place_with_another_block(void **state) {
    (void)state;
    void *other = make_live(64);
    void *block = make_live(64);
    *where = other;
    publish_begin(self, PENDING_FREE, where, block);
    settle_twice();
    assert_ptr_equal(*where, other);
    clean_check(heap, 2);
    publish_begin(self, PENDING_MALLOC, where, make_live(64));
    settle_twice();
    assert_ptr_equal(*where, other);
    clean_check(heap, 2);
    sharena_free(heap, other);
}

static void test_nothing_is_pending(void **state) {
    (void)state;
    void *block = make_live(64);
    *where = NULL;
    shared_store(&self->pending.block, block); /* what an ended step left */
    shared_store(&self->pending.where, (void *)where);
    publish_settle(heap, self);
    clean_check(heap, 2);
    sharena_free(heap, block);
}

/* ---- begin, end, give back ---- */

static void test_begin_and_end(void **state) {
    (void)state;
    publish_begin(self, PENDING_FREE, where, self);
    assert_int_equal(shared_get(&self->pending.kind), PENDING_FREE);
    assert_ptr_equal(shared_get(&self->pending.where), where);
    assert_ptr_equal(shared_get(&self->pending.block), self);
    publish_end(self);
    assert_settled();
}

static void test_give_back(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        void *block = make_live(sizes[i]);
        publish_begin(self, PENDING_FREE, where, block);
        publish_give_back(heap, self, block);
        assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE); /* in the same commit */
        publish_end(self);
        clean_check(heap, 1);
    }
}

static int give_back_again(void *block) {
    publish_give_back(heap, fixture_self(), block); /* its own: in an inherited one it is dropped */
    return 0;
}

static void test_give_back_what_is_free(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        void *block = make_live(sizes[i]);
        sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
        child_stops(give_back_again, block, " free of a ");
        clean_check(heap, 1);
    }
}

#define with_place(f) cmocka_unit_test_setup_teardown(f, open_with_place, close_with_place)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_place(test_malloc_from_the_cache),
        with_place(test_malloc_from_the_owner),
        with_place(test_freeing),
        with_place(test_freeing_in_flight),
        with_place(test_remains_below_an_empty_stack),
        with_place(test_place_with_another_block),
        with_place(test_nothing_is_pending),
        with_place(test_begin_and_end),
        with_place(test_give_back),
        with_place(test_give_back_what_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
