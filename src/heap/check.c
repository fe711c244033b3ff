/* check.c -- sharena_check: proves the ownership rule for the whole heap.
 *
 * All locks are taken, bins first, so no page changes its owner and no region leaves or enters a
 * bin. Threads go on popping and pushing meanwhile: a block may pass from one cache through the
 * application to another while the caches are read, so a block that was met twice is looked for
 * again before it is a finding.
 *
 * Holds:  between lock_all and unlock_all nothing that the walk reads changes, but for the caches
 * Lock:   all, in one order: bins, arenas, pool, names
 * Killed: the locks say so to the next; there is nothing to undo
 * Not here: chunks, runs and arenas (audit.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "heap/audit.h"
#include "heap/heap.h"
#include "heap/reap.h"
#include "heap/tcache.h"
#include "ipc/cancel.h"
#include "ipc/errors.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define RETRIES 20
#define RETRY_PAUSE_NS 1000000

/* ---- locks ---- */

/* The one place that holds several locks of a rank; their order is fixed. */
static void take(sharena_t *heap, struct thread_slot *self, struct shared_lock *lock) {
    shared_store(&self->held_rank, RANK_NONE);
    lock_acquire(heap, self, lock);
}

static void lock_all(sharena_t *heap, struct thread_slot *self, uint32_t arenas) {
    for (uint32_t i = 0; i < arenas; i++) {
        for (uint32_t j = 0; j < SIZE_CLASSES_SMALL; j++) {
            take(heap, self, &heap_arena(heap, i)->bins[j].lock);
        }
    }
    for (uint32_t i = 0; i < arenas; i++) {
        take(heap, self, &heap_arena(heap, i)->lock);
    }
    take(heap, self, &heap_pool(heap)->lock);
    take(heap, self, &heap_roots(heap)->lock);
}

static void unlock_all(sharena_t *heap, struct thread_slot *self, uint32_t arenas) {
    lock_release(heap, self, &heap_roots(heap)->lock);
    lock_release(heap, self, &heap_pool(heap)->lock);
    for (uint32_t i = arenas; i-- > 0;) {
        lock_release(heap, self, &heap_arena(heap, i)->lock);
    }
    for (uint32_t i = arenas; i-- > 0;) {
        for (uint32_t j = SIZE_CLASSES_SMALL; j-- > 0;) {
            lock_release(heap, self, &heap_arena(heap, i)->bins[j].lock);
        }
    }
}

/* Locks all arenas that exist; their number, or UINT32_MAX if the marks have become too few for the
 * heap or an arena was made meanwhile. */
static uint32_t try_lock_heap(sharena_t *heap, struct thread_slot *self, uint64_t marks_bytes) {
    uint32_t arenas = shared_get(&heap_pool(heap)->arenas_made);
    lock_all(heap, self, arenas);
    if (shared_get(&heap_pool(heap)->arenas_made) == arenas &&
        shared_get(&heap_state(heap)->data_bytes) / 64 <= marks_bytes) {
        return arenas;
    }
    unlock_all(heap, self, arenas);
    return UINT32_MAX;
}

/* ---- caches ---- */

static void pause_shortly(void) {
    const struct timespec pause = {0, RETRY_PAUSE_NS};
    int cancel_state = cancel_forbid(); /* all locks are held */
    (void)nanosleep(&pause, NULL);
    cancel_restore(cancel_state);
}

/* What a thread slot says that one of its stacks holds, as of one moment. */
struct extent {
    const shared_ptr *bottom;
    const shared_ptr *top;
};

/* NULL: the slot never had a cache. */
static int is_in_storage(const struct tcache *tcache, uint32_t size_class, const shared_ptr *at) {
    const shared_ptr *first = &tcache->storage[sizeclass_stack_first(size_class)];
    return at == NULL || (at >= first && at <= first + sizeclass_stack_entries(size_class) &&
                          (uintptr_t)at % sizeof(*at) == 0);
}

/* 0 if it is out of its storage, or looked so because its thread moved it meanwhile. */
static int read_extent(const struct tcache *tcache, uint32_t size_class, struct extent *extent) {
    const struct tcache_stack *stack = &tcache->stacks[size_class + 1];
    extent->bottom = shared_get(&stack->bottom);
    extent->top = shared_get(&stack->top);
    return extent->bottom <= extent->top && (extent->bottom == NULL) == (extent->top == NULL) &&
           is_in_storage(tcache, size_class, extent->bottom) &&
           is_in_storage(tcache, size_class, extent->top) &&
           is_in_storage(tcache, size_class, shared_get(&stack->base)) &&
           is_in_storage(tcache, size_class, shared_get(&stack->full));
}

/* How many caches hold the block at this moment. */
static uint32_t count_holders(const sharena_t *heap, const void *block) {
    uint32_t holders = 0;
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        struct tcache *tcache = slot_tcache(heap_thread(heap, i));
        for (uint32_t j = 1; j <= SIZE_CLASSES_CACHED; j++) {
            struct extent extent;
            int is_sound = read_extent(tcache, j - 1, &extent);
            for (const shared_ptr *at = extent.bottom; is_sound && at < extent.top; at++) {
                holders += shared_get(at) == block;
            }
        }
    }
    return holders;
}

static int is_held_twice(const sharena_t *heap, const void *block) {
    for (int i = 0; i < RETRIES; i++) {
        if (count_holders(heap, block) < 2) {
            return 0;
        }
        pause_shortly();
    }
    return 1;
}

static int mark(struct audit *audit, const void *block) {
    uint64_t offset = (uintptr_t)block - heap_state(audit->heap)->data_begin;
    uint64_t *word = &audit->marks[offset / 8 / 64];
    uint64_t bit = 1ull << offset / 8 % 64;
    int seen = (*word & bit) != 0;
    *word |= bit;
    return !seen;
}

static void audit_cached(struct audit *audit, uint32_t slot, uint32_t size_class,
                         const void *block) {
    size_t bytes = audit_block_bytes(audit->heap, block);
    if (bytes != sizeclass_bytes(size_class)) {
        audit_finding(audit,
                      "thread slot %u: its cache of class %u holds %p, which is no block of it",
                      slot, size_class, block);
        return;
    }
    if (!mark(audit, block)) {
        if (is_held_twice(audit->heap, block)) {
            audit_finding(audit, "thread slot %u: %p is in two caches", slot, block);
        }
        return;
    }
    audit->report->blocks_cached++;
    audit->report->bytes_cached += bytes;
}

static void audit_stack(struct audit *audit, struct thread_slot *slot, uint32_t size_class) {
    const struct tcache *tcache = slot_tcache(slot);
    struct extent extent;
    int is_sound = read_extent(tcache, size_class, &extent);
    for (int i = 0; i < RETRIES && !is_sound; i++) {
        pause_shortly();
        is_sound = read_extent(tcache, size_class, &extent);
    }
    if (!is_sound) {
        audit_finding(audit, "thread slot %u: its stack of class %u is out of its storage",
                      shared_get(&slot->index), size_class);
        return;
    }
    for (const shared_ptr *at = extent.bottom; at < extent.top; at++) {
        audit_cached(audit, shared_get(&slot->index), size_class, shared_get(at));
    }
}

/* ---- slots ---- */

/* The entries are only looked at if their tables have them. */
static int carries_run(const sharena_t *heap, uint32_t page, uint32_t pages) {
    uint32_t chunk = chunk_of_page(page);
    return chunk >= first_chunk(heap) && chunk < end_chunk(heap) &&
           shared_get(&heap_chunk(heap, chunk)->has_runs) &&
           shared_get(&heap_run(heap, page)->state) == RUN_HAND &&
           shared_get(&heap_run(heap, page)->size) == pages;
}

static int carries_span(const sharena_t *heap, uint32_t chunk, uint32_t chunks) {
    return chunk >= first_chunk(heap) && chunk < end_chunk(heap) &&
           shared_get(&heap_chunk(heap, chunk)->state) == CHUNK_HAND &&
           shared_get(&heap_chunk(heap, chunk)->size) == chunks;
}

static void audit_hand(struct audit *audit, const struct thread_slot *slot) {
    const struct hand *hand = &slot->hand;
    uint32_t first = shared_get(&hand->first);
    uint32_t count = shared_get(&hand->count);
    uint32_t index = shared_get(&slot->index);
    audit->backed_pages += shared_get(&hand->charged);
    if (shared_get(&hand->kind) == HAND_RUN) {
        audit->hands++;
        if (!carries_run(audit->heap, first, count)) {
            audit_finding(audit, "thread slot %u: carries the run at page %u, which is not so",
                          index, first);
        }
        int is_dirty = (shared_get(&hand->flags) & HAND_DIRTY) != 0;
        audit->backed_pages += is_dirty && shared_get(&hand->charged) == 0 ? count : 0;
    } else if (shared_get(&hand->kind) == HAND_SPAN) {
        audit->hands++;
        if (!carries_span(audit->heap, first, count)) {
            audit_finding(audit, "thread slot %u: carries the chunk %u, which is not so", index,
                          first);
        }
    } else if (shared_get(&hand->kind) > HAND_TAIL) {
        audit_finding(audit, "thread slot %u: a hand of kind %u does not exist", index,
                      shared_get(&hand->kind));
    }
}

/* A thread that moves its own stack right now has an open journal; then the stack is read later. */
static void wait_until_still(const struct thread_slot *slot, const struct thread_slot *self) {
    for (int i = 0; i < RETRIES && slot != self && !journal_is_empty(slot); i++) {
        pause_shortly();
    }
}

static void audit_slot(struct audit *audit, struct thread_slot *slot,
                       const struct thread_slot *self, uint32_t *threads_of_arena) {
    uint32_t index = shared_get(&slot->index);
    uint32_t arena = shared_get(&slot->arena);
    uint64_t cached = audit->report->blocks_cached;
    if (shared_get(&slot->state) == SLOT_RAW) {
        return;
    }
    wait_until_still(slot, self);
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        audit_stack(audit, slot, i);
    }
    audit_hand(audit, slot);
    if (arena > audit->arenas) {
        audit_finding(audit, "thread slot %u: its arena %u does not exist", index, arena - 1);
    } else if (arena != 0) {
        threads_of_arena[arena - 1]++;
    }
    if (shared_get(&slot->state) == SLOT_FREE &&
        (cached != audit->report->blocks_cached || shared_get(&slot->hand.kind) != HAND_EMPTY)) {
        audit_finding(audit, "thread slot %u: free, but owns something", index);
    }
}

static void audit_slots(struct audit *audit, const struct thread_slot *self) {
    uint32_t threads_of_arena[ARENAS_MAX] = {0};
    uint32_t high = shared_get(&heap_state(audit->heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        audit_slot(audit, heap_thread(audit->heap, i), self, threads_of_arena);
    }
    for (uint32_t i = 0; i < audit->arenas; i++) {
        uint32_t threads = shared_get(&heap_arena(audit->heap, i)->threads);
        if (threads != threads_of_arena[i]) {
            audit_finding(audit, "arena %u: %u thread slots use it, but it counts %u", i,
                          threads_of_arena[i], threads);
        }
    }
}

/* ---- the whole ---- */

static void audit_roots(struct audit *audit) {
    const struct root_table *table = heap_roots(audit->heap);
    uint32_t high = shared_get(&table->high);
    if (high > SHARENA_ROOTS_MAX) {
        audit_finding(audit, "roots: %u entries used of %u", high, SHARENA_ROOTS_MAX);
        return;
    }
    for (uint32_t i = 0; i < high; i++) {
        const struct root *root = &table->roots[i];
        if (shared_get(&root->state) == ROOT_SET &&
            !is_user_data(audit->heap, shared_get(&root->object))) {
            audit_finding(audit, "root %.40s: names %p, which is not in the heap", root->name,
                          shared_get(&root->object));
        }
    }
}

static void audit_sums(struct audit *audit) {
    struct sharena_report *report = audit->report;
    uint64_t books = shared_get(&heap_state(audit->heap)->backed_pages);
    report->pages_backed = audit->backed_pages;
    report->blocks_live -= report->blocks_cached;
    report->bytes_live -= report->bytes_cached;
    uint64_t found = audit->backed_pages + audit_table_pages(audit->heap);
    if (found != books) {
        audit_finding(audit, "backed pages: %llu by the walk, %llu by the count",
                      (unsigned long long)found, (unsigned long long)books);
    }
    if (audit->hands != audit->hand_runs + audit->hand_spans) {
        audit_finding(audit, "%u runs and spans are in transit, but %u hands carry one",
                      audit->hand_runs + audit->hand_spans, audit->hands);
    }
}

/* The numbers that say how much there is to walk over. They only grow, so no lock is needed. */
static void audit_bounds(struct audit *audit) {
    const struct superblock *superblock = heap_superblock(audit->heap);
    const struct heap_state *state = heap_state(audit->heap);
    uint64_t bytes = shared_get(&state->data_bytes);
    uint32_t arenas = shared_get(&heap_pool(audit->heap)->arenas_made);
    uint32_t threads = shared_get(&state->threads_high);
    if (bytes > superblock->total_bytes - superblock->data_offset || bytes % CHUNK_BYTES != 0) {
        audit_finding(audit, "%llu bytes of user data cannot be", (unsigned long long)bytes);
    }
    if (arenas > ARENAS_MAX) {
        audit_finding(audit, "%u arenas cannot be, at most %u", arenas, ARENAS_MAX);
    }
    if (threads > THREADS_MAX) {
        audit_finding(audit, "%u thread slots cannot be, at most %u", threads, THREADS_MAX);
    }
}

static void audit_heap(struct audit *audit, const struct thread_slot *self) {
    audit_chunks(audit);
    if (audit->report->findings == 0) { /* what follows walks what the chunks say */
        audit_arenas(audit);
        audit_slots(audit, self);
        audit_roots(audit);
        audit_sums(audit);
    }
}

/* Room for twice the heap that there is, so that it may grow until all is locked. */
static uint64_t wanted_marks(const sharena_t *heap) {
    return round_up(shared_get(&heap_state(heap)->data_bytes) / 32 + PAGE_BYTES, PAGE_BYTES);
}

static int check_once(sharena_t *heap, struct thread_slot *self, struct sharena_report *report,
                      int *is_done) {
    uint64_t bytes = wanted_marks(heap);
    void *marks = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (marks == MAP_FAILED) {
        return error_set(ENOMEM, "no %llu bytes of private memory for a check",
                         (unsigned long long)bytes);
    }
    uint32_t arenas = try_lock_heap(heap, self, bytes);
    *is_done = arenas != UINT32_MAX;
    if (*is_done) {
        struct audit audit = {.heap = heap, .report = report, .arenas = arenas, .marks = marks};
        audit_heap(&audit, self);
        unlock_all(heap, self, arenas);
    }
    (void)munmap(marks, bytes);
    return 0;
}

SHARENA_API int sharena_check(sharena_t *heap, struct sharena_report *given) {
    struct sharena_report own = {0};
    struct sharena_report *report = given != NULL ? given : &own;
    memset(report, 0, sizeof(*report));
    struct thread_slot *self = heap_enter(heap);
    if (self == NULL) {
        return errno;
    }
    struct audit bounds = {.heap = heap, .report = report};
    audit_bounds(&bounds);
    int is_done = report->findings != 0;
    int error = 0;
    if (!is_done) {
        (void)reap_dead(heap_attachment(heap));
    }
    while (error == 0 && !is_done) {
        error = check_once(heap, self, report, &is_done);
    }
    if (error == 0 && report->findings != 0) {
        error = error_set(EUCLEAN, "%llu broken rules in the heap %p, the first: %s",
                          (unsigned long long)report->findings, (void *)heap, report->messages[0]);
    }
    return error;
}
