/* test_journal.c -- what was not committed is undone, from any point, and again. */
#include <sys/mman.h>
#include <sys/resource.h>

#include "heap_fixture.h"
#include "ipc/journal.h"

/* One field of each width between neighbours that nothing may touch. */
struct fields {
    shared_u16 u16_before, u16, u16_after;
    shared_u32 u32_before, u32, u32_after;
    shared_u64 u64_before, u64, u64_after;
    shared_ptr ptr_before, ptr, ptr_after;
};

static struct thread_slot *self;
static struct fields *fields;
static struct fields before;

static void begin(void) {
    self = fixture_self();
    fields = sharena_malloc(fixture_heap(), sizeof(*fields));
    assert_non_null(fields);
    memset(fields, 0xa5, sizeof(*fields));
    before = *fields;
    journal_begin(self, 0);
}

static void set_all(void) {
    journal_set(self, &fields->u16, 1);
    journal_set(self, &fields->u32, 2);
    journal_set(self, &fields->u64, 3);
    journal_set(self, &fields->ptr, fields);
}

static void assert_fields_as_before(void) {
    assert_memory_equal(fields, &before, sizeof(before));
}

static uint32_t entries(void) {
    return shared_get(&self->journal.count);
}

static void assert_entry(uint32_t index, const void *field, uint64_t bytes, uint64_t old) {
    assert_int_equal(self->journal.entries[index].where >> 4, (uintptr_t)field);
    assert_int_equal(self->journal.entries[index].where & 15, bytes);
    assert_int_equal(self->journal.entries[index].old, old);
}

/* ---- set, commit, roll back ---- */

static void set_records_and_stores(void **state) {
    (void)state;
    begin();
    set_all();
    assert_int_equal(entries(), 4);
    assert_entry(0, &fields->u16, 2, 0xa5a5);
    assert_entry(1, &fields->u32, 4, 0xa5a5a5a5);
    assert_entry(2, &fields->u64, 8, 0xa5a5a5a5a5a5a5a5);
    assert_entry(3, &fields->ptr, 8, 0xa5a5a5a5a5a5a5a5);
    assert_int_equal(shared_get(&fields->u16), 1);
    assert_int_equal(shared_get(&fields->u32), 2);
    assert_int_equal(shared_get(&fields->u64), 3);
    assert_ptr_equal(shared_get(&fields->ptr), fields);
    assert_int_equal(shared_get(&fields->u16_before), 0xa5a5);
    assert_int_equal(shared_get(&fields->u16_after), 0xa5a5);
    assert_int_equal(shared_get(&fields->u32_before), 0xa5a5a5a5);
    assert_int_equal(shared_get(&fields->u32_after), 0xa5a5a5a5);
    journal_commit(self);
}

static void roll_back_restores_each_width(void **state) {
    (void)state;
    begin();
    set_all();
    assert_false(journal_is_empty(self));
    journal_roll_back(fixture_heap(), self);
    assert_true(journal_is_empty(self));
    assert_fields_as_before();
}

static void commit_is_final(void **state) {
    (void)state;
    begin();
    set_all();
    journal_commit(self);
    assert_true(journal_is_empty(self));
    journal_roll_back(fixture_heap(), self);
    assert_int_equal(shared_get(&fields->u16), 1);
    assert_int_equal(shared_get(&fields->u32), 2);
    assert_int_equal(shared_get(&fields->u64), 3);
    assert_ptr_equal(shared_get(&fields->ptr), fields);
}

static void roll_back_ends_at_the_last_commit(void **state) {
    (void)state;
    begin();
    journal_set(self, &fields->u32, 10);
    journal_commit(self);
    journal_set(self, &fields->u32, 11);
    journal_set(self, &fields->u16, 12);
    journal_roll_back(fixture_heap(), self);
    assert_int_equal(shared_get(&fields->u32), 10);
    assert_int_equal(shared_get(&fields->u16), 0xa5a5);
}

static void setting_what_is_there_records_nothing(void **state) {
    (void)state;
    begin();
    journal_set(self, &fields->u16, shared_get(&fields->u16));
    journal_set(self, &fields->u32, shared_get(&fields->u32));
    journal_set(self, &fields->u64, shared_get(&fields->u64));
    journal_set(self, &fields->ptr, shared_get(&fields->ptr));
    assert_int_equal(entries(), 0);
    assert_fields_as_before();
}

static void newest_is_undone_first(void **state) {
    (void)state;
    begin();
    journal_set(self, &fields->u64, 1);
    journal_set(self, &fields->u32, 1);
    journal_set(self, &fields->u64, 2);
    journal_set(self, &fields->u32, 2);
    journal_set(self, &fields->u64, 3);
    assert_int_equal(entries(), 5);
    journal_roll_back(fixture_heap(), self);
    assert_fields_as_before();
}

static void begin_names_the_lock(void **state) {
    (void)state;
    begin();
    journal_begin(self, 0x1230);
    assert_int_equal(shared_get(&self->journal.lock), 0x1230);
    journal_begin(self, 0);
    assert_int_equal(shared_get(&self->journal.lock), 0);
}

/* An entry that is written but not counted does not exist; one that is counted before its field was
 * stored restores what is there. */
static void entry_counts_from_the_store_of_the_count(void **state) {
    (void)state;
    begin();
    self->journal.entries[0].where = (uintptr_t)&fields->u64 << 4 | 8;
    self->journal.entries[0].old = 99;
    journal_roll_back(fixture_heap(), self);
    assert_fields_as_before();
    self->journal.entries[0].old = shared_get(&fields->u64);
    shared_store(&self->journal.count, 1u);
    journal_roll_back(fixture_heap(), self);
    assert_fields_as_before();
    assert_int_equal(entries(), 0);
}

/* ---- a roll-back that is killed ---- */

#define STEPS 12u

/* Every field is on a page of its own; the last steps set the first fields once more. */
static shared_u64 *step_field(uint32_t step) {
    uint32_t page = step < STEPS - 4 ? step : step - (STEPS - 4);
    return (shared_u64 *)(void *)((char *)fields + (size_t)page * PAGE_BYTES);
}

static void begin_steps(void) {
    self = fixture_self();
    fields = sharena_aligned_alloc(fixture_heap(), PAGE_BYTES, (size_t)STEPS * PAGE_BYTES);
    assert_non_null(fields);
    journal_begin(self, 0);
}

static void set_steps(void) {
    for (uint32_t i = 0; i < STEPS; i++) {
        shared_store(step_field(i), 1000 + i % (STEPS - 4));
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        journal_set(self, step_field(i), 2000 + i);
    }
    assert_int_equal(entries(), STEPS);
}

static void assert_steps_undone(void) {
    assert_int_equal(entries(), 0);
    for (uint32_t i = 0; i < STEPS - 4; i++) {
        assert_int_equal(shared_get(step_field(i)), 1000 + i);
    }
}

/* Dies at the store that restores that field, because its page takes no store. */
static int roll_back_up_to(void *arg) {
    const uint32_t *step = arg;
    const struct rlimit no_core = {0, 0};
    REQUIRE(setrlimit(RLIMIT_CORE, &no_core) == 0);
    REQUIRE(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
    REQUIRE(mprotect(step_field(*step), PAGE_BYTES, PROT_READ) == 0);
    journal_roll_back(fixture_heap(), self);
    return 1;
}

static void killed_roll_back_is_finished_by_the_next(void **state) {
    (void)state;
    begin_steps();
    for (uint32_t i = 4; i < STEPS; i++) { /* fields 0 to 3 are met as 8 to 11 */
        set_steps();
        int status = child_wait(child_start(roll_back_up_to, &i));
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        assert_int_equal(entries(), i + 1);
        journal_roll_back(fixture_heap(), self);
        assert_steps_undone();
    }
}

/* Restored, and killed before the entry was taken off. */
static void entry_may_be_restored_twice(void **state) {
    (void)state;
    begin_steps();
    for (uint32_t i = 0; i < STEPS; i++) {
        set_steps();
        for (uint32_t j = STEPS; j > i; j--) {
            shared_store(step_field(j - 1), self->journal.entries[j - 1].old);
            shared_store(&self->journal.count, j);
        }
        journal_roll_back(fixture_heap(), self);
        assert_steps_undone();
    }
}

/* ---- what is refused ---- */

static int fill_and_set_one_more(void *arg) {
    uint32_t more = *(const uint32_t *)arg;
    for (uint32_t i = 0; i < JOURNAL_ENTRIES + more; i++) {
        REQUIRE(journal_has_room(self, 1) == (i < JOURNAL_ENTRIES));
        journal_set(self, &fields->u32, i);
    }
    return 0;
}

static void full_journal_stops(void **state) {
    (void)state;
    uint32_t more = 0;
    begin();
    assert_true(journal_has_room(self, JOURNAL_ENTRIES));
    assert_false(journal_has_room(self, JOURNAL_ENTRIES + 1));
    child_run(fill_and_set_one_more, &more);
    assert_int_equal(entries(), JOURNAL_ENTRIES);
    assert_false(journal_has_room(self, 1));
    assert_true(journal_has_room(self, 0));
    journal_roll_back(fixture_heap(), self);
    assert_fields_as_before();
    more = 1;
    child_stops(fill_and_set_one_more, &more, "count < JOURNAL_ENTRIES");
    assert_int_equal(shared_get(&fields->u32), JOURNAL_ENTRIES - 1); /* stopped before the store */
    journal_roll_back(fixture_heap(), self);
    assert_fields_as_before();
}

static int roll_back(void *arg) {
    (void)arg;
    journal_roll_back(fixture_heap(), self);
    return 0;
}

static void forge_entry(uint64_t address, uint64_t bytes) {
    self->journal.entries[0].where = address << 4 | bytes;
    self->journal.entries[0].old = 0;
    shared_store(&self->journal.count, 1u);
}

static void entry_out_of_the_heap_stops(void **state) {
    (void)state;
    begin();
    uint64_t base = (uintptr_t)fixture_heap();
    uint64_t end = base + heap_superblock(fixture_heap())->total_bytes;
    static uint64_t private_word;
    const struct {
        uint64_t address;
        uint64_t bytes;
    } wrong[] = {{0, 8},       {base - 8, 8}, {base, 8},       {base + STATE_OFFSET - 8, 8},
                 {end, 2},     {end, 8},      {end - 4, 8},    {end - 2, 4},
                 {end - 1, 2}, {end + 64, 8}, {~0ull >> 4, 2}, {(uintptr_t)&private_word, 8}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        forge_entry(wrong[i].address, wrong[i].bytes);
        child_stops(roll_back, NULL, "journal_entry_is_sound");
    }
    journal_commit(self);
}

static int is_sound(const void *field, uint64_t bytes) {
    self->journal.entries[0].where = (uint64_t)(uintptr_t)field << 4 | bytes;
    return journal_entry_is_sound(fixture_heap(), self, 0);
}

/* What sections change: so no roll-back can make another slot, or its own journal, unsound. */
static void fields_that_entries_may_name(void **state) {
    (void)state;
    begin();
    sharena_t *heap = fixture_heap();
    struct heap_state *shared = heap_state(heap);
    struct thread_slot *other = heap_thread(heap, shared_get(&self->index) + 1);
    char *tables = heap_bytes(heap) + IPC_END;
    char *end = heap_bytes(heap) + heap_superblock(heap)->total_bytes;
    char *own_part = (char *)self + THREAD_SLOT_HEAP_OFFSET;
    const char *own_end = (char *)self + THREAD_SLOT_BYTES;
    assert_true(is_sound(&shared->data_bytes, 8) && is_sound(&shared->backed_pages, 8));
    assert_true(is_sound(tables, 8) && is_sound(end - 8, 8) && is_sound(end - 2, 2));
    assert_true(is_sound(&self->hand.kind, 4) && is_sound(&self->pending.block, 8));
    assert_true(is_sound(&self->arena, 4) && is_sound(own_part, 8) && is_sound(own_end - 8, 8));
    assert_false(is_sound(&shared->data_begin, 8) || is_sound(&shared->data_page_map, 8));
    assert_false(is_sound(&shared->threads_high, 4) || is_sound(&shared->in_use, 4));
    assert_false(is_sound(heap_process(heap, 0), 8) || is_sound(tables - 8, 8));
    assert_false(is_sound(&self->token, 8) || is_sound(&self->state, 4));
    assert_false(is_sound(&self->journal.lock, 8) || is_sound(&self->journal.count, 4));
    assert_false(is_sound(&self->journal.entries[1], 8) || is_sound(own_part - 8, 8));
    assert_false(is_sound(&other->hand.kind, 4) || is_sound(&other->state, 4));
    assert_false(is_sound(tables + 4, 8) || is_sound(tables + 2, 4) || is_sound(tables + 1, 2));
    journal_commit(self);
}

static void impossible_size_stops(void **state) {
    (void)state;
    static const uint64_t sizes[] = {0, 1, 3, 5, 6, 7, 9, 15};
    begin();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        forge_entry((uintptr_t)&fields->u64, sizes[i]);
        child_stops(roll_back, NULL, "journal_entry_is_sound");
        assert_fields_as_before();
    }
    journal_commit(self);
}

static void impossible_count_stops(void **state) {
    (void)state;
    begin();
    shared_store(&self->journal.count, JOURNAL_ENTRIES + 1);
    child_stops(roll_back, NULL, "count <= JOURNAL_ENTRIES");
    journal_commit(self);
}

static int begin_with_open_entries(void *arg) {
    (void)arg;
    journal_set(self, &fields->u32, 1);
    journal_begin(self, 0);
    return 0;
}

static void section_begins_with_an_empty_journal(void **state) {
    (void)state;
    begin();
#ifdef SHARENA_DEBUG
    child_stops(begin_with_open_entries, NULL, "journal_is_empty");
#else
    child_run(begin_with_open_entries, NULL);
#endif
    journal_roll_back(fixture_heap(), self);
    assert_fields_as_before();
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, heap_fixture_open, heap_fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(set_records_and_stores),
        with_heap(roll_back_restores_each_width),
        with_heap(commit_is_final),
        with_heap(roll_back_ends_at_the_last_commit),
        with_heap(setting_what_is_there_records_nothing),
        with_heap(newest_is_undone_first),
        with_heap(begin_names_the_lock),
        with_heap(entry_counts_from_the_store_of_the_count),
        with_heap(killed_roll_back_is_finished_by_the_next),
        with_heap(entry_may_be_restored_twice),
        with_heap(full_journal_stops),
        with_heap(entry_out_of_the_heap_stops),
        with_heap(fields_that_entries_may_name),
        with_heap(impossible_size_stops),
        with_heap(impossible_count_stops),
        with_heap(section_begins_with_an_empty_journal),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
