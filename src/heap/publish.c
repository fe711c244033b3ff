/* publish.c -- the pending step of a thread, and how a reaper decides it.
 *
 * Holds:  kind != NONE: `block` is NULL or a block that nobody else can free meanwhile, because the
 *         caller guards `where`
 * Lock:   none; the slot's token
 * Killed: see the tables in publish.h; settling may be killed and repeated: it looks again
 * Not here: the steps themselves (alloc.c).
 */
#include "heap/publish.h"

#include "heap/bin.h"
#include "heap/huge.h"
#include "heap/large.h"
#include "heap/misuse.h"
#include "heap/quarantine.h"
#include "heap/tcache.h"
#include "ipc/journal.h"

void publish_begin(struct thread_slot *self, enum pending_kind kind, void **where, void *block) {
    shared_store(&self->pending.where, (void *)where);
    shared_store(&self->pending.block, block);
    shared_order();
    shared_store(&self->pending.kind, (uint32_t)kind); /* arms it */
    shared_order();
}

void publish_end(struct thread_slot *self) {
    shared_order();
    shared_store(&self->pending.kind, PENDING_NONE);
    shared_order();
    shared_store(&self->pending.where, NULL);
    shared_order();
}

void publish_give_back(sharena_t *heap, struct thread_slot *self, void *block) {
    uint32_t page = page_of(heap, block);
    if (huge_is_block(heap, block)) {
        huge_free(heap, self, block, NULL);
    } else if (shared_get(heap_page_map(heap) + page) >
               SIZE_CLASSES_SMALL * sizeof(struct tcache_stack)) {
        large_free(heap, self, block, NULL);
    } else if (shared_get(heap_page_map(heap) + page) != 0) {
        bin_give_one(heap, self, block);
    } else {
        misuse_in_slot(heap, self, SHARENA_MISUSE_NOT_A_BLOCK, block,
                       "free of a pointer that is not a live block");
    }
}

static int is_on_top(const struct tcache_stack *stack, const void *block) {
    return stack_count(stack) != 0 &&
           shared_get((shared_ptr *)shared_get(&stack->top) - 1) == block;
}

/* Whether the block is the last one that came into the quarantine. */
static int is_newest(struct thread_slot *self, const void *block) {
    uint32_t count = quarantine_count(self);
    return count != 0 && quarantine_entry(self, count - 1) == block;
}

static void settle_malloc(sharena_t *heap, struct thread_slot *self, void *const *where,
                          void *block) {
    struct tcache_stack *stack = stack_of(heap, self, block);
    int is_cached = is_on_top(stack, block);
    int is_published = where != NULL && __atomic_load_n(where, __ATOMIC_ACQUIRE) == block;
    if (is_published && is_cached) {
        shared_store(&stack->top, (shared_ptr *)shared_get(&stack->top) - 1);
    }
    if (!is_published && !is_cached) {
        publish_give_back(heap, self, block);
    }
}

static void settle_free(sharena_t *heap, struct thread_slot *self, void *const *where,
                        void *block) {
    int is_freed = where == NULL || __atomic_load_n(where, __ATOMIC_ACQUIRE) != block;
    if (is_freed && !is_on_top(stack_of(heap, self, block), block) && !is_newest(self, block)) {
        publish_give_back(heap, self, block);
    }
}

void publish_settle(sharena_t *heap, struct thread_slot *self) {
    uint32_t kind = shared_get_acquire(&self->pending.kind);
    void **where = shared_get(&self->pending.where);
    void *block = shared_get(&self->pending.block);
    if (kind == PENDING_MALLOC && block != NULL) {
        settle_malloc(heap, self, where, block);
    } else if (kind == PENDING_FREE && block != NULL) {
        settle_free(heap, self, where, block);
    }
    publish_end(self);
}
