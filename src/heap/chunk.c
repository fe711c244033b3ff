/* chunk.c -- the chunk pool: spans of chunks that nobody uses.
 *
 * Holds:  every chunk from data_offset to end_chunk() is in exactly one span: free, in a hand, an
 *         arena's, or a huge block                                                    (audited)
 *         two free spans side by side differ in kind, or the first is dirty but not wholly backed
 *         a span in pool.dirty has backed > 0, one in pool.clean has backed == 0
 *         a free chunk of which no page is backed has no run table                    (audited)
 * Lock:   pool.lock (rank POOL). At most three tree operations a section
 * Killed: anywhere: the journal takes it back; a span on its way is in the thread's hand.
 *         Metadata is backed before data_bytes covers it; backing it again is harmless
 * Not here: what becomes of chunks (arena.c, huge.c).
 */
#include "heap/chunk.h"

#include <errno.h>
#include <string.h>

#include "heap/backing.h"
#include "heap/decay.h"
#include "ipc/errors.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

struct tree pool_tree(const sharena_t *heap, enum chunk_state state) {
    struct pool *pool = heap_pool(heap);
    return (struct tree){(char *)heap_chunk(heap, 0), sizeof(struct chunk),
                         state == CHUNK_FREE_DIRTY ? &pool->dirty : &pool->clean};
}

void pool_mark_span(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t size,
                    enum chunk_state state) {
    struct chunk *head = heap_chunk(heap, first);
    struct chunk *last = heap_chunk(heap, first + size - 1);
    journal_set(self, &head->state, (uint16_t)state);
    journal_set(self, &head->size, size);
    journal_set(self, &last->state, (uint16_t)state);
    journal_set(self, &last->first, first);
}

static int is_free(uint32_t state) {
    return state == CHUNK_FREE_CLEAN || state == CHUNK_FREE_DIRTY;
}

/* Whether a free span with these leading pages backed may grow at its end by one that
 * is `backed`. */
static int can_join(uint32_t size, uint32_t backed, uint32_t next_backed) {
    return backed == 0 ? next_backed == 0 : next_backed != 0 && backed == size * CHUNK_PAGES;
}

void pool_insert_free(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t size,
                      uint32_t backed) {
    uint32_t begin = first_chunk(heap);
    uint32_t end = end_chunk(heap);
    shared_u64 *dirty = &heap_pool(heap)->pages_dirty;
    journal_set(self, dirty, shared_get(dirty) + backed);
    if (first > begin && is_free(shared_get(&heap_chunk(heap, first - 1)->state))) {
        uint32_t before = shared_get(&heap_chunk(heap, first - 1)->first);
        struct chunk *chunk = heap_chunk(heap, before);
        uint32_t before_size = shared_get(&chunk->size);
        uint32_t before_backed = shared_get(&chunk->backed);
        if (can_join(before_size, before_backed, backed)) {
            tree_remove(self, pool_tree(heap, shared_get(&chunk->state)), before);
            first = before;
            size += before_size;
            backed += before_backed;
        }
    }
    if (first + size < end && is_free(shared_get(&heap_chunk(heap, first + size)->state))) {
        struct chunk *chunk = heap_chunk(heap, first + size);
        uint32_t after_backed = shared_get(&chunk->backed);
        if (can_join(size, backed, after_backed)) {
            tree_remove(self, pool_tree(heap, shared_get(&chunk->state)), first + size);
            size += shared_get(&chunk->size);
            backed += after_backed;
        }
    }
    enum chunk_state state = backed != 0 ? CHUNK_FREE_DIRTY : CHUNK_FREE_CLEAN;
    pool_mark_span(heap, self, first, size, state);
    journal_set(self, &heap_chunk(heap, first)->backed, backed);
    tree_insert(self, pool_tree(heap, state), first);
}

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* The part [skip, skip + count) chunks of a span that has `backed` leading pages: how
 * many has it? */
static uint32_t backed_part(uint32_t backed, uint32_t skip, uint32_t count) {
    uint32_t before = skip * CHUNK_PAGES;
    return backed <= before ? 0 : min_u32(backed - before, count * CHUNK_PAGES);
}

/* Takes [start, start + count) out of the free span at `span` into the hand; the rest
 * stays free. */
static void carve(sharena_t *heap, struct thread_slot *self, uint32_t span, uint32_t start,
                  uint32_t count) {
    struct chunk *chunk = heap_chunk(heap, span);
    uint32_t size = shared_get(&chunk->size);
    uint32_t backed = shared_get(&chunk->backed);
    uint32_t skip = start - span;
    uint32_t rest = size - skip - count;
    shared_u64 *dirty = &heap_pool(heap)->pages_dirty;
    journal_set(self, dirty, shared_get(dirty) - backed);
    tree_remove(self, pool_tree(heap, shared_get(&chunk->state)), span);
    pool_mark_span(heap, self, start, count, CHUNK_HAND);
    journal_set(self, &heap_chunk(heap, start)->backed, backed_part(backed, skip, count));
    if (skip != 0) {
        pool_insert_free(heap, self, span, skip, backed_part(backed, 0, skip));
    }
    if (rest != 0) {
        pool_insert_free(heap, self, start + count, rest, backed_part(backed, skip + count, rest));
    }
    journal_set(self, &self->hand.kind, HAND_SPAN);
    journal_set(self, &self->hand.first, start);
    journal_set(self, &self->hand.count, count);
    journal_set(self, &self->hand.flags, 0u);
}

/* The first chunk from `chunk` on whose address is a multiple of `align` chunks. */
static uint64_t align_chunk(const sharena_t *heap, uint64_t chunk, uint32_t align) {
    uint64_t base = (uint64_t)(uintptr_t)heap >> LG_CHUNK;
    return round_up(base + chunk, align) - base;
}

static int take_free(sharena_t *heap, struct thread_slot *self, enum chunk_state state,
                     uint32_t count, uint32_t align) {
    uint32_t span = tree_fit(pool_tree(heap, state), count + align - 1);
    if (span == 0) {
        return 0;
    }
    carve(heap, self, span, (uint32_t)align_chunk(heap, span, align), count);
    return 1;
}

int pool_take_at(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t count) {
    uint32_t end = end_chunk(heap);
    if (first >= end || !is_free(shared_get(&heap_chunk(heap, first)->state)) ||
        shared_get(&heap_chunk(heap, first)->size) < count) {
        return 0;
    }
    carve(heap, self, first, first, count);
    return 1;
}

uint64_t pool_metadata_pages(uint64_t end) {
    return 2 * (round_up(end * CHUNK_PAGES * sizeof(uint16_t), PAGE_BYTES) / PAGE_BYTES) +
           round_up(end * sizeof(struct chunk), PAGE_BYTES) / PAGE_BYTES;
}

uint64_t pool_table_pages(const sharena_t *heap) {
    uint64_t pages = pool_metadata_pages(end_chunk(heap)) - pool_metadata_pages(first_chunk(heap));
    for (uint32_t c = first_chunk(heap); c < end_chunk(heap); c++) {
        pages += shared_get(&heap_chunk(heap, c)->has_runs) ? RUN_TABLE_PAGES : 0;
    }
    return pages;
}

static int back_metadata(sharena_t *heap, uint32_t first, uint32_t end) {
    uint32_t first_page = first_page_of_chunk(first);
    uint32_t end_page = first_page_of_chunk(end);
    int error = backing_add_metadata(heap, heap_page_map(heap) + first_page,
                                     heap_page_map(heap) + end_page);
    if (error == 0) {
        error = backing_add_metadata(heap, heap_page_kind(heap, first_page),
                                     heap_page_kind(heap, end_page));
    }
    if (error == 0) {
        error = backing_add_metadata(heap, heap_chunk(heap, first), heap_chunk(heap, end));
    }
    return error;
}

/* Section: what lies behind the last chunk that was ever used is nobody's word; it becomes what a
 * new chunk has. Not journaled: nobody reads it before data_bytes covers it. */
static void clear_metadata(sharena_t *heap, uint32_t first, uint32_t end) {
    uint32_t pages = (end - first) * CHUNK_PAGES;
    memset(heap_page_map(heap) + first_page_of_chunk(first), 0, pages * sizeof(shared_u16));
    memset(heap_chunk(heap, first), 0, (end - first) * sizeof(struct chunk));
}

enum take_result { TAKEN, NEEDS_METADATA, NO_CAPACITY, NO_LIMIT };

/* Chunks that were never used: those from the high-water mark to `start` (alignment)
 * become free. */
static enum take_result take_new(sharena_t *heap, struct thread_slot *self, uint32_t count,
                                 uint32_t align, uint32_t prepared) {
    struct heap_state *state = heap_state(heap);
    uint64_t limit = heap_superblock(heap)->limit_bytes / PAGE_BYTES;
    uint32_t end = end_chunk(heap);
    uint64_t start = align_chunk(heap, end, align);
    uint64_t new_end = start + count;
    if (new_end > heap_superblock(heap)->total_bytes >> LG_CHUNK) {
        return NO_CAPACITY;
    }
    uint64_t backed =
        shared_get(&state->backed_pages) + pool_metadata_pages(new_end) - pool_metadata_pages(end);
    if (limit != 0 && backed > limit) {
        return NO_LIMIT;
    }
    if (new_end > prepared) {
        return NEEDS_METADATA;
    }
    clear_metadata(heap, end, (uint32_t)new_end);
    journal_set(self, &state->data_bytes,
                (new_end << LG_CHUNK) - heap_superblock(heap)->data_offset);
    journal_set(self, &state->backed_pages, backed);
    pool_insert_free(heap, self, end, (uint32_t)new_end - end, 0);
    uint32_t span = shared_get(&heap_chunk(heap, (uint32_t)new_end - 1)->first);
    carve(heap, self, span, (uint32_t)start, count); /* it may have joined one in front */
    return TAKEN;
}

static int refuse(const sharena_t *heap, enum take_result why, uint32_t count) {
    const struct superblock *superblock = heap_superblock(heap);
    return error_set(ENOMEM,
                     "no %llu bytes in one piece: the heap's %s of %llu bytes is reached: "
                     "free blocks, or "
                     "make a heap with a higher one",
                     (unsigned long long)count << LG_CHUNK, why == NO_LIMIT ? "limit" : "capacity",
                     (unsigned long long)(why == NO_LIMIT
                                              ? superblock->limit_bytes
                                              : superblock->total_bytes - superblock->data_offset));
}

void (*pool_growth_hook)(sharena_t *heap);

/* A span that has storage already: taking it does not make the heap bigger. */
static int take_dirty(sharena_t *heap, struct thread_slot *self, uint32_t count, uint32_t align) {
    struct pool *pool = heap_pool(heap);
    lock_acquire(heap, self, &pool->lock);
    int is_taken = take_free(heap, self, CHUNK_FREE_DIRTY, count, align);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    return is_taken;
}

int pool_take(sharena_t *heap, struct thread_slot *self, uint32_t count, uint32_t align) {
    struct pool *pool = heap_pool(heap);
    uint32_t prepared = 0;
    ASSERT(shared_get(&self->hand.kind) == HAND_EMPTY);
    if (count > heap_superblock(heap)->total_bytes >> LG_CHUNK) {
        return refuse(heap, NO_CAPACITY, count);
    }
    if (take_dirty(heap, self, count, align)) {
        return 0;
    }
    if (pool_growth_hook != NULL) {
        pool_growth_hook(heap);
    }
    for (;;) {
        enum take_result result = TAKEN;
        lock_acquire(heap, self, &pool->lock);
        if (!take_free(heap, self, CHUNK_FREE_DIRTY, count, align) &&
            !take_free(heap, self, CHUNK_FREE_CLEAN, count, align)) {
            result = take_new(heap, self, count, align, prepared);
        }
        uint32_t end = end_chunk(heap);
        journal_commit(self);
        lock_release(heap, self, &pool->lock);
        if (result == TAKEN) {
            return 0;
        }
        if (result != NEEDS_METADATA) {
            return refuse(heap, result, count);
        }
        prepared = (uint32_t)align_chunk(heap, end, align) + count;
        int error = back_metadata(heap, end, prepared);
        if (error != 0) {
            return error;
        }
    }
}

/* ---- run tables ---- */

#define TABLES_MOST 200u /* given up in one section */

/* The page of the file where the chunk's part of the run table begins. */
static uint32_t run_table_page(const sharena_t *heap, uint32_t chunk) {
    return page_of(heap, heap_run(heap, first_page_of_chunk(chunk)));
}

int pool_prepare_runs(sharena_t *heap, struct thread_slot *self) {
    uint32_t first = shared_get(&self->hand.first);
    struct chunk *chunk = heap_chunk(heap, first);
    ASSERT(shared_get(&self->hand.kind) == HAND_SPAN && shared_get(&self->hand.count) == 1);
    if (shared_get(&chunk->has_runs)) {
        return 0;
    }
    int error = backing_add(heap, self, run_table_page(heap, first), RUN_TABLE_PAGES);
    if (error == 0) {
        lock_acquire(heap, self, &heap_pool(heap)->lock);
        journal_set(self, &chunk->has_runs, 1u);
        journal_set(self, &self->hand.charged, 0u);
        journal_commit(self);
        lock_release(heap, self, &heap_pool(heap)->lock);
    }
    return error;
}

/* Section: the run tables from chunk `from` on, side by side, are charged to the hand. How many. */
static uint32_t release_section(sharena_t *heap, struct thread_slot *self, uint32_t from,
                                uint32_t end) {
    uint32_t count = 0;
    while (count < TABLES_MOST && from + count < end &&
           shared_get(&heap_chunk(heap, from + count)->has_runs)) {
        journal_set(self, &heap_chunk(heap, from + count)->has_runs, 0u);
        count++;
    }
    journal_set(self, &self->hand.charged_first, run_table_page(heap, from));
    journal_set(self, &self->hand.charged, count * (uint32_t)RUN_TABLE_PAGES);
    return count;
}

/* Chunks of the span in the hand that have no storage have no run table either, from now on. */
static void release_run_tables(sharena_t *heap, struct thread_slot *self) {
    uint32_t first = shared_get(&self->hand.first);
    uint32_t end = first + shared_get(&self->hand.count);
    uint32_t backed = shared_get(&heap_chunk(heap, first)->backed);
    for (uint32_t c = first + pool_chunks_of(backed); c < end;) {
        if (!shared_get(&heap_chunk(heap, c)->has_runs)) {
            c++;
            continue;
        }
        lock_acquire(heap, self, &heap_pool(heap)->lock);
        c += release_section(heap, self, c, end);
        journal_commit(self);
        lock_release(heap, self, &heap_pool(heap)->lock);
        backing_settle(heap, self);
    }
}

void pool_give(sharena_t *heap, struct thread_slot *self) {
    struct pool *pool = heap_pool(heap);
    uint32_t first = shared_get(&self->hand.first);
    ASSERT(shared_get(&self->hand.kind) == HAND_SPAN && shared_get(&self->hand.charged) == 0);
    release_run_tables(heap, self);
    lock_acquire(heap, self, &pool->lock);
    pool_insert_free(heap, self, first, shared_get(&self->hand.count),
                     shared_get(&heap_chunk(heap, first)->backed));
    journal_set(self, &self->hand.kind, HAND_EMPTY);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
}

/* Section: the end of the longest dirty span goes into the hand, as many chunks as have the last
 * `most` of its backed pages, and those behind. How many pages of it are to be punched. */
static uint32_t purge_section(sharena_t *heap, struct thread_slot *self, uint32_t most) {
    uint32_t span = tree_last(pool_tree(heap, CHUNK_FREE_DIRTY));
    if (span == 0) {
        return 0;
    }
    const struct chunk *chunk = heap_chunk(heap, span);
    uint32_t backed = shared_get(&chunk->backed);
    uint32_t pages = min_u32(backed, most);
    uint32_t skip = (backed - pages) / CHUNK_PAGES;
    carve(heap, self, span, span + skip, shared_get(&chunk->size) - skip);
    decay_note_purge(self, &heap_pool(heap)->decay, pages);
    return pages;
}

void pool_purge_pages(sharena_t *heap, struct thread_slot *self, uint64_t most) {
    struct pool *pool = heap_pool(heap);
    uint32_t pages = 0;
    for (uint64_t left = most; left != 0; left -= pages) {
        lock_acquire(heap, self, &pool->lock);
        pages = purge_section(heap, self, left < UINT32_MAX ? (uint32_t)left : UINT32_MAX);
        journal_commit(self);
        lock_release(heap, self, &pool->lock);
        if (pages == 0) {
            return;
        }
        uint32_t first = shared_get(&self->hand.first);
        uint32_t backed = shared_get(&heap_chunk(heap, first)->backed);
        int is_gone =
            backing_remove(heap, self, first_page_of_chunk(first) + backed - pages, pages);
        pool_give(heap, self);
        if (!is_gone) {
            return;
        }
    }
}

/* As arena_purge(): no more than there were at the beginning. */
void pool_purge(sharena_t *heap, struct thread_slot *self) {
    pool_purge_pages(heap, self, shared_get(&heap_pool(heap)->pages_dirty));
}
