/* large.h -- large blocks: a run of their own, below one chunk. */
#ifndef SHARENA_HEAP_LARGE_H
#define SHARENA_HEAP_LARGE_H

#include "heap/geometry.h"
#include "ipc/journal.h"

/* A block of a large class at a multiple of `align` pages. It stands in self's pending step until
 * the caller clears that. oblivious: it may begin at any line of its first page, so that large
 * blocks do not all fall into the same sets of the caches (costs a page; only with align 1). *zero:
 * 1 if known to be zero. NULL with error_set: ENOMEM. */
void *large_alloc(sharena_t *heap, struct thread_slot *self, uint32_t index, uint32_t size_class,
                  uint32_t align, int oblivious, int *zero);

/* Frees a large block; the same commit takes it off the bottom of `stack`, or (NULL: it was not
 * cached) ends self's pending step. */
void large_free(sharena_t *heap, struct thread_slot *self, void *ptr, struct tcache_stack *stack);

/* What becomes of a pointer that is no live large or huge block: it is dropped, then reported. */
void large_drop(sharena_t *heap, struct thread_slot *self, struct tcache_stack *stack, void *ptr);

/* Makes the block one of another large class where it is: 1, or 0 if that cannot be. */
int large_resize(sharena_t *heap, struct thread_slot *self, void *ptr, uint32_t size_class);

/* Section: counts a block of that class, large or huge, as taken, and as given; `counts` is that of
 * its arena, or of the pool. */
void large_count_taken(struct thread_slot *self, struct block_count *counts, uint32_t size_class);
void large_count_given(struct thread_slot *self, struct block_count *counts, uint32_t size_class);

/* Whether ptr is the start of a large block. */
int large_is_block(const sharena_t *heap, const void *ptr);

/* Pages of a run for a large class. */
static inline uint32_t large_pages(uint32_t size_class) {
    return (uint32_t)(sizeclass_bytes(size_class) / PAGE_BYTES);
}

/* What page_map says for a class: the stack that caches it, or the one of all that are
 * not cached. */
static inline uint16_t stack_offset_of(uint32_t size_class) {
    uint32_t stack = size_class < SIZE_CLASSES_CACHED ? size_class + 1 : TCACHE_UNCACHED;
    return (uint16_t)(stack * sizeof(struct tcache_stack));
}

/* Section: a block that is being freed leaves its last owner, the cache or the pending step. */
static inline void large_end_owner(struct thread_slot *self, struct tcache_stack *stack) {
    if (stack != NULL) {
        journal_set(self, &stack->bottom, (shared_ptr *)shared_get(&stack->bottom) + 1);
    } else {
        journal_set(self, &self->pending.kind, PENDING_NONE);
    }
}

#endif
