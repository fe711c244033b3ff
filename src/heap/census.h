/* census.h -- what the books of a heap say about memory, added up: for statistics. */
#ifndef SHARENA_HEAP_CENSUS_H
#define SHARENA_HEAP_CENSUS_H

#include "heap/layout.h"

struct census {            /* private to its taker */
    uint64_t block_bytes;  /* of blocks that the application or a cache has */
    uint64_t active_pages; /* of runs that are not free, and of huge blocks */
    uint64_t used_chunks;  /* not in the pool */
    uint64_t free_chunks;  /* in the pool */
};

/* Adds up all chunks, and with_runs all runs too: the blocks and pages of arenas. self locks; NULL:
 * nothing is locked, and what changes meanwhile is counted once, twice or not at all. */
void census_take(sharena_t *heap, struct thread_slot *self, int with_runs, struct census *census);

/* Bytes of the blocks in the caches of all threads. */
uint64_t census_cached_bytes(const sharena_t *heap);

/* Bytes of metadata that no limit counts: what lies at fixed places, thread slots, arenas. */
uint64_t census_fixed_bytes(const sharena_t *heap);

/* Bytes of the tables that describe chunks. */
uint64_t census_table_bytes(const sharena_t *heap);

#endif
