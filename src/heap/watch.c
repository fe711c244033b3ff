/* watch.c -- what the configuration asks to be done at each call.
 *
 * A block that is freed once more, or used, while it waits in a cache or a quarantine looks live in
 * the books. So the caches are searched: always the thread's own; those of all others too if the
 * block is filled as freed ones are, which a live one hardly ever is.
 *
 * Lock:   none held on entry or return
 * Killed: see quarantine.h and fill.c
 * Not here: who calls this (alloc.c, api.c); that no call passes by (conf_is_watching()); bad
 *           pointers that the books show (alloc.c)
 */
#include "heap/watch.h"

#include "heap/fill.h"
#include "heap/misuse.h"
#include "heap/publish.h"
#include "heap/quarantine.h"
#include "heap/tcache.h"
#include "ipc/journal.h"
#include "ipc/registry.h"

#define LEAST_BYTES 8 /* of any block */
#define LOOKS 3       /* at a cache of another thread, before it is believed to hold a block */

/* Where a thread's stack of a class begins and ends, as of one moment. */
struct ends {
    const shared_ptr *bottom;
    const shared_ptr *top;
    uint32_t head;
    uint32_t tail;
};

static struct ends ends_of(struct thread_slot *slot, uint32_t stack) {
    const struct tcache_stack *at = &slot_tcache(slot)->stacks[stack];
    return (struct ends){shared_get_acquire(&at->bottom), shared_get_acquire(&at->top),
                         shared_get_acquire(&slot_quarantine(slot)->head),
                         shared_get_acquire(&slot_quarantine(slot)->tail)};
}

/* Ends of two moments may lie in two homes of the stack, and what is between may not exist. */
static int are_at_home(const sharena_t *heap, struct thread_slot *slot, uint32_t stack,
                       const struct ends *ends) {
    for (int is_grown = 0; is_grown <= 1; is_grown++) {
        struct stack_home home = tcache_home(heap, slot, stack, is_grown);
        if (ends->bottom >= home.first && ends->top <= home.first + home.entries) {
            return 1;
        }
    }
    return 0;
}

static int is_in_stack(const struct ends *ends, const void *block) {
    for (const shared_ptr *at = ends->bottom; at < ends->top; at++) {
        if (shared_get_acquire(at) == block) {
            return 1;
        }
    }
    return 0;
}

/* Others move their stacks meanwhile: a block that was copied, or popped, may stand between two
 * ends that are not of one moment. So it must be found with the same ends before and after, and
 * with no step open, several times. */
static int holds(const sharena_t *heap, struct thread_slot *slot, uint32_t stack,
                 const void *block) {
    for (int i = 0; i < LOOKS; i++) {
        struct ends before = ends_of(slot, stack);
        int is_found = (are_at_home(heap, slot, stack, &before) && is_in_stack(&before, block)) ||
                       quarantine_has(slot, block) != 0;
        struct ends after = ends_of(slot, stack);
        if (!is_found || !journal_is_empty(slot) || before.bottom != after.bottom ||
            before.top != after.top || before.head != after.head || before.tail != after.tail) {
            return 0;
        }
    }
    return 1;
}

/* The slot that holds the block in its cache or its quarantine; NULL if none does. */
static struct thread_slot *find_holder(const sharena_t *heap, struct thread_slot *self,
                                       uint32_t stack, const void *block) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    if (holds(heap, self, stack, block)) {
        return self;
    }
    if (fill_broken_at(block, LEAST_BYTES) != LEAST_BYTES) {
        return NULL;
    }
    for (uint32_t i = 0; i < high; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        if (shared_get(&slot->state) == SLOT_USED && holds(heap, slot, stack, block)) {
            return slot;
        }
    }
    return NULL;
}

static void report(sharena_t *heap, const struct thread_slot *holder, const void *block) {
    misuse_report(&(struct sharena_misuse){
        .kind = SHARENA_MISUSE_DOUBLE_FREE,
        .heap = heap,
        .ptr = block,
        .freed_pid = (int)shared_get(&heap_process(heap, shared_get(&holder->process))->pid),
        .freed_tid = (int)shared_get(&holder->tid),
        .text = "double free, or use after free"});
}

int watch_look(sharena_t *heap, struct thread_slot *self, const void *block, uint32_t size_class) {
    const struct attachment *attachment = registry_find(heap);
    uint32_t stack = stack_index_of(heap, block);
    const struct thread_slot *holder = find_holder(heap, self, stack, block);
    if (holder != NULL) {
        report(heap, holder, block);
        return 0;
    }
    if (quarantine_takes(self, &attachment->conf, stack)) {
        quarantine_make_room(heap, self, &attachment->conf, sizeclass_bytes(size_class));
    }
    return 1;
}

int watch_keep(sharena_t *heap, struct thread_slot *self, void *block, uint32_t size_class) {
    const struct attachment *attachment = registry_find(heap);
    watch_fill_freed(heap, block, 0, sizeclass_bytes(size_class));
    if (!quarantine_takes(self, &attachment->conf, stack_index_of(heap, block))) {
        return 0;
    }
    quarantine_push(self, block, sizeclass_bytes(size_class));
    publish_end(self);
    return 1;
}

void watch_fill_freed(const sharena_t *heap, void *block, size_t from, size_t to) {
    const struct attachment *attachment = registry_find(heap);
    if (attachment != NULL) {
        fill_range(block, from, to, fill_for_freed(&attachment->conf));
    }
}
