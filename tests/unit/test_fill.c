/* test_fill.c -- what new blocks are filled with. */
/* ctest: inprocess */
#include "heap/fill.h"

#include "heap_parts.h"

#define BYTES 64u

static unsigned char block[BYTES];

/* Whether [from, to) is of that value, and all the rest as it was set before. */
static void assert_filled(size_t from, size_t to, unsigned value, unsigned rest) {
    for (size_t i = 0; i < BYTES; i++) {
        assert_int_equal(block[i], i >= from && i < to ? value : rest);
    }
}

static void test_the_caller_or_the_option_wants_zeros(void **state) {
    (void)state;
    struct conf conf;
    conf_default(&conf);
    assert_int_equal(fill_for_new(&conf, 0), FILL_NOTHING);
    assert_int_equal(fill_for_new(&conf, 1), FILL_ZERO);
    conf.zero = 1;
    assert_int_equal(fill_for_new(&conf, 0), FILL_ZERO);
}

static void test_junk_by_the_option(void **state) {
    (void)state;
    struct conf conf;
    conf_default(&conf);
    assert_int_equal(fill_for_freed(&conf), FILL_NOTHING);
    conf.junk = JUNK_ALLOC;
    conf.zero = 1;
    assert_int_equal(fill_for_new(&conf, 0), FILL_NEW); /* has precedence */
    assert_int_equal(fill_for_new(&conf, 1), FILL_ZERO);
    assert_int_equal(fill_for_freed(&conf), FILL_NOTHING);
    conf.junk = JUNK_FREE;
    assert_int_equal(fill_for_new(&conf, 0), FILL_ZERO);
    assert_int_equal(fill_for_freed(&conf), FILL_FREED);
}

static void test_where_the_pattern_is_broken(void **state) {
    (void)state;
    fill_range(block, 0, BYTES, FILL_FREED);
    assert_filled(0, BYTES, FILL_BYTE_FREED, 0);
    assert_int_equal(fill_broken_at(block, BYTES), BYTES);
    assert_int_equal(fill_broken_at(block, 0), 0);
    for (size_t i = 0; i < BYTES; i++) {
        block[i] ^= 1;
        assert_int_equal(fill_broken_at(block, BYTES), i);
        assert_int_equal(fill_broken_at(block, i), i);
        block[i] ^= 1;
    }
    fill_range(block, 0, BYTES, FILL_NEW);
    assert_int_equal(fill_broken_at(block, BYTES), 0); /* all the same, but of another value */
}

static void test_a_range_and_no_more(void **state) {
    (void)state;
    memset(block, 7, BYTES);
    fill_range(block, 3, 40, FILL_ZERO);
    assert_filled(3, 40, 0, 7);
    fill_range(block, 3, 40, FILL_NEW);
    assert_filled(3, 40, 0xa5, 7);
    fill_range(block, 3, 40, FILL_FREED);
    assert_filled(3, 40, 0x5a, 7);
    memset(block, 7, BYTES);
    fill_range(block, 3, 40, FILL_NOTHING);
    fill_range(block, 3, 3, FILL_ZERO);
    fill_range(block, 40, 3, FILL_ZERO);
    assert_filled(0, 0, 0, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_caller_or_the_option_wants_zeros),
        cmocka_unit_test(test_junk_by_the_option),
        cmocka_unit_test(test_a_range_and_no_more),
        cmocka_unit_test(test_where_the_pattern_is_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
