/* chunk.h -- the chunk pool: spans of chunks that nobody uses.
 *
 * Best fit at the lowest address: spans that still hold memory (dirty) before spans that do not
 * (clean) before chunks that were never used. What is taken or given travels in the caller's hand
 * (HAND_SPAN).
 */
#ifndef SHARENA_HEAP_CHUNK_H
#define SHARENA_HEAP_CHUNK_H

#include "heap/geometry.h"
#include "heap/tree.h"

/* Takes `count` chunks, the first a multiple of `align` (a power of two, in chunks), into self's
 * empty hand. chunk.backed of the first tells how many leading pages are backed; the others are
 * holes, hence zero. 0, or ENOMEM with error_set. */
int pool_take(sharena_t *heap, struct thread_slot *self, uint32_t count, uint32_t align)
    __attribute__((warn_unused_result));

/* Backs the run table of the one chunk in self's hand, so that an arena can have it. 0
 * or ENOMEM. */
int pool_prepare_runs(sharena_t *heap, struct thread_slot *self)
    __attribute__((warn_unused_result));

/* What is done before chunks without storage are taken: the heap layer above looks for the dead,
 * whose memory may serve as well. Set once; NULL: nothing. */
extern void (*pool_growth_hook)(sharena_t *heap);

/* Gives the span in self's hand back. Run tables of its chunks that have no storage go to the file
 * system: an empty chunk leaves whole, but for 2 KiB of page map and kinds, which free reads
 * without a lock: as long as data_bytes covers them they stay backed. */
void pool_give(sharena_t *heap, struct thread_slot *self);

/* Gives the memory of free spans back to the file system: of all that are dirty now, or up to so
 * many pages. */
void pool_purge(sharena_t *heap, struct thread_slot *self);
void pool_purge_pages(sharena_t *heap, struct thread_slot *self, uint64_t most);

/* Sections of others, under the pool's lock: a span becomes free, coalesced with its neighbours;
 * and up to `count` chunks right at `first` are taken out of the free span that begins there (0:
 * there is none of that size). */
void pool_insert_free(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t size,
                      uint32_t backed);
int pool_take_at(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t count);

/* Writes state into the first and last entry of a span, and its size. */
void pool_mark_span(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t size,
                    enum chunk_state state);

/* Pages of page map, kinds and chunk entries that the first `end` chunks of the file need; and
 * those of the run table that one chunk needs. */
uint64_t pool_metadata_pages(uint64_t end);
#define RUN_TABLE_PAGES (CHUNK_PAGES * sizeof(struct run) / PAGE_BYTES)

/* Pages of all these tables, for the chunks that there are, as charged. */
uint64_t pool_table_pages(const sharena_t *heap);

/* Chunks that so many leading pages of a span lie in. */
static inline uint32_t pool_chunks_of(uint32_t pages) {
    return (uint32_t)round_up(pages, CHUNK_PAGES) / CHUNK_PAGES;
}

struct tree pool_tree(const sharena_t *heap, enum chunk_state state);

#endif
