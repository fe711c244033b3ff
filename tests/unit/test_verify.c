/* test_verify.c -- numbers that an open would follow, each damaged and named; what recovery would do
 * with the slots of a damaged file; and that an open follows nothing that the dead owned.
 */
#include <fcntl.h>

#include "heap/tcache.h"
#include "heap/verify.h"
#include "heap_parts.h"
#include "ipc/lock.h"
#include "ipc/slot.h"

static sharena_t *heap;
static struct thread_slot *slot; /* in no use */

static int open_heap(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    (void)fixture_self();
    struct thread_slot *other = slot_take(fixture_attachment());
    assert_non_null(other);
    slot_give_back(other);
    slot = heap_thread(heap, 1);
    assert_ptr_equal(other, slot);
    return error;
}

#define with_slots(f) cmocka_unit_test_setup_teardown(f, open_heap, heap_fixture_close)

/* With the field at that value `call` refuses and names it; then it is as before, and accepted. */
#define assert_names(field, value, call, name)                                                     \
    do {                                                                                           \
        __typeof__(*(field)) old_ = *(field);                                                      \
        *(field) = (__typeof__(old_))(value);                                                      \
        assert_refused(call, EUCLEAN, name);                                                       \
        assert_says("title");                                                                      \
        *(field) = old_;                                                                           \
        assert_int_equal(call, 0);                                                                 \
    } while (0)

/* ---- numbers ---- */

static void test_superblock(void **state) {
    (void)state;
    struct superblock copy = *heap_superblock(heap);
    assert_int_equal(verify_superblock(&copy, "title"), 0);
    assert_names(&copy.data_offset, copy.data_offset + CHUNK_BYTES,
                 verify_superblock(&copy, "title"), "data_offset");
    assert_names(&copy.data_offset, copy.data_offset - CHUNK_BYTES,
                 verify_superblock(&copy, "title"), "data_offset");
    assert_names(&copy.total_bytes, 1ull << 44, verify_superblock(&copy, "title"), "total_bytes");
    assert_names(&copy.total_bytes, 1ull << 47, verify_superblock(&copy, "title"), "total_bytes");
}

static void test_state(void **state) {
    (void)state;
    struct heap_state *at = heap_state(heap);
    uint64_t bytes_max = heap_superblock(heap)->total_bytes - heap_superblock(heap)->data_offset;
#define verify verify_state(heap, "title")
    assert_int_equal(verify, 0);
    assert_names(&at->data_begin, at->data_begin + 8, verify, "data_begin");
    assert_names(&at->data_page_map, 0, verify, "data_page_map");
    assert_names(&at->data_bytes.value_, bytes_max + CHUNK_BYTES, verify, "data_bytes");
    assert_names(&at->data_bytes.value_, CHUNK_BYTES / 2, verify, "data_bytes");
    assert_names(&at->data_bytes.value_, UINT64_MAX, verify, "data_bytes");
    assert_names(&at->threads_high.value_, THREADS_MAX + 1, verify, "threads_high");
    assert_names(&heap_pool(heap)->arenas_made.value_, ARENAS_MAX + 1, verify, "arenas_made");
    assert_names(&heap_pool(heap)->samples_high.value_, SAMPLES_MAX + 1, verify, "samples_high");
    assert_names(&heap_pool(heap)->modules.value_, MODULES_MAX + 1, verify, "modules");
    assert_names(&heap_roots(heap)->high.value_, SHARENA_ROOTS_MAX + 1, verify, "roots.high");
#undef verify
}

/* ---- slots ---- */

static void test_journals(void **state) {
    (void)state;
    struct journal *journal = &slot->journal;
    struct heap_state *at = heap_state(heap);
    uint64_t good = (uint64_t)(uintptr_t)&at->backed_pages << 4 | 8;
    uint64_t bad = (uint64_t)(uintptr_t)&at->threads_high << 4 | 4;
#define verify verify_journals(heap, "title")
    assert_int_equal(verify, 0);
    assert_names(&slot->state.value_, SLOT_USED + 1, verify, "thread slot 1: state");
    assert_names(&journal->count.value_, JOURNAL_ENTRIES + 1, verify, "journal.count");
    journal->entries[0].where = good;
    journal->entries[1].where = good;
    shared_store(&journal->count, 2u);
    assert_names(&journal->entries[1].where, bad, verify, "journal entry");
    assert_names(&journal->entries[0].where, good | 1, verify, "journal entry");
    assert_names(&journal->entries[0].where, 0, verify, "journal entry");
    shared_store(&journal->count, 1u);
    journal->entries[1].where = bad; /* not counted */
    assert_int_equal(verify, 0);
    shared_store(&journal->count, 0u);
#undef verify
}

static void test_unused_slots(void **state) {
    (void)state;
    struct tcache *tcache = slot_tcache(slot);
    void *own = tcache->storage;
#define verify verify_unused_slots(heap, "title")
    assert_int_equal(verify, 0);
    assert_names(&slot->arena.value_, 1, verify, "thread slot 1: in no use, but arena");
    assert_names(&slot_quarantine(slot)->tail.value_, 1, verify, "in no use, but quarantine.tail");
    assert_names(&slot->hand.kind.value_, HAND_RUN, verify, "hand.kind");
    assert_names(&slot->hand.charged.value_, 1, verify, "hand.charged");
    assert_names(&slot->hand.sample.value_, 1, verify, "hand.sample");
    assert_names(&slot->pending.kind.value_, PENDING_FREE, verify, "pending.kind");
    assert_names(&tcache->stacks[0].top.value_, own, verify, "top of a stack");
    assert_names(&tcache->stacks[7].bottom.value_, own, verify, "top of a stack");
    assert_names(&tcache->stacks[TCACHE_UNCACHED].top.value_, own, verify, "top of a stack");
    shared_store(&slot->state, SLOT_USED); /* a dead thread's may own anything */
    shared_store(&slot->arena, 1u);
    assert_int_equal(verify, 0);
    shared_store(&slot->arena, 0u);
    shared_store(&slot->state, SLOT_FREE);
#undef verify
}

/* ---- by an open ---- */

static void patch(uint64_t offset, const void *bytes, size_t count) {
    int fd = open(fixture_path(), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, count, (off_t)offset), count);
    (void)close(fd);
}

/* Closes the fixture's heap for good, writes 4 bytes into the file, and opens it again. */
static int open_damaged(uint64_t offset, uint32_t value, sharena_t **opened) {
    const struct sharena_options options = {.flags = SHARENA_OPEN_ONLY};
    assert_int_equal(sharena_close(heap), 0);
    patch(offset, &value, sizeof(value));
    return sharena_open(fixture_path(), &options, opened);
}

/* The fixture closes what is open. */
static void open_mended(uint64_t offset, uint32_t value) {
    sharena_t *again = NULL;
    patch(offset, &value, sizeof(value));
    assert_int_equal(sharena_open(fixture_path(), NULL, &again), 0);
    assert_ptr_equal(again, heap);
}

static void test_open_refuses(void **state) {
    (void)state;
    sharena_t *opened = NULL;
    uint64_t count = heap_offset(heap, &slot->journal.count);
    assert_refused(open_damaged(count, 99999, &opened), EUCLEAN, "journal.count is 0x1869f");
    assert_null(opened);
    open_mended(count, 0);
    uint64_t kind = heap_offset(heap, &slot->hand.kind);
    assert_refused(open_damaged(kind, HAND_RUN, &opened), EUCLEAN, "hand.kind");
    open_mended(kind, HAND_EMPTY);
    uint64_t high = heap_offset(heap, &heap_state(heap)->threads_high);
    assert_refused(open_damaged(high, UINT32_MAX, &opened), EUCLEAN, "threads_high");
    open_mended(high, 2);
}

/* A slot of the dead with a wild hand, and a lock that it waited for: an open follows neither, and a
 * check finds the first and, since it is not clean, reaps nobody. */
static void test_open_follows_nothing(void **state) {
    (void)state;
    sharena_t *opened = NULL;
    struct sharena_report report;
    const uint32_t wild = 0x7fffffff;
    uint64_t first = heap_offset(heap, &slot->hand.first);
    uint64_t used = heap_offset(heap, &slot->state);
    uint64_t kind = heap_offset(heap, &slot->hand.kind);
    patch(first, &wild, sizeof(wild));
    patch(kind, &(uint32_t){HAND_RUN}, 4);
    patch(heap_offset(heap, &slot->lock_wanted), &(uint64_t){1ull << 50}, 8);
    assert_int_equal(open_damaged(used, SLOT_USED, &opened), 0);
    assert_int_equal(shared_get(&slot->lock_wanted), 0);
    assert_int_equal(sharena_check(heap, &report), EUCLEAN);
    assert_non_null(strstr(report.messages[0], "thread slot 1: carries the run"));
    assert_int_equal(shared_get(&slot->state), SLOT_USED);
    assert_int_equal(sharena_close(heap), 0); /* nor does a close follow it */
    patch(kind, &(uint32_t){HAND_EMPTY}, 4);
    open_mended(used, SLOT_USED);
    assert_int_equal(sharena_check(heap, NULL), 0);
    assert_int_equal(shared_get(&slot->state), SLOT_FREE); /* reaped, as it is clean */
}

/* ---- what did not exist is nobody's word ---- */

static void test_new_slot_is_clear(void **state) {
    (void)state;
    struct thread_slot *next = heap_thread(heap, 2);
    uint64_t garbage[THREAD_SLOT_BYTES / 8];
    memset(garbage, 0x5a, sizeof(garbage));
    patch(heap_offset(heap, next), garbage, sizeof(garbage));
    shared_store(&slot->state, SLOT_USED); /* so that a new one is made */
    struct thread_slot *taken = slot_take(fixture_attachment());
    assert_ptr_equal(taken, next);
    assert_int_equal(shared_get(&taken->arena), 0);
    assert_int_equal(shared_get(&taken->hand.charged), 0);
    assert_int_equal(shared_get(&slot_tcache(taken)->stacks[5].top), 0);
    slot_give_back(taken);
    shared_store(&slot->state, SLOT_FREE);
    assert_int_equal(verify_unused_slots(heap, "title"), 0);
}

static void test_new_chunk_is_clear(void **state) {
    (void)state;
    sharena_free(heap, sharena_malloc(heap, 8));
    uint32_t end = end_chunk(heap);
    const uint16_t entries[3 * CHUNK_PAGES] = {[7] = 32, [CHUNK_PAGES] = 64};
    const struct chunk chunks[3] = {[1] = {.state = {CHUNK_ARENA}, .has_runs = {1}}};
    patch(heap_offset(heap, heap_page_map(heap) + first_page_of_chunk(end)), entries,
          sizeof(entries));
    patch(heap_offset(heap, heap_chunk(heap, end)), chunks, sizeof(chunks));
    void *block = sharena_malloc(heap, 6 * MIB);
    assert_non_null(block);
    assert_int_equal(end_chunk(heap), end + 3);
    assert_int_equal(sharena_check(heap, NULL), 0);
    sharena_free(heap, block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_slots(test_superblock),        with_slots(test_state),
        with_slots(test_journals),          with_slots(test_unused_slots),
        with_slots(test_open_refuses),      with_slots(test_open_follows_nothing),
        with_slots(test_new_slot_is_clear), with_slots(test_new_chunk_is_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
