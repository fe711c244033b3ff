/* audit_slots.c -- what threads and roots own: caches, hands, pending steps, named objects.
 *
 * Rules proved here, each with its finding: stacks lie in their storage and hold blocks of their
 * class, each in one cache only; a hand carries what says that it is carried; a pending step is
 * about a live block that nobody else would give back. So whoever takes a dead thread's slot can
 * follow all that it says.
 *
 * Threads go on popping and pushing meanwhile: what looks wrong is looked at again, for some time.
 *
 * Lock:   all of the heap, held by the caller
 * Killed: nothing is changed
 * Not here: chunks, runs and arenas (audit.c): their findings come first, what they say is believed
 */
#include "heap/audit_slots.h"

#include <time.h>

#include "heap/audit.h"
#include "heap/bin.h"
#include "heap/chunk.h"
#include "heap/huge.h"
#include "heap/large.h"
#include "heap/publish.h"
#include "heap/quarantine.h"
#include "heap/run.h"
#include "heap/tcache.h"
#include "ipc/cancel.h"
#include "ipc/journal.h"
#include "ipc/slot.h"

#define RETRIES 20
#define RETRY_PAUSE_NS 1000000
#define PATIENCE_NS 200000000ull /* for all that looks wrong in one check */

/* ---- blocks ---- */

size_t audit_block_bytes(const sharena_t *heap, const void *ptr) {
    uint32_t page;
    uint32_t index;
    if (!is_user_data(heap, ptr)) {
        return 0;
    }
    uint32_t stack = shared_get(heap_page_map(heap) + page_of(heap, ptr)) /
                     (uint32_t)sizeof(struct tcache_stack);
    if (stack == 0 || stack > SIZE_CLASSES_CACHED) {
        return 0;
    }
    if (stack <= SIZE_CLASSES_SMALL) {
        struct run *run = bin_find_run(heap, ptr, &page, &index);
        int is_out =
            run != NULL && (shared_get(run_bitmap_word(run, index)) >> index % 64 & 1u) == 0;
        return is_out ? sizeclass_bytes(stack - 1) : 0;
    }
    return large_is_block(heap, ptr) || huge_is_block(heap, ptr) ? sizeclass_bytes(stack - 1) : 0;
}

int audit_is_block(const sharena_t *heap, const void *ptr) {
    return audit_block_bytes(heap, ptr) != 0 ||
           (is_user_data(heap, ptr) && (huge_is_block(heap, ptr) || large_is_block(heap, ptr)));
}

/* ---- caches ---- */

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Before a second look; 0 if there was enough waiting: a damaged heap may look wrong everywhere.
 * Who is alone would see the same again: a thread that comes meanwhile waits for the pool's lock
 * before it has anything. */
static int wait_shortly(struct audit *audit) {
    const struct attachment *attachment = registry_find(audit->heap);
    if (attachment == NULL || slot_is_alone(attachment)) {
        return 0;
    }
    const struct timespec pause = {0, RETRY_PAUSE_NS};
    uint64_t now = now_ns();
    if (audit->waits_end_ns == 0) {
        audit->waits_end_ns = now + PATIENCE_NS;
    }
    int cancel_state = cancel_forbid(); /* all locks are held */
    (void)nanosleep(&pause, NULL);      /* a signal makes it shorter: no reason to stop looking */
    cancel_restore(cancel_state);
    return now < audit->waits_end_ns;
}

/* What a thread slot says that one of its stacks holds, as of one moment. */
struct extent {
    const shared_ptr *bottom;
    const shared_ptr *top;
};

static int is_at_home(const struct stack_home *home, const shared_ptr *at) {
    return at >= home->first && at <= home->first + home->entries &&
           (uintptr_t)at % sizeof(*at) == 0;
}

/* The thread's own: who dies as a stack moves, or as it gets its first place, leaves it behind. */
static int is_hint(const struct stack_home homes[2], const shared_ptr *at) {
    return at == NULL || is_at_home(&homes[0], at) || is_at_home(&homes[1], at);
}

/* 0 if it is out of its storage, or looked so because its thread moved it meanwhile. All is NULL
 * where the slot never had a cache. */
static int read_extent(const sharena_t *heap, struct thread_slot *slot, uint32_t index,
                       struct extent *extent) {
    const struct tcache_stack *stack = &slot_tcache(slot)->stacks[index];
    const shared_ptr *first = shared_get(&slot_tcache(slot)->first[index]);
    const shared_ptr *base = shared_get(&stack->base);
    const shared_ptr *full = shared_get(&stack->full);
    extent->bottom = shared_get(&stack->bottom);
    extent->top = shared_get(&stack->top);
    if (first == NULL) {
        return extent->bottom == NULL && extent->top == NULL && base == NULL && full == NULL;
    }
    const struct stack_home homes[] = {tcache_home(heap, slot, index, 0),
                                       tcache_home(heap, slot, index, 1)};
    const struct stack_home *home = &homes[first == homes[0].first ? 0 : 1];
    return first == home->first && extent->bottom <= extent->top &&
           is_at_home(home, extent->bottom) && is_at_home(home, extent->top) &&
           is_hint(homes, base) && is_hint(homes, full);
}

/* How many caches hold the block at this moment. */
static uint32_t count_holders(const sharena_t *heap, const void *block) {
    uint32_t holders = 0;
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        for (uint32_t j = 0; j < TCACHE_STACKS; j++) {
            struct extent extent;
            int is_sound = read_extent(heap, heap_thread(heap, i), j, &extent);
            for (const shared_ptr *at = extent.bottom; is_sound && at < extent.top; at++) {
                holders += shared_get(at) == block;
            }
        }
        holders += quarantine_has(heap_thread(heap, i), block);
    }
    return holders;
}

static int is_held_twice(struct audit *audit, const void *block) {
    int tries = RETRIES;
    while (tries > 0 && count_holders(audit->heap, block) >= 2) {
        tries = wait_shortly(audit) ? tries - 1 : 0;
    }
    return tries == 0;
}

/* A live block of that size is in a cache or a quarantine. */
static void audit_held(struct audit *audit, uint32_t slot, const void *block, size_t bytes) {
    if (!audit_mark(audit, block)) {
        if (is_held_twice(audit, block)) {
            audit_finding(audit, "thread slot %u: %p is in two caches", slot, block);
        }
        return;
    }
    audit->report->blocks_cached++;
    audit->report->bytes_cached += bytes;
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
    audit_held(audit, slot, block, bytes);
}

/* Its entries, from what is the oldest at this moment, stay as they are while all is locked: what
 * leaves the quarantine is a live block still. */
static void audit_quarantine(struct audit *audit, struct thread_slot *slot) {
    uint32_t index = shared_get(&slot->index);
    for (int i = 0; i < RETRIES && !quarantine_is_sound(slot) && wait_shortly(audit); i++) {
    }
    uint32_t head = shared_get(&slot_quarantine(slot)->head);
    uint32_t count = shared_get(&slot_quarantine(slot)->tail) - head;
    if (!quarantine_is_sound(slot) || count > QUARANTINE_ENTRIES) {
        audit_finding(audit, "thread slot %u: its quarantine holds %u blocks, which cannot be",
                      index, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const void *block =
            shared_get(&slot_quarantine_storage(slot)[(head + i) % QUARANTINE_ENTRIES]);
        size_t bytes = audit_block_bytes(audit->heap, block);
        if (bytes == 0) {
            audit_finding(audit, "thread slot %u: its quarantine holds %p, which is no block",
                          index, block);
        } else {
            audit_held(audit, index, block, bytes);
        }
    }
}

/* The stack `index` holds blocks of that class. */
static void audit_stack(struct audit *audit, struct thread_slot *slot, uint32_t index,
                        uint32_t size_class) {
    struct extent extent;
    int is_sound = read_extent(audit->heap, slot, index, &extent);
    for (int i = 0; i < RETRIES && !is_sound && wait_shortly(audit); i++) {
        is_sound = read_extent(audit->heap, slot, index, &extent);
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

/* What is on its way to its bins. */
static void audit_flushing(struct audit *audit, struct thread_slot *slot) {
    uint32_t size_class = shared_get(&slot_tcache(slot)->flushing_class);
    if (size_class >= SIZE_CLASSES_SMALL) {
        audit_finding(audit, "thread slot %u: flushes class %u, which has no bins",
                      shared_get(&slot->index), size_class);
        return;
    }
    audit_stack(audit, slot, TCACHE_FLUSHING, size_class);
}

/* A stack that stands for blocks that are not cached. */
static void audit_empty_stack(struct audit *audit, struct thread_slot *slot, uint32_t index) {
    const struct tcache_stack *stack = &slot_tcache(slot)->stacks[index];
    if (shared_get(&stack->top) != shared_get(&stack->bottom)) {
        audit_finding(audit, "thread slot %u: its stack %u, which is always empty, is not",
                      shared_get(&slot->index), index);
    }
}

/* ---- slots ---- */

/* Each run and span that is carried has its mark, which its one carrier takes off. */
static int takes_mark(struct audit *audit, uint32_t page) {
    const void *begin = page_address(audit->heap, page);
    return is_user_data(audit->heap, begin) && audit_unmark(audit, begin);
}

static int carries_run(struct audit *audit, const struct hand *hand) {
    uint32_t first = shared_get(&hand->first);
    if (!takes_mark(audit, first)) {
        return 0;
    }
    const struct run *run = heap_run(audit->heap, first);
    return shared_get(&run->state) == RUN_HAND &&
           shared_get(&run->size) == shared_get(&hand->count) &&
           shared_get(&run->arena) == shared_get(&hand->arena);
}

static int carries_span(struct audit *audit, const struct hand *hand) {
    uint32_t first = shared_get(&hand->first);
    if (first >= end_chunk(audit->heap) || !takes_mark(audit, first_page_of_chunk(first))) {
        return 0;
    }
    const struct chunk *chunk = heap_chunk(audit->heap, first);
    return shared_get(&chunk->state) == CHUNK_HAND &&
           shared_get(&chunk->size) == shared_get(&hand->count);
}

/* The huge block that has that page behind its end of backed pages; 0 if there is none. */
static uint32_t find_tail(const struct audit *audit, uint64_t page, uint64_t *end) {
    uint32_t chunk = first_chunk(audit->heap);
    while (chunk < end_chunk(audit->heap)) {
        const struct chunk *at = heap_chunk(audit->heap, chunk);
        uint32_t size = shared_get(&at->state) == CHUNK_ARENA ? 1 : shared_get(&at->size);
        *end = first_page_of_chunk(chunk + size);
        if (page < *end) {
            int is_behind = shared_get(&at->state) == CHUNK_HUGE &&
                            page >= first_page_of_chunk(chunk) + shared_get(&at->backed);
            return is_behind ? chunk : 0;
        }
        chunk += size;
    }
    return 0;
}

/* Whether the charged pages are run tables of chunks of the span, which these do not say they have.
 * They are about to be backed, or to be punched. */
static int are_unused_tables(const struct audit *audit, const struct hand *hand) {
    uint32_t first = shared_get(&hand->first);
    uint64_t end_of_span = (uint64_t)first + shared_get(&hand->count);
    if (first < first_chunk(audit->heap) || end_of_span > end_chunk(audit->heap)) {
        return 0;
    }
    uint64_t begin = page_of(audit->heap, heap_run(audit->heap, first_page_of_chunk(first)));
    uint64_t from = shared_get(&hand->charged_first);
    uint64_t to = from + shared_get(&hand->charged);
    uint64_t end = begin + (uint64_t)shared_get(&hand->count) * RUN_TABLE_PAGES;
    if (from < begin || to > end || from % RUN_TABLE_PAGES != begin % RUN_TABLE_PAGES ||
        to % RUN_TABLE_PAGES != begin % RUN_TABLE_PAGES) {
        return 0;
    }
    for (uint64_t page = from; page < to; page += RUN_TABLE_PAGES) {
        uint32_t chunk = first + (uint32_t)((page - begin) / RUN_TABLE_PAGES);
        if (shared_get(&heap_chunk(audit->heap, chunk)->has_runs)) {
            return 0;
        }
    }
    return 1;
}

/* Whether the pages that the hand has charged, if any, may be punched. */
static int may_be_punched(const struct audit *audit, const struct hand *hand) {
    uint64_t charged = shared_get(&hand->charged);
    uint64_t begin = shared_get(&hand->charged_first);
    uint64_t first = shared_get(&hand->first);
    uint64_t count = shared_get(&hand->count);
    uint64_t end = 0;
    if (charged == 0) {
        return 1;
    }
    switch (shared_get(&hand->kind)) {
    case HAND_RUN:
        return begin >= first && begin + charged <= first + count;
    case HAND_SPAN:
        return (begin >= first * CHUNK_PAGES && begin + charged <= (first + count) * CHUNK_PAGES) ||
               are_unused_tables(audit, hand);
    case HAND_TAIL:
        return find_tail(audit, begin, &end) != 0 && begin + charged <= end;
    default:
        return 0;
    }
}

static void audit_hand(struct audit *audit, const struct thread_slot *slot) {
    const struct hand *hand = &slot->hand;
    uint32_t kind = shared_get(&hand->kind);
    uint32_t first = shared_get(&hand->first);
    uint32_t index = shared_get(&slot->index);
    audit->backed_pages += shared_get(&hand->charged);
    if (kind == HAND_RUN) {
        audit->hands++;
        if (!carries_run(audit, hand)) {
            audit_finding(audit, "thread slot %u: carries the run at page %u, which is not so",
                          index, first);
        }
        int is_dirty = (shared_get(&hand->flags) & HAND_DIRTY) != 0;
        int counts = is_dirty && shared_get(&hand->charged) == 0;
        audit->backed_pages += counts ? shared_get(&hand->count) : 0;
    } else if (kind == HAND_SPAN) {
        audit->hands++;
        if (!carries_span(audit, hand)) {
            audit_finding(audit, "thread slot %u: carries the chunk %u, which is not so", index,
                          first);
        }
    } else if (kind > HAND_TAIL) {
        audit_finding(audit, "thread slot %u: a hand of kind %u does not exist", index, kind);
    }
    if (!may_be_punched(audit, hand)) {
        audit_finding(audit, "thread slot %u: its hand has charged %u pages at %u, not its own",
                      index, shared_get(&hand->charged), shared_get(&hand->charged_first));
    }
}

/* A thread that moves its own stack right now has an open journal; then the stack is read later. */
static void wait_until_still(struct audit *audit, const struct thread_slot *slot,
                             const struct thread_slot *self) {
    int tries = RETRIES;
    while (tries > 0 && slot != self && !journal_is_empty(slot)) {
        tries = wait_shortly(audit) ? tries - 1 : 0;
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
    wait_until_still(audit, slot, self);
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        audit_stack(audit, slot, i + 1, i);
    }
    audit_quarantine(audit, slot);
    audit_flushing(audit, slot);
    audit_empty_stack(audit, slot, 0);
    audit_empty_stack(audit, slot, TCACHE_UNCACHED);
    audit_empty_stack(audit, slot, TCACHE_SAMPLED);
    audit_hand(audit, slot);
    if (arena > audit->arenas) {
        audit_finding(audit, "thread slot %u: its arena %u does not exist", index, arena - 1);
    } else if (arena != 0) {
        threads_of_arena[arena - 1]++;
    }
    if (slot != heap_thread(audit->heap, index)) {
        audit_finding(audit, "thread slot at %p: it says that it is slot %u", (void *)slot, index);
    }
    if (shared_get(&slot->state) == SLOT_FREE &&
        (cached != audit->report->blocks_cached || shared_get(&slot->hand.kind) != HAND_EMPTY)) {
        audit_finding(audit, "thread slot %u: free, but owns something", index);
    }
}

/* ---- pending steps ---- */

/* Whether a step may look at, and change, what stands there. */
static int is_variable(const sharena_t *heap, void *const *where) {
    uint64_t offset = (uintptr_t)where - (uintptr_t)heap_roots(heap)->roots;
    int is_block_of_root = offset < sizeof(heap_roots(heap)->roots) &&
                           offset % sizeof(struct root) == offsetof(struct root, block);
    return (uintptr_t)where % sizeof(*where) == 0 &&
           (is_user_data(heap, where) || is_block_of_root);
}

static int is_on_top(const sharena_t *heap, struct thread_slot *slot, const void *block) {
    struct extent extent;
    uint32_t stack = shared_get(heap_page_map(heap) + page_of(heap, block)) /
                     (uint32_t)sizeof(struct tcache_stack);
    return stack != 0 && stack <= SIZE_CLASSES_CACHED && read_extent(heap, slot, stack, &extent) &&
           extent.top != extent.bottom && shared_get(extent.top - 1) == block;
}

static int is_newest(struct thread_slot *slot, const void *block) {
    uint32_t count = quarantine_is_sound(slot) ? quarantine_count(slot) : 0;
    return count != 0 && quarantine_entry(slot, count - 1) == block;
}

/* Whether settling the step, which was found sound, would give its block back (publish.c). */
static int gives_back(const sharena_t *heap, struct thread_slot *slot) {
    if (shared_get(&slot->state) != SLOT_USED ||
        shared_get_acquire(&slot->pending.kind) == PENDING_NONE) {
        return 0;
    }
    void *const *where = shared_get(&slot->pending.where);
    const void *block = shared_get(&slot->pending.block);
    int holds = where != NULL && __atomic_load_n(where, __ATOMIC_ACQUIRE) == block;
    return block != NULL && !holds && !is_on_top(heap, slot, block) && !is_newest(slot, block);
}

/* What is wrong with the step at this moment; NULL: nothing. */
static const char *pending_fault(const sharena_t *heap, struct thread_slot *slot) {
    uint32_t kind = shared_get_acquire(&slot->pending.kind);
    void *const *where = shared_get(&slot->pending.where);
    const void *block = shared_get(&slot->pending.block);
    if (kind == PENDING_NONE || shared_get(&slot->state) != SLOT_USED) {
        return NULL;
    }
    if (kind > PENDING_FREE) {
        return "does not exist";
    }
    if (where != NULL && !is_variable(heap, where)) {
        return "changes no variable of the heap";
    }
    if (block != NULL && !audit_is_block(heap, block)) {
        return "is about no live block";
    }
    return gives_back(heap, slot) && count_holders(heap, block) != 0
               ? "is about a block that is in a cache"
               : NULL;
}

/* The first slot, before `end`, whose step would give the same block back; `end` if none. */
static uint32_t find_rival(const sharena_t *heap, uint32_t end, const void *block) {
    for (uint32_t i = 0; i < end; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        if (shared_get(&slot->pending.block) == block && gives_back(heap, slot)) {
            return i;
        }
    }
    return end;
}

static void audit_pending(struct audit *audit, uint32_t index) {
    struct thread_slot *slot = heap_thread(audit->heap, index);
    const char *fault = pending_fault(audit->heap, slot);
    for (int i = 0; i < RETRIES && fault != NULL && wait_shortly(audit); i++) {
        fault = pending_fault(audit->heap, slot);
    }
    if (fault != NULL) {
        audit_finding(audit, "thread slot %u: its pending step %u %s: %p", index,
                      shared_get(&slot->pending.kind), fault, shared_get(&slot->pending.block));
    }
}

static int is_contested(struct audit *audit, uint32_t index) {
    struct thread_slot *slot = heap_thread(audit->heap, index);
    const void *block = shared_get(&slot->pending.block);
    return gives_back(audit->heap, slot) && find_rival(audit->heap, index, block) != index;
}

/* Only after all steps were found sound: it follows their variables. */
static void audit_rivals(struct audit *audit, uint32_t index) {
    int tries = RETRIES;
    while (tries > 0 && is_contested(audit, index)) {
        tries = wait_shortly(audit) ? tries - 1 : 0;
    }
    if (tries == 0) {
        audit_finding(audit, "thread slot %u: its pending step is about a block of another's",
                      index);
    }
}

/* ---- all ---- */

void audit_slots(struct audit *audit, const struct thread_slot *self) {
    uint32_t threads_of_arena[ARENAS_MAX] = {0};
    uint32_t high = shared_get(&heap_state(audit->heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        audit_slot(audit, heap_thread(audit->heap, i), self, threads_of_arena);
    }
    for (uint32_t i = 0; i < high; i++) {
        audit_pending(audit, i);
    }
    for (uint32_t i = 0; i < high && audit->report->findings == 0; i++) {
        audit_rivals(audit, i);
    }
    for (uint32_t i = 0; i < audit->arenas; i++) {
        uint32_t threads = shared_get(&heap_arena(audit->heap, i)->threads);
        if (threads != threads_of_arena[i]) {
            audit_finding(audit, "arena %u: %u thread slots use it, but it counts %u", i,
                          threads_of_arena[i], threads);
        }
    }
}

/* ---- roots ---- */

/* Whether the maker of the root, dead or alive, has a step open that decides whose its block is. */
static int is_being_published(const sharena_t *heap, const struct root *root) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        const struct thread_slot *slot = heap_thread(heap, i);
        if (shared_get(&slot->pending.where) == (const void *)&root->block) {
            return 1;
        }
    }
    return 0;
}

static void audit_root(struct audit *audit, const struct root *root) {
    uint32_t state = shared_get(&root->state);
    const void *object = shared_get(&root->object);
    const void *block = shared_get(&root->block);
    if (state > ROOT_MAKING) {
        audit_finding(audit, "root %.40s: state %u does not exist", root->name, state);
    }
    if (state == ROOT_SET && !is_user_data(audit->heap, object)) {
        audit_finding(audit, "root %.40s: names %p, which is not in the heap", root->name, object);
    }
    if (state == ROOT_MAKING && block != NULL && !is_being_published(audit->heap, root) &&
        (!audit_is_block(audit->heap, block) || count_holders(audit->heap, block) != 0)) {
        audit_finding(audit, "root %.40s: is made of %p, which is no block of its own", root->name,
                      block);
    }
}

void audit_roots(struct audit *audit) {
    const struct root_table *table = heap_roots(audit->heap);
    uint32_t high = shared_get(&table->high);
    if (high > SHARENA_ROOTS_MAX) {
        audit_finding(audit, "roots: %u entries used of %u", high, SHARENA_ROOTS_MAX);
        return;
    }
    for (uint32_t i = 0; i < high; i++) {
        audit_root(audit, &table->roots[i]);
    }
}
