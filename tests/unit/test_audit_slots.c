/* test_audit_slots.c -- hands, pending steps and roots under way that no thread can have left: found,
 * and named; and that a heap which looks wrong everywhere is not looked at for long. (Caches, and what
 * living threads do meanwhile: test_check.c.)
 */
#include <time.h>

#include "heap/arena.h"
#include "heap/chunk.h"
#include "heap/publish.h"
#include "heap/quarantine.h"
#include "heap/tcache.h"
#include "heap_parts.h"
#include "ipc/slot.h"

static sharena_t *heap;
static struct thread_slot *self;

static int open_heap(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    return error;
}

#define with_self(f) cmocka_unit_test_setup_teardown(f, open_heap, heap_fixture_close)

static void assert_found(const char *words) {
    struct sharena_report report;
    assert_int_equal(sharena_check(heap, &report), EUCLEAN);
    for (uint64_t i = 0; i < report.findings && i < SHARENA_REPORT_MESSAGES; i++) {
        if (strstr(report.messages[i], words) != NULL) {
            return;
        }
    }
    fail_msg("no '%s' in %llu findings, the first: %s", words, (unsigned long long)report.findings,
             report.messages[0]);
}

static void assert_clean(void) {
    if (sharena_check(heap, NULL) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
}

/* With the field at that value the words are said; then it is as before, and clean. */
#define assert_finds(field, value, words)                                                          \
    do {                                                                                           \
        __typeof__(shared_get(field)) old_ = shared_get(field);                                    \
        shared_store(field, (__typeof__(old_))(value));                                            \
        assert_found(words);                                                                       \
        shared_store(field, old_);                                                                 \
        assert_clean();                                                                            \
    } while (0)

/* ---- hands ---- */

static void test_hand_with_a_run(void **state) {
    (void)state;
    const struct hand *hand = &self->hand;
    assert_int_equal(arena_take(heap, self, shared_get(&self->arena) - 1, 3, 1), 0);
    assert_clean();
    assert_finds(&self->hand.first, shared_get(&hand->first) + 1, "carries the run");
    assert_finds(&self->hand.first, UINT32_MAX, "carries the run");
    assert_finds(&self->hand.first, 0, "carries the run");
    assert_finds(&self->hand.count, 4, "carries the run");
    assert_finds(&self->hand.arena, 1000, "carries the run");
    assert_finds(&self->hand.kind, 77, "does not exist");
    shared_store(&self->hand.charged_first, shared_get(&hand->first) - 1);
    assert_finds(&self->hand.charged, 2, "not its own");
    shared_store(&self->hand.charged_first, shared_get(&hand->first));
    assert_finds(&self->hand.charged, 4, "not its own");
    assert_finds(&self->hand.charged, UINT32_MAX, "not its own");
    arena_give(heap, self);
    assert_finds(&self->hand.charged, 1, "not its own"); /* nothing is in the hand */
}

static void test_a_slot_that_names_another(void **state) {
    (void)state;
    assert_finds(&self->index, shared_get(&self->index) + 1, "it says that it is slot");
}

static void test_hand_with_a_span(void **state) {
    (void)state;
    const struct hand *hand = &self->hand;
    assert_int_equal(pool_take(heap, self, 2, 1), 0);
    uint32_t page = first_page_of_chunk(shared_get(&hand->first));
    assert_clean();
    assert_finds(&self->hand.first, shared_get(&hand->first) + 1, "carries the chunk");
    assert_finds(&self->hand.first, UINT32_MAX, "carries the chunk");
    assert_finds(&self->hand.count, 1, "carries the chunk");
    shared_store(&self->hand.charged_first, page + 2 * CHUNK_PAGES - 1);
    assert_finds(&self->hand.charged, 2, "not its own");
    shared_store(&self->hand.charged_first, 0u);
    assert_finds(&self->hand.charged, 1, "not its own");
    pool_give(heap, self);
}

/* Two slots say that they carry one run, and another run has nobody. */
static void test_two_hands_with_one_run(void **state) {
    (void)state;
    struct thread_slot *other = slot_take(fixture_attachment());
    uint32_t arena = shared_get(&self->arena) - 1;
    assert_non_null(other);
    assert_int_equal(arena_take(heap, self, arena, 3, 1), 0);
    const struct hand first = self->hand;
    hand_empty(self);
    assert_int_equal(arena_take(heap, self, arena, 3, 1), 0);
    hand_fill(other, &first);
    assert_clean();
    assert_finds(&other->hand.first, shared_get(&self->hand.first), "carries the run");
    arena_give(heap, other);
    arena_give(heap, self);
    slot_give_back(other);
}

/* Pages behind the end of a huge block, and no others. */
static void test_hand_with_a_tail(void **state) {
    (void)state;
    char *block = sharena_malloc(heap, 5 * MIB); /* three chunks, the last half backed */
    assert_non_null(block);
    uint32_t page = page_of(heap, block);
    uint32_t backed = shared_get(&heap_chunk(heap, chunk_of_page(page))->backed);
    uint64_t charged = charged_pages();
    shared_store(&self->hand.kind, HAND_TAIL);
    assert_clean();
    shared_store(&self->hand.charged_first, page + backed);
    shared_store(&self->hand.charged, 3 * CHUNK_PAGES - backed);
    shared_store(&heap_state(heap)->backed_pages, charged + 3 * CHUNK_PAGES - backed);
    assert_clean();
    assert_finds(&self->hand.charged, 3 * CHUNK_PAGES - backed + 1, "not its own");
    assert_finds(&self->hand.charged_first, page + backed - 1, "not its own");
    assert_finds(&self->hand.charged_first, UINT32_MAX, "not its own");
    assert_finds(&self->hand.charged_first, 0, "not its own");
    shared_store(&self->hand.charged, 0u);
    shared_store(&self->hand.kind, HAND_EMPTY);
    shared_store(&heap_state(heap)->backed_pages, charged);
    sharena_free(heap, block);
}

/* ---- quarantine ---- */

static void test_a_quarantine(void **state) {
    (void)state;
    struct conf conf = {.quarantine_bytes = 4096};
    struct quarantine *quarantine = slot_quarantine(self);
    shared_ptr *storage = slot_quarantine_storage(self);
    char *block = sharena_mallocx(heap, 100, SHARENA_TCACHE_NONE);
    char *other = sharena_mallocx(heap, 100, SHARENA_TCACHE_NONE);
    quarantine_open(heap, self, &conf);
    quarantine_push(self, block, 112);
    assert_clean();
    assert_finds(&storage[0], block + 8, "which is no block");
    assert_finds(&storage[0], NULL, "which is no block");
    assert_finds(&storage[0], (char *)heap, "which is no block");
    assert_finds(&quarantine->is_backed, 0, "which cannot be");
    assert_finds(&quarantine->tail, QUARANTINE_ENTRIES + 1, "which cannot be");
    assert_finds(&quarantine->head, 2, "which cannot be");
    quarantine_push(self, other, 112);
    assert_finds(&storage[1], block, "is in two caches");
    assert_finds(&self->state, SLOT_FREE, "free, but owns something");
    publish_begin(self, PENDING_FREE, NULL, block); /* the newest may be: its step was cut off */
    assert_found("is about a block that is in a cache");
    shared_store(&self->pending.block, (void *)other);
    assert_clean();
    publish_end(self);
    quarantine_drain(heap, self);
    assert_clean();
}

/* ---- pending steps ---- */

static void test_pending(void **state) {
    (void)state;
    void **where = sharena_calloc(heap, 4, sizeof(void *));
    char *block = sharena_malloc(heap, 64);
    char *huge = sharena_malloc(heap, 9 * MIB); /* of a class without a cache */
    struct pending *pending = &self->pending;
    publish_begin(self, PENDING_FREE, where, block);
    assert_clean();
    assert_finds(&pending->kind, PENDING_FREE + 1, "does not exist");
    assert_finds(&pending->where, (char *)&where[1] + 4, "no variable");
    assert_finds(&pending->where, (void *)heap, "no variable");
    assert_finds(&pending->where, (void *)UINTPTR_MAX, "no variable");
    assert_finds(&pending->where, (void *)&heap_roots(heap)->roots[1].object, "no variable");
    assert_finds(&pending->block, block + 8, "no live block");
    assert_finds(&pending->block, (char *)heap, "no live block");
    assert_finds(&pending->block, (char *)UINTPTR_MAX, "no live block");
    assert_finds(&pending->block, huge + PAGE_BYTES, "no live block");
    shared_store(&pending->where, (void *)&heap_roots(heap)->roots[1].block);
    shared_store(&pending->block, (void *)huge);
    assert_clean();
    publish_end(self);
    sharena_free(heap, huge);
    sharena_free(heap, where);
    sharena_free(heap, block);
}

/* A block that would be given back is in no cache, unless on top of the slot's own: there it is. */
static void test_pending_and_cached(void **state) {
    (void)state;
    void **where = sharena_calloc(heap, 1, sizeof(void *));
    char *first = sharena_malloc(heap, 64);
    char *last = sharena_malloc(heap, 64);
    sharena_free(heap, first);
    sharena_free(heap, last);
    publish_begin(self, PENDING_FREE, where, last);
    assert_clean();
    assert_finds(&self->pending.block, first, "in a cache");
    *where = first; /* published: nothing would be given back */
    shared_store(&self->pending.block, (void *)first);
    assert_clean();
    publish_end(self);
    sharena_free(heap, where);
}

/* ---- roots ---- */

static void test_root_under_way(void **state) {
    (void)state;
    char *other = sharena_malloc(heap, 200);
    sharena_free(heap, other);
    void *made = sharena_root_create(heap, "made", 64, NULL, NULL);
    assert_non_null(made);
    struct root *root = heap_roots(heap)->roots; /* as it is while init() runs */
    shared_store(&root->block, made);
    shared_store(&root->object, NULL);
    shared_store(&root->state, ROOT_MAKING);
    assert_clean();
    assert_finds(&root->block, other, "no block of its own"); /* cached */
    assert_finds(&root->block, (char *)made + 16, "no block of its own");
    assert_finds(&root->block, (void *)UINTPTR_MAX, "no block of its own");
    assert_finds(&root->state, 9, "does not exist");
    shared_store(&root->block, NULL);
    shared_store(&root->object, made);
    shared_store(&root->state, ROOT_SET);
    assert_finds(&root->object, NULL, "not in the heap");
    assert_int_equal(sharena_root_set(heap, "made", NULL), 0);
    sharena_free(heap, made);
}

/* ---- stacks that are none, and patience ---- */

static void test_stacks_that_are_always_empty(void **state) {
    (void)state;
    struct tcache *tcache = slot_tcache(self);
    shared_ptr *ends[] = {&tcache->stacks[0].top, &tcache->stacks[TCACHE_UNCACHED].bottom};
    for (int i = 0; i < 2; i++) {
        assert_finds(ends[i], (void *)8, "always empty");
    }
}

#define WILD_SLOTS 16

static void make_wild(struct tcache *tcache) {
    for (uint32_t i = 1; i <= SIZE_CLASSES_CACHED; i++) {
        shared_store(&tcache->stacks[i].top, (void *)(uintptr_t)(8 * i));
    }
}

static void test_all_stacks_wild(void **state) {
    (void)state;
    struct thread_slot *slots[WILD_SLOTS];
    struct timespec begin;
    struct timespec end;
    for (int i = 0; i < WILD_SLOTS; i++) {
        slots[i] = slot_take(fixture_attachment());
        assert_non_null(slots[i]);
        make_wild(slot_tcache(slots[i]));
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_found("out of its storage");
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    /* 16 x 69 stacks, 20 looks at each, a millisecond between them, would be 22 s. */
    assert_true(end.tv_sec - begin.tv_sec < 10);
    for (int i = 0; i < WILD_SLOTS; i++) {
        memset(slot_tcache(slots[i])->stacks, 0, sizeof(struct tcache_stack) * TCACHE_STACKS);
        slot_give_back(slots[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_self(test_hand_with_a_run),  with_self(test_a_slot_that_names_another),
        with_self(test_hand_with_a_span), with_self(test_two_hands_with_one_run),
        with_self(test_hand_with_a_tail), with_self(test_a_quarantine),
        with_self(test_pending),          with_self(test_pending_and_cached),
        with_self(test_root_under_way),   with_self(test_stacks_that_are_always_empty),
        with_self(test_all_stacks_wild),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
