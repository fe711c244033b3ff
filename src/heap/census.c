/* census.c -- what the books of a heap say about memory, added up.
 *
 * Holds:  cached <= blocks <= active <= used chunks, while nobody allocates              (tested)
 * Lock:   the pool's for all spans, then for one chunk at a time that of its arena; none for the
 *         caches. With self NULL none at all: so each step is checked as if the tables could change
 * Killed: nothing shared is changed
 * Not here: the walk that proves the books (audit.c), the names of the numbers (ctl.c).
 */
#include "heap/census.h"

#include "heap/audit.h"
#include "heap/tcache.h"
#include "ipc/lock.h"

/* ---- chunks and runs ---- */

static void lock_for(sharena_t *heap, struct thread_slot *self, struct shared_lock *lock) {
    if (self != NULL) {
        lock_acquire(heap, self, lock);
    }
}

static void unlock_for(sharena_t *heap, struct thread_slot *self, struct shared_lock *lock) {
    if (self != NULL) {
        lock_release(heap, self, lock);
    }
}

static void count_huge(const struct chunk *chunk, struct census *census) {
    uint32_t size_class = shared_get(&chunk->size_class);
    if (size_class < SIZE_CLASSES_MAX) {
        census->block_bytes += sizeclass_bytes(size_class);
        census->active_pages += sizeclass_bytes(size_class) / PAGE_BYTES;
    }
}

/* Chunks, by spans; under the pool's lock, but checked as if there were none. */
static void count_spans(sharena_t *heap, struct thread_slot *self, struct census *census) {
    struct pool *pool = heap_pool(heap);
    uint32_t size;
    lock_for(heap, self, &pool->lock);
    uint32_t end = end_chunk(heap);
    for (uint32_t c = first_chunk(heap); c < end; c += size) {
        const struct chunk *chunk = heap_chunk(heap, c);
        uint32_t state = shared_get(&chunk->state);
        size = state == CHUNK_ARENA ? 1 : shared_get(&chunk->size);
        size = size == 0 || size > end - c ? 1 : size;
        if (state == CHUNK_FREE_CLEAN || state == CHUNK_FREE_DIRTY) {
            census->free_chunks += size;
        } else {
            census->used_chunks += size;
        }
        if (state == CHUNK_HUGE) {
            count_huge(chunk, census);
        }
    }
    unlock_for(heap, self, &pool->lock);
}

static void count_run(const struct run *run, uint32_t pages, struct census *census) {
    uint32_t state = shared_get(&run->state);
    uint32_t size_class = shared_get(&run->size_class);
    if (state == RUN_BIN && size_class < SIZE_CLASSES_SMALL) {
        const struct run_shape *shape = sizeclass_run_shape(size_class);
        uint32_t out = shape->regions - shared_get(&run->free_regions);
        census->block_bytes += out <= shape->regions ? (uint64_t)out * shape->region_bytes : 0;
    } else if (state == RUN_LARGE && size_class < SIZE_CLASSES_LARGE_END) {
        census->block_bytes += sizeclass_bytes(size_class);
    }
    if (state != RUN_FREE_CLEAN && state != RUN_FREE_DIRTY) {
        census->active_pages += pages;
    }
}

/* The runs of one chunk, whose tiling changes only under the lock of its arena. */
static void count_runs(const sharena_t *heap, uint32_t chunk, struct census *census) {
    uint32_t end = first_page_of_chunk(chunk + 1);
    for (uint32_t page = first_page_of_chunk(chunk); page < end;) {
        const struct run *run = heap_run(heap, page);
        uint32_t pages = shared_get(&run->size);
        if (pages == 0 || pages > end - page) {
            return; /* without the lock only */
        }
        count_run(run, pages, census);
        page += pages;
    }
}

/* CHUNK_ARENA is never stale, not even inside of a span: each entry that says so is looked at. */
static void count_arenas(sharena_t *heap, struct thread_slot *self, struct census *census) {
    for (uint32_t c = first_chunk(heap); c < end_chunk(heap); c++) {
        const struct chunk *chunk = heap_chunk(heap, c);
        uint32_t index = shared_get(&chunk->arena);
        if (shared_get(&chunk->state) != CHUNK_ARENA || index >= ARENAS_MAX) {
            continue;
        }
        struct arena *arena = heap_arena(heap, index);
        lock_for(heap, self, &arena->lock);
        if (shared_get(&chunk->state) == CHUNK_ARENA && shared_get(&chunk->arena) == index) {
            count_runs(heap, c, census);
        }
        unlock_for(heap, self, &arena->lock);
    }
}

void census_take(sharena_t *heap, struct thread_slot *self, int with_runs, struct census *census) {
    *census = (struct census){0};
    count_spans(heap, self, census);
    if (with_runs) {
        count_arenas(heap, self, census);
    }
}

/* ---- caches and tables ---- */

/* One stack, which its thread goes on using. */
static uint64_t cached_in(const struct tcache_stack *stack, uint32_t size_class) {
    uint32_t count = stack_count(stack);
    return count <= sizeclass_stack_entries(size_class) ? count * sizeclass_bytes(size_class) : 0;
}

uint64_t census_cached_bytes(const sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < high; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        for (uint32_t c = 0; shared_get(&slot->state) == SLOT_USED && c < SIZE_CLASSES_CACHED;
             c++) {
            bytes += cached_in(&slot_tcache(slot)->stacks[c + 1], c);
        }
    }
    return bytes;
}

uint64_t census_fixed_bytes(const sharena_t *heap) {
    uint64_t slots = shared_get(&heap_state(heap)->threads_high);
    uint64_t arenas = shared_get(&heap_pool(heap)->arenas_made);
    return PROCESSES_OFFSET + PROCESSES_MAX * sizeof(struct process_slot) +
           (ARENAS_OFFSET - POOL_OFFSET) + slots * THREAD_SLOT_BYTES +
           arenas * round_up(sizeof(struct arena), PAGE_BYTES);
}

uint64_t census_table_bytes(const sharena_t *heap) {
    return audit_table_pages(heap) * PAGE_BYTES;
}
