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

static void test_a_range_and_no_more(void **state) {
    (void)state;
    memset(block, 7, BYTES);
    fill_range(block, 3, 40, FILL_ZERO);
    assert_filled(3, 40, 0, 7);
    memset(block, 7, BYTES);
    fill_range(block, 3, 40, FILL_NOTHING);
    fill_range(block, 3, 3, FILL_ZERO);
    fill_range(block, 40, 3, FILL_ZERO);
    assert_filled(0, 0, 0, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_caller_or_the_option_wants_zeros),
        cmocka_unit_test(test_a_range_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
