/* census.h -- what the books of a heap say about memory, added up: for statistics. */
#ifndef SHARENA_HEAP_CENSUS_H
#define SHARENA_HEAP_CENSUS_H

#include "heap/layout.h"

/* Blocks of one class, or of several. What is out, the application or a cache has. */
struct census_blocks {
    uint64_t nmalloc; /* taken ever; a cache's fill counts each of its blocks */
    uint64_t ndalloc; /* given back ever */
    uint64_t out;     /* the difference */
    uint64_t bytes;   /* of what is out, by size classes */
};

struct census_lock {
    uint64_t acquired;
    uint64_t contended;
};

struct census_bin {
    struct census_blocks blocks;
    uint64_t fills;
    uint64_t flushes;
    uint64_t runs_made;
    uint64_t runs_again;
    uint64_t runs;
    struct census_lock lock;
};

struct census_purges { /* what was given back to the file system */
    uint64_t pieces;
    uint64_t pages;
};

#define CENSUS_LARGES (SIZE_CLASSES_LARGE_END - SIZE_CLASSES_SMALL)
#define CENSUS_HUGES (SIZE_CLASSES_MAX - SIZE_CLASSES_SMALL) /* by large and huge class */

struct census_arena { /* one, or the sum of several */
    uint64_t threads;
    uint64_t chunks;
    uint64_t pages_active;
    uint64_t pages_dirty;
    uint64_t pages_clean;
    struct census_purges purges;
    struct census_blocks small;
    struct census_blocks large;
    struct census_lock lock;
    struct census_bin bins[SIZE_CLASSES_SMALL];
    struct census_blocks larges[CENSUS_LARGES];
};

struct census_spans {     /* what the chunk table says */
    uint64_t used_chunks; /* not in the pool */
    uint64_t free_chunks; /* in the pool */
    uint64_t free_dirty;  /* pages of these that have storage */
    uint64_t huge_pages;  /* of huge blocks, by their classes */
};

/* Arenas of the heap: those below exist. */
uint32_t census_arenas(const sharena_t *heap);

/* The class of blocks with that count; of the bin of arena `index` and class i; of that arena. */
struct census_blocks census_count(const struct block_count *count, uint32_t size_class);
struct census_bin census_bin(const sharena_t *heap, uint32_t index, uint32_t i);
void census_arena(const sharena_t *heap, uint32_t index, struct census_arena *sum);
struct census_lock census_lock(const struct shared_lock *lock);
struct census_purges census_purges(const struct decay *decay);

/* Adds `more` to `sum`. */
void census_add_blocks(struct census_blocks *sum, const struct census_blocks *more);
void census_add_lock(struct census_lock *sum, const struct census_lock *more);
void census_add_arena(struct census_arena *sum, const struct census_arena *more);

/* Huge blocks, by class and, as the result, all together; NULL: only that. */
struct census_blocks census_huge(const sharena_t *heap, struct census_blocks huges[CENSUS_HUGES]);

/* Walks the chunk table. self locks the pool; NULL: nothing is locked, and what changes meanwhile
 * is counted once, twice or not at all. */
void census_spans(sharena_t *heap, struct thread_slot *self, struct census_spans *spans);

/* What is out of all arenas and the pool. */
uint64_t census_out_bytes(const sharena_t *heap);

/* Bytes and blocks in the cache of one thread slot, and bytes in those of all threads. */
struct census_blocks census_cache(struct thread_slot *slot, uint32_t size_class);
uint64_t census_cached_by(struct thread_slot *slot);
uint64_t census_cached_bytes(const sharena_t *heap);

/* Bytes of metadata that no limit counts: what lies at fixed places, thread slots, arenas. */
uint64_t census_fixed_bytes(const sharena_t *heap);

/* Bytes of the tables that describe chunks. */
uint64_t census_table_bytes(const sharena_t *heap);

#endif
