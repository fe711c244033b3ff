/* test_faultpoint.c -- a fault point costs nothing in a build without, and calls the hook with. */
/* ctest: inprocess */
#include "scratch.h"

#define TEXT_OF(x) TEXT(x)
#define TEXT(x) #x

#ifndef SHARENA_FAULT_POINTS
#include "ipc/faultpoint.h"

static const char *const plain_text = TEXT_OF(FAULT_POINT());

/* From here on as in a build with fault points; the library has no hook to clash with. */
#undef SHARENA_IPC_FAULTPOINT_H
#undef FAULT_POINT
#define SHARENA_FAULT_POINTS
#include "ipc/faultpoint.h"
void (*fault_point_hook)(const char *file, int line);
#else
static const char *const plain_text = NULL;
#endif

#include "ipc/journal.h"

static struct thread_slot slot;
static shared_u32 field;

static struct {
    uint32_t calls;
    const char *file;
    int line;
    uint32_t counts[8]; /* entries in the journal at each call */
    uint32_t values[8]; /* the field at each call */
} seen;

static void note(const char *file, int line) {
    assert_true(seen.calls < 8);
    seen.file = file;
    seen.line = line;
    seen.counts[seen.calls] = shared_get(&slot.journal.count);
    seen.values[seen.calls] = shared_get(&field);
    seen.calls++;
}

static int reset(void **state) {
    (void)state;
    fault_point_hook = NULL;
    memset(&slot, 0, sizeof(slot));
    memset(&seen, 0, sizeof(seen));
    shared_store(&field, 0u);
    return 0;
}

static void plain_build_has_nothing(void **state) {
    (void)state;
    if (plain_text == NULL) {
        skip();
    }
    assert_string_equal(plain_text, "((void)0)");
}

static void without_a_hook_nothing_happens(void **state) {
    (void)state;
    FAULT_POINT();
    journal_set(&slot, &field, 1);
    journal_commit(&slot);
    assert_int_equal(seen.calls, 0);
}

static void hook_learns_the_place(void **state) {
    (void)state;
    fault_point_hook = note;
    FAULT_POINT();
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.line, __LINE__ - 2);
    assert_string_equal(seen.file, __FILE__);
}

/* The states that the table in journal.h names; the entry is written in two stores. */
static void each_state_of_a_section_has_a_point(void **state) {
    (void)state;
    static const uint32_t counts[] = {0, 0, 1, 1, 0};
    static const uint32_t values[] = {0, 0, 0, 1, 1};
    fault_point_hook = note;
    journal_set(&slot, &field, 1);
    journal_commit(&slot);
    assert_int_equal(seen.calls, 5);
    assert_memory_equal(seen.counts, counts, sizeof(counts));
    assert_memory_equal(seen.values, values, sizeof(values));
    assert_non_null(strstr(seen.file, "journal.h"));
}

/* Whatever stores to shared memory is a place to die. */
static void each_primitive_has_a_point(void **state) {
    (void)state;
    uint32_t expected = 0;
    uint32_t plain = 0;
    void *where = NULL;
    fault_point_hook = note;
    shared_store(&field, 1u);
    assert_int_equal(seen.calls, 1);
    shared_store_release(&field, 2u);
    assert_int_equal(seen.calls, 2);
    shared_add(&field, 1);
    assert_int_equal(seen.calls, 3);
    assert_int_equal(shared_replace(&field, &expected, 9), 0); /* nothing was stored */
    assert_int_equal(seen.calls, 3);
    assert_int_equal(expected, 3);
    assert_int_equal(shared_replace(&field, &expected, 9), 1);
    assert_int_equal(shared_get(&field), 9);
    assert_int_equal(seen.calls, 4);
    shared_prepare(&plain, 7u);
    assert_int_equal(plain, 7);
    shared_publish(&where, &field);
    assert_ptr_equal(where, &field);
    assert_int_equal(seen.calls, 6);
}

#define with_reset(f) cmocka_unit_test_setup(f, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_reset(plain_build_has_nothing),    with_reset(without_a_hook_nothing_happens),
        with_reset(hook_learns_the_place),      with_reset(each_state_of_a_section_has_a_point),
        with_reset(each_primitive_has_a_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
