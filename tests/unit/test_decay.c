/* test_decay.c -- how many pages may stay dirty, epoch by epoch, against the curve in floating point. */
#include "heap/decay.h"

#include "ipc/journal.h"
#include "scratch.h"

#define PERIOD_MS 2000u /* an epoch of 10 ms */
#define EPOCH_NS (PERIOD_MS * 1000000ull / DECAY_STEPS)
#define START_NS (1700000000ull * 1000000000)

static struct decay decay;
static struct conf conf;
static uint64_t now;

static int begin(void **state) {
    (void)state;
    memset(&decay, 0, sizeof(decay));
    conf_default(&conf);
    conf.dirty_decay_ms = PERIOD_MS;
    now = START_NS;
    decay_advance(&decay, PERIOD_MS, now, 0);
    return 0;
}

#define with_decay(f) cmocka_unit_test_setup_teardown(f, begin, NULL)

/* So many epochs later; as many pages are dirty. */
static void pass(uint32_t epochs, uint32_t dirty) {
    now += epochs * EPOCH_NS;
    assert_int_equal(decay_is_due(&decay, PERIOD_MS, now), 1);
    decay_advance(&decay, PERIOD_MS, now, dirty);
    assert_int_equal(decay_is_due(&decay, PERIOD_MS, now), 0);
}

static uint64_t excess(uint64_t dirty) {
    return decay_excess(&decay, &conf, dirty, 0);
}

static double smooth(double x) {
    return x * x * x * (x * (6 * x - 15) + 10);
}

static int is_near(double a, double b, double by) {
    return a - b < by && b - a < by;
}

static void the_curve_is_smootherstep(void **state) {
    (void)state;
    assert_int_equal(decay_curve(0), 0);
    assert_int_equal(decay_curve(DECAY_STEPS / 2), 1u << (LG_DECAY_ONE - 1));
    assert_int_equal(decay_curve(DECAY_STEPS), 1u << LG_DECAY_ONE);
    for (uint32_t i = 0; i <= DECAY_STEPS; i++) {
        double expected = smooth((double)i / DECAY_STEPS) * (1u << LG_DECAY_ONE);
        assert_true(is_near(expected, (double)decay_curve(i), 1));
    }
}

/* What became dirty at once goes along the curve, to the page, and is gone after a period. */
static void pages_of_one_moment_follow_the_curve(void **state) {
    (void)state;
    uint32_t dirty = 1000000;
    pass(1, dirty);
    assert_int_equal(excess(dirty), 0);
    for (uint32_t age = 1; age <= DECAY_STEPS; age++) {
        pass(1, dirty);
        double left = smooth(1 - (double)age / DECAY_STEPS) * dirty;
        double wanted = (double)(dirty - excess(dirty));
        assert_true(wanted >= left - 1 && wanted <= left + 2);
    }
    assert_int_equal(excess(dirty), dirty);
}

static void few_pages_stay_whole_while_young(void **state) {
    (void)state;
    pass(1, 7);
    for (uint32_t age = 1; age < 20; age++) {
        pass(1, 7);
        assert_int_equal(excess(7), 0);
    }
    pass(DECAY_STEPS - 20, 7);
    assert_int_equal(excess(7), 6); /* rounded up to the end */
    pass(1, 7);
    assert_int_equal(excess(7), 7);
}

/* The limit of two is the sum of the limits of each. */
static void pages_of_two_moments_are_added(void **state) {
    (void)state;
    pass(1, 10000);
    pass(100, 10000);
    pass(1, 30000);
    pass(49, 30000);
    double left = smooth(1 - 150.0 / DECAY_STEPS) * 10000 + smooth(1 - 49.0 / DECAY_STEPS) * 20000;
    assert_true(is_near(left, (double)(30000 - excess(30000)), 2));
}

/* Epochs that nobody looked at go by as if somebody had. */
static void epochs_in_one_leap(void **state) {
    (void)state;
    pass(1, 5000);
    struct decay kept = decay;
    for (uint32_t i = 0; i < 120; i++) {
        pass(1, 5000);
    }
    uint64_t one_by_one = excess(5000);
    decay = kept;
    now -= 120 * EPOCH_NS;
    pass(120, 5000);
    assert_int_equal(excess(5000), one_by_one);
    assert_in_range(one_by_one, 3000, 4999);
    pass(1000, 5000);
    assert_int_equal(excess(5000), 5000);
    pass(1, 6000); /* a thousand new ones */
    assert_int_equal(excess(6000), 5000);
}

/* Part of an epoch is not lost: epochs begin where the last one ended. */
static void epochs_do_not_drift(void **state) {
    (void)state;
    now = START_NS + EPOCH_NS + EPOCH_NS / 2;
    decay_advance(&decay, PERIOD_MS, now, 0);
    assert_int_equal(decay_is_due(&decay, PERIOD_MS, START_NS + 2 * EPOCH_NS - 1), 0);
    assert_int_equal(decay_is_due(&decay, PERIOD_MS, START_NS + 2 * EPOCH_NS), 1);
}

/* What became dirty since the epoch began is not due, whatever is left of the others. */
static void new_pages_are_not_due(void **state) {
    (void)state;
    pass(1, 1000);
    pass(DECAY_STEPS, 1000);
    assert_int_equal(excess(1000), 1000);
    assert_int_equal(excess(400), 400); /* the others were used again */
    assert_int_equal(excess(1500), 1000);
}

static void purged_pages_make_room_for_new_ones(void **state) {
    (void)state;
    static struct thread_slot slot; /* no heap: its journal is never rolled back */
    struct thread_slot *self = &slot;
    pass(1, 1000);
    pass(100, 1000);
    uint32_t due = (uint32_t)excess(1000);
    assert_in_range(due, 490, 510);
    decay_note_purge(self, &decay, due);
    assert_int_equal(excess(1000 - due), 0);
    pass(1, 1000); /* as many again: these are new */
    assert_in_range(excess(1000), 1, 20);
    decay_note_purge(self, &decay, 5000); /* more than it knows of */
    assert_int_equal(excess(1000), 0);
    assert_int_equal(shared_get(&decay.purges), 2);
    assert_int_equal(shared_get(&decay.purged), due + 5000);
}

static void a_clock_that_goes_back(void **state) {
    (void)state;
    pass(1, 1000);
    pass(50, 1000);
    uint64_t due = excess(1000);
    now -= 3600ull * 1000000000;
    assert_int_equal(decay_is_due(&decay, PERIOD_MS, now), 1);
    decay_advance(&decay, PERIOD_MS, now, 1000);
    assert_int_equal(decay_is_due(&decay, PERIOD_MS, now), 0);
    assert_in_range(excess(1000), due, due + 20); /* at most an epoch older */
    pass(DECAY_STEPS, 1000);
    assert_int_equal(excess(1000), 1000);
}

/* Whatever stands there, after one period the books are right. */
static void wild_numbers_are_forgotten(void **state) {
    (void)state;
    memset(&decay, 0xff, sizeof(decay));
    shared_store(&decay.period, DECAY_BY_OPTION);
    assert_true(excess(1000) <= 1000);
    now = START_NS;
    assert_int_equal(decay_is_due(&decay, PERIOD_MS, now), 1);
    decay_advance(&decay, PERIOD_MS, now, 1000);
    pass(DECAY_STEPS, 1000);
    assert_int_equal(excess(1000), 1000);
    pass(1, 1200);
    assert_int_equal(excess(1200), 1000);
}

/* ---- the rules ---- */

static void a_period_of_the_arena_goes_before_the_option(void **state) {
    (void)state;
    assert_int_equal(decay_period_ms(&decay, &conf), PERIOD_MS);
    shared_store(&decay.period, 1 + 50u);
    assert_int_equal(decay_period_ms(&decay, &conf), 50);
    shared_store(&decay.period, 1 + 0u);
    assert_int_equal(decay_period_ms(&decay, &conf), 0);
    shared_store(&decay.period, DECAY_NEVER);
    assert_int_equal(decay_period_ms(&decay, &conf), CONF_MS_NEVER);
}

static void at_once_and_never(void **state) {
    (void)state;
    pass(1, 1000);
    pass(DECAY_STEPS, 1000);
    conf.dirty_decay_ms = 0;
    assert_int_equal(excess(1700), 1700);
    assert_int_equal(decay_is_due(&decay, 0, now + 10 * EPOCH_NS), 0);
    conf.dirty_decay_ms = CONF_MS_NEVER;
    assert_int_equal(excess(1700), 0);
    assert_int_equal(decay_is_due(&decay, CONF_MS_NEVER, now + 10 * EPOCH_NS), 0);
}

static void by_ratio(void **state) {
    (void)state;
    conf.purge = PURGE_RATIO;
    conf.dirty_decay_ms = 0;
    assert_int_equal(decay_excess(&decay, &conf, 1000, 8000), 0);
    assert_int_equal(decay_excess(&decay, &conf, 1001, 8000), 1);
    assert_int_equal(decay_excess(&decay, &conf, CHUNK_PAGES, 0), 0);
    assert_int_equal(decay_excess(&decay, &conf, CHUNK_PAGES + 5, 0), 5);
    conf.lg_dirty_mult = 0;
    assert_int_equal(decay_excess(&decay, &conf, 8003, 8000), 3);
    conf.lg_dirty_mult = 31;
    assert_int_equal(decay_excess(&decay, &conf, 8003, 8000), 8003 - CHUNK_PAGES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_decay(the_curve_is_smootherstep),
        with_decay(pages_of_one_moment_follow_the_curve),
        with_decay(few_pages_stay_whole_while_young),
        with_decay(pages_of_two_moments_are_added),
        with_decay(epochs_in_one_leap),
        with_decay(epochs_do_not_drift),
        with_decay(new_pages_are_not_due),
        with_decay(purged_pages_make_room_for_new_ones),
        with_decay(a_clock_that_goes_back),
        with_decay(wild_numbers_are_forgotten),
        with_decay(a_period_of_the_arena_goes_before_the_option),
        with_decay(at_once_and_never),
        with_decay(by_ratio),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
