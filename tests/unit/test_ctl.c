/* test_ctl.c -- how names are found, lengths checked, and what a wrong call is told. */
/* ctest: inprocess */
#include <stdbool.h>

#include "heap/ctl.h"
#include "heap_fixture.h"

#define with_heap(f) cmocka_unit_test_setup_teardown(f, heap_fixture_open, heap_fixture_close)

static int look_up(const char *name, void *oldp, size_t *oldlenp) {
    return sharena_ctl(fixture_heap(), name, oldp, oldlenp, NULL, 0);
}

static int set(const char *name, void *newp, size_t newlen) {
    return sharena_ctl(fixture_heap(), name, NULL, NULL, newp, newlen);
}

/* The name does not exist, and the message lists that word instead. */
static void assert_unknown(const char *name, const char *word) {
    uint64_t value = 7;
    size_t length = sizeof(value);
    assert_refused(look_up(name, &value, &length), ENOENT, word);
    assert_int_equal(value, 7);
}

static void unknown_names_are_told_what_there_is(void **state) {
    (void)state;
    assert_unknown("", "version, epoch, arenas.*, thread.*, stats.*");
    assert_unknown("versio", "opt.*");
    assert_unknown("version.", "there is no ctl name 'version.'");
    assert_unknown("arenas", "there is no ctl name 'arenas'");
    assert_unknown("arenas.",
                   "behind 'arenas.' there are: narenas, page, chunk, quantum, nbins, bin.*");
    assert_unknown("arenas.pages", "page");
    assert_unknown("arenas.bin.x.size", "behind 'arenas.bin.' there are: #.*");
    assert_unknown("arenas.bin.0.sizes", "behind 'arenas.bin.#.' there are: size, nregs, run_size");
    assert_unknown("arenas.bin.0", "#.*");
    assert_unknown("arenas.bin..size", "#.*");
    assert_unknown("arenas.bin.-1.size", "#.*");
    assert_unknown("arenas.bin.4294967296.size", "#.*"); /* more digits than are read */
    assert_unknown("opt.", "behind 'opt.' there are: narenas, tcache, lg_tcache_max");
    assert_unknown("opt.tcaches", "tcache_nslots_large");
    assert_unknown("stats.arenas.0.nowhere", "pdirty");
    assert_unknown("Version", "version");
}

static void a_number_that_is_too_high_is_told_the_limit(void **state) {
    (void)state;
    assert_unknown("arenas.bin.36.size", "below 36");
    assert_unknown("arenas.bin.999999999.size", "below 36");
    (void)fixture_self(); /* makes arena 0 */
    assert_unknown("stats.arenas.1.chunks", "below 1");
    assert_unknown("process.1024.pid", "below 1024");
}

static void a_very_long_name_is_cut(void **state) {
    (void)state;
    char name[3000];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_unknown(name, "version");
    memcpy(name, "opt.", 4);
    assert_unknown(name, "narenas");
}

static void there_must_be_a_heap_and_a_name(void **state) {
    (void)state;
    uint64_t value;
    size_t length = sizeof(value);
    int nothing = 0;
    assert_refused(sharena_ctl((sharena_t *)(void *)&nothing, "epoch", &value, &length, NULL, 0),
                   EINVAL, "not an attached heap");
    assert_refused(look_up(NULL, &value, &length), EINVAL, "name");
}

static void a_length_must_be_that_of_the_type(void **state) {
    (void)state;
    unsigned char value[16];
    for (size_t given = 0; given <= sizeof(value); given++) {
        size_t length = given;
        memset(value, 0xee, sizeof(value));
        int error = look_up("arenas.nbins", value, &length);
        assert_int_equal(error, given == sizeof(unsigned) ? 0 : EINVAL);
        assert_int_equal(length, given < sizeof(unsigned) ? given : sizeof(unsigned));
        for (size_t i = 0; i < sizeof(value); i++) { /* as much as there is room for, no more */
            assert_int_equal(value[i], i >= length ? 0xee : i == 0 ? SIZE_CLASSES_SMALL : 0);
        }
    }
    assert_says("4 bytes");
    assert_refused(look_up("arenas.nbins", value, NULL), EINVAL, "oldlenp");
}

static void every_name_refuses_a_length_of_3(void **state) {
    (void)state;
    char name[64];
    (void)fixture_self();
    const struct ctl_name *row;
    for (size_t i = 0; (row = ctl_name(i)) != NULL; i++) {
        size_t used = 0;
        for (const char *at = row->pattern; *at != '\0'; at++) {
            name[used++] = *at == '#' ? '0' : *at;
        }
        name[used] = '\0';
        unsigned char value[3] = {0};
        size_t length = sizeof(value);
        int error = look_up(name, value, &length);
        assert_int_equal(error, row->type == CTL_ACTION ? EPERM : EINVAL);
        error = set(name, value, sizeof(value));
        assert_int_equal(error, row->write == NULL || row->type == CTL_ACTION ? EPERM : EINVAL);
        assert_says(name);
    }
    for (size_t i = 0; conf_entry(i) != NULL; i++) {
        (void)snprintf(name, sizeof(name), "opt.%s", conf_entry(i)->name);
        unsigned char value[3] = {0};
        size_t length = sizeof(value);
        assert_int_equal(look_up(name, value, &length), EINVAL);
        assert_int_equal(set(name, value, sizeof(value)), EPERM);
    }
}

static void both_sides_may_be_missing(void **state) {
    (void)state;
    size_t length = 99;
    assert_int_equal(look_up("stats.allocated", NULL, NULL), 0);
    assert_int_equal(look_up("stats.allocated", NULL, &length), 0);
    assert_int_equal(length, 99);
    assert_int_equal(set("epoch", NULL, 0), 0);
}

static void what_is_read_only_refuses_new_values(void **state) {
    (void)state;
    size_t value = 5;
    assert_refused(set("stats.allocated", &value, sizeof(value)), EPERM, "only be read");
    assert_refused(set("stats.allocated", NULL, sizeof(value)), EPERM, "only be read");
    assert_refused(set("version", &value, 0), EPERM, "version");
    assert_refused(set("opt.tcache", &value, sizeof(bool)), EPERM, "opt.tcache");
}

static void new_values_have_their_length(void **state) {
    (void)state;
    uint64_t value = 1;
    assert_refused(set("epoch", &value, 4), EINVAL, "newlen is 4");
    assert_refused(set("epoch", NULL, 8), EINVAL, "newp is NULL");
    assert_refused(set("thread.tcache.enabled", &value, 8), EINVAL, "1 bytes");
}

/* Neither way: what is refused for its new value has not given the old one, and what is refused for
 * the length of the old one has not taken the new one. */
static void a_wrong_new_value_changes_nothing(void **state) {
    (void)state;
    uint64_t before = 0;
    uint64_t after = 0;
    size_t length = sizeof(before);
    assert_int_equal(look_up("epoch", &before, &length), 0);
    assert_int_equal(sharena_ctl(fixture_heap(), "epoch", &after, &length, &before, 3), EINVAL);
    assert_int_equal(after, 0);
    assert_int_equal(sharena_ctl(fixture_heap(), "epoch", &after, &(size_t){3}, &before, 8),
                     EINVAL);
    assert_int_equal(look_up("epoch", &after, &length), 0);
    assert_int_equal(after, before);
}

static void an_action_has_no_value(void **state) {
    (void)state;
    uint64_t value = 0;
    size_t length = sizeof(value);
    assert_int_equal(set("thread.tcache.flush", NULL, 0), 0);
    assert_refused(look_up("thread.tcache.flush", &value, &length), EPERM, "action");
    assert_refused(look_up("thread.tcache.flush", NULL, &length), EPERM, "action");
    assert_refused(set("thread.tcache.flush", &value, 0), EPERM, "action");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(unknown_names_are_told_what_there_is),
        with_heap(a_number_that_is_too_high_is_told_the_limit),
        with_heap(a_very_long_name_is_cut),
        with_heap(there_must_be_a_heap_and_a_name),
        with_heap(a_length_must_be_that_of_the_type),
        with_heap(every_name_refuses_a_length_of_3),
        with_heap(both_sides_may_be_missing),
        with_heap(what_is_read_only_refuses_new_values),
        with_heap(new_values_have_their_length),
        with_heap(a_wrong_new_value_changes_nothing),
        with_heap(an_action_has_no_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
