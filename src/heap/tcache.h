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
 * A stack that was full, empty and full again becomes bigger, as long as all that the thread's
 * stacks grew by is within `tcache_bytes`; large classes begin with none. The GC takes capacity
 * back from stacks that did not run full since it last came.
 *
 * What goes back to bins is first moved, in an order that is good for them, into the stack
 * TCACHE_FLUSHING: so it has an owner on the way, and the stack it came from can be made ready.
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

/* Of an empty cache: the stacks get their least capacity, and the part that grew has no storage. */
void tcache_shrink(sharena_t *heap, struct thread_slot *self);

/* Storage of the part that grew; a kill may leave it said of some pages more than it has. */
uint64_t tcache_grown_bytes(struct thread_slot *slot);

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
    return shared_get(&tcache->capacity[stack_index]);
}

/* Where a stack may lie. */
struct stack_home {
    shared_ptr *first;
    uint32_t entries;
};

/* In the slot, which is backed; or (is_grown) in the thread's part of the file for stacks that
 * grew, which is backed as far as they grew. */
struct stack_home tcache_home(const sharena_t *heap, struct thread_slot *slot, uint32_t stack_index,
                              int is_grown);

#endif
