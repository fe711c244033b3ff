/* run.h -- the free runs of an arena: found, carved, split, coalesced. Sections only.
 *
 * All functions are steps of a section: the caller holds the arena's lock and commits.
 */
#ifndef SHARENA_HEAP_RUN_H
#define SHARENA_HEAP_RUN_H

#include "heap/geometry.h"
#include "heap/tree.h"

/* The tree of free runs that are backed (dirty) or not (clean). */
struct tree run_tree(const sharena_t *heap, struct arena *arena, int dirty);

/* Makes pages [page, page + pages) of one chunk a free run of the arena, coalesced with free
 * neighbours of the same kind. zero: they are known to be zero. Returns 1 if the whole chunk is
 * free now. */
int run_insert_free(sharena_t *heap, struct thread_slot *self, struct arena *arena, uint32_t page,
                    uint32_t pages, int dirty, int zero);

/* Takes [start, start + pages) out of the free run at `page`; what is before and behind stays free.
 * The taken run gets `state`; returns 1 if it is known to be zero. */
int run_carve(sharena_t *heap, struct thread_slot *self, struct arena *arena, uint32_t page,
              uint32_t start, uint32_t pages, enum run_state state);

/* Writes size, state and kinds of a run that is not free. */
void run_mark_used(sharena_t *heap, struct thread_slot *self, uint32_t page, uint32_t pages,
                   enum run_state state);

/* The best free run for `pages` pages at a multiple of `align` pages (a power of two), 0 if none;
 * *start is where the pages begin in it. */
uint32_t run_find(const sharena_t *heap, struct arena *arena, int dirty, uint32_t pages,
                  uint32_t align, uint32_t *start);

/* The free run that begins at `page`, which must be in the same chunk as page - 1: its
 * size, or 0. */
uint32_t run_free_at(const sharena_t *heap, uint32_t page);

/* Number of the arena whose lock covers it. */
static inline uint32_t arena_index(const sharena_t *heap, const struct arena *arena) {
    return (uint32_t)((heap_offset(heap, arena) - ARENAS_OFFSET) / ARENA_STRIDE);
}

static inline int run_is_dirty(const struct run *run) {
    return shared_get(&run->state) == RUN_FREE_DIRTY;
}

#endif
