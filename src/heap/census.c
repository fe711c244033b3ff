/* census.c -- what the books of a heap say about memory, added up.
 *
 * Blocks are sums of counts that the check proves (audit_counts.c); only chunks are walked over.
 *
 * Holds:  cached <= blocks <= active <= used chunks, while nobody allocates              (tested)
 * Lock:   the pool's for the spans, none for counts and caches. With self NULL none at all: so each
 *         step is checked as if the table could change, and no number is used as a place
 * Killed: nothing shared is changed
 * Not here: the proof (audit_counts.c), processes (processes.c), the names of the numbers
 *           (ctl_stats.c).
 */
#include "heap/census.h"

#include "heap/chunk.h"
#include "heap/prof_samples.h"
#include "heap/quarantine.h"
#include "heap/tcache.h"
#include "ipc/lock.h"

/* ---- counts ---- */

/* What was given was taken before: read in this order, the difference is not below zero. */
static struct census_blocks count_blocks(const shared_u64 *taken, const shared_u64 *given,
                                         uint32_t size_class) {
    struct census_blocks blocks;
    blocks.ndalloc = shared_get(given);
    blocks.nmalloc = shared_get(taken);
    blocks.out = blocks.nmalloc > blocks.ndalloc ? blocks.nmalloc - blocks.ndalloc : 0;
    blocks.bytes = blocks.out * sizeclass_bytes(size_class);
    return blocks;
}

struct census_blocks census_count(const struct block_count *count, uint32_t size_class) {
    return count_blocks(&count->taken, &count->given, size_class);
}

struct census_lock census_lock(const struct shared_lock *lock) {
    return (struct census_lock){shared_get(&lock->acquired), shared_get(&lock->contended)};
}

struct census_purges census_purges(const struct decay *decay) {
    return (struct census_purges){shared_get(&decay->purges), shared_get(&decay->purged)};
}

struct census_bin census_bin(const sharena_t *heap, uint32_t index, uint32_t i) {
    const struct bin *bin = &heap_arena(heap, index)->bins[i];
    return (struct census_bin){
        .blocks = count_blocks(&bin->regions_taken, &bin->regions_given, i),
        .fills = shared_get(&bin->fills),
        .flushes = shared_get(&bin->flushes),
        .runs_made = shared_get(&bin->runs_made),
        .runs_again = shared_get(&bin->runs_again),
        .runs = shared_get(&bin->runs),
        .lock = census_lock(&bin->lock),
    };
}

void census_add_blocks(struct census_blocks *sum, const struct census_blocks *more) {
    sum->nmalloc += more->nmalloc;
    sum->ndalloc += more->ndalloc;
    sum->out += more->out;
    sum->bytes += more->bytes;
}

void census_add_lock(struct census_lock *sum, const struct census_lock *more) {
    sum->acquired += more->acquired;
    sum->contended += more->contended;
}

static void add_bin(struct census_bin *sum, const struct census_bin *more) {
    census_add_blocks(&sum->blocks, &more->blocks);
    census_add_lock(&sum->lock, &more->lock);
    sum->fills += more->fills;
    sum->flushes += more->flushes;
    sum->runs_made += more->runs_made;
    sum->runs_again += more->runs_again;
    sum->runs += more->runs;
}

void census_add_arena(struct census_arena *sum, const struct census_arena *more) {
    sum->threads += more->threads;
    sum->chunks += more->chunks;
    sum->pages_active += more->pages_active;
    sum->pages_dirty += more->pages_dirty;
    sum->pages_clean += more->pages_clean;
    sum->purges.pieces += more->purges.pieces;
    sum->purges.pages += more->purges.pages;
    census_add_blocks(&sum->small, &more->small);
    census_add_blocks(&sum->large, &more->large);
    census_add_lock(&sum->lock, &more->lock);
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        add_bin(&sum->bins[i], &more->bins[i]);
    }
    for (uint32_t i = 0; i < CENSUS_LARGES; i++) {
        census_add_blocks(&sum->larges[i], &more->larges[i]);
    }
}

uint32_t census_arenas(const sharena_t *heap) {
    uint32_t made = shared_get(&heap_pool(heap)->arenas_made);
    return made < ARENAS_MAX ? made : ARENAS_MAX;
}

void census_arena(const sharena_t *heap, uint32_t index, struct census_arena *sum) {
    const struct arena *arena = heap_arena(heap, index);
    *sum = (struct census_arena){
        .threads = shared_get(&arena->threads),
        .chunks = shared_get(&arena->chunks),
        .pages_active = shared_get(&arena->pages_used),
        .pages_dirty = shared_get(&arena->pages_dirty),
        .purges = census_purges(&arena->decay),
        .lock = census_lock(&arena->lock),
    };
    uint64_t pages = sum->chunks * CHUNK_PAGES;
    uint64_t others = sum->pages_active + sum->pages_dirty;
    sum->pages_clean = pages > others ? pages - others : 0;
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        sum->bins[i] = census_bin(heap, index, i);
        census_add_blocks(&sum->small, &sum->bins[i].blocks);
    }
    for (uint32_t i = 0; i < CENSUS_LARGES; i++) {
        sum->larges[i] = census_count(&arena->large[i], SIZE_CLASSES_SMALL + i);
        census_add_blocks(&sum->large, &sum->larges[i]);
    }
}

struct census_blocks census_huge(const sharena_t *heap, struct census_blocks huges[CENSUS_HUGES]) {
    const struct pool *pool = heap_pool(heap);
    struct census_blocks sum = {0};
    for (uint32_t i = 0; i < CENSUS_HUGES; i++) {
        struct census_blocks blocks = census_count(&pool->huge[i], SIZE_CLASSES_SMALL + i);
        census_add_blocks(&sum, &blocks);
        if (huges != NULL) {
            huges[i] = blocks;
        }
    }
    return sum;
}

uint64_t census_out_bytes(const sharena_t *heap) {
    uint64_t bytes = census_huge(heap, NULL).bytes;
    for (uint32_t i = 0; i < census_arenas(heap); i++) {
        struct census_arena arena;
        census_arena(heap, i, &arena);
        bytes += arena.small.bytes + arena.large.bytes;
    }
    return bytes;
}

/* ---- chunks ---- */

static void add_free(const struct chunk *chunk, uint32_t size, struct census_spans *spans) {
    uint64_t backed = shared_get(&chunk->backed);
    uint64_t pages = (uint64_t)size * CHUNK_PAGES;
    spans->free_chunks += size;
    spans->free_dirty += backed < pages ? backed : pages;
}

static void add_huge(const struct chunk *chunk, struct census_spans *spans) {
    uint32_t size_class = shared_get(&chunk->size_class);
    if (size_class < SIZE_CLASSES_MAX) {
        spans->huge_pages += sizeclass_bytes(size_class) / PAGE_BYTES;
    }
}

static void walk(const sharena_t *heap, struct census_spans *spans) {
    uint32_t end = end_chunk(heap);
    uint32_t size;
    for (uint32_t c = first_chunk(heap); c < end; c += size) {
        const struct chunk *chunk = heap_chunk(heap, c);
        uint32_t state = shared_get(&chunk->state);
        size = state == CHUNK_ARENA ? 1 : shared_get(&chunk->size);
        size = size == 0 || size > end - c ? 1 : size; /* without the lock only */
        if (state == CHUNK_FREE_CLEAN || state == CHUNK_FREE_DIRTY) {
            add_free(chunk, size, spans);
            continue;
        }
        spans->used_chunks += size;
        if (state == CHUNK_HUGE) {
            add_huge(chunk, spans);
        }
    }
}

void census_spans(sharena_t *heap, struct thread_slot *self, struct census_spans *spans) {
    struct pool *pool = heap_pool(heap);
    *spans = (struct census_spans){0};
    if (self != NULL) {
        lock_acquire(heap, self, &pool->lock);
    }
    walk(heap, spans);
    if (self != NULL) {
        lock_release(heap, self, &pool->lock);
    }
}

/* ---- caches and tables ---- */

/* Blocks of one class in the quarantine, which its thread goes on using. */
static void count_quarantine(struct thread_slot *slot, uint32_t size_class,
                             struct census_blocks *blocks) {
    const sharena_t *heap = slot_heap(slot);
    uint32_t stack = (size_class + 1) * (uint32_t)sizeof(struct tcache_stack);
    uint32_t count = quarantine_is_sound(slot) ? quarantine_count(slot) : 0;
    for (uint32_t i = 0; i < count && i < QUARANTINE_ENTRIES; i++) {
        const void *block = quarantine_entry(slot, i);
        if (is_user_data(heap, block) &&
            shared_get(heap_page_map(heap) + page_of(heap, block)) == stack) {
            blocks->out++;
            blocks->bytes += sizeclass_bytes(size_class);
        }
    }
}

/* Of one class, in a thread's cache and quarantine. */
struct census_blocks census_cache(struct thread_slot *slot, uint32_t size_class) {
    uint32_t count = stack_count(&slot_tcache(slot)->stacks[size_class + 1]);
    struct census_blocks blocks = {0};
    if (count <= sizeclass_grown_entries(size_class)) {
        blocks.out = count;
        blocks.bytes = count * sizeclass_bytes(size_class);
    }
    count_quarantine(slot, size_class, &blocks);
    return blocks;
}

uint64_t census_cached_by(struct thread_slot *slot) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED && shared_get(&slot->state) == SLOT_USED; i++) {
        bytes += census_cache(slot, i).bytes;
    }
    return bytes;
}

uint64_t census_cached_bytes(const sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < high; i++) {
        bytes += census_cached_by(heap_thread(heap, i));
    }
    return bytes;
}

/* What slots have beside themselves: stacks that grew, quarantines. */
static uint64_t grown_bytes(const sharena_t *heap, uint32_t slots) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < slots && i < THREADS_MAX; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        bytes += tcache_grown_bytes(slot) +
                 (shared_get(&slot_quarantine(slot)->is_backed) != 0 ? QUARANTINE_BYTES : 0);
    }
    return bytes;
}

uint64_t census_fixed_bytes(const sharena_t *heap) {
    uint32_t slots = shared_get(&heap_state(heap)->threads_high);
    uint64_t arenas = shared_get(&heap_pool(heap)->arenas_made);
    return PROCESSES_OFFSET + PROCESSES_MAX * sizeof(struct process_slot) +
           (ARENAS_OFFSET - POOL_OFFSET) + (uint64_t)slots * THREAD_SLOT_BYTES +
           grown_bytes(heap, slots) + arenas * round_up(sizeof(struct arena), PAGE_BYTES) +
           prof_table_bytes(heap);
}

uint64_t census_table_bytes(const sharena_t *heap) {
    return pool_table_pages(heap) * PAGE_BYTES;
}
