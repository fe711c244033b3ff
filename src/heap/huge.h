/* huge.h -- huge blocks: whole chunks, of which only what the block needs is backed. */
#ifndef SHARENA_HEAP_HUGE_H
#define SHARENA_HEAP_HUGE_H

#include "heap/geometry.h"

/* A block of a class of one chunk or more (or of a large one that wants chunk alignment), at a
 * multiple of `align` chunks. It stands in self's pending step until the caller clears that.
 * *dirty_bytes: how much at its beginning is not known to be zero. NULL with error_set: ENOMEM. */
void *huge_alloc(sharena_t *heap, struct thread_slot *self, uint32_t size_class, uint32_t align,
                 uint64_t *dirty_bytes);

/* Frees it; the same commit takes it off the bottom of `stack`, or (NULL: it was not cached) ends
 * self's pending step. */
void huge_free(sharena_t *heap, struct thread_slot *self, void *ptr, struct tcache_stack *stack);

/* Makes it one of another huge class where it is: 1, or 0 if that cannot be. */
int huge_resize(sharena_t *heap, struct thread_slot *self, void *ptr, uint32_t size_class);

/* Whether ptr is the start of a huge block. */
int huge_is_block(const sharena_t *heap, const void *ptr);

#endif
