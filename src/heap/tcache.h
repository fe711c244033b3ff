/* tcache.h -- a thread's own stacks of free blocks, one per cached class; no lock.
 *
 *     storage of one class
 *     | unused | bottom ... base ... top | unused | full
 *                oldest              newest
 *
 *     pop    top == base: slow path; else top - 1                     one store commits
 *     push   top == full: slow path; else *top = block, top + 1       one store commits
 *
 * The thread owns what is in [bottom, top), and a reaper finds it there. A push writes the block
 * into the unused part first; a kill between its two stores loses that one block, and never hands
 * it out twice.
 *
 * base is bottom, or the low-water mark of the cache's GC: a pop that reaches it takes the slow
 * path once and lowers it by half. What stays below it until the next GC step was not needed and is
 * flushed.
 */
#ifndef SHARENA_HEAP_TCACHE_H
#define SHARENA_HEAP_TCACHE_H

#include "heap/geometry.h"
#include "ipc/conf.h"

/* Gives every class an empty stack with the capacity that the configuration allows (0:
 * not cached). */
void tcache_open(sharena_t *heap, struct thread_slot *self, const struct conf *conf);

/* No class is cached from now on (or again, by the configuration). Flushes. */
void tcache_enable(sharena_t *heap, struct thread_slot *self, const struct conf *conf, int enabled);

/* For a pop that found its stack at base: lowers the mark, or fills the stack (small classes). 1 if
 * there is a block on top now, 0 if the class is not cached or has none, -1 with error_set if
 * memory ran out. */
int tcache_refill(sharena_t *heap, struct thread_slot *self, uint32_t size_class);

/* The newest block of a stack that has one; the store of top makes it the caller's. */
void *tcache_pop(struct tcache_stack *stack);

/* A push that found its stack full: makes room and pushes; 0 if the class is not cached. */
int tcache_push_slow(sharena_t *heap, struct thread_slot *self, uint32_t stack_index, void *block);

/* Flushes everything. */
void tcache_flush(sharena_t *heap, struct thread_slot *self);

/* One step of the GC now and then; called on slow paths. */
void tcache_tick(sharena_t *heap, struct thread_slot *self);

/* Statistics of the thread: bytes of blocks that came to it or its cache from an arena or the pool,
 * and that went back. No rule needs them, so no journal covers them. */
void tcache_count_taken(struct thread_slot *self, uint64_t bytes);
void tcache_count_given(struct thread_slot *self, uint64_t bytes);

/* What the stack holds. */
static inline uint32_t stack_count(const struct tcache_stack *stack) {
    return (uint32_t)((shared_ptr *)shared_get(&stack->top) -
                      (shared_ptr *)shared_get(&stack->bottom));
}

static inline uint32_t stack_capacity(const struct tcache *tcache, uint32_t stack_index) {
    if (stack_index == 0 || stack_index > SIZE_CLASSES_CACHED) {
        return 0;
    }
    const shared_ptr *first = &tcache->storage[sizeclass_stack_first(stack_index - 1)];
    return (uint32_t)((const shared_ptr *)shared_get(&tcache->stacks[stack_index].full) - first);
}

#endif
