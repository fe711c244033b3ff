/* publish.h -- the pending step of a thread: sharena_malloc_to, sharena_free_from, blocks in
 * flight.
 *
 *     malloc_to, from the cache                          killed here, then settled
 *     pending = { where, block = *(top - 1) }; kind      *where != block: nothing happened
 *     *where = block *where == block: it is the application's, so top = top - 1 ... it is taken off
 *     the stack if it is still there kind = NONE
 *
 *     free_from
 *     pending = { where, block = *where }; kind          *where == block: nothing happened
 *     *where = NULL                                      *where != block: it is free, so
 *     push block ... it is given back if neither the stack nor the quarantine has it kind = NONE
 *
 * Blocks that come straight from a bin, an arena or the pool enter `pending` in the commit that
 * makes them live, and leave it when they are published or returned; blocks that go there leave it
 * in the commit that frees them. So `pending` alone tells what to do.
 */
#ifndef SHARENA_HEAP_PUBLISH_H
#define SHARENA_HEAP_PUBLISH_H

#include "heap/geometry.h"

/* Arms the step; ends it. */
void publish_begin(struct thread_slot *self, enum pending_kind kind, void **where, void *block);
void publish_end(struct thread_slot *self);

/* Decides an open step of a dead thread, as the table says. The caller holds the slot's token. */
void publish_settle(sharena_t *heap, struct thread_slot *self);

/* Gives a live block back past the cache; ends the pending step in the same commit. What is none is
 * reported and dropped. */
void publish_give_back(sharena_t *heap, struct thread_slot *self, void *block);

/* Which stack caches blocks like this one, by the page map: 0 for what is no block,
 * TCACHE_UNCACHED. */
static inline uint32_t stack_index_of(const sharena_t *heap, const void *block) {
    return shared_get(heap_page_map(heap) + page_of(heap, block)) /
           (uint32_t)sizeof(struct tcache_stack);
}

/* That stack. */
static inline struct tcache_stack *stack_of(sharena_t *heap, struct thread_slot *self,
                                            const void *block) {
    uint32_t offset = shared_get(heap_page_map(heap) + page_of(heap, block));
    return (struct tcache_stack *)(void *)((char *)slot_tcache(self) + offset);
}

#endif
