/* test_watch.c -- what is done at each call, where the configuration asks for it. */
#include "heap/watch.h"

#include "heap/fill.h"
#include "heap_parts.h"

static sharena_t *heap;
static struct conf *conf;

static int open_watch(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    conf = &fixture_attachment()->conf;
    (void)fixture_self();
    return error;
}

#define with_watch(f) cmocka_unit_test_setup_teardown(f, open_watch, heap_fixture_close)

static void test_is_on_by_the_configuration(void **state) {
    (void)state;
    assert_false(watch_is_on(heap));
    conf->junk = JUNK_ALLOC;
    (void)fixture_self(); /* enters the heap */
    assert_true(watch_is_on(heap));
    conf->junk = 0;
    (void)fixture_self();
    assert_false(watch_is_on(heap));
}

static void test_what_is_freed_is_filled(void **state) {
    (void)state;
    char *block = sharena_malloc(heap, 64);
    memset(block, 1, 64);
    watch_freed(heap, block, 0, 64);
    assert_int_equal(block[0], 1);
    conf->junk = JUNK_ALLOC;
    (void)fixture_self();
    watch_freed(heap, block, 0, 64);
    assert_int_equal(block[0], 1);
    conf->junk = JUNK_FREE;
    watch_freed(heap, block, 8, 64);
    assert_int_equal(block[7], 1);
    assert_int_equal(fill_broken_at(block + 8, 56), 56);
    sharena_free(heap, block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_watch(test_is_on_by_the_configuration),
        with_watch(test_what_is_freed_is_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
