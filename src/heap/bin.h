/* bin.h -- small blocks: regions of one size class, cut from runs; one bin per arena and class. */
#ifndef SHARENA_HEAP_BIN_H
#define SHARENA_HEAP_BIN_H

#include "heap/geometry.h"
#include "heap/tree.h"

/* Fills self's empty stack of a small class with up to `want` regions of that arena's bin, lowest
 * address on top. Returns how many, at least 1, or 0 with error_set (ENOMEM). */
uint32_t bin_fill(sharena_t *heap, struct thread_slot *self, uint32_t arena, uint32_t size_class,
                  uint32_t want);

/* Takes one region past the cache: it stands in self's pending step (PENDING_MALLOC) until the
 * caller clears that. NULL with error_set (ENOMEM). */
void *bin_take_one(sharena_t *heap, struct thread_slot *self, uint32_t arena, uint32_t size_class);

/* Gives the `count` oldest regions of self's stack back to their bins, run by run, each bin locked
 * as few times as may be. */
void bin_flush(sharena_t *heap, struct thread_slot *self, uint32_t size_class, uint32_t count);

/* The end of a flush that was begun: what stands in self's stack TCACHE_FLUSHING goes back. */
void bin_flush_rest(sharena_t *heap, struct thread_slot *self);

/* Gives one region back past the cache; ends self's pending step in the same commit. */
void bin_give_one(sharena_t *heap, struct thread_slot *self, void *ptr);

/* The run of a region, checked: NULL if ptr is not the start of a region of a bin's run. `index`
 * may be NULL. No lock needed if the region is live. */
struct run *bin_find_run(const sharena_t *heap, const void *ptr, uint32_t *page, uint32_t *index);

/* The non-full runs of a bin, for the checker. */
struct tree bin_tree(const sharena_t *heap, struct bin *bin);

/* The word of a run's bitmap that has bit `index`. */
static inline shared_u64 *run_bitmap_word(struct run *run, uint32_t index) {
    return &run->bitmap[0] + index / 64;
}

#endif
